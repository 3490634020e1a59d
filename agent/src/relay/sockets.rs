//! Moves bytes both ways between two stream sockets, of whatever family.
//!
//! One buffer per thread serves every connection: what is read from one side is written to the
//! other before anybody else runs. Only what a blocked peer did not take is kept aside, so an
//! idle connection costs two descriptors and about 2 KiB.
//!
//! A relay can be stopped at any moment and taken up again, by another process too: its state is
//! the two sockets and what is [`Undelivered`]. And whoever looks at its [`InFlight`] mark after
//! this process was killed knows whether bytes of it were in this process's memory.

mod in_flight;
mod socket;
mod undelivered;

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::io::unix::AsyncFdReadyGuard;
use tokio::sync::Notify;
use tokio::time::sleep;

use in_flight::InFlight;
pub use socket::Socket;
pub use undelivered::{Rest, Undelivered};

/// How long a connection of which one direction has ended may stand still.
///
/// VMMs lose the second half of a close (cloud-hypervisor#8300), so it can't be for ever.
pub const LINGER: Duration = Duration::from_secs(30);

/// The size of the shared buffer, and the most that is kept aside for a blocked peer, in bytes.
const BUFFER: usize = 256 * 1024;

/// Full buffers that one direction may move before the others get their turn.
const BURST: usize = 4;

thread_local!(static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]));

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
    /// What was written so far.
    pub moved: Moved,
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
    let ended = Notify::new();
    let inward = Way {
        from: origin,
        to: service,
        moved: &moved.inward,
        rest: &mut undelivered.inward,
        in_flight: InFlight::inward(mark),
        ended: &ended,
    };
    let outward = Way {
        from: service,
        to: origin,
        moved: &moved.outward,
        rest: &mut undelivered.outward,
        in_flight: InFlight::outward(mark),
        ended: &ended,
    };
    // Not join!: the half that waits on a side that broke off would wait for ever.
    let both = async { tokio::try_join!(inward.run(), outward.run()) };
    tokio::select! {
        result = both => match result {
            Ok(((), ())) => End::Closed,
            Err(error) => End::Broken(error),
        },
        () = stalled(moved, &ended, linger) => End::Stalled,
    }
}

async fn stalled(moved: &Moved, ended: &Notify, linger: Duration) {
    ended.notified().await;
    let total = || moved.inward().wrapping_add(moved.outward());
    let mut before = total();
    loop {
        sleep(linger).await;
        let now = total();
        if now == before {
            return;
        }
        before = now;
    }
}

/// One direction of a relay.
struct Way<'a> {
    from: &'a Socket,
    to: &'a Socket,
    moved: &'a AtomicU64,
    rest: &'a mut Rest,
    in_flight: InFlight<'a>,
    /// Told when one direction has ended.
    ended: &'a Notify,
}

/// What a burst of reads and writes came to.
enum Burst {
    /// Nothing more to read for now.
    Drained,
    /// There may be more, but it is somebody else's turn.
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
        loop {
            if !self.rest.is_empty() {
                self.in_flight.set();
                heard = self.write_rest().await?;
                self.in_flight.clear();
            }
            let mut ready = self.from.0.readable().await?;
            self.in_flight.set();
            let burst = SHARED.with_borrow_mut(|buffer| self.burst(buffer, &mut ready, heard));
            if self.rest.is_empty() {
                self.in_flight.clear();
            }
            match burst? {
                Burst::Drained | Burst::Blocked => {}
                Burst::Full => tokio::task::yield_now().await,
                Burst::Refused => {
                    heard = false;
                    self.ended.notify_one();
                }
                Burst::Ended => {
                    self.to.end_writing();
                    self.ended.notify_one();
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
        for _ in 0..BURST {
            // Always until EAGAIN: on some vsock transports (Hyper-V's) a short read does not
            // mean that nothing is left.
            let Ok(read) = from.try_io(|fd| {
                loop {
                    match recv(fd.as_raw_fd(), buffer, MsgFlags::empty()) {
                        Err(Errno::EINTR) => {}
                        result => return Ok(result?),
                    }
                }
            }) else {
                return Ok(Burst::Drained);
            };
            let length = read?;
            if length == 0 {
                return Ok(Burst::Ended);
            }
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
                    Err(_) => return Ok(Burst::Refused),
                }
            }
        }
        Ok(Burst::Full)
    }

    /// Writes the rest; false if it was refused, and is lost.
    async fn write_rest(&mut self) -> io::Result<bool> {
        while !self.rest.is_empty() {
            let writable = tokio::select! {
                writable = self.to.0.writable() => writable,
                // Nobody reads `from` meanwhile, so nobody else would see it reset.
                reset = self.from.0.ready(Interest::ERROR) => {
                    drop(reset?);
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            };
            // Dropped at once: the attempt below clears the readiness by itself.
            drop(writable?);
            match self.to.try_write(self.rest.bytes()) {
                Ok(written) => {
                    self.moved.fetch_add(written as u64, Relaxed);
                    self.rest.take(written);
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => {
                    *self.rest = Rest::default();
                    self.ended.notify_one();
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
