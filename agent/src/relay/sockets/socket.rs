//! A connected stream socket, of whatever family, that the runtime watches.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::host;

/// A connected stream socket: AF_VSOCK, AF_UNIX or TCP.
#[derive(Debug)]
pub struct Socket(pub(super) AsyncFd<OwnedFd>);

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
    pub(super) fn end_writing(&self) {
        // It may be gone already; then there is nobody left to tell.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Write);
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_io(Interest::WRITABLE, |fd| send_now(fd, bytes))
    }

    /// Writes, though nobody has said that there is room.
    pub(super) fn write_untold(&self, bytes: &[u8]) -> io::Result<usize> {
        send_now(self.0.get_ref(), bytes)
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

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

fn send_now(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?)
}
