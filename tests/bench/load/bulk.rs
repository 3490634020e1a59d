//! Bytes over many connections at a time, as fast as they go.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use harness::failure::{Context, Failure, Result};

use crate::CHUNK;
use crate::endpoint::Endpoint;
use crate::line::{self, Line};
use crate::poll::{Poll, Want};
use crate::wire::{GO, Wish};

/// How long nothing may move.
const STALL: Duration = Duration::from_secs(60);

/// How often an endless one looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Connections that are there, each with as many bytes to move.
#[derive(Default)]
pub struct Bulk {
    lines: Vec<Way>,
}

struct Way {
    line: Line,
    direction: Direction,
    all: u64,
    left: u64,
}

impl Bulk {
    /// Adds so many connections that move `each` bytes.
    ///
    /// # Errors
    ///
    /// If one of them is not made.
    pub fn open(
        &mut self,
        endpoint: &Endpoint,
        count: usize,
        direction: Direction,
        each: u64,
    ) -> Result<()> {
        let wish = match direction {
            Direction::Up => Wish::Sink(each),
            Direction::Down => Wish::Source(each),
        };
        line::make(endpoint, count, wish, |line| {
            self.lines.push(Way {
                line,
                direction,
                all: each,
                left: each,
            });
            Ok(())
        })
    }

    /// Moves it all, and says how long it took until the last byte was there.
    ///
    /// # Errors
    ///
    /// If a connection breaks, a byte is missing or one too many, or nothing moves for a minute.
    pub fn run(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.run_until(&AtomicBool::new(false), STALL)?;
        Ok(start.elapsed())
    }

    /// Moves bytes until it is told to stop, and says how many: up, and down.
    ///
    /// # Errors
    ///
    /// If a connection breaks.
    pub fn run_while(&mut self, stop: &AtomicBool) -> Result<(u64, u64)> {
        self.run_until(stop, LOOK)?;
        let moved = |direction| {
            let ways = self.lines.iter().filter(|way| way.direction == direction);
            ways.map(|way| way.all - way.left).sum()
        };
        Ok((moved(Direction::Up), moved(Direction::Down)))
    }

    fn run_until(&mut self, stop: &AtomicBool, limit: Duration) -> Result<()> {
        let poll = Poll::new()?;
        let mut buffer = vec![0; CHUNK];
        let mut ready = Vec::new();
        let mut open = self.lines.len();
        for (token, way) in self.lines.iter_mut().enumerate() {
            let want = match way.direction {
                Direction::Up => Want::Write,
                Direction::Down => {
                    way.line.socket.write_all(&[GO])?;
                    Want::Read
                }
            };
            way.line.socket.set_nonblocking(true)?;
            poll.add(&way.line.socket, token as u64, want)?;
        }
        while open > 0 && !stop.load(Relaxed) {
            poll.wait(Some(limit), &mut ready)?;
            if ready.is_empty() && limit == STALL {
                let left: u64 = self.lines.iter().map(|way| way.left).sum();
                return Err(Failure::new(format!(
                    "{open} connections stand still, {left} bytes are left"
                )));
            }
            for token in &ready {
                let way = &mut self.lines[usize::try_from(*token)?];
                if way.go_on(&poll, *token, &mut buffer)? {
                    poll.remove(&way.line.socket)?;
                    open -= 1;
                }
            }
        }
        Ok(())
    }
}

impl Way {
    /// Whether that was all.
    fn go_on(&mut self, poll: &Poll, token: u64, buffer: &mut [u8]) -> Result<bool> {
        let socket = &mut self.line.socket;
        let room = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        match self.direction {
            Direction::Up if self.left == 0 => {
                socket.set_nonblocking(false)?;
                let counted = u64::from_be_bytes(self.line.read::<8>("the server's count")?);
                if counted != self.all {
                    return Err(Failure::new(format!(
                        "{counted} bytes arrived of {}",
                        self.all
                    )));
                }
                Ok(true)
            }
            Direction::Up => {
                self.left -= moved(socket.write(&buffer[..room])).during("sending")?;
                if self.left == 0 {
                    poll.change(&*socket, token, Want::Read)?;
                }
                Ok(false)
            }
            Direction::Down => {
                self.left -= moved(socket.read(&mut buffer[..room])).during("receiving")?;
                Ok(self.left == 0)
            }
        }
    }
}

fn moved(result: io::Result<usize>) -> Result<u64> {
    match result {
        Ok(0) => Err(Failure::new("the connection has ended")),
        Ok(length) => Ok(length as u64),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(e) => Err(e.into()),
    }
}
