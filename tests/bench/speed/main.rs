//! `make bench`: the bridge and the tunnel beside what people use without them.
//!
//! All peers of a part run in one network namespace, and are measured in turn by `bench-load`.
//!
//! `ROUNDS` (5) says how often, `PARTS` ("bridge tunnel guest") which of them, and `QUICK=1` makes do
//! with one round and much less: for a look. The pages in docs/ are written if it is not quick.
#![forbid(unsafe_code)]

mod bridges;
mod cost;
#[path = "../guest/mod.rs"]
mod guest;
#[path = "../interrupt.rs"]
mod interrupt;
mod load;
mod measure;
mod part;
mod peer;
mod report;
mod sheet;
mod stage;
mod svg;
mod table;
mod tunnels;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use harness::failure::{Context, Failure, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use guest::Guests;
use measure::Round;
use part::Part;
use sheet::Sheet;
use stage::Stage;

fn main() -> ExitCode {
    match interrupt::watch().and_then(|()| bench()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nbench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let quick = says("QUICK").is_some();
    let rounds: u32 = match says("ROUNDS") {
        Some(text) => text.parse().during(format!("ROUNDS={text}"))?,
        None if quick => 1,
        None => 5,
    };
    let (parts, in_guest) = wanted()?;
    // Every connection is two descriptors of each peer that is one process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let start = Instant::now();
    for part in parts {
        let plan = part.plan(quick);
        let mut sheet = Sheet::default();
        for number in 1..=rounds {
            let seconds = start.elapsed().as_secs();
            eprintln!("{seconds:5} s  {}, round {number}", part.name());
            let stage = Stage::new()?;
            let peers = part.start(&stage)?;
            let mut round = Round {
                plan: &plan,
                load: &stage.load,
                number,
                sheet: &mut sheet,
            };
            round.run(&peers)?;
        }
        println!(
            "{}\n{}",
            part.table(&plan).markdown(&sheet),
            sheet.failures()
        );
        if !quick {
            report::write(part, &plan, &sheet, rounds)?;
        }
    }
    if in_guest {
        guest(rounds, quick)?;
    }
    Ok(())
}

/// The bridges over real AF_VSOCK, in a guest.
fn guest(rounds: u32, quick: bool) -> Result<()> {
    let guests = Guests::start(quick)?;
    let mut sheet = Sheet::default();
    for number in 1..=rounds {
        eprintln!("guest, round {number}");
        guests.round(number, &mut sheet)?;
    }
    println!("{}", guest::markdown(&sheet));
    if quick {
        return Ok(());
    }
    report::write_guest(&guests.describe()?, &sheet, rounds)
}

/// What a variable of the environment says, if it does.
fn says(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

/// The parts that `PARTS` names, and whether the guest is one; all of them if it does not say.
fn wanted() -> Result<(Vec<Part>, bool)> {
    let Some(names) = says("PARTS") else {
        return Ok((Part::ALL.to_vec(), true));
    };
    let (guest, others): (Vec<_>, Vec<_>) =
        names.split_whitespace().partition(|name| *name == "guest");
    let found = others.into_iter().map(|name| {
        let known = Part::ALL.into_iter().find(|part| part.name() == name);
        known.ok_or_else(|| {
            Failure::new(format!(
                "PARTS: no {name:?}; there are: bridge tunnel guest"
            ))
        })
    });
    Ok((found.collect::<Result<_>>()?, !guest.is_empty()))
}
