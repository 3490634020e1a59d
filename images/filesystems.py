"""Read file systems without root and without a mount.

Each class reads one kind with the tools of that file system's project, and has

    root            the node of the top directory
    entries(node)   {name: node} of a directory
    target(node)    the target of a symbolic link
    content(node)   the bytes of a regular file; only the beginning of a large one
"""

import collections
import functools
import os
import re
import subprocess

# verify reads no file that is larger; the rest of a larger file is skipped.
LIMIT = 1 << 20

PACKAGES = {
    "debugfs": "e2fsprogs", "xfs_db": "xfsprogs", "xfs_logprint": "xfsprogs", "btrfs": "btrfs-progs", "mdir": "mtools",
    "blkid": "util-linux", "sfdisk": "fdisk", "qemu-img": "qemu-utils",
}

# kind is "directory", "file", "link" or "other"; only the file system's class interprets ref.
Node = collections.namedtuple("Node", "kind ref")


class Unreadable(Exception):
    """Some content can't be read, so there is no verdict."""


# The tools read what the file system has without its journal: files that were written last may be missing.
UNFINISHED = "its journal has changes that are not written yet: boot the image and power it off, or run {}"


def run(*command, stdin=b""):
    """Runs a program that has to succeed; returns its standard output and its standard error."""
    # A user's PATH may lack the directories of these programs.
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    environment = {**os.environ, "PATH": path, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    try:
        ended = subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)
    except FileNotFoundError:
        package = PACKAGES[command[0]]
        raise Unreadable(f"{command[0]} is needed for this image: install {package}") from None
    complaints = ended.stderr.decode(errors="replace").strip()
    if ended.returncode != 0:
        raise Unreadable(f"{command[0]}: {complaints or f'exit status {ended.returncode}'}")
    return ended.stdout, complaints


def kind_of_mode(mode):
    """The kind of a node with this st_mode."""
    return {0o040000: "directory", 0o100000: "file", 0o120000: "link"}.get(mode & 0o170000, "other")


class Directory:
    """An unpacked tree. A ref is a path; this class never follows symbolic links."""

    def __init__(self, path):
        self.path = path
        self.root = Node("directory", path)

    def _failed(self, error):
        place = "/" + os.path.relpath(error.filename, self.path)
        if isinstance(error, PermissionError):
            return Unreadable(f"can't read {place}: run as root")
        return Unreadable(f"can't read {place}: {error.strerror}")

    def entries(self, node):
        try:
            with os.scandir(node.ref) as found:
                return {e.name: Node(kind_of_mode(e.stat(follow_symlinks=False).st_mode), e.path) for e in found}
        except OSError as error:
            raise self._failed(error) from None

    def target(self, node):
        return os.readlink(node.ref)

    def content(self, node):
        try:
            with open(node.ref, "rb") as file:
                return file.read(LIMIT)
        except OSError as error:
            raise self._failed(error) from None


class Ext:
    """ext2, ext3 and ext4, with debugfs. A ref is an inode number."""

    def __init__(self, image, offset):
        self.image = f"{image}?offset={offset}"
        if b"needs_recovery" in self._ask("features").split():
            raise Unreadable(UNFINISHED.format("e2fsck -f on the file system"))
        self.root = Node("directory", 2)

    def _ask(self, request):
        answer, complaints = run("debugfs", "-R", request, self.image)
        # The first line is the program's name and version.
        if "\n" in complaints:
            raise Unreadable(complaints.split("\n", 1)[1])
        return answer

    @functools.lru_cache(maxsize=None)
    def entries(self, node):
        found = {}
        # /inode/mode/uid/gid/name/size/
        for line in os.fsdecode(self._ask(f"ls -p <{node.ref}>")).splitlines():
            fields = line.split("/")
            if len(fields) > 6 and fields[5] not in (".", ".."):
                found[fields[5]] = Node(kind_of_mode(int(fields[2], 8)), int(fields[1]))
        return found

    def target(self, node):
        # ext4 stores up to 59 bytes of a link in its inode, more in a block.
        short = re.search(rb'^Fast link dest: "(.*)"$', self._ask(f"stat <{node.ref}>"), re.M)
        return os.fsdecode(short[1] if short else self._ask(f"cat <{node.ref}>"))

    def content(self, node):
        return self._ask(f"cat <{node.ref}>")[:LIMIT]


class Xfs:
    """XFS, with xfs_db. A ref is an inode number."""

    KINDS = {"directory": "directory", "regular": "file", "symlink": "link"}

    def __init__(self, image):
        self.image = image
        if b" state: <CLEAN>" not in run("xfs_logprint", "-t", image)[0]:
            raise Unreadable(UNFINISHED.format("mount and umount on the file system"))
        numbers = self._ask("sb 0", "print rootino blocksize agblocks")
        root, self.block, self.group = (int(number) for number in re.findall(r"= (\d+)", numbers))
        self.root = Node("directory", root)

    def _ask(self, *requests):
        options = [word for request in requests for word in ("-c", request)]
        answer, complaints = run("xfs_db", "-r", "-f", *options, self.image)
        if complaints:
            raise Unreadable(f"xfs_db: {complaints}")
        return os.fsdecode(answer)

    @functools.lru_cache(maxsize=None)
    def entries(self, node):
        found = {}
        for line in self._ask(f"inode {node.ref}", "ls").splitlines():
            # cookie, inode, kind, hash, length, name
            parts = re.fullmatch(r"\d+ +(\d+) +(\w+) +0x\w+ +\d+ (.+) \(good\)", line)
            if not parts:
                raise Unreadable(f"xfs_db: {line}")
            if parts[3] not in (".", ".."):
                found[parts[3]] = Node(self.KINDS.get(parts[2], "other"), int(parts[1]))
        return found

    def target(self, node):
        local = re.search(r'^u3\.symlink = "(.*)"$', self._ask(f"inode {node.ref}", "print u3"), re.M)
        if not local:
            raise Unreadable("xfs_db can't follow a link of more than 300 bytes")
        return local[1]

    def content(self, node):
        answer = self._ask(f"inode {node.ref}", "print core.size", "bmap")
        size = min(int(re.search(r"core\.size = (\d+)", answer)[1]), LIMIT)
        data = bytearray(size)
        extents = re.findall(r"offset (\d+) startblock \d+ \((\d+)/(\d+)\) count (\d+)", answer)
        with open(self.image, "rb") as image:
            for offset, group, block, count in (map(int, extent) for extent in extents):
                image.seek((group * self.group + block) * self.block)
                start = offset * self.block
                if start < size:
                    end = min(start + count * self.block, size)
                    data[start:end] = image.read(end - start)
        return bytes(data)


class Btrfs(Directory):
    """btrfs, with all its subvolumes: "btrfs restore" copies it into a directory."""

    def __init__(self, image, scratch):
        os.mkdir(scratch)
        if not re.search(rb"^log_root\s+0$", run("btrfs", "inspect-internal", "dump-super", image)[0], re.M):
            raise Unreadable(UNFINISHED.format("mount and umount on the file system"))
        # btrfs asks whether to go on with a file of many extents: the answer is yes for all of them.
        run("btrfs", "restore", "--symlink", "--snapshots", image, scratch, stdin=b"a\n" * 1024)
        super().__init__(scratch)
        self.image = image

    def unvisited(self, visited):
        """The subvolumes with files that are in none of the visited directories.

        Subvolumes in a visited one are visited like its directories. A snapshot there is not: it has the files of
        another place, where the checks do not look for them.
        """
        snapshots = {os.path.join(self.path, path): snapshot for path, snapshot in self._subvolumes().items()}
        visited = set(visited)
        for path in sorted({self.path, *snapshots}):
            top = path
            while not snapshots.get(top) and top not in visited and top != self.path:
                top = os.path.dirname(top)
            if top in visited:
                visited.add(path)
                continue
            for directory, below, files in os.walk(path):
                below[:] = [name for name in below if not {os.path.join(directory, name)} & (visited | set(snapshots))]
                if files or any(os.path.islink(os.path.join(directory, name)) for name in below):
                    yield path[len(self.path):] or "/"
                    break

    def _subvolumes(self):
        """The paths of all subvolumes except the top-level one, each with whether it is a snapshot."""
        references, snapshots, item, expected = {}, set(), None, 0
        for line in self._items("root"):
            expected += bool(re.search(r"item \d+ key \(\w+ ROOT_REF ", line))
            item = re.search(r"item \d+ key \((\w+) (\w+) (\d+)\)", line) or item
            reference = re.match(r"\s+root ref key dirid (\d+) sequence \d+ name (.*)", line)
            if reference and item[2] == "ROOT_REF":
                references[item[3]] = (item[1], reference[1], reference[2])
            origin = re.match(r"\s+parent_uuid (\S+)", line)
            if origin and origin[1].strip("0-"):
                snapshots.add(item[1])
        if len(references) != expected:
            raise Unreadable("btrfs inspect-internal dump-tree names the subvolumes in an unknown form")

        def path(number):
            if number not in references:
                return ""
            parent, directory, name = references[number]
            return os.path.join(path(parent), self._directory(parent, directory), name)

        return {path(number): number in snapshots for number in references}

    def _directory(self, subvolume, number):
        """The path of a directory in its subvolume, whose top directory has the number 256."""
        if number == "256":
            return ""
        lines = self._items("5" if subvolume == "FS_TREE" else subvolume)
        for line, details in zip(lines, lines[1:]):
            item = re.search(rf"item \d+ key \({number} INODE_REF (\d+)\)", line)
            if item:
                name = re.match(r"\s+index \d+ namelen \d+ name: (.*)", details)[1]
                return os.path.join(self._directory(subvolume, item[1]), name)
        raise Unreadable(f"btrfs: directory {number} of subvolume {subvolume} has no name")

    @functools.lru_cache(maxsize=None)
    def _items(self, tree):
        return os.fsdecode(run("btrfs", "inspect-internal", "dump-tree", "-t", tree, self.image)[0]).split("\n")


class Fat:
    """FAT, with mtools. A ref is a path; names are not case-sensitive."""

    def __init__(self, image, offset):
        self.image = f"{image}@@{offset}"
        self.root = Node("directory", "::/")

    @functools.lru_cache(maxsize=None)
    def entries(self, node):
        found = {}
        for line in os.fsdecode(run("mdir", "-b", "-a", "-i", self.image, node.ref)[0]).splitlines():
            name = line.rstrip("/").rsplit("/", 1)[1]
            found[name.lower()] = Node("directory" if line.endswith("/") else "file", line)
        return found

    def content(self, node):
        return run("mtype", "-i", self.image, node.ref)[0][:LIMIT]
