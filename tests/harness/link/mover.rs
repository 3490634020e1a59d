//! The thread that moves packets between the two devices of a link.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use super::Shared;
use super::way::Line;
use crate::failure::Result;

/// The largest IP packet.
const PACKET: usize = 65_535;

/// How many packets are read from one device before due ones are delivered.
const BATCH: usize = 64;

/// The running thread. Stopped and joined on drop.
pub(super) struct Mover {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Mover {
    pub(super) fn start(ends: [File; 2], shared: Arc<Shared>) -> Result<Self> {
        let stop = Arc::new(EventFd::new()?);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("link".into())
            .spawn(move || run(ends, &shared, &stopped))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet on its way: when it arrives, its number, its destination, and its bytes. The numbers
/// keep packets that arrive at the same moment in their order.
type Packet = Reverse<(Instant, u64, usize, Vec<u8>)>;

fn run(ends: [File; 2], shared: &Shared, stop: &EventFd) {
    let start = Instant::now();
    let mut lines = [1, 2].map(|seed| Line::new(seed, start));
    let mut way: BinaryHeap<Packet> = BinaryHeap::new();
    let mut number = 0;
    let mut buffer = vec![0; PACKET];
    loop {
        let wait = way.peek().map(|Reverse((due, ..))| {
            TimeSpec::from(due.saturating_duration_since(Instant::now()))
        });
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut polled = [
            watch(ends[0].as_fd()),
            watch(ends[1].as_fd()),
            watch(stop.as_fd()),
        ];
        // An interrupted wait is a short one.
        let _ = ppoll(&mut polled, wait, None);
        let readable = polled.map(|one| one.any().unwrap_or(false));
        if readable[2] {
            return;
        }
        for (from, mut end) in ends.iter().enumerate() {
            if !readable[from] {
                continue;
            }
            for _ in 0..BATCH {
                // A device that is down reads as an error, and has nothing to read.
                let Ok(length) = end.read(&mut buffer) else {
                    break;
                };
                let (settings, count) = &mut shared.lock()[from];
                let arrival = lines[from].carry(settings, count, length, Instant::now());
                if let Some(arrival) = arrival {
                    number += 1;
                    let bytes = buffer[..length].to_vec();
                    way.push(Reverse((arrival, number, 1 - from, bytes)));
                }
            }
        }
        let now = Instant::now();
        while way.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            if let Some(Reverse((_, _, to, bytes))) = way.pop() {
                // A device that is down takes nothing, as a wire without a machine at its end.
                let _ = (&ends[to]).write(&bytes);
            }
        }
    }
}
