//! Reads the socket units of sshd (systemd.socket(5), systemd.unit(5)).

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::address::Address;
use super::settings::{inside, local, prefer};

/// The directories of units; the first file of a name wins. systemd-ssh-generator(8) writes
/// `sshd-unix-local.socket` to the generators' directory. Ubuntu's sshd-socket-generator writes a
/// drop-in there with `Port` and `ListenAddress` of sshd_config(5).
const DIRECTORIES: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The socket unit's name on Debian, and on other distributions.
const UNITS: [&str; 2] = ["ssh.socket", "sshd.socket"];

/// A unit of systemd 256 and later, beside any other sshd: it starts `sshd -i` on a Unix socket.
const LOCAL: &str = "sshd-unix-local.socket";

/// The directories whose links enable a socket unit.
const WANTED_BY: [&str; 4] = [
    "sockets.target.wants",
    "ssh.service.requires",
    "ssh.service.wants",
    "multi-user.target.wants",
];

/// The addresses of sshd's socket unit below `root`, and whether that unit is enabled.
pub(super) fn ssh_socket(root: &Path) -> (Vec<Address>, bool) {
    let enabled = |unit: &&str| {
        let link = |directory: &str, by: &str| {
            let path = Path::new(directory).join(by).join(unit);
            fs::symlink_metadata(inside(root, &path)).is_ok()
        };
        DIRECTORIES
            .iter()
            .any(|directory| WANTED_BY.iter().any(|by| link(directory, by)))
    };
    let on = UNITS.iter().find(|unit| enabled(unit));
    let units = on.map_or(&UNITS[..], std::slice::from_ref);
    let mut addresses = Vec::new();
    for unit in units {
        for address in listen_streams(root, unit) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    (addresses, on.is_some())
}

/// The addresses of systemd's own unit for local logins, below `root`.
pub(super) fn local_socket(root: &Path) -> Vec<Address> {
    listen_streams(root, LOCAL)
}

/// The values of `ListenStream=` in a unit and its drop-ins: TCP addresses first, then paths.
fn listen_streams(root: &Path, unit: &str) -> Vec<Address> {
    let (mut tcp, mut unix) = (Vec::new(), Vec::new());
    for file in files(root, unit) {
        let text = fs::read(file).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            if key.trim() != "ListenStream" {
                continue;
            }
            let value = value.trim();
            if value.is_empty() {
                tcp.clear();
                unix.clear();
            } else if value.starts_with(['/', '%']) {
                let path = value.replace("%t", "/run");
                unix.push(Address::Unix(PathBuf::from(path)));
            } else if let Ok(port) = value.parse() {
                for ip in [
                    IpAddr::from(Ipv4Addr::LOCALHOST),
                    Ipv6Addr::LOCALHOST.into(),
                ] {
                    tcp.push(SocketAddr::new(ip, port));
                }
            } else if let Ok(address) = value.parse() {
                tcp.push(local(address));
            }
        }
    }
    prefer(&mut tcp);
    tcp.into_iter().map(Address::Tcp).chain(unix).collect()
}

/// The unit's file, and its drop-ins sorted by name.
fn files(root: &Path, unit: &str) -> Vec<PathBuf> {
    let directory = |name: &str| inside(root, Path::new(name));
    let main = DIRECTORIES
        .iter()
        .map(|name| directory(name).join(unit))
        .find(|path| fs::symlink_metadata(path).is_ok());
    let mut drop_ins = BTreeMap::new();
    for name in DIRECTORIES.iter().rev() {
        let entries = fs::read_dir(directory(name).join(format!("{unit}.d")));
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "conf") {
                drop_ins.insert(entry.file_name(), path);
            }
        }
    }
    main.into_iter().chain(drop_ins.into_values()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files; a name that ends in `@` is a link.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = inside(root.path(), Path::new(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn said(files: &[(&str, &str)]) -> (Vec<String>, bool) {
        let (addresses, enabled) = ssh_socket(root(files).path());
        (addresses.iter().map(Address::to_string).collect(), enabled)
    }

    const STOCK: (&str, &str) = (
        "/usr/lib/systemd/system/ssh.socket",
        "[Socket]\nListenStream=22\nAccept=no\n",
    );

    #[test]
    fn each_form_of_a_socket_is_read() {
        for (text, expected) in [
            (
                "ListenStream=2222",
                &["127.0.0.1:2222", "[::1]:2222"] as &[&str],
            ),
            ("ListenStream = 10.0.2.15:22 ", &["10.0.2.15:22"]),
            (
                "ListenStream=[::]:2222\nListenStream=0.0.0.0:2222",
                &["127.0.0.1:2222", "[::1]:2222"],
            ),
            ("ListenStream=/run/sshd.sock", &["unix:/run/sshd.sock"]),
            (
                "ListenStream=%t/sshd.sock\nListenStream=[::1]:22",
                &["[::1]:22", "unix:/run/sshd.sock"],
            ),
            (
                "ListenStream=22\nListenStream=\nListenStream=23",
                &["127.0.0.1:23", "[::1]:23"],
            ),
            (
                "ListenStream=vsock::22\nListenStream=@abstract\nListenDatagram=5",
                &[],
            ),
        ] {
            let file = ("/etc/systemd/system/ssh.socket", text);
            assert_eq!(
                said(&[file]),
                (expected.iter().map(ToString::to_string).collect(), false),
                "{text}"
            );
        }
    }

    #[test]
    fn a_unit_is_hidden_by_another_and_changed_by_its_drop_ins() {
        assert_eq!(said(&[]), (vec![], false));
        let both = ["127.0.0.1:22", "[::1]:22"].map(str::to_owned).to_vec();
        assert_eq!(said(&[STOCK]), (both.clone(), false));
        let wanted = ("/etc/systemd/system/sockets.target.wants/ssh.socket", "");
        assert_eq!(said(&[STOCK, wanted]), (both, true));
        let masked = ("/etc/systemd/system/ssh.socket", "");
        assert_eq!(said(&[STOCK, masked]), (vec![], false));
        let drop_ins = [
            STOCK,
            wanted,
            (
                "/etc/systemd/system/ssh.socket.d/a.conf",
                "[Socket]\nListenStream=\nListenStream=10.0.2.15:2222\n",
            ),
            (
                "/usr/lib/systemd/system/ssh.socket.d/a.conf",
                "[Socket]\nListenStream=5\n",
            ),
            (
                "/run/systemd/generator/ssh.socket.d/b.conf",
                "[Socket]\nListenStream=[::1]:2222\n",
            ),
            (
                "/etc/systemd/system/ssh.socket.d/c",
                "[Socket]\nListenStream=6\n",
            ),
        ];
        let expected = ["10.0.2.15:2222", "[::1]:2222"].map(str::to_owned).to_vec();
        assert_eq!(said(&drop_ins), (expected, true));
    }

    #[test]
    fn an_enabled_unit_comes_before_one_that_is_there() {
        let files = [
            STOCK,
            ("/usr/lib/systemd/system/sshd.socket", "ListenStream=2222"),
            ("/etc/systemd/system/sockets.target.wants/sshd.socket", ""),
        ];
        let expected = ["127.0.0.1:2222", "[::1]:2222"].map(str::to_owned).to_vec();
        assert_eq!(said(&files), (expected, true));
    }
}
