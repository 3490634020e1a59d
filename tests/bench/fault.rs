//! What is done to the peers, the same to each.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::failure::{Failure, Result};
use harness::fault::Silence;
use harness::openssh::Sshd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt;
use crate::pause::pause;
use crate::peer::Peer;
use crate::stage::Stage;
use crate::trial::{Outcome, Trial};

/// How long a tunnel is up before it is disturbed. systemd has forgotten the first start by then.
const SETTLED: Duration = Duration::from_secs(11);

/// How long the proxy is silent: twice what it takes to notice.
const SILENT: Duration = Duration::from_secs(30);

/// How long a ghost lives at most. With `ClientAliveInterval 15` and `ClientAliveCountMax 3` it is a
/// minute, and two with sshd 9.2; much longer if somebody dials its port, so nobody does.
const HAUNTED: Duration = Duration::from_secs(180);

/// How long something else is wrong, at least.
const WRONG: Duration = Duration::from_secs(20);

/// How long a proxy that was there is down.
const DOWN: Duration = Duration::from_secs(10);

/// How long the proxy is down while the guest boots.
const ABSENT: Duration = Duration::from_secs(60);

/// A disturbance, and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The proxy's sshd is killed with its sessions, and started at once.
    Restart,
    /// The same, and it stays away for [`DOWN`].
    Down,
    /// All packets to and from the proxy are dropped for [`SILENT`].
    Silent,
    /// The session's packets are dropped for ever; sshd finds out by itself.
    Ghost,
    /// Another program has the port at the start.
    Taken,
    /// The proxy's name does not resolve at the start.
    Nameless,
    /// The proxy is not there at the start.
    Absent,
    /// The proxy grants a public port, and binds it to loopback.
    Loopback,
    /// The key is removed, and replaced.
    Rotated,
}

impl Fault {
    /// All of them, in the table's order.
    pub const ALL: [Self; 9] = [
        Self::Restart,
        Self::Down,
        Self::Silent,
        Self::Ghost,
        Self::Taken,
        Self::Nameless,
        Self::Absent,
        Self::Loopback,
        Self::Rotated,
    ];

    /// A word for it, for the command line.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// What is measured: a row of the table each, with the event that the time runs from.
    pub fn rows(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Restart => &[(
                "proxy's sshd killed with its sessions, restarted at once",
                "kill",
            )],
            Self::Down => &[("the same, restarted after 10 to 12.5 s", "restart")],
            Self::Silent => &[
                (
                    "packets to and from the proxy dropped for 30 s: noticed",
                    "fault",
                ),
                ("and the tunnel back", "end of the silence"),
            ],
            Self::Ghost => &[(
                "the session's packets dropped for good, a ghost holds the port",
                "end of the ghost",
            )],
            Self::Taken => &[(
                "port taken by another program for 20 to 25 s at the start",
                "port free",
            )],
            Self::Nameless => &[(
                "proxy's name not resolved for 20 to 25 s at the start",
                "name there",
            )],
            Self::Absent => &[(
                "proxy refuses connections for 60 to 75 s at the start",
                "proxy there",
            )],
            Self::Loopback => &[
                (
                    "public port bound to loopback (GatewayPorts no): noticed",
                    "start",
                ),
                (
                    "and the tunnel there, with GatewayPorts set right",
                    "reload of sshd",
                ),
            ],
            Self::Rotated => &[(
                "key removed, sessions cut; new key delivered 20 to 25 s later",
                "delivery",
            )],
        }
    }

    /// About how long it takes, for who wants to begin with the longest.
    pub fn weight(self) -> u32 {
        match self {
            Self::Ghost => 250,
            Self::Absent => 180,
            Self::Loopback => 160,
            Self::Taken => 140,
            Self::Silent => 70,
            Self::Nameless | Self::Rotated => 50,
            Self::Down => 40,
            Self::Restart => 20,
        }
    }

    /// Does it to a peer, and says what came of it: one outcome for each row. For a thread in the
    /// machine's network.
    ///
    /// # Errors
    ///
    /// If the bench itself fails, with the peer's journal.
    pub fn done_to(
        self,
        peer: Peer,
        stage: &Arc<Stage>,
        round: u32,
        limit: Duration,
    ) -> Result<Vec<Outcome>> {
        let mut trial = match self {
            Self::Nameless => Trial::new(stage, peer, &Sshd::proxy_config(), |slot| slot.name())?,
            Self::Loopback => {
                let config = Sshd::proxy_config();
                let config = config.replace("GatewayPorts clientspecified", "GatewayPorts no");
                Trial::new(stage, peer, &config, |slot| slot.proxy().ip().to_string())?
            }
            _ => Trial::usual(stage, peer)?,
        };
        let outcome = match self {
            Self::Restart => restart(&mut trial, Duration::ZERO, limit),
            Self::Down => restart(&mut trial, in_round(round, DOWN), limit),
            Self::Silent => silent(&trial, limit),
            Self::Ghost => ghost(&trial, limit),
            Self::Taken => taken(&trial, in_round(round, WRONG), limit),
            Self::Nameless => nameless(&trial, in_round(round, WRONG), limit),
            Self::Absent => absent(&mut trial, in_round(round, ABSENT), limit),
            Self::Loopback => loopback(&trial, limit),
            Self::Rotated => rotated(&mut trial, in_round(round, WRONG), limit),
        };
        // Who ends the bench asks for no journal.
        outcome.map_err(|failure| match interrupt::check() {
            Ok(()) => failure.during(stage.journal(&trial.unit())),
            Err(interrupted) => interrupted,
        })
    }
}

/// How long something lasts in this round: up to a quarter longer than `least`. A schedule that is
/// always the same must not meet its end by luck, or miss it, in every round.
fn in_round(round: u32, least: Duration) -> Duration {
    least.mul_f64(1.0 + (f64::from(round) * 0.618).fract() / 4.0)
}

/// Starts the peer, and lets its tunnel be up for a while.
fn settle(trial: &Trial) -> Result<()> {
    trial.start()?;
    match trial.back(Instant::now(), Duration::from_secs(30))? {
        Outcome::After(_) => pause(SETTLED),
        other => Err(Failure::new(format!("no tunnel to begin with: {other:?}"))),
    }
}

fn restart(trial: &mut Trial, downtime: Duration, limit: Duration) -> Result<Vec<Outcome>> {
    settle(trial)?;
    let mut since = Instant::now();
    trial.proxy.crash()?;
    trial.must_be_gone()?;
    if !downtime.is_zero() {
        pause(downtime)?;
        since = Instant::now();
    }
    trial.proxy.start()?;
    Ok(vec![trial.back(since, limit)?])
}

fn silent(trial: &Trial, limit: Duration) -> Result<Vec<Outcome>> {
    settle(trial)?;
    let since = Instant::now();
    let silence = Silence::of_server(&trial.stage.namespace, trial.slot.proxy())?;
    let noticed = trial.until(since, SILENT, || !trial.connected())?;
    pause(SILENT.saturating_sub(since.elapsed()))?;
    trial.must_be_gone()?;
    let since = Instant::now();
    drop(silence);
    Ok(vec![noticed, trial.back(since, limit)?])
}

fn ghost(trial: &Trial, limit: Duration) -> Result<Vec<Outcome>> {
    settle(trial)?;
    let ghost = trial.proxy.sessions()?;
    let start = Instant::now();
    let _silence = Silence::of_connections(&trial.stage.namespace, trial.slot.proxy())?;
    trial.must_be_gone()?;
    let gone = || ghost.iter().all(|pid| ended(*pid));
    while !gone() {
        if start.elapsed() > HAUNTED {
            return Err(Failure::new("the ghost does not go away"));
        }
        pause(Duration::from_millis(5))?;
    }
    Ok(vec![trial.back(Instant::now(), limit)?])
}

/// Whether a process is no more, or only waits to be reaped by whoever has inherited it.
fn ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next())
        .is_none_or(|state| state == "Z")
}

fn taken(trial: &Trial, wrong: Duration, limit: Duration) -> Result<Vec<Outcome>> {
    let port = trial.slot.forward().port();
    let other = trial.stage.namespace.listen(([0, 0, 0, 0], port).into())?;
    trial.start()?;
    pause(wrong)?;
    trial.must_be_gone()?;
    let since = Instant::now();
    drop(other);
    Ok(vec![trial.back(since, limit)?])
}

fn nameless(trial: &Trial, wrong: Duration, limit: Duration) -> Result<Vec<Outcome>> {
    trial.start()?;
    pause(wrong)?;
    trial.must_be_gone()?;
    let since = Instant::now();
    trial.name()?;
    Ok(vec![trial.back(since, limit)?])
}

fn absent(trial: &mut Trial, wrong: Duration, limit: Duration) -> Result<Vec<Outcome>> {
    trial.proxy.stop();
    trial.start()?;
    pause(wrong)?;
    trial.must_be_gone()?;
    let since = Instant::now();
    trial.proxy.start()?;
    Ok(vec![trial.back(since, limit)?])
}

fn loopback(trial: &Trial, limit: Duration) -> Result<Vec<Outcome>> {
    let since = Instant::now();
    trial.start()?;
    let connected = trial.until(since, SILENT, || trial.connected())?;
    if !matches!(connected, Outcome::After(_)) {
        return Err(Failure::new(format!("no session: {connected:?}")));
    }
    // ssh can say that it noticed in one way only: it ends.
    let noticed = trial.until(since, SILENT, || match trial.peer {
        Peer::Vmagent => trial.fault().as_deref() == Some("not-reachable"),
        Peer::Autossh | Peer::Plain | Peer::Careful => !trial.connected(),
    })?;
    trial.must_be_gone()?;
    trial
        .proxy
        .configure("GatewayPorts no", "GatewayPorts clientspecified")?;
    let sshd = trial.proxy.id().ok_or_else(|| Failure::new("no proxy"))?;
    let since = Instant::now();
    kill(Pid::from_raw(i32::try_from(sshd)?), Signal::SIGHUP)?;
    Ok(vec![noticed, trial.back(since, limit)?])
}

fn rotated(trial: &mut Trial, wrong: Duration, limit: Duration) -> Result<Vec<Outcome>> {
    settle(trial)?;
    let fresh = trial.rotate()?;
    trial.proxy.crash()?;
    trial.proxy.start()?;
    pause(wrong)?;
    trial.must_be_gone()?;
    let since = Instant::now();
    trial.deliver(&fresh)?;
    Ok(vec![trial.back(since, limit)?])
}
