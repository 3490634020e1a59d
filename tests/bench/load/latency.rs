//! How long it takes: to the first byte of a connection, and there and back on an open one.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use harness::failure::{Failure, Result};
use serde_json::{Value, json};

use crate::bulk::{Bulk, Direction};
use crate::endpoint::Endpoint;
use crate::line::{self, Line};
use crate::wire::Wish;

/// Round trips that are made before those that count.
const WARM: usize = 50;

/// From one keystroke's echo to the next.
const KEY: Duration = Duration::from_millis(2);

/// After this, bulk connections have filled the buffers on their way.
const UNDER_WAY: Duration = Duration::from_millis(300);

/// Times, in the order in which they were taken.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn take(&mut self, f: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        f()?;
        self.0.push(start.elapsed());
        Ok(())
    }

    fn quantiles(mut self) -> Value {
        self.0.sort_unstable();
        let at = |part: f64| {
            let index = (self.0.len().saturating_sub(1)) as f64 * part;
            let time = self.0.get(index.round() as usize);
            time.map(|time| time.as_secs_f64() * 1e6)
        };
        json!({"p50_us": at(0.5), "p99_us": at(0.99)})
    }
}

/// `connect`: from the connect to the server's first byte, which it sends unasked, and to the
/// answer to what the client said at once. Each on connections of its own.
///
/// # Errors
///
/// If one of them fails.
pub fn connect(endpoint: &Endpoint, count: usize) -> Result<Value> {
    let (mut first, mut answer) = (Times::default(), Times::default());
    for number in 0..count {
        // Closed after its time was taken.
        let mut line = None;
        first.take(|| line.insert(Line::connect(endpoint, number)?).first_byte())?;
        let mut line = None;
        answer.take(|| {
            line.insert(Line::ask(endpoint, number, Wish::Echo)?)
                .answered()
        })?;
    }
    Ok(json!({"connections": count, "first_byte": first.quantiles(), "answer": answer.quantiles()}))
}

/// `greeting`: from the connect to the first byte of any SSH server.
///
/// # Errors
///
/// If one of them fails.
pub fn greeting(endpoint: &Endpoint, count: usize) -> Result<Value> {
    let mut first = Times::default();
    for number in 0..count {
        let mut line = None;
        first.take(|| line.insert(Line::connect(endpoint, number)?).first_byte())?;
    }
    Ok(json!({"connections": count, "first_byte": first.quantiles()}))
}

/// `sequence`: so many connections, each of which sends a byte there and back and ends.
///
/// # Errors
///
/// If one of them fails.
pub fn sequence(endpoint: &Endpoint, count: usize) -> Result<Value> {
    let start = Instant::now();
    line::make(endpoint, count, Wish::Echo, |mut line| line.echo(b'x'))?;
    Ok(json!({"connections": count, "seconds": start.elapsed().as_secs_f64()}))
}

/// `round-trip`: one byte there and back, without a pause.
///
/// # Errors
///
/// If the connection breaks.
pub fn round_trip(endpoint: &Endpoint, count: usize) -> Result<Value> {
    let mut line = Line::ask(endpoint, 0, Wish::Echo)?;
    line.answered()?;
    let mut times = Times::default();
    for number in 0..WARM + count {
        let byte = number as u8;
        if number < WARM {
            line.echo(byte)?;
        } else {
            times.take(|| line.echo(byte))?;
        }
    }
    Ok(json!({"count": count, "round_trip": times.quantiles()}))
}

/// `fairness`: keystrokes there and back, alone and while eight connections move what they can,
/// four each way.
///
/// # Errors
///
/// If a connection breaks, or nothing moved.
pub fn fairness(endpoint: &Endpoint, count: usize) -> Result<Value> {
    let idle = keystrokes(endpoint, count)?;
    let mut bulk = Bulk::default();
    bulk.open(endpoint, 4, Direction::Up, u64::MAX)?;
    bulk.open(endpoint, 4, Direction::Down, u64::MAX)?;
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    thread::scope(|scope| {
        let mover = scope.spawn(|| bulk.run_while(&stop));
        thread::sleep(UNDER_WAY);
        let loaded = keystrokes(endpoint, count);
        stop.store(true, Relaxed);
        let moved = mover
            .join()
            .unwrap_or_else(|_| Err(Failure::new("the bulk connections panicked")))?;
        let (up, down) = moved;
        if up == 0 || down == 0 {
            return Err(Failure::new(format!(
                "the bulk connections moved {up} and {down} bytes"
            )));
        }
        let rate = (up + down) as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 20);
        Ok(json!({
            "count": count, "idle": idle.quantiles(), "loaded": loaded?.quantiles(),
            "bulk_mib_per_second": rate,
        }))
    })
}

fn keystrokes(endpoint: &Endpoint, count: usize) -> Result<Times> {
    let mut line = Line::ask(endpoint, 0, Wish::Echo)?;
    line.answered()?;
    let mut times = Times::default();
    for number in 0..count {
        times.take(|| line.echo(number as u8))?;
        thread::sleep(KEY);
    }
    Ok(times)
}
