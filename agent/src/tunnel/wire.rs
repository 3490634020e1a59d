//! The TCP connection under a session: read ahead, acknowledged at once, counted, and cut for
//! certain when its owner lets go. A write never waits: see [`Outbox`].

use std::io::{self, ErrorKind::WouldBlock, IoSliceMut};
use std::net::IpAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::ghost::Ghosts;
use super::greeting::Greeting;
use super::vitals::{Arrivals, Vitals};
use crate::relay::outbox::Outbox;

/// How much is read ahead, in bytes. russh reads each packet in two steps, its length and the rest:
/// with what was read ahead they cost one system call. The rest of a large packet goes where it
/// belongs at once, and only the beginning of the next one through this buffer.
const AHEAD: usize = 4096;

/// How many bytes the kernel may hold that it has not sent (`TCP_NOTSENT_LOWAT`, tcp(7)).
const UNSENT: u32 = 32 * 1024;

/// The most that waits for the kernel, in bytes. Relays hold back long before that: it is a
/// backstop against a proxy that asks without end and reads no answer.
const MOST_UNWRITTEN: usize = 16 << 20;

/// The stream that is given to the SSH library.
#[derive(Debug)]
pub(super) struct Wire {
    reader: OwnedReadHalf,
    ahead: Box<[u8; AHEAD]>,
    /// What of it was not asked for yet.
    unread: Range<usize>,
    writer: OwnedWriteHalf,
    /// Bytes that the kernel did not take yet.
    unwritten: BytesMut,
    outbox: Outbox,
    arrived: Arrivals,
    /// Until the banner has come.
    greeting: Option<SharedGreeting>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

type SharedGreeting = Arc<Mutex<Greeting>>;

/// Keeps a connection alive: it is shut down when this is dropped.
///
/// russh's own task may outlive its handle and keep the socket open while output is pending.
#[derive(Debug)]
pub(super) struct Line {
    /// None once it is a ghost.
    socket: Option<Socket>,
    cut: CancellationToken,
    local: IpAddr,
    peer: IpAddr,
    arrived: Arrivals,
    outbox: Outbox,
    greeting: SharedGreeting,
}

/// Makes a connection ready for a session. Sent bytes that stay unacknowledged for `lost` end it.
///
/// # Errors
/// What the kernel says to a duplicate of the descriptor, or to an option.
pub(super) fn split(stream: TcpStream, lost: Duration) -> io::Result<(Wire, Line)> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(lost))?;
    SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
    let socket = SockRef::from(&stream).try_clone()?;
    let (local, peer) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
    let arrived = Arrivals::new();
    let greeting = SharedGreeting::default();
    let outbox = Outbox::default();
    let cut = CancellationToken::new();
    let (reader, writer) = stream.into_split();
    Ok((
        Wire {
            reader,
            ahead: Box::new([0; AHEAD]),
            unread: 0..0,
            writer,
            unwritten: BytesMut::new(),
            outbox: outbox.clone(),
            arrived: arrived.clone(),
            greeting: Some(Arc::clone(&greeting)),
            cut: Box::pin(cut.clone().cancelled_owned()),
        },
        Line {
            socket: Some(socket),
            cut,
            local,
            peer,
            arrived,
            outbox,
            greeting,
        },
    ))
}

impl Line {
    /// This guest's address.
    pub(super) fn local(&self) -> IpAddr {
        self.local
    }

    /// The proxy's address.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Ends the session over it, and leaves the connection to be reset when that can be heard.
    pub(super) fn haunt(mut self, ghosts: &Ghosts) {
        self.cut.cancel();
        if let Some(socket) = self.socket.take() {
            ghosts.keep(self.local, self.peer, socket);
        }
    }

    /// Whether the peer has shown a banner.
    pub(super) fn has_banner(&self) -> bool {
        lock(&self.greeting).has_banner()
    }

    /// What it said in place of one.
    pub(super) fn words(&self) -> Option<String> {
        lock(&self.greeting).words()
    }

    /// The queue of bytes to be sent on it.
    pub(super) fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// The kernel's view of it.
    pub(super) fn vitals(&self) -> Vitals {
        Vitals {
            socket: self
                .socket
                .as_ref()
                .and_then(|socket| socket.try_clone().ok()),
            outbox: self.outbox.clone(),
        }
    }

    /// What has arrived on it: a sign of life.
    pub(super) fn arrivals(&self) -> Arrivals {
        self.arrived.clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut.cancel();
        // It may have ended by itself.
        if let Some(socket) = &self.socket {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn lock(greeting: &SharedGreeting) -> MutexGuard<'_, Greeting> {
    greeting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let _ = this.poll_drain(cx)?;
        if this.unread.is_empty() {
            let Poll::Ready(read) = this.poll_receive(cx, into) else {
                // To its reader, a connection that is cut has ended.
                return this.cut.as_mut().poll(cx).map(Ok);
            };
            return Poll::Ready(read);
        }
        let length = this.unread.len().min(into.remaining());
        let start = this.unread.start;
        into.put_slice(this.ahead.get(start..start + length).unwrap_or_default());
        this.unread.start += length;
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    /// Reads from the connection what was asked for, and what fits ahead of it.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.reader.as_ref().poll_read_ready(cx))?;
            let asked = into.initialize_unfilled();
            let room = asked.len();
            let mut both = [IoSliceMut::new(asked), IoSliceMut::new(&mut *self.ahead)];
            let length = match self.reader.try_read_vectored(&mut both) {
                Err(error) if error.kind() == WouldBlock => continue,
                read => read?,
            };
            let first = length.min(room);
            let before = into.filled().len();
            into.advance(first);
            self.unread = 0..length - first;
            self.arrived.note();
            self.hear(into.filled().get(before..).unwrap_or_default())?;
            if length < room + AHEAD {
                // sshd before 10.1 leaves Nagle on for sessions without a terminal, so that every
                // second small packet waits for our delayed acknowledgement: 40 ms for each new
                // connection. The kernel forgets this option, so it is set after each read, but
                // for those that leave more behind, which is acknowledged anyway.
                let _ = SockRef::from(self.reader.as_ref()).set_tcp_quickack(true);
            }
            return Poll::Ready(Ok(()));
        }
    }

    /// Looks for the banner in what was asked for and in what was read ahead.
    fn hear(&mut self, asked: &[u8]) -> io::Result<()> {
        let Some(greeting) = &self.greeting else {
            return Ok(());
        };
        let ahead = self.ahead.get(self.unread.clone()).unwrap_or_default();
        let mut greeting = lock(greeting);
        if !(greeting.hear(asked) && greeting.hear(ahead)) {
            let endless = "there is no end to what comes before its banner";
            return Err(io::Error::new(io::ErrorKind::InvalidData, endless));
        }
        let done = greeting.has_banner();
        drop(greeting);
        if done {
            self.greeting = None;
        }
        Ok(())
    }
}

impl Wire {
    /// Gives the kernel what waits, as far as it takes it.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unwritten.is_empty() && self.cut.as_mut().poll(cx).is_ready() {
            self.unwritten.clear();
        }
        while !self.unwritten.is_empty() {
            let written = ready!(Pin::new(&mut self.writer).poll_write(cx, &self.unwritten))?;
            self.unwritten.advance(written);
            self.outbox.written(written, self.unwritten.len());
        }
        // A transfer has left it large.
        self.unwritten = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    /// Never waits while less than [`MOST_UNWRITTEN`] bytes do: the library reads nothing while
    /// it waits for a write.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let drained = this.poll_drain(cx)?;
        if drained.is_ready() {
            let written = Pin::new(&mut this.writer).poll_write(cx, bytes)?;
            if let Poll::Ready(written) = written {
                this.outbox.written(written, bytes.len() - written);
                return Poll::Ready(Ok(written));
            }
        } else if this.unwritten.len() >= MOST_UNWRITTEN {
            let cut = this.cut.as_mut().poll(cx);
            return cut.map(|()| Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.unwritten.extend_from_slice(bytes);
        this.outbox.queue(this.unwritten.len());
        Poll::Ready(Ok(bytes.len()))
    }

    /// Waiting bytes are written when the connection takes more: [`Wire::poll_read`] sees to it, which
    /// the library calls all the time.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = self.poll_drain(cx)?;
        Poll::Ready(Ok(()))
    }

    /// A connection that is cut is left as it is: its owner resets it when that can be heard, or
    /// has shut it down.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
