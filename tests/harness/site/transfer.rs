//! One login through the tunnel that moves bytes one way, as fast as the link allows.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{LOGIN, Site};
use crate::failure::{Context, Failure, Result};
use crate::process::Process;
use crate::wait;

/// The way that the bytes of a transfer go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the guest: a person reads from it.
    Up,
    /// To the guest.
    Down,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// What moves the bytes in the guest, after a line with the number of its process.
    fn script(self) -> &'static str {
        match self {
            Self::Up => "echo $$; exec cat /dev/zero",
            Self::Down => "echo $$; exec cat >/dev/null",
        }
    }
}

/// A transfer. Ends on drop.
pub struct Transfer {
    // Dropped first: its end ends the threads.
    process: Process,
    direction: Direction,
    /// The process in the guest, and what its shell had read.
    remote: (u32, u64),
    arrived: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Transfer {
    /// Logs in and begins.
    ///
    /// # Errors
    ///
    /// If the login fails: with what ssh said.
    pub fn start(site: &Site, direction: Direction) -> Result<Self> {
        let name = format!("transfer-{direction:?}").to_lowercase();
        let (process, stdin, stdout) = site.piped(&name, direction.script())?;
        let arrived = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let (first, number) = std::sync::mpsc::channel();
        let (counter, over) = (Arc::clone(&arrived), Arc::clone(&ended));
        let puller = thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = first.send(line);
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                counter.fetch_add(length as u64, Relaxed);
            }
            over.store(true, Relaxed);
        });
        let mut transfer = Self {
            process,
            direction,
            remote: (0, 0),
            arrived,
            ended,
            threads: vec![puller],
        };
        let line = number.recv_timeout(LOGIN).unwrap_or_default();
        let Ok(remote) = line.trim().parse() else {
            return Err(Failure::new(transfer.process.log()).during("no login"));
        };
        transfer.remote = (remote, read_by(remote).unwrap_or(0));
        if direction == Direction::Down {
            transfer.threads.push(thread::spawn(move || push(stdin)));
        }
        Ok(transfer)
    }

    /// How many bytes have arrived at the far end.
    pub fn arrived(&self) -> u64 {
        if self.direction == Direction::Down {
            // Of a process that has ended there is nothing to read: the last count stays.
            let (remote, before) = self.remote;
            let read = read_by(remote).unwrap_or(0).saturating_sub(before);
            self.arrived.fetch_max(read, Relaxed);
        }
        self.arrived.load(Relaxed)
    }

    /// Whether the login has ended.
    pub fn ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Waits as long as the transfer is to last.
    ///
    /// # Errors
    ///
    /// If it ends before that: with what ssh said, and when.
    pub fn lasts(&self, time: Duration) -> Result<()> {
        let start = std::time::Instant::now();
        let end = wait::until("end of the transfer", time, || self.ended().then_some(()));
        if end.is_err() {
            return Ok(());
        }
        let said = self.process.log();
        let after = start.elapsed().as_secs_f64();
        Err(Failure::new(format!("cut after {after:.1} s: {said}")))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.process.kill();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What a process has read so far (proc_pid_io(5)).
fn read_by(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/io"))?;
    let count = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    count.unwrap_or_default().parse().during(text)
}

/// Writes until nobody reads.
fn push(mut stdin: ChildStdin) {
    let _ = std::io::copy(&mut std::io::repeat(0), &mut stdin);
}
