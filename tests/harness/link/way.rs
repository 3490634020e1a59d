//! One direction of a link: its settings, and when each packet arrives.

use std::time::{Duration, Instant};

use crate::ends::Random;

/// The settings of one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way {
    /// Bits per second, IP headers included.
    pub rate: u64,
    /// From the end of a packet's serialisation to its arrival.
    pub delay: Duration,
    /// The share of packets that are lost, from 0 to 1.
    pub loss: f64,
    /// The queue before the line, as the time that a full one takes to drain. A packet that finds
    /// it full is dropped.
    pub queue: Duration,
    /// The share of packets that overtake others, from 0 to 1, and by how much time.
    pub reorder: (f64, Duration),
    /// Packets of more bytes are dropped without an ICMP message.
    pub mtu: usize,
}

impl Way {
    /// A line of this rate with a queue of 100 ms, and nothing else.
    #[must_use]
    pub const fn new(rate: u64) -> Self {
        Self {
            rate,
            delay: Duration::ZERO,
            loss: 0.0,
            queue: Duration::from_millis(100),
            reorder: (0.0, Duration::ZERO),
            mtu: usize::MAX,
        }
    }

    /// The same with this delay.
    #[must_use]
    pub const fn delay(self, milliseconds: u64) -> Self {
        let delay = Duration::from_millis(milliseconds);
        Self { delay, ..self }
    }

    /// The same with this loss.
    #[must_use]
    pub const fn loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// The same with this queue.
    #[must_use]
    pub const fn queue(self, milliseconds: u64) -> Self {
        let queue = Duration::from_millis(milliseconds);
        Self { queue, ..self }
    }

    /// The same with this share of packets that overtake others by this time.
    #[must_use]
    pub const fn reorder(self, share: f64, milliseconds: u64) -> Self {
        let reorder = (share, Duration::from_millis(milliseconds));
        Self { reorder, ..self }
    }

    /// The same, dropping larger packets.
    #[must_use]
    pub const fn mtu(self, bytes: usize) -> Self {
        Self { mtu: bytes, ..self }
    }

    /// What of it a veth pair can do.
    pub(super) const fn rate_only(self) -> Self {
        Self {
            queue: self.queue,
            ..Self::new(self.rate)
        }
    }

    /// How long the line takes for so many bytes.
    fn serialised(&self, bytes: usize) -> Duration {
        let bits = u32::try_from(8 * bytes).unwrap_or(u32::MAX);
        Duration::from_secs(1) * bits / u32::try_from(self.rate).unwrap_or(u32::MAX)
    }
}

/// What one direction did with packets, in bytes and packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Bytes that were accepted, and arrive.
    pub bytes: u64,
    /// Packets that were accepted.
    pub packets: u64,
    /// Packets that found the queue full.
    pub overflowed: u64,
    /// Packets that were lost by chance.
    pub lost: u64,
    /// Packets that were too large.
    pub oversized: u64,
}

/// The line behind one direction's settings.
pub(super) struct Line {
    /// When all that was accepted has been serialised.
    idle: Instant,
    random: Random,
}

impl Line {
    /// A line that is idle. The same seed loses and reorders the same packets.
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Self {
            idle: now,
            random: Random::new(seed),
        }
    }

    /// When a packet of so many bytes arrives; none if it is dropped.
    pub(super) fn carry(
        &mut self,
        way: &Way,
        count: &mut Count,
        bytes: usize,
        now: Instant,
    ) -> Option<Instant> {
        if bytes > way.mtu {
            count.oversized += 1;
            return None;
        }
        if self.happens(way.loss) {
            count.lost += 1;
            return None;
        }
        let start = self.idle.max(now);
        // An idle line takes a packet that is larger than its queue.
        if start > now && start + way.serialised(bytes) > now + way.queue {
            count.overflowed += 1;
            return None;
        }
        self.idle = start + way.serialised(bytes);
        count.bytes += bytes as u64;
        count.packets += 1;
        let (share, ahead) = way.reorder;
        let delay = if self.happens(share) {
            way.delay.saturating_sub(ahead)
        } else {
            way.delay
        };
        Some(self.idle + delay)
    }

    fn happens(&mut self, share: f64) -> bool {
        const STEPS: u32 = 1_000_000;
        share > 0.0 && (self.random.below(STEPS.into()) as f64) < share * f64::from(STEPS)
    }
}
