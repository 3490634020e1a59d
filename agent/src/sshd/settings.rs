//! Reads the addresses, the host keys and `UseDNS` of sshd from sshd_config(5).
//!
//! `sshd -G` would print them, but needs OpenSSH 9.3, and a process for each look. The addresses
//! are candidates only: one counts when the kernel has a socket that listens there.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// How deep files may include each other (`servconf.c`, `SERVCONF_MAX_DEPTH`).
const DEPTH: usize = 16;

/// How many files are read at most.
const FILES: usize = 256;

/// The directory of relative names in `Include`.
const DIRECTORY: &str = "/etc/ssh";

/// The settings outside of any `Match`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    ports: Vec<u16>,
    listen: Vec<(IpAddr, Option<u16>)>,
    /// The files of the private host keys, as `HostKey` names them.
    pub(super) host_keys: Vec<PathBuf>,
    use_dns: Option<bool>,
    /// A file could not be read, so a later setting may not be the first of its name.
    unread: bool,
    files: usize,
}

impl Settings {
    /// Reads sshd's configuration below `root`. Files that this process may not read are skipped.
    pub(super) fn read(root: &Path) -> Self {
        Self::read_in(root, Path::new(DIRECTORY))
    }

    /// Reads the `sshd_config` in another directory.
    fn read_in(root: &Path, directory: &Path) -> Self {
        let mut settings = Self::default();
        settings.file(root, directory, Path::new("sshd_config"), 0);
        settings
    }

    /// The addresses by which sshd is reached from this guest; empty if the settings name neither
    /// an address nor a port. IPv4 comes before IPv6, and loopback before others.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        if self.ports.is_empty() && self.listen.is_empty() {
            return Vec::new();
        }
        let ports = match &self.ports[..] {
            [] => &[22],
            ports => ports,
        };
        let both = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let listen = match &self.listen[..] {
            [] => both.map(|ip| (ip, None)).to_vec(),
            listen => listen.to_vec(),
        };
        let mut addresses = Vec::new();
        for (ip, port) in listen {
            let ports = port.as_ref().map_or(ports, std::slice::from_ref);
            let at = |port: &u16| local(SocketAddr::new(ip, *port));
            addresses.extend(ports.iter().map(at));
        }
        prefer(&mut addresses);
        addresses
    }

    fn file(&mut self, root: &Path, directory: &Path, path: &Path, depth: usize) {
        self.files += 1;
        if depth > DEPTH || self.files > FILES {
            self.unread = true;
            return;
        }
        let text = match fs::read(inside(root, &directory.join(path))) {
            Ok(text) => text,
            // sshd ignores a missing included file as well. Without its main file, sshd does not
            // start.
            Err(error) if error.kind() == ErrorKind::NotFound && depth > 0 => return,
            Err(_) => {
                self.unread = true;
                return;
            }
        };
        for line in String::from_utf8_lossy(&text).lines() {
            let words = words(line);
            let Some((keyword, values)) = words.split_first() else {
                continue;
            };
            match keyword.to_ascii_lowercase().as_str() {
                // A `Match` block extends to the end of its file.
                "match" => return,
                "include" => {
                    for pattern in values {
                        let paths = matching(root, &directory.join(pattern));
                        self.unread |= paths.is_none();
                        for path in paths.unwrap_or_default() {
                            self.file(root, directory, &path, depth + 1);
                        }
                    }
                }
                "port" => {
                    let port = values.first().and_then(|port| port.parse::<u16>().ok());
                    self.ports.extend(port);
                }
                "listenaddress" => {
                    self.listen
                        .extend(values.first().and_then(|text| address(text)));
                }
                // sshd uses the first value.
                "usedns" if self.use_dns.is_none() && !self.unread => {
                    self.use_dns = values
                        .first()
                        .map(|value| value.eq_ignore_ascii_case("yes"));
                }
                "hostkey" => self.host_keys.extend(values.first().map(PathBuf::from)),
                _ => {}
            }
        }
    }
}

/// The public halves of the host keys that sshd_config(5) names; empty if it leaves the keys to
/// sshd's defaults.
#[must_use]
pub fn host_keys() -> Vec<PathBuf> {
    let private = Settings::read(Path::new("/")).host_keys.into_iter();
    let public = |path: PathBuf| PathBuf::from(format!("{}.pub", path.display()));
    private.map(public).collect()
}

/// Whether sshd looks up the name of each client's address, by the `sshd_config` in `directory`, or
/// in `/etc/ssh` if `directory` has none. `None` if a file that may set it can't be read.
#[must_use]
pub(crate) fn use_dns(directory: &Path) -> Option<bool> {
    use_dns_below(Path::new("/"), directory)
}

fn use_dns_below(root: &Path, directory: &Path) -> Option<bool> {
    let main = inside(root, &directory.join("sshd_config"));
    let settings = match main.try_exists() {
        Ok(false) => Settings::read(root),
        Ok(true) | Err(_) => Settings::read_in(root, directory),
    };
    // sshd's default is no.
    settings.use_dns.or((!settings.unread).then_some(false))
}

/// The keyword and the values of a line. Blanks separate them, or a `=` after the keyword; a value
/// with blanks is in quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => {
                let blank = |c: char| c.is_whitespace() || (c == '=' && words.is_empty());
                rest.split_at(rest.find(blank).unwrap_or(rest.len()))
            }
        };
        rest = after.trim_start();
        if words.is_empty() {
            rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        }
        words.push(word.to_owned());
    }
    words
}

/// `host`, `host:port` or `[host]:port`, where the host is an IP address: no name is looked up.
fn address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let ip = bare.parse().ok().map(|ip| (ip, None));
    ip.or_else(|| {
        let address: SocketAddr = text.parse().ok()?;
        Some((address.ip(), Some(address.port())))
    })
}

/// The address by which this guest reaches a socket that is bound to `bound`.
pub(super) fn local(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Sorts addresses: IPv4 comes first, since only there each origin has an address of its own.
pub(super) fn prefer(addresses: &mut Vec<SocketAddr>) {
    addresses.sort_by_key(|address| (address.is_ipv6(), !address.ip().is_loopback()));
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let new = !seen.contains(address);
        seen.push(*address);
        new
    });
}

/// The files that match a pattern (glob(7)), sorted by name. `*` and `?` are supported in the last
/// component only.
fn matching(root: &Path, pattern: &Path) -> Option<Vec<PathBuf>> {
    let (directory, name) = (pattern.parent()?, pattern.file_name()?.to_string_lossy());
    if directory.to_string_lossy().contains(['*', '?', '[']) || name.contains('[') {
        return None;
    }
    if !name.contains(['*', '?']) {
        return Some(vec![pattern.to_owned()]);
    }
    let entries = match fs::read_dir(inside(root, directory)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(Vec::new()),
        entries => entries.ok()?,
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .filter(|entry| {
            let entry = entry.file_name();
            let entry = entry.to_string_lossy();
            // `*` and `?` match no leading dot (glob(7)).
            fits(name.as_bytes(), entry.as_bytes())
                && entry.starts_with('.') == name.starts_with('.')
        })
        .map(|entry| directory.join(entry.file_name()))
        .collect();
    paths.sort();
    Some(paths)
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => fits(rest, name),
        (Some((b'*', rest)), Some((_, after))) => fits(rest, name) || fits(pattern, after),
        (Some((b'?', rest)), Some((_, after))) => fits(rest, after),
        (Some((wanted, rest)), Some((found, after))) => wanted == found && fits(rest, after),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// An absolute path below `root`.
pub(super) fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests;
