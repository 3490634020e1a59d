"""Look up paths in a root file system and in the file systems mounted below it."""

import fnmatch

from filesystems import Node


class Hollow:
    """A directory that exists only as a mount point: the file system lacks it."""

    def entries(self, _node):
        return {}


class Tree:
    """A root file system with its mounts. Links are followed as inside it."""

    def __init__(self, system, root):
        self.mounts = {"/": (system, root)}

    def mount(self, place, system, node):
        """Mounts a directory; False if another one is mounted there."""
        place = "/" + place.strip("/")
        return self.mounts.setdefault(place, (system, node)) == (system, node)

    def bind(self, source, place):
        """Mounts what find() found, with the mounts below it, at another place; False as mount() does."""
        start = source[0].rstrip("/") + "/"
        below = [(path[len(start):], top) for path, top in self.mounts.items() if path.startswith(start) and path != "/"]
        done = self.mount(place, *source[1:])
        for path, top in below:
            self.mount(f"{place}/{path}", *top)
        return done

    def find(self, path):
        """The path without links, the file system and the node; or None."""
        trail, pending, links = [], path.split("/")[::-1], 0
        # One more than there are names in the trail: the first is the root's.
        stack = [self.mounts["/"]]
        while pending:
            name = pending.pop()
            system, node = stack[-1]
            if name in ("", "."):
                continue
            if name == "..":
                if trail:
                    trail.pop()
                    stack.pop()
                continue
            if node.kind != "directory":
                return None
            child = self.mounts.get("/" + "/".join([*trail, name]))
            if not child:
                found = system.entries(node).get(name)
                if not found and name in self._mount_points(trail):
                    found = Node("directory", None)
                    system = Hollow()
                if not found:
                    return None
                if found.kind == "link":
                    links += 1
                    if links > 40:
                        return None
                    target = system.target(found)
                    if target.startswith("/"):
                        stack, trail = stack[:1], []
                    pending += target.split("/")[::-1]
                    continue
                child = (system, found)
            stack.append(child)
            trail.append(name)
        return ("/" + "/".join(trail), *stack[-1])

    def names(self, path):
        """The names in a directory, dangling links included; none if the directory does not exist."""
        found = self.find(path)
        if not found or found[2].kind != "directory":
            return []
        return sorted({*found[1].entries(found[2]), *self._mount_points(found[0].strip("/").split("/"))})

    def _mount_points(self, trail):
        """The names in this directory on the way to mount points, which systemd creates."""
        start = "/".join(["", *filter(None, trail), ""])
        return {place[len(start):].split("/")[0] for place in self.mounts if place.startswith(start) and place != "/"}

    def glob(self, pattern):
        """The paths that match. * and ? match no slash, and a leading dot too."""
        parents = [""]
        *above, last = pattern.strip("/").split("/")
        for part in above:
            parents = [f"{parent}/{name}" for parent in parents for name in self._matching(parent, part)]
        return [f"{parent}/{name}" for parent in parents for name in self._matching(parent, last)]

    def _matching(self, parent, part):
        return [name for name in self.names(parent or "/") if fnmatch.fnmatchcase(name, part)]

    def read(self, path):
        """The content of a regular file; None if there is no such file."""
        found = self.find(path)
        return found[1].content(found[2]) if found and found[2].kind == "file" else None

    def text(self, path):
        return (self.read(path) or b"").decode(errors="surrogateescape")
