//! `make bench-recovery`: how long until the tunnel is back, for vmagent and for what people use
//! without it.
//!
//! Four peers run as units of one real systemd in a namespace, each with a proxy of its own. A
//! fault is done to all four at once, and three faults go on at a time: mostly, they wait.
//!
//! `ROUNDS` (5) says how often, `LIMIT` (120) after how many seconds never is said, and `FAULTS`
//! names those that are wanted. The page in docs/ is written if all of them were.
#![forbid(unsafe_code)]

mod fault;
mod interrupt;
mod pause;
mod peer;
mod report;
mod stage;
mod trial;

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use harness::failure::{Context, Failure, Result};
use harness::paths;

use fault::Fault;
use peer::Peer;
use report::Measured;
use stage::Stage;

/// How many faults go on at a time.
const LANES: usize = 3;

fn main() -> ExitCode {
    match interrupt::watch().and_then(|()| bench()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nbench-recovery: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let rounds = number("ROUNDS", 5)?;
    let limit = Duration::from_secs(number("LIMIT", 120)?);
    let faults = wanted()?;
    let mut order = faults.clone();
    order.sort_by_key(|fault| std::cmp::Reverse(fault.weight()));
    let queue: VecDeque<_> = (1..=rounds)
        .flat_map(|round| order.iter().map(move |fault| (round, *fault)))
        .collect();
    let queue = Mutex::new(queue);

    let stage = Stage::new()?;
    let start = Instant::now();
    let lane = || -> Result<Vec<Measured>> {
        let mut measured = Vec::new();
        loop {
            interrupt::check()?;
            let next = lock(&queue).pop_front();
            let Some((round, fault)) = next else {
                return Ok(measured);
            };
            let results = side_by_side(&stage, fault, round, limit).inspect_err(|_| {
                // The others end after what they are at.
                lock(&queue).clear();
            })?;
            let said: Vec<_> = results.iter().map(say).collect();
            let now = start.elapsed().as_secs();
            eprintln!(
                "{now:5} s  round {round}, {}: {}",
                fault.name(),
                said.join("; ")
            );
            measured.extend(results);
        }
    };
    let lanes: Vec<Result<Vec<Measured>>> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(joined).collect()
    });
    let measured: Vec<_> = lanes
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();

    println!("{}", report::table(&measured));
    println!("{}", report::machine(&stage)?);
    if faults.len() == Fault::ALL.len() {
        let path = paths::top().join("docs/bench/recovery.md");
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, report::page(&stage, &measured, rounds, limit)?)?;
        println!("written to docs/bench/recovery.md");
    }
    Ok(())
}

/// Does one fault to all peers at once.
fn side_by_side(
    stage: &Arc<Stage>,
    fault: Fault,
    round: u32,
    limit: Duration,
) -> Result<Vec<Measured>> {
    let threads = Peer::ALL.map(|peer| {
        let own = Arc::clone(stage);
        let work = move || fault.done_to(peer, &own, round, limit);
        (peer, stage.machine.spawn(work))
    });
    // All of them are waited for before one is complained of.
    let results = threads.map(|(peer, thread)| {
        let what = format!("{}, {}", fault.name(), peer.name());
        let outcomes = thread
            .join()
            .unwrap_or_else(|_| Err(Failure::new("panicked")))
            .during(what)?;
        Ok(Measured {
            fault,
            peer,
            outcomes,
        })
    });
    results.into_iter().collect()
}

fn joined(lane: thread::ScopedJoinHandle<'_, Result<Vec<Measured>>>) -> Result<Vec<Measured>> {
    lane.join()
        .unwrap_or_else(|_| Err(Failure::new("a lane panicked")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(measured: &Measured) -> String {
    let outcomes: Vec<_> = measured
        .outcomes
        .iter()
        .map(|one| report::brief(*one))
        .collect();
    format!("{} {}", measured.peer.name(), outcomes.join(", "))
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T>
where
    T::Err: std::error::Error,
{
    match env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().during(format!("{name}={text}")),
        _ => Ok(default),
    }
}

/// The faults that `FAULTS` names; all of them if it does not say.
fn wanted() -> Result<Vec<Fault>> {
    let names = env::var("FAULTS").unwrap_or_default();
    let found = names.split_whitespace().map(|name| {
        let known = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        known.ok_or_else(|| {
            let all = Fault::ALL.map(Fault::name).join(" ");
            Failure::new(format!("FAULTS: no {name:?}; there are: {all}"))
        })
    });
    let found = found.collect::<Result<Vec<_>>>()?;
    Ok(if found.is_empty() {
        Fault::ALL.to_vec()
    } else {
        found
    })
}
