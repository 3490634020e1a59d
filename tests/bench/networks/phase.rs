//! One workload over one tunnel, and what is measured meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::failure::Result;
use harness::site::{Direction, Site, Transfer, Typist};
use harness::wait;

/// How long a slice is, for the spread of the rate.
const SLICE: Duration = Duration::from_secs(20);

/// Between two looks at a person's session.
const LOOK: Duration = Duration::from_millis(200);

/// What people do with the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Nothing.
    Idle,
    /// One person types.
    Keys,
    /// The same, beside a transfer.
    Bulk(Direction),
}

impl Workload {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [
        Self::Idle,
        Self::Keys,
        Self::Bulk(Direction::Up),
        Self::Bulk(Direction::Down),
    ];

    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Keys => "keys",
            Self::Bulk(Direction::Up) => "from the guest",
            Self::Bulk(Direction::Down) => "to the guest",
        }
    }
}

/// What a phase came to.
#[derive(Debug, Clone, Default)]
pub struct Phase {
    /// How often the tunnel logged in again.
    pub cuts: usize,
    /// How many sessions of people ended early, or did not come about.
    pub lost: usize,
    /// Bytes that the transfer moved in each slice.
    pub slices: Vec<u64>,
    /// Milliseconds from a key to its letter, in order of size.
    pub keys: Vec<f64>,
    /// The share of time with health ok in the agent's status.
    pub ok: Option<f64>,
}

impl Phase {
    /// Runs a workload for so long over a site's tunnel, which is up.
    ///
    /// # Errors
    ///
    /// If the agent's status can't be followed.
    pub fn run(
        site: &Site,
        agent: Option<&Agent>,
        work: Workload,
        lasts: Duration,
    ) -> Result<Self> {
        let before = site.logins();
        let end = Instant::now() + lasts;
        let mut phase = thread::scope(|scope| -> Result<Self> {
            let bulk = match work {
                Workload::Idle | Workload::Keys => None,
                Workload::Bulk(direction) => Some(scope.spawn(move || moved(site, direction, end))),
            };
            let keys = (work != Workload::Idle).then(|| scope.spawn(move || typed(site, end)));
            let ok = agent.map(|agent| healthy(agent, lasts)).transpose()?;
            let _ = wait::until("end of the phase", lasts, || {
                (Instant::now() >= end).then_some(())
            });
            let mut phase = Self {
                ok,
                ..Self::default()
            };
            if let Some(bulk) = bulk {
                (phase.slices, phase.lost) = bulk.join().expect("a transfer");
            }
            if let Some(keys) = keys {
                let (keys, lost) = keys.join().expect("a typist");
                phase.keys = keys;
                phase.lost += lost;
            }
            Ok(phase)
        })?;
        phase.keys.sort_by(f64::total_cmp);
        phase.cuts = site.logins() - before;
        Ok(phase)
    }

    /// All bytes that the transfer moved.
    pub fn bytes(&self) -> u64 {
        self.slices.iter().sum()
    }
}

/// Transfers until the end, one after the other: the bytes of each slice, and how many were cut.
fn moved(site: &Site, direction: Direction, end: Instant) -> (Vec<u64>, usize) {
    let start = Instant::now();
    let (mut slices, mut lost) = (Vec::new(), 0);
    let (mut before, mut sliced) = (0, 0);
    let mut note = |moved: u64| {
        while start.elapsed() >= SLICE * u32::try_from(slices.len() + 1).unwrap_or(u32::MAX) {
            slices.push(moved - sliced);
            sliced = moved;
        }
    };
    while Instant::now() < end {
        let transfer = Transfer::start(site, direction);
        note(before);
        match transfer {
            Ok(transfer) => {
                while Instant::now() < end && !transfer.ended() {
                    thread::sleep(LOOK);
                    note(before + transfer.arrived());
                }
                before += transfer.arrived();
                if transfer.ended() {
                    eprintln!("a transfer ended");
                    lost += 1;
                }
            }
            Err(failure) => {
                eprintln!("{failure}");
                lost += 1;
                thread::sleep(LOOK);
            }
        }
    }
    note(before);
    (slices, lost)
}

/// Types until the end: how long each key took, and how many sessions were cut.
fn typed(site: &Site, end: Instant) -> (Vec<f64>, usize) {
    let (mut keys, mut lost) = (Vec::new(), 0);
    while Instant::now() < end {
        match Typist::start(site) {
            Ok(typist) => {
                while Instant::now() < end && !typist.ended() {
                    thread::sleep(LOOK);
                }
                if typist.ended() {
                    eprintln!("typing ended");
                    lost += 1;
                }
                let took = typist.latencies().into_iter();
                keys.extend(took.map(|took| took.as_secs_f64() * 1000.0));
            }
            Err(failure) => {
                eprintln!("{failure}");
                lost += 1;
                thread::sleep(LOOK);
            }
        }
    }
    (keys, lost)
}

/// The share of this time in which the agent's health is ok.
fn healthy(agent: &Agent, lasts: Duration) -> Result<f64> {
    let mut watch = agent.watch()?;
    let start = Instant::now();
    let (mut since, mut sum) = (None, Duration::ZERO);
    // It is never what is waited for, so that all of the time is heard.
    let _ = watch.until("end of the phase", lasts, |status| {
        sum += since
            .take()
            .map_or(Duration::ZERO, |since: Instant| since.elapsed());
        since = (status["health"] == "ok").then(Instant::now);
        false
    });
    sum += since.map_or(Duration::ZERO, |since| since.elapsed());
    Ok(sum.as_secs_f64() / start.elapsed().as_secs_f64())
}
