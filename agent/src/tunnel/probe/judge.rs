//! The result of a probe, from the two ways to the port.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::super::fault::Fault;
use super::super::machine::Probe;

/// The result of one way to the port.
#[derive(Debug)]
pub(super) enum Met {
    /// This agent.
    Answered,
    /// The proxy does not let this key connect there.
    Forbidden,
    /// Anything else.
    Doubt(Doubt),
}

/// Why one way to the port did not reach this agent.
#[derive(Debug)]
pub(super) enum Doubt {
    /// There is no way there: no address of that family, or no route.
    NoWay(String),
    /// Nobody listens there, as far as can be seen.
    Refused(String),
    /// Anything else.
    Other(Fault),
}

/// The doubt that follows from a connection that did not come about.
pub(super) fn unconnected(target: SocketAddr, error: &io::Error) -> Doubt {
    let detail = format!("{target}: {error}");
    let is = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
    if is(&[ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset]) {
        Doubt::Refused(detail)
    } else if is(&[
        ErrorKind::NetworkUnreachable,
        ErrorKind::HostUnreachable,
        ErrorKind::AddrNotAvailable,
        ErrorKind::Unsupported,
    ]) {
        Doubt::NoWay(detail)
    } else {
        Doubt::Other(Fault::NotReachable {
            target: target.to_string(),
            detail: error.to_string(),
            refused: false,
        })
    }
}

/// The result of a probe. `outside` is the doubt on the way of public users; none, where only users of
/// the proxy can come. `exact` says that the way from inside leads to the bind itself, as that of
/// public users does.
pub(super) fn judge(target: String, outside: Option<Doubt>, inside: Met, exact: bool) -> Probe {
    match (outside, inside) {
        (_, Met::Doubt(Doubt::Other(fault @ Fault::SshdDown { .. }))) => Probe::Failed(fault),
        (None, Met::Answered) => Probe::Answered,
        (None, inside) => without_outside(target, inside),
        // Public users may meet that server as well, or it may stand on the way from this guest.
        (Some(Doubt::Other(fault @ Fault::WrongGuest { .. })), _) => Probe::Failed(fault),
        // An address in a network of the proxy's, where its users are.
        (Some(Doubt::NoWay(_)), Met::Answered) if exact => Probe::Answered,
        (Some(outside), Met::Answered) => leads_here_inside(target, outside),
        (Some(Doubt::Refused(detail)), _) => refused(target, detail),
        (Some(Doubt::Other(fault)), Met::Forbidden) => unproven(format!(
            "{fault}, and the proxy does not let this key connect to {target}"
        )),
        (Some(Doubt::NoWay(detail)), Met::Forbidden) => unproven(format!(
            "{detail}, and the proxy does not let this key connect to {target}"
        )),
        (Some(Doubt::Other(fault)), Met::Doubt(Doubt::Other(_) | Doubt::NoWay(_))) => {
            Probe::Failed(fault)
        }
        (Some(_), inside) => without_outside(target, inside),
    }
}

/// The way from inside alone.
fn without_outside(target: String, inside: Met) -> Probe {
    match inside {
        Met::Answered => Probe::Answered,
        Met::Forbidden => unproven(format!(
            "the proxy does not let this key connect to {target}"
        )),
        Met::Doubt(Doubt::Refused(detail)) => refused(target, detail),
        Met::Doubt(Doubt::NoWay(detail)) => unproven(detail),
        Met::Doubt(Doubt::Other(fault)) => Probe::Failed(fault),
    }
}

/// The port leads here, and the way of public users fails for this guest.
fn leads_here_inside(target: String, outside: Doubt) -> Probe {
    match outside {
        Doubt::NoWay(detail) => unproven(format!(
            "{detail}; from inside the proxy, {target} leads here"
        )),
        // With GatewayPorts no, sshd listens for users of the proxy alone; a firewall that refuses
        // this guest looks the same from here.
        Doubt::Refused(detail) => refused(
            target,
            format!("{detail}, though it leads here from inside the proxy"),
        ),
        Doubt::Other(fault) => Probe::Partial(fault),
    }
}

fn refused(target: String, detail: String) -> Probe {
    Probe::Failed(Fault::NotReachable {
        target,
        detail,
        refused: true,
    })
}

fn unproven(detail: String) -> Probe {
    Probe::Untried(Fault::Unproven { detail })
}
