"""Find the root file systems of an image, and the file systems mounted below them."""

import json
import os
import re
import shlex

from filesystems import Btrfs, Directory, Ext, Fat, Unreadable, Xfs, run
from fstab import mount
from tree import Tree

# The first bytes of formats that qemu-img has to convert: offset, bytes, qemu-img's name of the format.
FORMATS = [
    (0, b"QFI\xfb", "qcow2"), (0, b"KDMV", "vmdk"), (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"), (0, b"conectix", "vpc"), (0x40, b"\x7f\x10\xda\xbe", "vdi"),
]

# Where systemd-gpt-auto-generator(8) mounts a partition of this type, and the ESP of a disk with an MBR.
PLACES = {
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B": "/boot/efi",
    "EF": "/boot/efi",
    "BC13C2FF-59E6-4262-A352-B275FD6F7172": "/boot",
    "933AC7E1-2EB4-4F13-B844-0E14E2AEF915": "/home",
    "4D21B016-B534-45C2-A9FB-5C16E091FD2D": "/var",
    "3B8F8425-20E0-4F3B-907F-1A25A76F98E8": "/srv",
    "7EC6F557-3BC5-4ACA-B293-16EF5DF639D1": "/var/tmp",
}

# Partitions without a file system: BIOS boot, PReP, and the extended partitions of an MBR.
BARE = {"21686148-6449-6E6F-744E-656564454649", "9E1A2D38-C612-4316-AA26-8B49521E5A8B", "41", "5", "F", "85"}


class Partition:
    """A file system and the names that fstab may use for it."""

    def __init__(self, label, names, place, system):
        self.label, self.names, self.place, self.system = label, names, place, system


def trees(image, scratch):
    """The root file systems in an image, the parts that could not be read, and what is not in the image."""
    if os.path.isdir(image):
        partitions, troubles = [Partition(image, set(), None, Directory(image))], []
    else:
        partitions, troubles = _partitions(_raw(image, scratch), scratch)
    roots = [(part, node) for part in partitions for node in _roots(part.system)]
    if not roots and not troubles:
        raise Unreadable(f"no root file system found in {image}")
    seen = {part for part, _ in roots}
    found, notes = [], []
    for part, node in roots:
        tree = Tree(part.system, node)
        mounted, absent = mount(tree, partitions, {part for part, _ in roots})
        seen |= mounted
        notes += absent
        found.append(tree)
    troubles += [
        f"{part.label} is not looked into: neither /etc/fstab nor its type gives it a mount point of its own"
        for part in partitions if part not in seen
    ]
    visited = {(system, node.ref) for tree in found for system, node in tree.mounts.values()}
    for part in seen:
        if isinstance(part.system, Btrfs):
            tops = [ref for system, ref in visited if system is part.system]
            troubles += [
                f"{part.label}: subvolume {path} is not looked into: /etc/fstab does not mount it"
                for path in part.system.unvisited(tops)
            ]
    return found, troubles, notes


def _raw(image, scratch):
    """The image as a raw disk, under a name that all tools accept."""
    with open(image, "rb") as file:
        head = file.read(4096)
    for offset, magic, name in FORMATS:
        if head[offset:].startswith(magic):
            run("qemu-img", "convert", "-f", name, "-O", "raw", image, f"{scratch}/disk")
            return f"{scratch}/disk"
    os.symlink(os.path.abspath(image), f"{scratch}/disk")
    return f"{scratch}/disk"


def _partitions(disk, scratch):
    whole = _probe(disk, 0, os.path.getsize(disk))
    if "PTTYPE" in whole and "TYPE" not in whole:
        table = json.loads(run("sfdisk", "--json", disk)[0])["partitiontable"]
        sector = table.get("sectorsize", 512)
        listed = table.get("partitions", [])
    else:
        table, sector, listed = {}, 1, [{"node": "disk", "start": 0, "size": os.path.getsize(disk), "type": ""}]
    found, troubles = [], []
    for entry in listed:
        number = re.search(r"\d*$", entry["node"])[0]
        label = f"partition {number}" if table else "the file system"
        start, size = entry["start"] * sector, entry["size"] * sector
        kind = entry["type"].upper()
        probed = _probe(disk, start, size)
        try:
            system = _open(disk, start, size, probed.get("TYPE"), f"{scratch}/{number or 'whole'}")
        except Unreadable as trouble:
            if kind not in BARE:
                troubles.append(f"{label}: {trouble}")
            continue
        if not system:
            continue
        names = {f"UUID={probed.get('UUID', '')}", f"LABEL={probed.get('LABEL', '')}",
                 f"PARTUUID={entry.get('uuid', '').lower()}", f"PARTLABEL={entry.get('name', '')}", f"NUMBER={number}"}
        found.append(Partition(label, names, PLACES.get(kind), system))
    return found, troubles


def _probe(disk, start, size):
    """The properties that blkid finds in a part of the disk."""
    try:
        said = run("blkid", "--probe", "--output", "export", "--offset", str(start), "--size", str(size), disk)[0]
    except Unreadable as trouble:
        # Exit status 2: blkid does not recognise the content.
        if "exit status 2" in str(trouble):
            return {}
        raise
    # blkid escapes blanks for a shell.
    words = (shlex.split(line) for line in os.fsdecode(said).splitlines())
    return dict(word[0].split("=", 1) for word in words if word and "=" in word[0])


def _open(disk, start, size, kind, scratch):
    """Opens a file system; None if there is nothing to read."""
    if kind in ("ext2", "ext3", "ext4"):
        return Ext(disk, start)
    if kind == "vfat":
        return Fat(disk, start)
    if kind == "swap":
        return None
    if kind in ("xfs", "btrfs"):
        alone = _cut(disk, start, size, f"{scratch}.{kind}")
        return Xfs(alone) if kind == "xfs" else Btrfs(alone, scratch)
    if not kind and _empty(disk, start, size):
        return None
    raise Unreadable(
        f"verify can't look into {kind or 'what is in it'}: mount it read-only as root, and run verify on that directory")


def _holes(file, start, end):
    """The ranges of a file that hold data."""
    while start < end:
        try:
            start = os.lseek(file, start, os.SEEK_DATA)
        except OSError:
            return
        stop = min(os.lseek(file, start, os.SEEK_HOLE), end)
        if start < end:
            yield start, stop
        start = stop


def _blocks(file, start, size):
    """The blocks of a part of a file that may contain other bytes than zero, with their offsets."""
    for first, end in _holes(file.fileno(), start, start + size):
        for at in range(first, end, 1 << 20):
            file.seek(at)
            block = file.read(min(1 << 20, end - at))
            if block.strip(b"\0"):
                yield at, block


def _empty(disk, start, size):
    with open(disk, "rb") as file:
        return next(_blocks(file, start, size), None) is None


def _cut(disk, start, size, path):
    """Copies a part of the disk to a file, for tools that take no offset."""
    if start == 0:
        return disk
    with open(disk, "rb") as source, open(path, "wb") as part:
        part.truncate(size)
        for at, block in _blocks(source, start, size):
            part.seek(at - start)
            part.write(block)
    return path


def _roots(system):
    """The directories that a system may boot from: the top directory, or btrfs subvolumes."""
    tops = [system.root]
    if isinstance(system, Btrfs):
        tops += [node for node in system.entries(system.root).values() if node.kind == "directory"]
    return [top for top in tops if "os-release" in Tree(system, top).names("/etc")]
