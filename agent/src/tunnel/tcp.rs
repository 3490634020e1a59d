//! TCP connections to the proxy, and what the kernel knows of them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::host;

/// Segment sizes in bytes for a path that drops full packets without a word, the next for when
/// the one before did not pass either. IPv6 carries 1280 bytes everywhere (RFC 8200, 5), of which
/// 60 are headers, and tunnels add some; IPv4 hosts take 576 bytes (RFC 1122, 3.3.2).
pub(super) const SMALL_SEGMENTS: [u32; 2] = [1180, 536];

/// Connects to `target`. With a `segment`, neither end sends longer segments: the kernel tells the
/// peer in its first packet (`TCP_MAXSEG`, tcp(7)).
///
/// # Errors
/// What the kernel says.
pub(super) async fn connect(target: SocketAddr, segment: Option<u32>) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(segment) = segment {
        SockRef::from(&socket).set_tcp_mss(segment)?;
    }
    socket.connect(target).await
}

/// Whether small packets reach a server that speaks first: a connection is taken, and its first
/// bytes come, within `within`.
pub(super) async fn small_packets_pass(target: SocketAddr, within: Duration) -> bool {
    let greeted = async {
        let stream = connect(target, None).await?;
        stream.readable().await?;
        let mut first = [0; 4];
        stream.try_read(&mut first)
    };
    matches!(timeout(within, greeted).await, Ok(Ok(1..)))
}

/// The kernel's view of a connection at one moment (`TCP_INFO`, tcp(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes that the peer's kernel has acknowledged, in all.
    pub(super) acknowledged: u64,
    /// Every byte was sent and acknowledged.
    pub(super) delivered: bool,
    /// Bytes that wait to be sent or to be acknowledged.
    pub(super) waiting: u64,
    /// Since the peer's last acknowledgement of any kind.
    pub(super) since_acknowledgement: Duration,
    /// The first unacknowledged segment was sent again at least this often.
    pub(super) retransmits: u8,
    /// The longest segment that this end sends, in bytes.
    pub(super) segment: u32,
    /// Round trip, and its deviation.
    pub(super) round_trip: (Duration, Duration),
}

impl Progress {
    /// The state of `socket` now; none, where the kernel does not tell.
    pub(super) fn of(socket: &Socket) -> Option<Self> {
        let info = host::tcp_info(socket)?;
        let milliseconds = |time| Duration::from_millis(u64::from(time));
        let microseconds = |time| Duration::from_micros(u64::from(time));
        let sent = info.tcpi_bytes_sent.saturating_sub(info.tcpi_bytes_retrans);
        let outstanding = sent.saturating_sub(info.tcpi_bytes_acked);
        Some(Self {
            acknowledged: info.tcpi_bytes_acked,
            delivered: info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0,
            waiting: outstanding.saturating_add(info.tcpi_notsent_bytes.into()),
            since_acknowledgement: milliseconds(info.tcpi_last_ack_recv),
            retransmits: info.tcpi_retransmits,
            segment: info.tcpi_snd_mss,
            round_trip: (microseconds(info.tcpi_rtt), microseconds(info.tcpi_rttvar)),
        })
    }

    /// How long the kernel waits for an acknowledgement before it sends again (RFC 6298, 2.3).
    pub(super) fn patience(&self) -> Duration {
        let (round_trip, deviation) = self.round_trip;
        round_trip + 4 * deviation
    }

    /// Whether the peer's kernel is there.
    pub(super) fn is_acknowledging(&self) -> bool {
        self.since_acknowledgement < STILL_THERE
    }

    /// Whether a full packet is sent again and again, and is not acknowledged: the line is dead,
    /// or loses full packets.
    pub(super) fn repeats_full_packet(&self) -> bool {
        !self.delivered && self.retransmits >= 2 && self.waiting >= u64::from(self.segment)
    }
}

/// A peer whose last acknowledgement is younger than this has acknowledged the last keepalive, when
/// a silence of 13 s ends: one goes out after 5 s.
const STILL_THERE: Duration = Duration::from_secs(12);
