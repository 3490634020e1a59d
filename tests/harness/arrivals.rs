//! When connections arrive at a server, by the kernel's clock: a busy machine looks too late.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::{Context, Failure, Result};
use crate::limits::PROGRAM;
use crate::netns::Namespace;
use crate::process;

/// How long an arrival is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// A book of arrivals, kept by nftables for as long as the namespace lives.
pub struct Arrivals(Arc<Namespace>);

impl Arrivals {
    /// Writes down when the first packet of each connection to this TCP port comes in.
    ///
    /// # Errors
    ///
    /// What nft says.
    pub fn new(namespace: &Arc<Namespace>, port: u16) -> Result<Self> {
        // An entry says when it expires, to the millisecond, and so when it was made.
        let script = format!(
            "table inet arrivals {{\n\
             set book {{\ntype inet_service\nsize 65535\nflags dynamic,timeout\n}}\n\
             chain in {{\ntype filter hook input priority 0\n\
             tcp dport {port} tcp flags & (syn | ack) == syn \
             add @book {{ tcp sport timeout {}s }}\n}}\n}}\n",
            MEMORY.as_secs()
        );
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        let output = namespace.output(&command, script.as_bytes(), PROGRAM)?;
        process::succeeded(&command, &output).during(script)?;
        Ok(Self(Arc::clone(namespace)))
    }

    /// Forgets those that were.
    ///
    /// # Errors
    ///
    /// What nft says.
    pub fn forget(&self) -> Result<()> {
        self.nft("flush").map(drop)
    }

    /// How long after the first the others arrived, in their order.
    ///
    /// # Errors
    ///
    /// What nft says.
    pub fn times(&self) -> Result<Vec<Duration>> {
        let text = self.nft("list")?;
        let words: Vec<_> = text.split([' ', ',', '}', '\n']).collect();
        let expiries = words
            .windows(2)
            .filter(|pair| pair[0] == "expires")
            .map(|pair| duration(pair[1]));
        let expiries: Vec<Duration> = expiries.collect::<Result<_>>()?;
        let first = expiries.iter().min().copied().unwrap_or_default();
        let mut times: Vec<_> = expiries.iter().map(|at| *at - first).collect();
        times.sort();
        Ok(times)
    }

    fn nft(&self, verb: &str) -> Result<String> {
        let mut command = Command::new("nft");
        command.args([verb, "set", "inet", "arrivals", "book"]);
        self.0.run(&command, PROGRAM)
    }
}

/// The most of these, which are in order, that fall into one window.
pub fn peak(times: &[Duration], window: Duration) -> usize {
    let within = |from: &Duration| {
        let inside = |at: &&Duration| **at >= *from && **at < *from + window;
        times.iter().filter(inside).count()
    };
    times.iter().map(within).max().unwrap_or(0)
}

/// Reads nft's way to write a time, such as `9m59s244ms`.
fn duration(text: &str) -> Result<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().during(text)?;
        sum += match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(60 * number),
            _ => return Err(Failure::new(format!("no time: {text:?}"))),
        };
        rest = after;
    }
    Ok(sum)
}
