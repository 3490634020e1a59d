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
    pub(super) sshd: Vec<u64>,
    pub(super) unknown: Vec<u64>,
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
                    if is_sshd(&name.to_string_lossy()) {
                        openers.sshd.extend(inode(&entry.path()));
                    }
                }
            }
        }
        openers
    }

    /// The opener of a socket on this port. Without a cgroup, as before Linux 5.9, any service may
    /// have opened it: only port 22 then stays a candidate.
    pub(super) fn of(&self, cgroup: Option<u64>, port: u16) -> Opener {
        match cgroup {
            Some(id) if self.sshd.contains(&id) => Opener::Sshd,
            Some(id) if self.unknown.contains(&id) => Opener::Unknown,
            None if port == 22 => Opener::Unknown,
            Some(_) | None => Opener::Other,
        }
    }
}

/// Whether this is the name of an sshd's unit. Units such as autossh.service hold forwarded ports,
/// which lead to the sshd of another machine.
fn is_sshd(name: &str) -> bool {
    let unit = name
        .strip_suffix(".service")
        .or(name.strip_suffix(".socket"))
        // OpenRC names a cgroup after its service.
        .or(name.strip_prefix("openrc."));
    let template = unit.and_then(|unit| unit.split('@').next());
    template.is_some_and(|template| ["ssh", "sshd", "dropbear"].contains(&template))
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
        for (cgroup, port, opener) in [
            (Some(7), 2222, Opener::Sshd),
            (Some(1), 2222, Opener::Unknown),
            (Some(8), 22, Opener::Other),
            (None, 22, Opener::Unknown),
            (None, 2222, Opener::Other),
        ] {
            assert_eq!(openers.of(cgroup, port), opener, "{cgroup:?} {port}");
        }
    }

    #[test]
    fn only_a_unit_of_an_sshd_has_its_name() {
        for (name, expected) in [
            ("ssh.service", true),
            ("sshd.socket", true),
            ("dropbear.service", true),
            ("dropbear@eth0.service", true),
            ("ssh@.socket", true),
            ("openrc.sshd", true),
            ("autossh.service", false),
            ("ssh-tunnel.service", false),
            ("sshuttle.service", false),
            ("ssh", false),
        ] {
            assert_eq!(is_sshd(name), expected, "{name}");
        }
    }
}
