//! Parses hosts, bind addresses and service addresses as people write them.
//!
//! Blanks around a value and brackets around an IPv6 address are removed. A port, an account or a
//! scheme belongs to another key: such a value is refused, and the advice names the key for each
//! part.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::cursor::REPEATED;

/// The fault of a value, and the advice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slip {
    pub(super) problem: String,
    pub(super) advice: String,
}

impl Slip {
    fn new(problem: &str, advice: String) -> Self {
        let problem = problem.to_owned();
        Self { problem, advice }
    }
}

/// The longest name and the longest label that DNS has (RFC 1035, 2.3.4), in bytes.
const LONGEST: usize = 255;
const LABEL: usize = 63;

/// The parts of a text that may be `SCHEME://USER@HOST:PORT/PATH`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts<'a> {
    scheme: Option<&'a str>,
    /// The account, without a password.
    user: Option<&'a str>,
    host: String,
    port: Option<&'a str>,
    path: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let (rest, path) = match rest.split_once(['/', '?', '#']) {
            Some((rest, _)) => (rest, true),
            None => (rest, false),
        };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (user.split(':').next(), rest),
            None => (None, rest),
        };
        let (host, port) = split_port(rest);
        Self {
            scheme,
            user,
            host,
            port,
            path,
        }
    }

    /// The names of the parts beside the host, for a fault.
    fn others(&self) -> Option<String> {
        let mut found = Vec::new();
        if self.scheme.is_some() || self.path {
            found.push("a URL");
        }
        if self.user.is_some() {
            found.push("an account");
        }
        if self.port.is_some() {
            found.push("a port");
        }
        let (last, others) = found.split_last()?;
        Some(if others.is_empty() {
            (*last).to_owned()
        } else {
            format!("{} and {last}", others.join(", "))
        })
    }
}

/// The host without brackets, and the port behind it.
fn split_port(text: &str) -> (String, Option<&str>) {
    if let Some((inside, after)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        if let Some(address) = bracketed(inside) {
            match after.strip_prefix(':') {
                Some(port) => return (address, Some(port)),
                None if after.is_empty() => return (address, None),
                None => {}
            }
        }
        return (text.to_owned(), None);
    }
    // More than one colon: an IPv6 address, or an invalid text.
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host.to_owned(), Some(port)),
        Some(_) | None => (text.to_owned(), None),
    }
}

/// An IPv6 address in brackets. Its zone is written as in RFC 6874, or after a bare `%`.
fn bracketed(inside: &str) -> Option<String> {
    let (address, zone) = match inside.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (inside, None),
    };
    address.parse::<Ipv6Addr>().ok()?;
    Some(match zone {
        Some(zone) => format!("{address}%{zone}"),
        None => address.to_owned(),
    })
}

fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let interface = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic());
    address.parse::<Ipv6Addr>().is_ok() && interface
}

/// Whether a resolver accepts the text as a name or as an IPv4 address.
fn is_name(text: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=LONGEST).contains(&text.len())
        && text.chars().all(letter)
        && text.split('.').all(|label| label.len() <= LABEL)
        && text.contains(char::is_alphanumeric)
}

/// Reads the name or address of a proxy.
pub(super) fn host(text: &str, key: &str) -> Result<String, Slip> {
    let parts = Parts::of(text.trim());
    if !is_name(&parts.host) && !is_ipv6(&parts.host) {
        let problem = "expected a host name or an address";
        let advice = "Write the name alone, such as proxy.example.org, or the address.";
        return Err(Slip::new(problem, advice.to_owned()));
    }
    let Some(found) = parts.others() else {
        return Ok(parts.host);
    };
    let mut keys = vec![format!("`{key}: {}`", in_yaml(&parts.host))];
    let port = parts.port.filter(|port| is_port(port));
    keys.extend(port.map(|port| format!("`port: {port}`")));
    let user = parts.user.filter(|user| is_account(user));
    keys.extend(user.map(|user| format!("`user: {user}`")));
    let apart = if keys.len() > 1 {
        ", each as a key of its own"
    } else {
        ""
    };
    let advice = format!("Write {}{apart}.", keys.join(" and "));
    let problem = format!("found {found}, expected a host name or an address alone");
    Err(Slip { problem, advice })
}

/// Reads an address on which the proxy is to listen. `""` and `*` mean all addresses.
pub(super) fn bind(text: &str) -> Result<String, Slip> {
    let parts = Parts::of(text.trim());
    let all = |host: &str| matches!(host, "" | "*");
    let known = all(&parts.host) || is_name(&parts.host) || is_ipv6(&parts.host);
    let blank = text.trim().is_empty() && !text.is_empty();
    let foreign = parts.scheme.is_some() || parts.user.is_some() || parts.path;
    if !known || blank || foreign {
        let problem = "expected an address of the proxy";
        let advice = "Write \"0.0.0.0\", \"::\" or \"*\" to let others connect, \"localhost\" or an \
                      address of the proxy otherwise.";
        return Err(Slip::new(problem, advice.to_owned()));
    }
    let Some(port) = parts.port else {
        return Ok(parts.host);
    };
    let problem = "found a port behind the address, expected the address alone";
    let port = if is_port(port) { port } else { "PORT" };
    let host = in_yaml(&parts.host);
    let advice = format!("Write `bind: {host}` and `port: {port}`, each as a key of its own.");
    Err(Slip::new(problem, advice))
}

/// Reads the address and port of a service in this guest.
pub(super) fn service(text: &str) -> Result<SocketAddr, Slip> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() != 0 {
            return Ok(address);
        }
        let problem = "found port 0, expected the port on which the service listens";
        return Err(Slip::new(
            problem,
            format!("Write `to: \"{}:PORT\"`.", host_of(address.ip())),
        ));
    }
    if is_port(text) {
        let problem = "found a port alone, expected an address with a port";
        let advice = format!("Write `to: \"127.0.0.1:{text}\"`.");
        return Err(Slip::new(problem, advice));
    }
    let bare = bracketed(text.trim_matches(['[', ']'])).and_then(|text| text.parse().ok());
    if let Some(address) = text.parse::<IpAddr>().ok().or(bare) {
        let problem = "found an address without a port";
        let advice = format!("Write `to: \"{}:PORT\"`.", host_of(address));
        return Err(Slip::new(problem, advice));
    }
    let parts = Parts::of(text);
    let port = parts.port.filter(|port| is_port(port)).unwrap_or("PORT");
    let address = parts.host.parse::<IpAddr>();
    let problem = match &address {
        _ if parts.scheme.is_some() || parts.path => "found a URL or a path",
        Ok(_) => "expected an address with a port",
        Err(_) => "found a name, expected an address with a port",
    };
    let address = address.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let mut advice = format!("Write `to: \"{}:{port}\"`", host_of(address));
    if parts.host.eq_ignore_ascii_case("localhost") {
        advice += &format!(", or \"[::1]:{port}\" for a service that listens on IPv6 only");
    }
    Err(Slip::new(problem, advice + "."))
}

fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0) && !text.starts_with('+')
}

fn is_account(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A name or address as a YAML value. A long text is replaced, since it could be a key.
fn in_yaml(host: &str) -> String {
    if host.len() > REPEATED {
        "HOST".to_owned()
    } else if is_name(host) {
        host.to_owned()
    } else {
        format!("\"{host}\"")
    }
}

#[cfg(test)]
mod tests;
