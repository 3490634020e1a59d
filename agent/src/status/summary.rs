//! What the parts amount to: the health, and the commands that work now.

use std::net::IpAddr;

use super::model::{
    BridgeState, Health, MetadataState, Nat, NatVerdict, SshdState, Status, TunnelDecision,
    TunnelState, WayIn,
};

/// Faults of a metadata service that may simply not be one for us: another cloud's, or none.
const NO_SERVICE: [&str; 7] = [
    "metadata-unreachable",
    "metadata-unfinished",
    "metadata-http",
    "metadata-forbidden",
    "metadata-throttled",
    "metadata-server-error",
    "metadata-redirected",
];

impl Status {
    /// Whether the tunnel's slice may be out of date: the metadata are still being looked for, the
    /// decision on the document in force is pending, or the tunnel has not taken it up.
    ///
    /// For the agent itself: the counts behind this are not in the JSON.
    pub(crate) fn is_settling(&self) -> bool {
        self.metadata.state == MetadataState::Looking
            || self.metadata.stirred
            || self.metadata.revision != self.nat.revision
            || self.nat.wanted != self.tunnel.wanted
    }
}

/// The sum: what should be up and is not, then what has not been tried yet.
///
/// A machine without a metadata service is healthy: that there is none counts against it once a
/// document has been found, not before.
pub(super) fn health(status: &Status) -> Health {
    let Status {
        bridge,
        tunnel,
        metadata,
        ..
    } = status;
    let code = metadata.fault.as_ref().map_or("", |fault| &fault.code);
    let metadata_lost = metadata.state == MetadataState::Failed
        && (metadata.source.is_some() || !NO_SERVICE.contains(&code));
    let tunnel_lost = match tunnel.state {
        TunnelState::Waiting | TunnelState::PortHeld => true,
        TunnelState::Opening
        | TunnelState::Proving
        | TunnelState::Closing
        | TunnelState::Off
        | TunnelState::Up => tunnel.fault.is_some(),
    };
    let forward_lost = tunnel
        .forwards
        .iter()
        .any(|forward| forward.fault.is_some());
    let bridge = match (bridge.state, &bridge.fault) {
        (BridgeState::Ready | BridgeState::Foreign | BridgeState::Off, _) => Health::Ok,
        (BridgeState::Waiting, None) => Health::Starting,
        (BridgeState::Waiting, Some(fault)) if fault.code == "vsock-unavailable" => {
            without_vsock(status)
        }
        (BridgeState::Waiting, Some(_)) => Health::Degraded,
    };
    let config_lost = status.config.fault.is_some();
    if bridge == Health::Degraded || tunnel_lost || forward_lost || metadata_lost || config_lost {
        return Health::Degraded;
    }
    if bridge == Health::Starting || is_coming(status) {
        Health::Starting
    } else {
        Health::Ok
    }
}

/// Whether the tunnel is on its way up, or may be once all is known.
fn is_coming(status: &Status) -> bool {
    let Nat {
        decision,
        held_until,
        ..
    } = &status.nat;
    let wanted = matches!(decision, TunnelDecision::Always | TunnelDecision::Needed);
    status.is_settling()
        || match status.tunnel.state {
            TunnelState::Opening | TunnelState::Proving => true,
            // Closing the tunnel of the document before, or about to be told of this one.
            TunnelState::Off | TunnelState::Closing => wanted || held_until.is_some(),
            TunnelState::Up | TunnelState::PortHeld | TunnelState::Waiting => false,
        }
}

/// What it takes in place of a bridge on a machine that has no vsock: a tunnel, or else a public
/// address with an sshd behind it.
fn without_vsock(status: &Status) -> Health {
    let no_tunnel = matches!(status.tunnel.state, TunnelState::Off | TunnelState::Closing);
    if !no_tunnel || is_coming(status) {
        return Health::Ok;
    }
    match (status.nat.verdict, status.sshd.state) {
        (NatVerdict::Nat | NatVerdict::Unknown, _) => Health::Degraded,
        (NatVerdict::Direct | NatVerdict::OneToOne, SshdState::Ready) => Health::Ok,
        (NatVerdict::Direct | NatVerdict::OneToOne, SshdState::Waiting) => {
            match &status.sshd.fault {
                Some(_) => Health::Degraded,
                None => Health::Starting,
            }
        }
    }
}

/// The commands that reach this guest now, each with the lines by which ssh knows it.
pub(super) fn ways_in(status: &Status) -> Vec<WayIn> {
    let Status { bridge, tunnel, .. } = status;
    let user = &status.login.user;
    let way = |via: &str, command, names: &str, options: Vec<String>| WayIn {
        via: via.to_owned(),
        command,
        known_hosts: known_hosts(names, &status.host_keys),
        ssh_config: options
            .into_iter()
            .chain([format!("User {user}")])
            .collect(),
    };
    let mut ways = Vec::new();
    let served = matches!(bridge.state, BridgeState::Ready | BridgeState::Foreign);
    let port = bridge
        .listen
        .as_deref()
        .and_then(|listen| listen.strip_prefix("vsock:"))
        .and_then(|port| port.parse().ok());
    if let (true, Some(port), Some(cid)) = (served, port, bridge.cid) {
        // The form with a slash is known to every systemd that has a proxy for it (256), the
        // other from 258 on.
        let host = format!("vsock/{cid}");
        let command = match port {
            22 => format!("ssh {user}@{host}"),
            port => format!("ssh -p {port} {user}@{host}"),
        };
        let other = name(&format!("vsock%{cid}"), port);
        let names = format!("{},{other}", name(&host, port));
        // The stanza's name must not match `vsock/*`, for which systemd's drop-in
        // 20-systemd-ssh-proxy.conf disables host-key checking.
        let options = vec![
            format!("ProxyCommand /usr/lib/systemd/systemd-ssh-proxy {host} {port}"),
            "ProxyUseFdpass yes".to_owned(),
        ];
        ways.push(way("vsock", command, &names, options));
    }
    if let (TunnelState::Up, Some(proxy), Some(bind), Some(port)) =
        (tunnel.state, &tunnel.proxy, &tunnel.bind, tunnel.port)
    {
        let (jump, host) = tunnel_host(proxy, tunnel.public_host.as_deref(), bind);
        let command = match &jump {
            Some(jump) => format!("ssh -J {jump} -p {port} {user}@{host}"),
            None => format!("ssh -p {port} {user}@{host}"),
        };
        // ssh expands percent signs, which an address with a zone contains.
        let mut options = vec![
            format!("HostName {}", host.replace('%', "%%")),
            format!("Port {port}"),
        ];
        options.extend(jump.map(|jump| format!("ProxyJump {jump}")));
        ways.push(way("tunnel", command, &name(host, port.into()), options));
    }
    ways
}

/// The host that users of the tunnel connect to, and the jump host before it, if one is needed.
///
/// A public bind is dialled directly, and any other bind from inside the proxy. `public` is the
/// proxy's name for users. It also replaces a bind to a public address, which may be behind a NAT
/// in front of the proxy.
fn tunnel_host<'a>(
    proxy: &'a str,
    public: Option<&'a str>,
    bind: &'a str,
) -> (Option<String>, &'a str) {
    let (host, proxy_port) = proxy.rsplit_once(':').unwrap_or((proxy, "22"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = public.unwrap_or(host);
    let address = bind.parse::<IpAddr>().ok();
    let anywhere = matches!(bind, "" | "*") || address.is_some_and(|ip| ip.is_unspecified());
    if anywhere {
        return (None, host);
    }
    if address.is_some_and(|ip| !ip.is_loopback()) {
        return (None, public.unwrap_or(bind));
    }
    let jump = match (proxy_port, host.contains(':')) {
        ("22", _) => host.to_owned(),
        (port, false) => format!("{host}:{port}"),
        (port, true) => format!("[{host}]:{port}"),
    };
    (Some(jump), bind)
}

/// The name under which ssh looks for a host key (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
fn name(host: &str, port: u32) -> String {
    match port {
        22 => host.to_owned(),
        port => format!("[{host}]:{port}"),
    }
}

fn known_hosts(names: &str, keys: &[String]) -> Vec<String> {
    keys.iter().map(|key| format!("{names} {key}")).collect()
}

#[cfg(test)]
mod tests;
