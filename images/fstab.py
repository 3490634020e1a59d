"""Mount the file systems of an image as /etc/fstab and the types of its partitions say."""

import os
import re

from filesystems import Directory, Unreadable
from tree import Tree

# File systems that hold nothing of a disk.
VIRTUAL = {
    "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue",
    "proc", "pstore", "ramfs", "securityfs", "swap", "sysfs", "tmpfs", "tracefs",
}


def mount(tree, partitions, roots):
    """Mounts the partitions; returns the mounted ones, and a line for each mount of something else.

    A partition is not mounted where another one is: the first of them would be hidden.
    """
    mounted, binds, notes = set(), [], []
    for spec, place, kind, options in _lines(tree):
        if "bind" in options or "rbind" in options:
            binds.append((spec, place))
            continue
        # A subvolume that only its number names is not mounted, and so is reported.
        volume = next((option[len("subvol="):] for option in options if option.startswith("subvol=")), "/")
        numbered = volume == "/" and any(option.startswith("subvolid=") for option in options)
        named = [part for part in partitions if _canonical(spec) in part.names]
        for part in named:
            top = Tree(part.system, part.system.root).find(volume)
            if top and not numbered and tree.mount(place, part.system, top[2]):
                mounted.add(part)
        if not named and kind not in VIRTUAL and not _mounted_outside(tree, place):
            notes.append(_note(spec, place))
    bound = {place for _, place in binds}
    for part in partitions:
        if part.place and part.place not in bound and part not in mounted | roots:
            if tree.mount(part.place, part.system, part.system.root):
                mounted.add(part)
    # The source of a bind mount may be in any other mount.
    for spec, place in binds:
        source = tree.find(spec)
        if not source:
            notes.append(_note(spec, place))
        elif not tree.bind(source, place):
            raise Unreadable(f"/etc/fstab mounts two file systems at {place}: leave only one there")
    return mounted, notes


def _lines(tree):
    """The source, the mount point, the type and the options of each mount in fstab except that of the root."""
    for line in tree.text("/etc/fstab").splitlines():
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or fields[1] in ("/", "none", "swap"):
            continue
        spec, place = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field) for field in fields[:2])
        yield spec, place, fields[2], ",".join(fields[3:4]).split(",")


def _mounted_outside(tree, place):
    """Whether the image is a directory in which someone has mounted this file system."""
    found = tree.find(place)
    return bool(found) and type(found[1]) is Directory and os.path.ismount(found[2].ref)


def _note(spec, place):
    return f"{place} is not looked into: /etc/fstab mounts {spec} there, which is not in this image"


def _canonical(spec):
    """The form in which a partition's names are compared with those in fstab."""
    spec = spec.replace('"', "")
    linked = re.fullmatch(r"/dev/disk/by-(uuid|label|partuuid|partlabel)/(.+)", spec)
    if linked:
        spec = f"{linked[1].upper()}={linked[2]}"
    device = re.fullmatch(r"/dev/(?:[shv]d[a-z]|xvd[a-z]|(?:nvme\d+n|mmcblk)\d+p)(\d+)", spec)
    if device:
        return f"NUMBER={device[1]}"
    key, _, value = spec.partition("=")
    return f"{key}={value.lower()}" if key == "PARTUUID" else f"{key}={value}"
