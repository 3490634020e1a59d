//! Moves bytes both ways between two stream sockets, of whatever family.
//!
//! One buffer per thread serves every connection: what is read from one side is written to the
//! other before anybody else runs. Only what a blocked peer did not take is kept aside, so an
//! idle connection costs two descriptors and under 4 KiB.
//!
//! A relay can be stopped at any moment and taken up again, by another process too: its state is
//! the two sockets and what is [`Undelivered`]. And whoever looks at its [`InFlight`] mark after
//! this process was killed knows whether bytes of it were in this process's memory.

mod in_flight;
mod socket;
mod turn;
mod undelivered;
mod ways;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::io::unix::AsyncFdReadyGuard;
use tokio::time::sleep;

use in_flight::InFlight;
pub use socket::Socket;
use turn::{BULK, Turn};
pub use undelivered::{Rest, Undelivered};
use ways::{Fate, Ways};

/// How long a connection of which one direction has ended may stand still.
///
/// VMMs lose the second half of a close (cloud-hypervisor#8300), so it can't be for ever.
pub const LINGER: Duration = Duration::from_secs(30);

/// A vsock peer that has closed with bytes unread is never writable again, and nothing is told of
/// it (`vsock_poll` looks at the room alone); only a write finds out. So after a peer has said its
/// last word, one is tried now and then.
const UNTOLD: Duration = Duration::from_secs(1);

/// Counts the bytes that were moved; its owner can read it while they move, and after a cancel.
#[derive(Debug, Default)]
pub struct Moved {
    /// From the origin to the service.
    inward: AtomicU64,
    /// From the service to the origin.
    outward: AtomicU64,
}

impl Moved {
    /// Bytes from the origin to the service.
    #[must_use]
    pub fn inward(&self) -> u64 {
        self.inward.load(Relaxed)
    }

    /// Bytes from the service to the origin.
    #[must_use]
    pub fn outward(&self) -> u64 {
        self.outward.load(Relaxed)
    }
}

/// How a relayed connection ended.
#[derive(Debug)]
pub enum End {
    /// Both sides had said all they had to say.
    Closed,
    /// One direction had ended and the other stood still for too long.
    Stalled,
    /// One side broke off.
    Broken(io::Error),
}

/// How far a relay has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// What was read on one side and is still to be written on the other.
    pub undelivered: Undelivered,
    /// The bytes written so far. Other tasks may read it meanwhile.
    pub moved: Arc<Moved>,
}

/// Moves bytes both ways until both directions have ended or one side breaks off.
///
/// The end of one direction is carried over, and the other goes on. After that the connection
/// ends once nothing has moved for `linger` (at most twice that), see [`LINGER`].
/// Cancelling it loses nothing: it can be called again. What is undelivered goes first. `mark` is
/// 0 while no byte of the relay is in this process's memory.
pub async fn pump(
    origin: &Socket,
    service: &Socket,
    progress: &mut Progress,
    mark: &AtomicU8,
    linger: Duration,
) -> End {
    let Progress { undelivered, moved } = progress;
    let ways = Ways::default();
    let inward = Way {
        from: origin,
        to: service,
        moved: &moved.inward,
        rest: &mut undelivered.inward,
        in_flight: InFlight::inward(mark),
        ways: &ways,
        fate: &ways.inward,
        other: &ways.outward,
    };
    let outward = Way {
        from: service,
        to: origin,
        moved: &moved.outward,
        rest: &mut undelivered.outward,
        in_flight: InFlight::outward(mark),
        ways: &ways,
        fate: &ways.outward,
        other: &ways.inward,
    };
    // Not join!: the half that waits on a side that broke off would wait for ever.
    let both = async { tokio::try_join!(inward.run(), outward.run()) };
    tokio::select! {
        biased;
        result = both => match result {
            Ok(((), ())) => End::Closed,
            Err(error) => End::Broken(error),
        },
        end = ways.over(moved, linger) => end,
    }
}

/// One direction of a relay.
struct Way<'a> {
    from: &'a Socket,
    to: &'a Socket,
    moved: &'a AtomicU64,
    rest: &'a mut Rest,
    in_flight: InFlight<'a>,
    ways: &'a Ways,
    fate: &'a Fate,
    /// That of the other direction.
    other: &'a Fate,
}

/// What a burst of reads and writes came to.
enum Burst {
    /// Nothing more to read for now.
    Drained,
    /// There may be more, but others want to be served, too.
    Full,
    /// The writer did not take all; there is a rest.
    Blocked,
    /// The writer takes nothing any more.
    Refused,
    /// The reader has read the end.
    Ended,
}

impl Way<'_> {
    async fn run(mut self) -> io::Result<()> {
        // False once `to` has refused bytes. Its own last words, sshd's reason for one, may still
        // wait to be read: so the other direction goes on, and this one reads to throw away.
        let mut heard = true;
        let mut turn = Turn::default();
        loop {
            if !self.rest.is_empty() {
                self.in_flight.set();
                // In a box: only a blocked peer costs memory.
                heard = Box::pin(self.write_rest()).await?;
                self.in_flight.clear();
            }
            let mut ready = self.from.0.readable().await?;
            turn.wait().await;
            let before = self.moved.load(Relaxed);
            self.in_flight.set();
            let burst = turn.with_buffer(|buffer| self.burst(buffer, &mut ready, heard));
            if self.rest.is_empty() {
                self.in_flight.clear();
            }
            let blocked = matches!(burst, Ok(Burst::Blocked));
            let bulk = turn.moved(self.moved.load(Relaxed) - before, blocked);
            match burst? {
                Burst::Drained | Burst::Blocked => {}
                Burst::Full if bulk => {}
                Burst::Full => tokio::task::yield_now().await,
                Burst::Refused => {
                    heard = false;
                    self.ways.note(&self.fate.refused);
                }
                Burst::Ended => {
                    self.to.end_writing();
                    self.ways.note(&self.fate.ended);
                    return Ok(());
                }
            }
        }
    }

    fn burst(
        &mut self,
        buffer: &mut [u8],
        from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
        heard: bool,
    ) -> io::Result<Burst> {
        let mut read = 0;
        while read < BULK {
            // Always until EAGAIN: on some vsock transports (Hyper-V's) a short read does not
            // mean that nothing is left.
            let Ok(received) = from.try_io(|fd| {
                loop {
                    match recv(fd.as_raw_fd(), buffer, MsgFlags::empty()) {
                        Err(Errno::EINTR) => {}
                        result => return Ok(result?),
                    }
                }
            }) else {
                return Ok(Burst::Drained);
            };
            let length = received?;
            if length == 0 {
                return Ok(Burst::Ended);
            }
            read += length as u64;
            if !heard {
                continue;
            }
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                match self.to.try_write(rest) {
                    Ok(written) => {
                        self.moved.fetch_add(written as u64, Relaxed);
                        rest = &rest[written..];
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        *self.rest = Rest::from(rest);
                        return Ok(Burst::Blocked);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        self.fate.refused_by(&e);
                        return Ok(Burst::Refused);
                    }
                }
            }
        }
        Ok(Burst::Full)
    }

    /// Writes the rest; false if it was refused, and is lost.
    async fn write_rest(&mut self) -> io::Result<bool> {
        while !self.rest.is_empty() {
            let mut told = true;
            tokio::select! {
                // Dropped at once: the attempt below clears the readiness by itself.
                writable = self.to.0.writable() => drop(writable?),
                // Nobody reads `from` meanwhile, so nobody else would see it reset.
                reset = self.from.0.ready(Interest::ERROR) => {
                    drop(reset?);
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                // The other way has seen it first.
                () = self.other.is_reset() => return Err(io::ErrorKind::ConnectionReset.into()),
                () = sleep(UNTOLD) => told = false,
            }
            let bytes = self.rest.bytes();
            let written = if told {
                self.to.try_write(bytes)
            } else if self.other.ended.load(Relaxed) {
                self.to.write_untold(bytes)
            } else {
                continue;
            };
            match written {
                Ok(written) => {
                    self.moved.fetch_add(written as u64, Relaxed);
                    self.rest.take(written);
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(e) => {
                    self.fate.refused_by(&e);
                    *self.rest = Rest::default();
                    self.ways.note(&self.fate.refused);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
