//! The parts one by one, and who came through them.

use std::time::{Duration, SystemTime};

use super::age;
use super::text::{Paper, span};
use crate::status::model::{
    Bridge, BridgeState, Certificate, Forward, ForwardState, FoundBy, Metadata, MetadataState, Nat,
    NatVerdict, OriginCount, ProxyRecord, RefusalCount, RefusalReason, Sshd, SshdState, Status,
    Tunnel, TunnelDecision, TunnelState,
};

/// Origins that are shown for each way in, of those that the status keeps.
const ORIGINS: usize = 5;

/// For how long a refusal is news.
const NEWS: Duration = Duration::from_secs(600);

/// Writes who was turned away lately, and why.
pub(super) fn refusals(paper: &mut Paper, status: &Status, now: SystemTime) {
    for (part, refusals) in [
        ("bridge", &status.bridge.refusals),
        ("tunnel", &status.tunnel.refusals),
    ] {
        let lately = |refusal: &&RefusalCount| age(refusal.last_at, now) < NEWS;
        for refusal in refusals.iter().rev().filter(lately).take(ORIGINS) {
            paper.title("Worth knowing");
            let RefusalCount {
                origin,
                reason,
                count,
                last_at,
            } = refusal;
            let last = span(age(*last_at, now));
            let why = why(part, *reason);
            let text = format!("refused {count} of {origin}, the last {last} ago: {why}");
            paper.wrapped(&format!("{part:<9} "), &text);
        }
    }
}

fn why(part: &str, reason: RefusalReason) -> &'static str {
    match (reason, part) {
        (RefusalReason::CidNotAllowed, _) => "[bridge] allow_cids does not have it",
        (RefusalReason::TooManyOpen, "bridge") => "too many are open, see [bridge] max_connections",
        (RefusalReason::TooManyOpen, _) => "too many are open",
        (RefusalReason::TooManyOfOrigin, "bridge") => {
            "too many of it are open, see [bridge] max_connections_per_origin"
        }
        (RefusalReason::TooManyOfOrigin, _) => "too many of it are open",
        (RefusalReason::TooFast, _) => "they came too fast, see [bridge] max_rate",
        (RefusalReason::SshdDown, _) => "sshd did not answer",
        (RefusalReason::NoDescriptors, _) => "no descriptor was left, see LimitNOFILE=",
        (RefusalReason::Stopping, _) => "the agent was told to stop",
    }
}

/// Writes a line or two for each part.
pub(super) fn parts(paper: &mut Paper, status: &Status, now: SystemTime) {
    paper.title("Parts");
    for (part, facts) in [
        ("bridge", bridge(&status.bridge, now)),
        ("tunnel", tunnel(&status.tunnel, status.nat.decision, now)),
        ("sshd", sshd(&status.sshd)),
        ("metadata", metadata(&status.metadata, now)),
        ("network", network(&status.nat, now)),
    ] {
        paper.wrapped(&format!("{part:<9} "), &facts.join(", "));
        if part == "tunnel" {
            for forward in &status.tunnel.forwards {
                paper.wrapped("          ", &service(forward));
            }
            if let Some(certificate) = &status.tunnel.certificate {
                paper.wrapped("          ", &self::certificate(certificate));
            }
            for text in others(&status.tunnel) {
                paper.wrapped("          ", &text);
            }
        }
    }
}

fn service(forward: &Forward) -> String {
    let Forward { bind, port, to, .. } = forward;
    let state = match forward.state {
        ForwardState::Up => "",
        ForwardState::Asking => ": not granted yet",
        ForwardState::PortHeld => ": somebody else has that port",
        ForwardState::Denied => ": the proxy does not allow it",
    };
    let refused = match forward.refused {
        0 => String::new(),
        count => format!(", {count} not taken by the service"),
    };
    format!("forward {bind}:{port} to {to}{state}{refused}")
}

fn certificate(certificate: &Certificate) -> String {
    let Certificate {
        key_id,
        valid_before,
        ..
    } = certificate;
    let until = valid_before.map_or_else(
        || "for ever".to_owned(),
        |until| format!("until {}", humantime::format_rfc3339_seconds(until.0)),
    );
    format!("certificate {key_id:?}, valid {until}")
}

/// What keeps the tunnel from the other proxies of the document.
fn others(tunnel: &Tunnel) -> impl Iterator<Item = String> {
    let other = |record: &&ProxyRecord| Some(&record.proxy) != tunnel.proxy.as_ref();
    tunnel.proxies.iter().filter(other).filter_map(|record| {
        let fault = record.fault.as_ref()?;
        Some(format!("not at {} ({})", record.proxy, fault.code))
    })
}

/// Writes the last origins, and the address of each in sshd's own log.
pub(super) fn connections(paper: &mut Paper, status: &Status) {
    for (part, origins) in [
        ("bridge", &status.bridge.origins),
        ("tunnel", &status.tunnel.origins),
    ] {
        for origin in origins.iter().rev().take(ORIGINS) {
            paper.title("Connections, the last first");
            let OriginCount {
                origin,
                seen_as,
                accepted,
            } = origin;
            let text = format!("{accepted} from {origin}, seen here as {seen_as}");
            paper.wrapped(&format!("{part:<9} "), &text);
        }
    }
}

fn bridge(bridge: &Bridge, now: SystemTime) -> Vec<String> {
    let listen = bridge.listen.as_deref().unwrap_or("a socket");
    let since = span(age(bridge.since, now));
    let mut facts = match bridge.state {
        BridgeState::Ready => vec![format!("ready for {since}"), listen.to_owned()],
        BridgeState::Waiting => vec![format!("waiting for {since}"), listen.to_owned()],
        BridgeState::Foreign => {
            vec![format!("{listen} is served by another program for {since}")]
        }
        BridgeState::Off => return vec!["off in the configuration".to_owned()],
    };
    if let Some(cid) = bridge.cid {
        facts.push(format!("CID {cid}"));
    }
    let ours = bridge.state == BridgeState::Ready;
    if ours || bridge.accepted > 0 || bridge.open > 0 {
        facts.extend(counts(bridge.open, bridge.accepted));
    }
    if bridge.refused > 0 {
        facts.push(format!("{} refused", bridge.refused));
    }
    facts
}

fn tunnel(tunnel: &Tunnel, decision: TunnelDecision, now: SystemTime) -> Vec<String> {
    let since = span(age(tunnel.since, now));
    let mut facts = vec![match tunnel.state {
        TunnelState::Off => return vec![format!("off: {}", off(decision))],
        TunnelState::Opening => format!("being opened for {since}"),
        TunnelState::Proving => format!("granted, being tried for {since}"),
        TunnelState::Up if tunnel.proven => format!("up for {since}"),
        TunnelState::Up => match &tunnel.unproven {
            Some(reason) if tunnel.fault.is_none() => {
                format!("up for {since}, unproven: {}", reason.message)
            }
            Some(_) | None => format!("up for {since}, unproven"),
        },
        TunnelState::PortHeld => {
            format!("logged in, waiting for its port to become free for {since}")
        }
        TunnelState::Waiting => format!("down for {since}"),
        TunnelState::Closing => "giving the port back".to_owned(),
    }];
    facts.extend(tunnel.proxy.clone());
    if let (Some(bind), Some(port)) = (&tunnel.bind, tunnel.port) {
        facts.push(format!("port {port} on {bind}"));
    }
    if tunnel.state == TunnelState::Up {
        if let Some(last) = tunnel.last_probe_at {
            facts.push(format!("proven {} ago", span(age(last, now))));
        }
        facts.extend(tunnel.round_trip_ms.map(|ms| format!("{ms:.1} ms")));
    } else if tunnel.attempt > 1 {
        facts.push(format!("attempt {}", tunnel.attempt));
    }
    if tunnel.state == TunnelState::Up || tunnel.accepted > 0 {
        facts.extend(counts(tunnel.open, tunnel.accepted));
    }
    if tunnel.refused > 0 {
        facts.push(format!("{} refused", tunnel.refused));
    }
    facts
}

/// Why there is no tunnel.
fn off(decision: TunnelDecision) -> &'static str {
    match decision {
        TunnelDecision::NotAsked => "nothing asks for it",
        TunnelDecision::Never => "it is not to be held (when: never)",
        TunnelDecision::NotNeeded => "not needed with such a network (when: auto)",
        TunnelDecision::Always | TunnelDecision::Needed => "it is about to be opened",
    }
}

fn sshd(sshd: &Sshd) -> Vec<String> {
    let word = match sshd.state {
        SshdState::Ready => "ready",
        SshdState::Waiting if sshd.fault.is_some() => "does not answer",
        SshdState::Waiting => "not tried yet",
    };
    let address = match sshd.found_by {
        None | Some(FoundBy::Port22) => sshd.address.clone(),
        Some(found_by) => format!("{} ({found_by})", sshd.address),
    };
    let mut facts = vec![word.to_owned(), address];
    if sshd.state == SshdState::Ready {
        facts.extend(sshd.banner.clone());
        facts.extend(sshd.latency_ms.map(|ms| format!("{ms:.1} ms")));
        if sshd.origins_apart == Some(false) {
            facts.push("sees all origins under one address, so that its limits and penalties act on all of them together"
                    .to_owned());
        }
    }
    facts
}

fn metadata(metadata: &Metadata, now: SystemTime) -> Vec<String> {
    let mut facts = vec![
        match metadata.state {
            MetadataState::Looking => "looking for a tunnel document",
            MetadataState::Found => "found a tunnel document",
            MetadataState::Absent => "no source has a tunnel document",
            MetadataState::Failed if metadata.kept => {
                "failed; the last good document stays, kept from before a restart"
            }
            MetadataState::Failed if metadata.source.is_some() => {
                "failed; the last good document stays"
            }
            MetadataState::Failed => "failed",
        }
        .to_owned(),
    ];
    facts.extend(metadata.source.as_ref().map(|name| format!("from {name}")));
    if let Some(then) = metadata.fetched_at {
        facts.push(format!("fetched {} ago", span(age(then, now))));
    }
    facts
}

fn network(nat: &Nat, now: SystemTime) -> Vec<String> {
    let verdict = match nat.verdict {
        NatVerdict::Direct => "a public address of its own",
        NatVerdict::OneToOne => "a public address mapped to this VM",
        NatVerdict::Nat => "behind NAT",
        NatVerdict::Unknown => "unknown",
    };
    let mut text = format!("{verdict}: {}", nat.rule);
    if let Some(left) = nat.held_until {
        let left = span(left.0.duration_since(now).unwrap_or_default());
        text += &format!("; the tunnel is taken down in {left} unless that changes");
    }
    vec![text]
}

fn counts(open: u64, accepted: u64) -> [String; 2] {
    [format!("{open} open"), format!("{accepted} relayed")]
}
