//! The TCP connection under a session: read through a buffer, acknowledged at once, counted,
//! and cut for certain when its owner lets go.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::ghost::Ghosts;
use super::greeting::Greeting;

/// russh reads each packet in two steps; from this buffer they cost one system call.
const BUFFER: usize = 64 * 1024;

/// The stream that is given to the SSH library.
#[derive(Debug)]
pub(super) struct Wire {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
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
    greeting: SharedGreeting,
}

/// Makes a connection ready for a session. Sent bytes that stay unacknowledged for `lost` end it.
///
/// # Errors
/// What the kernel says to a duplicate of the descriptor, or to an option.
pub(super) fn split(stream: TcpStream, lost: Duration) -> io::Result<(Wire, Line)> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(lost))?;
    let socket = SockRef::from(&stream).try_clone()?;
    let (local, peer) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
    let arrived = Arrivals::default();
    let greeting = SharedGreeting::default();
    let cut = CancellationToken::new();
    let (reader, writer) = stream.into_split();
    let reader = BufReader::with_capacity(BUFFER, reader);
    Ok((
        Wire {
            reader,
            writer,
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
            ghosts.keep(self.peer, socket);
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

    /// What has arrived on it: a sign of life.
    pub(super) fn arrivals(&self) -> Arrivals {
        self.arrived.clone()
    }
}

/// Counts the bytes that have arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals(Arc<AtomicU64>);

impl Arrivals {
    /// How many so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
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
        let fresh = this.reader.buffer().is_empty();
        let Poll::Ready(filled) = Pin::new(&mut this.reader).poll_fill_buf(cx) else {
            // To its reader, a connection that is cut has ended.
            return this.cut.as_mut().poll(cx).map(Ok);
        };
        let available = filled?;
        if fresh {
            this.arrived.0.fetch_add(available.len() as u64, Relaxed);
        }
        if fresh && let Some(greeting) = &this.greeting {
            let mut greeting = lock(greeting);
            if !greeting.hear(available) {
                let endless = "there is no end to what comes before its banner";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, endless)));
            }
            let done = greeting.has_banner();
            drop(greeting);
            if done {
                this.greeting = None;
            }
        }
        let length = available.len().min(into.remaining());
        into.put_slice(available.get(..length).unwrap_or_default());
        Pin::new(&mut this.reader).consume(length);
        if fresh {
            // sshd before 10.1 leaves Nagle on for sessions without a terminal, so that every
            // second small packet waits for our delayed acknowledgement: 40 ms for each new
            // connection. The kernel forgets this option, so it is set after each read.
            let stream: &TcpStream = this.reader.get_ref().as_ref();
            let _ = SockRef::from(stream).set_tcp_quickack(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.writer).poll_write(cx, bytes);
        if written.is_pending() {
            let cut = self.cut.as_mut().poll(cx);
            return cut.map(|()| Err(io::ErrorKind::BrokenPipe.into()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
