//! Forwards of one document that can't both listen on the proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cursor::quoted;
use super::{DocumentFault, RemoteForward, ServiceForward, TunnelSpec};

/// Refuses a document that asks twice for the same listening address.
///
/// The proxy would refuse the second request, and the agent would report its own forward as another
/// holder of the port.
pub(super) fn refuse(tunnel: &TunnelSpec) -> Result<(), DocumentFault> {
    let mut before = vec![(&tunnel.forward, "tunnel".to_owned())];
    for (index, ServiceForward { at, .. }) in tunnel.forwards.iter().enumerate() {
        let place = format!("tunnel.forwards[{index}]");
        if let Some((other, first)) = before.iter().find(|(other, _)| collide(at, other)) {
            let problem = format!(
                "asks for port {} on {}, which {first} asks for already (bind {})",
                at.port,
                quoted(&at.bind),
                quoted(&other.bind)
            );
            let advice = "Allocate another port for one of the two.";
            return Err(DocumentFault::value(&place, problem, advice));
        }
        before.push((at, place));
    }
    Ok(())
}

/// Whether sshd can't serve both in full, with `GatewayPorts clientspecified`: it refuses the second
/// request, or grants it for the address family that is left. For port 0, sshd takes a free port.
fn collide(one: &RemoteForward, other: &RemoteForward) -> bool {
    one.port != 0 && one.port == other.port && Bind::of(&one.bind).overlaps(&Bind::of(&other.bind))
}

/// The addresses that sshd listens on for a bind address (`channel_fwd_bind_addr` in OpenSSH's channels.c): an
/// IPv6 socket takes no IPv4 connections, and the kernel lets no address be bound beside the
/// wildcard of its family.
#[derive(Debug, PartialEq, Eq)]
enum Bind {
    /// `""` and `"*"`: the wildcards of both families.
    Everywhere,
    /// `localhost`: 127.0.0.1 and ::1.
    Localhost,
    /// One address.
    Address(IpAddr),
    /// A name that the proxy resolves.
    Name(String),
}

impl Bind {
    fn of(text: &str) -> Self {
        match (text, text.parse::<IpAddr>()) {
            ("" | "*", _) => Self::Everywhere,
            (_, Ok(address)) => Self::Address(address),
            (name, Err(_)) => match name.to_ascii_lowercase() {
                name if name == "localhost" => Self::Localhost,
                name => Self::Name(name),
            },
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everywhere, _) | (_, Self::Everywhere) => true,
            (Self::Localhost, Self::Localhost) => true,
            // Of the loopback network, sshd binds these two addresses only.
            (Self::Localhost, Self::Address(address))
            | (Self::Address(address), Self::Localhost) => {
                let bound: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                address.is_unspecified() || bound.contains(address)
            }
            (Self::Address(one), Self::Address(other)) => {
                one.is_ipv4() == other.is_ipv4()
                    && (one == other || one.is_unspecified() || other.is_unspecified())
            }
            (Self::Name(one), Self::Name(other)) => one == other,
            // Whether they are the same is for the proxy's resolver to say.
            (Self::Name(_), Self::Localhost | Self::Address(_))
            | (Self::Localhost | Self::Address(_), Self::Name(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bind: &str, port: u16) -> RemoteForward {
        let bind = bind.to_owned();
        RemoteForward { bind, port }
    }

    #[test]
    fn two_binds_collide_if_sshd_can_not_listen_on_both() {
        for (one, other, expected) in [
            ("", "", true),
            ("", "*", true),
            ("", "0.0.0.0", true),
            ("*", "::", true),
            ("", "localhost", true),
            ("", "web1.vm", true),
            ("0.0.0.0", "0.0.0.0", true),
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "::", false),
            ("0.0.0.0", "::1", false),
            ("::", "0:0::0", true),
            ("::", "2001:db8::1", true),
            ("::", "127.0.0.1", false),
            ("localhost", "LOCALHOST", true),
            ("localhost", "127.0.0.1", true),
            ("localhost", "::1", true),
            ("localhost", "0.0.0.0", true),
            ("localhost", "127.0.0.2", false),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "198.51.100.7", false),
            ("web1.vm", "Web1.vm", true),
            ("web1.vm", "web2.vm", false),
            ("web1.vm", "0.0.0.0", false),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                assert_eq!(
                    collide(&at(one, 80), &at(other, 80)),
                    expected,
                    "{one} {other}"
                );
                assert!(!collide(&at(one, 80), &at(other, 81)), "{one} {other}");
                assert!(!collide(&at(one, 0), &at(other, 0)), "{one} {other}");
            }
        }
    }
}
