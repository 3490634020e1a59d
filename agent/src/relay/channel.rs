//! The pump between an SSH channel and a service of this guest.
//!
//! `Channel::into_stream` with `copy_bidirectional` would do the same in one line, and fail a
//! tunnel that lives for months: russh 0.65 (1) stops its whole session while one channel's
//! reader is behind, (2) leaks a channel that we close first, and (3) never wakes a writer that
//! waits for window when the peer closes. So this pump (1) empties the channel into a queue of
//! its own (see [`backlog`](super::backlog)), (2) waits for the peer's CLOSE, and (3) listens to the
//! channel while it writes to it.

mod queue;

use std::future::ready;
use std::io::{self, ErrorKind::WouldBlock};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::backlog::{Backlog, JUDGED, Part, Verdict};
use super::outbox::{Outbox, Share};
use queue::Queue;

/// One packet's worth: what sshd takes at once (`CHAN_TCP_PACKET_DEFAULT`, channels.h).
const READ: usize = 32 * 1024;

/// How much is taken from a channel before it is written.
const BATCH: usize = 4 * READ;

/// How long one channel may hold the session up before it is given up. Less than the time in
/// which a silent session counts as dead.
const STALL: Duration = Duration::from_secs(8);

/// TCP keepalive of a connection of which one direction has ended: the time before the first probe,
/// the time between probes, and how many may be lost. The kernel of a service that has closed its
/// socket ignores probes for 60 s (`tcp_fin_timeout`, ip-sysctl), and then answers each with a
/// reset.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// How long a packet may wait for the channel's window before it counts as blocked.
const BLOCKED: Duration = Duration::from_millis(50);

/// What a relay moved, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the origin to the service.
    pub inward: u64,
    /// From the service to the origin.
    pub outward: u64,
}

/// Relays until the peer closes the channel, or the service breaks off.
///
/// When one direction ends, the relay closes it on the other side. The other direction stays open
/// as long as the service and the channel do: a service may work on its answer for minutes.
///
/// `first` has been read from the channel already; `backlog` and `outbox` are the session's.
/// `note` is called whenever bytes of the channel went to the service. The channel is closed when
/// this returns.
pub async fn pump(
    channel: Channel<Msg>,
    service: TcpStream,
    first: Option<Bytes>,
    backlog: &Backlog,
    outbox: &Outbox,
    progress: &Progress,
    note: impl Fn(Moved),
) -> Moved {
    let (mut reader, writer) = channel.split();
    let (from_service, to_service) = service.into_split();
    let end = {
        let outward = pin!(outward(from_service, &writer, outbox, progress));
        let inward = pin!(inward(
            &mut reader,
            to_service,
            first,
            progress,
            backlog.part(),
            &note
        ));
        tokio::select! {
            error = outward => {
                debug!(%error, "the service or the session is gone");
                End::Broken
            }
            end = inward => end,
        }
    };
    if end == End::Broken {
        // The session may be gone as well; then the channel is, too.
        let _ = writer.close().await;
    }
    progress.moved()
}

/// How far a relay has come; shared by its two ways, which are one task, and by its owner.
#[derive(Debug, Default)]
pub struct Progress {
    inward: AtomicU64,
    outward: AtomicU64,
    /// The service has said all it had to say, and that is on its way.
    said: Notify,
}

impl Progress {
    /// The bytes moved so far.
    pub fn moved(&self) -> Moved {
        Moved {
            inward: self.inward.load(Relaxed),
            outward: self.outward.load(Relaxed),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The peer has closed the channel; russh has forgotten it.
    Closed,
    /// The channel is to be closed from this side.
    Broken,
}

/// Copies from the service to the channel, until either of them is gone.
async fn outward(
    service: OwnedReadHalf,
    channel: &ChannelWriteHalf<Msg>,
    outbox: &Outbox,
    progress: &Progress,
) -> io::Error {
    let moved = async {
        while let Some(bytes) = read(&service).await? {
            let length = bytes.len();
            let share = outbox.take(length).await;
            send(channel, bytes, share).await?;
            progress.outward.fetch_add(length as u64, Relaxed);
        }
        channel.eof().await.map_err(io::Error::other)
    };
    if let Err(error) = moved.await {
        return error;
    }
    progress.said.notify_one();
    let service: &TcpStream = service.as_ref();
    keep_alive(service);
    match service.ready(Interest::ERROR).await {
        Ok(_) => io::ErrorKind::ConnectionReset.into(),
        Err(error) => error,
    }
}

/// Reads the service's next bytes; `None` at the end of its stream.
async fn read(service: &OwnedReadHalf) -> io::Result<Option<Bytes>> {
    loop {
        service.readable().await?;
        // The buffer is allocated once there is data: an idle connection holds none.
        let mut buffer = BytesMut::with_capacity(READ);
        match service.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(buffer.freeze())),
            Err(error) if error.kind() == WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Enables TCP keepalive, with which the kernel detects that the service has left the connection.
fn keep_alive(service: &TcpStream) {
    let (idle, interval, lost) = KEEPALIVE;
    let keepalive = TcpKeepalive::new()
        .with_time(idle)
        .with_interval(interval)
        .with_retries(lost);
    // Without keepalive, the connection ends with its channel.
    let _ = SockRef::from(service).set_tcp_keepalive(&keepalive);
}

/// Sends on the channel. While its peer grants no window, other relays have the room.
async fn send(channel: &ChannelWriteHalf<Msg>, bytes: Bytes, share: Share<'_>) -> io::Result<()> {
    let mut sent = pin!(channel.data_bytes(bytes));
    tokio::select! {
        biased;
        result = &mut sent => {
            share.sent();
            return result.map_err(io::Error::other);
        }
        () = sleep(BLOCKED) => drop(share),
    }
    sent.await.map_err(io::Error::other)
}

/// From the channel to the service, until the peer closes the channel.
async fn inward(
    channel: &mut ChannelReadHalf,
    mut service: OwnedWriteHalf,
    first: Option<Bytes>,
    progress: &Progress,
    mut part: Part,
    note: &impl Fn(Moved),
) -> End {
    let mut queue = Queue::default();
    queue.push(first.unwrap_or_default());
    let mut ended = false;
    let mut closed = false;
    let mut gone = false;
    let mut give_up = Instant::now() + STALL;
    while !(ended && queue.is_empty()) {
        part.set(queue.bytes());
        let hold = match part.judge(Instant::now().into_std(), progress.inward.load(Relaxed)) {
            Verdict::Take => false,
            Verdict::Hold => true,
            Verdict::GiveUp => return End::Broken,
        };
        if !hold {
            give_up = Instant::now() + STALL;
        }
        tokio::select! {
            biased;
            heard = take(channel, &mut queue), if !ended && !hold => match heard {
                Heard::Bytes => {}
                Heard::End => ended = true,
                Heard::Close => {
                    ended = true;
                    closed = true;
                }
            },
            ready = service.writable(), if !queue.is_empty() => {
                if ready.is_err() {
                    gone = true;
                    break;
                }
            }
            () = sleep_until(give_up), if hold => return End::Broken,
            // Judged anew: by then it is known how fast the service reads.
            () = sleep(JUDGED), if hold => {}
        }
        match queue.write(&service) {
            Ok(0) => {}
            Ok(written) => {
                progress.inward.fetch_add(written as u64, Relaxed);
                note(progress.moved());
            }
            // The service is gone. What it said last may still be on its way out.
            Err(_) => {
                gone = true;
                break;
            }
        }
    }
    let _ = service.shutdown().await;
    keep_alive(service.as_ref());
    while !closed {
        tokio::select! {
            message = channel.wait() => closed = matches!(message, Some(ChannelMsg::Close) | None),
            // Nobody is left to send to. sshd reads on from a user who does not close, for ever.
            () = progress.said.notified(), if gone => return End::Broken,
        }
    }
    End::Closed
}

/// What a channel said.
enum Heard {
    Bytes,
    End,
    Close,
}

/// Waits for bytes, and takes with them those that are there already: they cost one write
/// together. What it took is in the queue also when it is dropped.
async fn take(channel: &mut ChannelReadHalf, queue: &mut Queue) -> Heard {
    let mut message = channel.wait().await;
    let before = queue.bytes();
    loop {
        match message {
            Some(ChannelMsg::Data { data }) => queue.push(data),
            Some(ChannelMsg::Eof) => return Heard::End,
            Some(ChannelMsg::Close) | None => return Heard::Close,
            Some(_) => {}
        }
        if queue.bytes() - before >= BATCH {
            return Heard::Bytes;
        }
        message = tokio::select! {
            biased;
            message = channel.wait() => message,
            () = ready(()) => return Heard::Bytes,
        };
    }
}
