//! `make bench-networks`: the tunnel on bad networks, beside `ssh -R` in a loop on a link of its
//! own with the same settings, in the same run.
//!
//! `QUICK=1` is a look: few links, a minute for each transfer. `SECONDS_EACH` says how long a
//! transfer lasts (300), `LANES` how many links are tried at a time (5), and `LINKS` a part of the
//! names of those that are wanted. Links that keep a processor busy are tried one after the other.
//! The page in docs/ is written if all of them were tried.
#![forbid(unsafe_code)]

mod matrix;
mod phase;
mod renumber;
mod report;

use std::any::Any;
use std::collections::VecDeque;
use std::env;
use std::fs;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::failure::{Context, Failure, Result};
use harness::paths;
use harness::site::Site;

use matrix::{CELLS, Cell, QUICK};
use phase::{Phase, Workload};
use renumber::Setting;
use report::{Measured, Moved};

/// The two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// What this is about.
    Agent,
    /// `ssh -R` in a loop.
    Ssh,
}

impl Peer {
    /// Both, in the tables' order.
    pub const ALL: [Self; 2] = [Self::Agent, Self::Ssh];

    /// Starts it and waits until the port is there. It ends with what is returned.
    ///
    /// # Errors
    ///
    /// If the port is not there within a minute.
    pub fn up(self, site: &Site) -> Result<Running> {
        Ok(match self {
            Self::Agent => Running::Agent(site.agent_up()?),
            Self::Ssh => Running::Ssh(Box::new(site.ssh_up()?)),
        })
    }
}

/// A running peer.
pub enum Running {
    /// The agent, which has a status.
    Agent(Agent),
    /// The loop, which has none.
    Ssh(Box<dyn Any>),
}

impl Running {
    fn agent(&self) -> Option<&Agent> {
        match self {
            Self::Agent(agent) => Some(agent),
            Self::Ssh(_) => None,
        }
    }
}

/// How long each workload lasts.
#[derive(Debug, Clone, Copy)]
struct Pace {
    idle: Duration,
    keys: Duration,
    bulk: Duration,
}

impl Pace {
    fn of(self, work: Workload) -> Duration {
        match work {
            Workload::Idle => self.idle,
            Workload::Keys => self.keys,
            Workload::Bulk(_) => self.bulk,
        }
    }
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nbench-networks: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let quick = env::var("QUICK").is_ok_and(|text| !text.is_empty());
    let bulk = number("SECONDS_EACH", if quick { 60 } else { 300 })?;
    let lanes = usize::try_from(number("LANES", 5)?)?;
    let pace = Pace {
        idle: Duration::from_secs(30),
        keys: Duration::from_secs(60.min(bulk)),
        bulk: Duration::from_secs(bulk),
    };
    let links = env::var("LINKS").unwrap_or_default();
    let mut cells: Vec<Cell> = if quick && links.is_empty() {
        QUICK.map(|index| CELLS[index]).into()
    } else {
        CELLS.into()
    };
    cells.retain(|cell| cell.name.contains(&links));
    let start = Instant::now();
    let (heavy, light): (Vec<_>, Vec<_>) = cells.iter().partition(|cell| cell.heavy);
    let [heavy, light] = [heavy, light].map(|cells| Mutex::new(VecDeque::from(cells)));
    let (mut measured, moved) = thread::scope(|scope| {
        let mut running = vec![scope.spawn(|| work(&heavy, pace, start))];
        running.extend((0..lanes).map(|_| scope.spawn(|| work(&light, pace, start))));
        let moved = renumbered();
        let measured: Vec<Measured> = running
            .into_iter()
            .flat_map(|lane| lane.join().expect("a lane"))
            .collect();
        (measured, moved)
    });
    let moved = moved?;
    let place = |one: &Measured| cells.iter().position(|cell| cell.name == one.cell.name);
    measured.sort_by_key(place);
    let text = report::tables(&measured, &moved);
    println!("{text}");
    if measured.len() < cells.len() {
        return Err(Failure::new("not all links could be measured"));
    }
    if cells.len() == CELLS.len() {
        let dir = paths::top().join("docs/bench");
        fs::write(dir.join("networks.md"), report::page(&text, bulk)?)?;
        fs::write(dir.join("networks.json"), report::json(&measured, &moved)?)?;
        println!("written to docs/bench/networks.md");
    }
    Ok(())
}

/// Tries one link after the other until there is none left. One that can't be measured is said.
fn work(queue: &Mutex<VecDeque<Cell>>, pace: Pace, start: Instant) -> Vec<Measured> {
    let mut measured = Vec::new();
    loop {
        let next = queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let Some(cell) = next else {
            return measured;
        };
        let result = side_by_side(cell, pace);
        let now = start.elapsed().as_secs();
        match result {
            Ok(one) => {
                eprintln!("{now:5} s  {}: {}", cell.name, report::brief(&one));
                measured.push(one);
            }
            Err(failure) => eprintln!("{now:5} s  {}: {failure}", cell.name),
        }
    }
}

/// All workloads over both peers at once.
fn side_by_side(cell: Cell, pace: Pace) -> Result<Measured> {
    let one = |peer: Peer| -> Result<Vec<Phase>> {
        let site = Site::new(cell.ways)?;
        let running = peer.up(&site)?;
        let phase = |work| Phase::run(&site, running.agent(), work, pace.of(work));
        Workload::ALL.into_iter().map(phase).collect()
    };
    let [agent, ssh] = thread::scope(|scope| {
        Peer::ALL
            .map(|peer| scope.spawn(move || one(peer).during(format!("{peer:?}"))))
            .map(|thread| thread.join().expect("a peer"))
    });
    Ok(Measured {
        cell,
        phases: [agent?, ssh?],
    })
}

/// The guest's address changes, for both peers and each setting of the proxy, all at once.
fn renumbered() -> Result<Vec<Moved>> {
    thread::scope(|scope| {
        let mut running = Vec::new();
        for setting in Setting::ALL {
            for dialled in [false, true] {
                let each = Peer::ALL.map(|peer| {
                    scope.spawn(move || renumber::measure(peer, setting, dialled, report::PATIENCE))
                });
                running.push((setting, dialled, each));
            }
        }
        running
            .into_iter()
            .map(|(setting, dialled, each)| {
                let [agent, ssh] = each.map(|thread| thread.join().expect("a peer"));
                Ok(Moved {
                    setting,
                    dialled,
                    took: [agent?, ssh?],
                })
            })
            .collect()
    })
}

fn number(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().during(format!("{name}={text}")),
        _ => Ok(default),
    }
}
