//! Why a proxy refuses a port: somebody has it, or this key may not.
//!
//! sshd answers both with the same bare failure. It tells the reason in an SSH_MSG_DEBUG before
//! it, which the SSH library reads and drops. To ask for another port of the same bind would not
//! tell either: a key that may have one port only, as we recommend, is refused any other. But who
//! has the port can be seen: from inside the proxy by a connection of ours through the session,
//! and for a public bind from outside. What refuses us where nobody listens is the proxy's rules.

use std::io::ErrorKind::ConnectionRefused;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use russh::client::Handle;
use russh::{ChannelMsg, ChannelOpenFailure};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fault::Fault;
use super::handler::Gate;
use super::probe::{Reach, inside as inside_host, reach, wants_other_family};
use super::timing::Timing;
use crate::metadata::document::RemoteForward;

/// What a connection to the port met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Somebody,
    Nobody,
    /// The proxy does not let this key connect there.
    Forbidden,
    /// It can't be said.
    Unknown,
}

/// Looks once who has the port; takes two deadlines of a probe at most.
pub(super) async fn explain(
    handle: &Arc<Handle<Gate>>,
    peer: IpAddr,
    proxy: String,
    at: RemoteForward,
    timing: &Timing,
) -> Fault {
    let (inside, outside) = tokio::join!(inside(handle, &at, timing), outside(&at, peer, timing));
    judge(inside, outside, proxy, at)
}

fn judge(inside: Met, outside: Met, proxy: String, at: RemoteForward) -> Fault {
    let RemoteForward { bind, port } = at;
    let held = |detail| Fault::PortHeld {
        proxy: proxy.clone(),
        bind: bind.clone(),
        port,
        detail,
    };
    match (inside, outside) {
        (Met::Somebody, _) | (_, Met::Somebody) => held("somebody listens there already"),
        (Met::Nobody, _) => Fault::ForwardDenied { proxy, bind, port },
        (Met::Forbidden, Met::Nobody) => Fault::ForwardingDisabled { proxy, bind, port },
        (Met::Forbidden | Met::Unknown, _) => {
            held("somebody listens there already, or this key may not have it")
        }
    }
}

/// From inside the proxy. The connection is ended before a byte has gone through it.
async fn inside(handle: &Handle<Gate>, at: &RemoteForward, timing: &Timing) -> Met {
    let host = inside_host(&at.bind);
    let opened = handle.channel_open_direct_tcpip(host, u32::from(at.port), "127.0.0.1", 0);
    match timeout(timing.probe_deadline, opened).await {
        Ok(Ok(mut channel)) => {
            let _ = channel.eof().await;
            // The library forgets a channel only if the peer closes it first.
            let closed =
                async { while !matches!(channel.wait().await, Some(ChannelMsg::Close) | None) {} };
            let _ = timeout(timing.probe_deadline, closed).await;
            Met::Somebody
        }
        Ok(Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed))) => Met::Nobody,
        Ok(Err(russh::Error::ChannelOpenFailure(
            ChannelOpenFailure::AdministrativelyProhibited,
        ))) => Met::Forbidden,
        Ok(Err(_)) | Err(_) => Met::Unknown,
    }
}

/// The address at which everybody can dial a forward on `bind` of the proxy at `peer`. None for a
/// bind that only the proxy can dial, and for one of another family than `peer`: nobody would
/// answer there, whoever has the port.
fn public_address(bind: &str, peer: IpAddr) -> Option<IpAddr> {
    let Reach::Everybody(addresses) = reach(bind, peer, &[]) else {
        return None;
    };
    let fits = |address: &IpAddr| !wants_other_family(bind, *address);
    addresses.into_iter().find(fits)
}

/// From outside, as users would.
async fn outside(at: &RemoteForward, peer: IpAddr, timing: &Timing) -> Met {
    let Some(address) = public_address(&at.bind, peer) else {
        return Met::Unknown;
    };
    let dialled = TcpStream::connect(SocketAddr::new(address, at.port));
    match timeout(timing.probe_deadline, dialled).await {
        Ok(Ok(_)) => Met::Somebody,
        Ok(Err(error)) if error.kind() == ConnectionRefused => Met::Nobody,
        Ok(Err(_)) | Err(_) => Met::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Explain;

    #[test]
    fn a_forward_of_one_family_is_not_looked_for_at_an_address_of_the_other() {
        let (v4, v6) = ([192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap());
        for (bind, peer, expected) in [
            ("0.0.0.0", v4, Some(v4)),
            ("0.0.0.0", v6, None),
            ("::", v6, Some(v6)),
            ("::", v4, None),
            ("*", v6, Some(v6)),
            ("192.0.2.1", v6, Some(v4)),
            ("127.0.0.1", v4, None),
            ("localhost", v4, None),
        ] {
            assert_eq!(public_address(bind, peer), expected, "{bind} {peer}");
        }
    }

    #[test]
    fn what_was_met_tells_who_has_the_port() {
        use Met::{Forbidden, Nobody, Somebody, Unknown};
        for (inside, outside, code) in [
            (Somebody, Unknown, "port-held"),
            (Somebody, Nobody, "port-held"),
            (Forbidden, Somebody, "port-held"),
            (Unknown, Somebody, "port-held"),
            (Nobody, Unknown, "forward-denied"),
            (Nobody, Nobody, "forward-denied"),
            (Forbidden, Nobody, "forwarding-disabled"),
            // Not known: the port may come free, so it is asked for again.
            (Forbidden, Unknown, "port-held"),
            (Unknown, Nobody, "port-held"),
            (Unknown, Unknown, "port-held"),
        ] {
            let at = RemoteForward {
                bind: "0.0.0.0".to_owned(),
                port: 1,
            };
            let fault = judge(inside, outside, "proxy:22".to_owned(), at);
            assert_eq!(fault.code(), code, "{inside:?} {outside:?}");
        }
    }
}
