//! `bench-load`: what the benches load bridges and tunnels with. One plain program, which runs
//! in a guest as well.
//!
//! `serve ENDPOINT` serves it all; `measure ENDPOINT WHAT` prints a line of JSON:
//!
//! | what | measures |
//! |---|---|
//! | `up`, `down` CONNECTIONS BYTES | bytes that the connections move together, one way |
//! | `connect` COUNT | connect to first byte, and to the answer to a first byte of our own |
//! | `greeting` COUNT | connect to first byte, of any SSH server |
//! | `round-trip` COUNT | one byte there and back |
//! | `fairness` COUNT | the same, alone and beside eight connections that move what they can |
//! | `sequence` COUNT | connections one after the other |
//! | `hold` COUNT | keeps connections open that have said a word |
//!
//! With `--steps` before WHAT, `up` and `down` say `{"open":N}` when all connections are there
//! and wait for a line, and keep the connections after the result until the input ends: so the
//! caller can read what the one in between costs. `hold` always waits so.
#![forbid(unsafe_code)]

mod bulk;
mod endpoint;
mod latency;
mod line;
mod poll;
mod server;
mod wire;

use std::env;
use std::io::{self, Read};

use harness::failure::{Context, Failure, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use bulk::{Bulk, Direction};
use endpoint::Endpoint;
use wire::Wish;

/// How much is read or written at a time.
const CHUNK: usize = 256 * 1024;

const USAGE: &str = "usage: bench-load serve ENDPOINT
       bench-load measure ENDPOINT [--steps] up|down CONNECTIONS BYTES
       bench-load measure ENDPOINT connect|greeting|round-trip|fairness|sequence|hold COUNT";

fn main() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let arguments: Vec<_> = env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", endpoint] => server::serve(&endpoint.parse()?),
        ["measure", endpoint, what @ ..] => {
            let endpoint = endpoint.parse()?;
            measure(&endpoint, what).during(format!("{endpoint}: {}", what.join(" ")))
        }
        _ => Err(Failure::new(USAGE)),
    }
}

fn measure(endpoint: &Endpoint, what: &[&str]) -> Result<()> {
    let (steps, what) = match what {
        ["--steps", what @ ..] => (true, what),
        _ => (false, what),
    };
    let result = match what {
        ["up", count, bytes] => {
            return throughput(
                endpoint,
                Direction::Up,
                number(count)?,
                number(bytes)?,
                steps,
            );
        }
        ["down", count, bytes] => {
            return throughput(
                endpoint,
                Direction::Down,
                number(count)?,
                number(bytes)?,
                steps,
            );
        }
        ["hold", count] => return hold(endpoint, number(count)?),
        ["connect", count] => latency::connect(endpoint, number(count)?)?,
        ["greeting", count] => latency::greeting(endpoint, number(count)?)?,
        ["round-trip", count] => latency::round_trip(endpoint, number(count)?)?,
        ["fairness", count] => latency::fairness(endpoint, number(count)?)?,
        ["sequence", count] => latency::sequence(endpoint, number(count)?)?,
        _ => return Err(Failure::new(USAGE)),
    };
    say(&result);
    Ok(())
}

fn throughput(
    endpoint: &Endpoint,
    direction: Direction,
    connections: usize,
    bytes: u64,
    steps: bool,
) -> Result<()> {
    let each = bytes / connections.max(1) as u64;
    if each == 0 {
        return Err(Failure::new("less than a byte for each connection"));
    }
    let mut bulk = Bulk::default();
    bulk.open(endpoint, connections, direction, each)?;
    if steps {
        say(&json!({"open": connections}));
        io::stdin().read_line(&mut String::new())?;
    }
    let seconds = bulk.run()?.as_secs_f64();
    let bytes = each * connections as u64;
    let rate = bytes as f64 / f64::from(1 << 20) / seconds;
    say(&json!({
        "connections": connections, "bytes": bytes, "seconds": seconds, "mib_per_second": rate,
    }));
    if steps {
        wait_for_end()?;
    }
    Ok(())
}

fn hold(endpoint: &Endpoint, count: usize) -> Result<()> {
    let mut held = Vec::new();
    line::make(endpoint, count, Wish::Echo, |mut line| {
        line.echo(b'x')?;
        held.push(line);
        Ok(())
    })?;
    say(&json!({"open": held.len()}));
    wait_for_end()?;
    // They are still there.
    held.iter_mut().try_for_each(|line| line.echo(b'y'))
}

fn say(value: &Value) {
    println!("{value}");
}

fn wait_for_end() -> Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T>
where
    T::Err: std::error::Error,
{
    text.parse().during(text)
}
