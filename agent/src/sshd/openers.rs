//! Finds the unit that opened a listening socket, by the cgroup of the process that opened it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where cgroup2 is mounted, alone or beside cgroup v1.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The kind of process that opened a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    /// A process of a unit whose name says that it is sshd.
    Sshd,
    /// systemd itself, or a process outside of all units.
    Unknown,
    /// A process of another unit, or of a login session.
    Other,
}

/// The cgroups of the first two kinds.
#[derive(Debug, Default)]
pub(super) struct Openers {
    sshd: Vec<u64>,
    unknown: Vec<u64>,
}

impl Openers {
    pub(super) fn read() -> Self {
        let mut openers = Self::default();
        for mount in CGROUPS.map(Path::new) {
            let inode = |path: &Path| fs::metadata(path).ok().map(|dir| dir.ino());
            openers.unknown.extend(inode(mount));
            openers.unknown.extend(inode(&mount.join("init.scope")));
            for parent in [mount.to_owned(), mount.join("system.slice")] {
                for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    let name = name.to_string_lossy();
                    if ["ssh", "dropbear"].iter().any(|part| name.contains(part)) {
                        openers.sshd.extend(inode(&entry.path()));
                    }
                }
            }
        }
        openers
    }

    pub(super) fn of(&self, cgroup: Option<u64>) -> Opener {
        match cgroup {
            Some(id) if self.sshd.contains(&id) => Opener::Sshd,
            Some(id) if !self.unknown.contains(&id) => Opener::Other,
            Some(_) | None => Opener::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_told_by_the_unit_that_opened_it() {
        let openers = Openers {
            sshd: vec![7],
            unknown: vec![1, 2],
        };
        for (cgroup, opener) in [
            (Some(7), Opener::Sshd),
            (Some(1), Opener::Unknown),
            (None, Opener::Unknown),
            (Some(8), Opener::Other),
        ] {
            assert_eq!(openers.of(cgroup), opener, "{cgroup:?}");
        }
    }
}
