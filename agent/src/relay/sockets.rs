//! Moves bytes both ways between two stream sockets, of whatever family.
//!
//! One buffer per thread serves every connection: what is read from one side is written to the
//! other before anybody else runs. Only what a blocked peer did not take is kept aside, so an
//! idle connection costs two descriptors and about 2 KiB.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::host;

/// How long a connection of which one direction has ended may stand still.
///
/// VMMs lose the second half of a close (cloud-hypervisor#8300), so it can't be for ever.
pub const LINGER: Duration = Duration::from_secs(30);

/// The size of the shared buffer, and the most that is kept aside for a blocked peer, in bytes.
const BUFFER: usize = 256 * 1024;

/// Full buffers that one direction may move before the others get their turn.
const BURST: usize = 4;

thread_local!(static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]));

/// A connected stream socket: AF_VSOCK, AF_UNIX or TCP.
#[derive(Debug)]
pub struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// Takes a connected stream socket that does not block.
    ///
    /// # Errors
    /// When the runtime can't watch it.
    pub fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        host::watch(socket.into()).map(Self)
    }

    /// Waits until a connect that was begun has come out.
    ///
    /// # Errors
    /// What became of it.
    pub async fn connected(&self) -> io::Result<()> {
        drop(self.0.writable().await?);
        match socket2::SockRef::from(self.0.get_ref()).take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Carries the end of the other side's words over to this one.
    fn end_writing(&self) {
        // It may be gone already; then there is nobody left to tell.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Write);
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_io(Interest::WRITABLE, |fd| {
            Ok(send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?)
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let read = ready.try_io(|fd| {
                let room = buffer.initialize_unfilled();
                Ok(recv(fd.as_raw_fd(), room, MsgFlags::empty())?)
            });
            if let Ok(read) = read {
                buffer.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl TryFrom<TcpStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: TcpStream) -> io::Result<Self> {
        Self::new(stream.into_std()?)
    }
}

impl TryFrom<UnixStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Self> {
        Self::new(stream.into_std()?)
    }
}

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

/// Moves bytes both ways until both directions have ended or one side breaks off.
///
/// The end of one direction is carried over, and the other goes on. After that the connection
/// ends once nothing has moved for `linger` (at most twice that), see [`LINGER`].
/// Cancelling it loses nothing but bytes: drop the sockets then.
pub async fn pump(origin: &Socket, service: &Socket, moved: &Moved, linger: Duration) -> End {
    let ended = Notify::new();
    let both = async {
        // Not join!: the half that waits on a side that broke off would wait for ever.
        tokio::try_join!(
            half(origin, service, &moved.inward, &ended),
            half(service, origin, &moved.outward, &ended),
        )
    };
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

async fn half(from: &Socket, to: &Socket, moved: &AtomicU64, ended: &Notify) -> io::Result<()> {
    // False once `to` has refused bytes. Its own last words, sshd's reason for one, may still
    // wait to be read: so the other direction goes on, and this one reads to throw away.
    let mut heard = true;
    loop {
        let mut ready = from.0.readable().await?;
        match burst(&mut ready, heard.then_some(to), moved)? {
            Burst::Drained => {}
            Burst::Full => tokio::task::yield_now().await,
            Burst::Blocked(rest) => {
                let written = tokio::select! {
                    written = write_all(to, &rest, moved) => written,
                    // Nobody reads `from` meanwhile, so nobody else would see it reset.
                    reset = from.0.ready(Interest::ERROR) => {
                        drop(reset?);
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                };
                if written.is_err() {
                    heard = false;
                    ended.notify_one();
                }
            }
            Burst::Refused => {
                heard = false;
                ended.notify_one();
            }
            Burst::Ended => {
                to.end_writing();
                ended.notify_one();
                return Ok(());
            }
        }
    }
}

/// What a burst of reads and writes came to.
enum Burst {
    /// Nothing more to read for now.
    Drained,
    /// There may be more, but it is somebody else's turn.
    Full,
    /// The writer did not take these.
    Blocked(Box<[u8]>),
    /// The writer takes nothing any more.
    Refused,
    /// The reader has read the end.
    Ended,
}

fn burst(
    from: &mut AsyncFdReadyGuard<'_, OwnedFd>,
    to: Option<&Socket>,
    moved: &AtomicU64,
) -> io::Result<Burst> {
    SHARED.with_borrow_mut(|buffer| {
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
            let Some(to) = to else { continue };
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                match to.try_write(rest) {
                    Ok(written) => {
                        moved.fetch_add(written as u64, Relaxed);
                        rest = &rest[written..];
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Burst::Blocked(rest.into()));
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Ok(Burst::Refused),
                }
            }
        }
        Ok(Burst::Full)
    })
}

async fn write_all(to: &Socket, mut bytes: &[u8], moved: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        // Dropped at once: the attempt below clears the readiness by itself.
        drop(to.0.writable().await?);
        match to.try_write(bytes) {
            Ok(written) => {
                moved.fetch_add(written as u64, Relaxed);
                bytes = &bytes[written..];
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
