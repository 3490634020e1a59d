//! The status in plain words, for a person at a console.
//!
//! Health first, then what to type, then what is wrong and what to do, then the parts. It renders
//! what the status says and concludes nothing by itself.

mod parts;
mod text;

use std::time::{Duration, SystemTime};

use super::model::{
    Bridge, BridgeState, Fault, Health, MetadataState, Report, ReportTarget, SshdState, Status,
    Timestamp, TunnelState,
};
pub use text::printable;
use text::{Paper, span};

/// Renders `status` as it stands at `now`, in 80 columns; only commands may be longer.
#[must_use]
pub fn render(status: &Status, now: SystemTime, colour: bool) -> String {
    let mut paper = Paper::new(colour);
    headline(&mut paper, status);
    ways_in(&mut paper, status);
    let faults = faults(status);
    section(&mut paper, "What is wrong", &faults, now, |fault| fault.bad);
    section(&mut paper, "Worth knowing", &faults, now, |fault| {
        !fault.bad
    });
    parts::refusals(&mut paper, status, now);
    notes(&mut paper, status);
    parts::parts(&mut paper, status, now);
    parts::connections(&mut paper, status);
    footer(&mut paper, status);
    paper.finish()
}

fn headline(paper: &mut Paper, status: &Status) {
    let reached = reached(status);
    let (word, sentence) = match (status.health, reached) {
        (Health::Ok, false) if direct(status).is_some() => (
            "ok",
            "this VM has a public address, and vmagent holds no way in",
        ),
        (Health::Ok, true) => ("ok", "this VM can be reached"),
        (Health::Ok, false) => ("ok", "nothing here asks for a way in"),
        (Health::Degraded, true) => ("degraded", "this VM can be reached, but not in every way"),
        (Health::Degraded, false) => ("degraded", "this VM can't be reached"),
        (Health::Starting, true) => (
            "starting",
            "this VM can be reached; not everything has been tried yet",
        ),
        (Health::Starting, false) => ("starting", "not everything has been tried yet"),
    };
    paper.headline(status.health, word, sentence);
}

/// Whether there is a way in; the bridge may be one without a command that we know.
fn reached(status: &Status) -> bool {
    !status.ways_in.is_empty() || serves(&status.bridge)
}

/// The public address of a guest to which nothing of ours leads.
fn direct(status: &Status) -> Option<&str> {
    let alone = !reached(status) && status.health == Health::Ok;
    status.nat.address.as_deref().filter(|_| alone)
}

fn serves(bridge: &Bridge) -> bool {
    matches!(bridge.state, BridgeState::Ready | BridgeState::Foreign)
}

fn ways_in(paper: &mut Paper, status: &Status) {
    let user = &status.login.user;
    paper.title("Ways in");
    for way in &status.ways_in {
        paper.line(&format!("{:<9} ", way.via), &way.command);
    }
    if status.ways_in.iter().any(|way| !way.known_hosts.is_empty()) {
        paper.dim("host keys: vmagent status --known-hosts; stanzas: --ssh-config");
    }
    let bridge = &status.bridge;
    if serves(bridge) && !status.ways_in.iter().any(|way| way.via == "vsock") {
        let listen = bridge.listen.as_deref().unwrap_or("its socket");
        if listen.starts_with("vsock:") {
            paper.line(
                "vsock     ",
                &format!("ssh {user}@vsock/CID  (the host knows this VM's CID)"),
            );
        } else {
            paper.line("bridge    ", listen);
        }
    }
    if let Some(address) = direct(status) {
        paper.line("network   ", &format!("ssh {user}@{address}"));
        paper.dim("this VM's public address, which the agent can't try from inside");
    } else if !reached(status) {
        paper.line("", "none");
    }
}

/// A fault and where it belongs.
struct Found<'a> {
    part: &'static str,
    fault: &'a Fault,
    /// False where the part works all the same.
    bad: bool,
    next: Option<Timestamp>,
}

fn faults(status: &Status) -> Vec<Found<'_>> {
    let Status {
        bridge,
        tunnel,
        metadata,
        sshd,
        reports,
        ..
    } = status;
    // Without vsock, all is well where the tunnel or a public address leads here.
    let bad_bridge = bridge.state == BridgeState::Waiting && status.health != Health::Ok;
    let bad_metadata = metadata.state == MetadataState::Failed && status.health == Health::Degraded;
    // The bridge waits for sshd with sshd's own fault: once is enough.
    let own = |fault: &&Fault| {
        let same = |other: &Fault| other.code == fault.code;
        !sshd.fault.as_ref().is_some_and(same)
    };
    let forwards = tunnel.forwards.iter();
    let forwards = forwards.map(|forward| ("forward", forward.fault.as_ref(), true, None));
    // The tunnel waits with the same fault: once is enough.
    let certificate = tunnel.certificate.iter().filter_map(|certificate| {
        let warning = certificate.warning.as_ref()?;
        let known = tunnel.fault.as_ref();
        let fresh = known.is_none_or(|fault| fault.code != warning.code);
        fresh.then_some(("tunnel", Some(warning), false, None))
    });
    // Nobody asked for guest attributes: that there are none is no news.
    let asked = |report: &&Report| report.to == ReportTarget::Url;
    let reports = reports.iter().filter(asked);
    let services = tunnel.forwards.iter();
    let services = services.map(|forward| ("service", forward.refusal.as_ref(), false, None));
    let reports = reports.map(|report| {
        (
            "report",
            report.fault.as_ref(),
            false,
            report.next_attempt_at,
        )
    });
    [
        ("config", status.config.fault.as_ref(), true, None),
        (
            "bridge",
            bridge.fault.as_ref().filter(own),
            bad_bridge,
            None,
        ),
        (
            "tunnel",
            tunnel.fault.as_ref(),
            tunnel.state != TunnelState::Off,
            tunnel.next_attempt_at,
        ),
        (
            "sshd",
            sshd.fault.as_ref(),
            sshd.state == SshdState::Waiting,
            None,
        ),
        ("metadata", metadata.fault.as_ref(), bad_metadata, None),
        ("metadata", metadata.unkept.as_ref(), false, None),
    ]
    .into_iter()
    .chain(forwards)
    .chain(certificate)
    .chain(services)
    .chain(reports)
    .filter_map(|(part, fault, bad, next)| {
        Some(Found {
            part,
            fault: fault?,
            bad,
            next,
        })
    })
    .collect()
}

fn section(
    paper: &mut Paper,
    title: &str,
    faults: &[Found<'_>],
    now: SystemTime,
    wanted: impl Fn(&Found<'_>) -> bool,
) {
    for found in faults.iter().filter(|found| wanted(found)) {
        paper.title(title);
        let Fault {
            code,
            message,
            advice,
            since,
            count,
        } = found.fault;
        let label = format!("{:<9} ", found.part);
        paper.wrapped(&label, message);
        let mut facts = format!("{code}, for {}", span(age(*since, now)));
        if *count > 1 {
            facts += &format!(", {count} times");
        }
        if let Some(next) = found.next {
            facts += &match next.0.duration_since(now) {
                Ok(wait) if wait > Duration::ZERO => format!("; next attempt in {}", span(wait)),
                _ => "; next attempt now".to_owned(),
            };
        }
        paper.dim(&facts);
        paper.wrapped("       -> ", advice);
    }
}

fn notes(paper: &mut Paper, status: &Status) {
    for warning in &status.metadata.warnings {
        paper.title("Worth knowing");
        paper.wrapped("document  ", warning);
    }
    if status.sshd.use_dns == Some(true) {
        paper.title("Worth knowing");
        paper.wrapped(
            "sshd      ",
            "it looks up the name of each client (UseDNS yes): while no name server answers, logins \
             take 10 s and longer, or fail at LoginGraceTime",
        );
        paper.wrapped(
            "       -> ",
            "Set UseDNS no in sshd_config, or [bridge] origins = \"one\" in /etc/vmagent/config.toml.",
        );
    }
    if status.restart_pending {
        paper.title("Worth knowing");
        paper.wrapped(
            "upgrade   ",
            "a newer vmagent is installed: systemctl restart vmagent (it cuts what goes through the tunnel)",
        );
    }
}

fn footer(paper: &mut Paper, status: &Status) {
    let instance = status.instance_id.as_deref();
    let instance = instance.map_or_else(String::new, |id| format!(" on {id}"));
    paper.footer(&format!("vmagent {}{instance}", status.version));
}

fn age(then: Timestamp, now: SystemTime) -> Duration {
    now.duration_since(then.0).unwrap_or_default()
}

#[cfg(test)]
mod tests;
