//! The two ends of a connection, of either family, and bytes that tell what became of them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};

use crate::failure::{Failure, Result};
use crate::hostile;

/// One end of a connection.
pub trait End: Read + Write + Send + Sized + 'static {
    /// Another handle of the same end.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left.
    fn again(&self) -> Result<Self>;

    /// Says that nothing more will be written, and still reads.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    fn finish(&self) -> Result<()>;

    /// Breaks the connection off, so that whoever is at the other end meets a reset. A Unix socket
    /// knows one only from an end that has not read everything: it waits for something to read.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    fn reset(self) -> Result<()>;

    /// Sets how long a read or a write may take.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    fn limit(&self, time: Duration) -> Result<()>;
}

impl End for TcpStream {
    fn again(&self) -> Result<Self> {
        Ok(self.try_clone()?)
    }

    fn finish(&self) -> Result<()> {
        Ok(self.shutdown(Shutdown::Write)?)
    }

    fn reset(self) -> Result<()> {
        hostile::reset(&self)
    }

    fn limit(&self, time: Duration) -> Result<()> {
        self.set_read_timeout(Some(time))?;
        Ok(self.set_write_timeout(Some(time))?)
    }
}

impl End for UnixStream {
    fn again(&self) -> Result<Self> {
        Ok(self.try_clone()?)
    }

    fn finish(&self) -> Result<()> {
        Ok(self.shutdown(Shutdown::Write)?)
    }

    fn reset(self) -> Result<()> {
        match recv(self.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK)? {
            0 => Err(Failure::new("nothing is left unread: this is no reset")),
            _ => Ok(()),
        }
    }

    fn limit(&self, time: Duration) -> Result<()> {
        self.set_read_timeout(Some(time))?;
        Ok(self.set_write_timeout(Some(time))?)
    }
}

/// Numbers that look random, and are the same in every run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Another sequence for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
}

/// What [`push`] writes, again and again. No buffer's size has to do with a length that is prime,
/// so a piece that is lost, doubled or in another place does not look like the right one.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    words.flatten().take(1_048_573).collect()
});

/// The piece of the pattern that begins with this byte of a transfer.
fn piece(at: u64) -> &'static [u8] {
    let start = at % PATTERN.len() as u64;
    &PATTERN[usize::try_from(start).unwrap_or_default()..]
}

/// When one end of a transfer stands still for a moment, and in which steps it goes on.
pub struct Manner {
    random: Random,
    /// On average, how many bytes there are between two stalls.
    between: Option<u64>,
    next: u64,
}

impl Manner {
    /// As fast as it goes.
    #[must_use]
    pub fn steady(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            between: None,
            next: 0,
        }
    }

    /// With stalls of up to 10 ms after each 16 MiB or so.
    #[must_use]
    pub fn stalling(seed: u64) -> Self {
        Self {
            between: Some(16 << 20),
            ..Self::steady(seed)
        }
    }

    /// How many bytes to ask for next; `moved` were moved so far.
    fn step(&mut self, moved: u64) -> usize {
        if let Some(between) = self.between
            && moved >= self.next
        {
            self.next = moved + self.random.below(2 * between);
            thread::sleep(Duration::from_micros(self.random.below(10_000)));
        }
        usize::try_from(1 + self.random.below(256 << 10)).unwrap_or(1)
    }
}

/// Writes these bytes of a pattern that [`pull`] knows.
///
/// # Errors
///
/// If the connection breaks.
pub fn push(to: &mut impl Write, bytes: Range<u64>, mut manner: Manner) -> Result<()> {
    let mut at = bytes.start;
    while at < bytes.end {
        let piece = piece(at);
        let rest = usize::try_from(bytes.end - at).unwrap_or(usize::MAX);
        let length = manner.step(at).min(piece.len()).min(rest);
        at += to.write(&piece[..length])? as u64;
    }
    Ok(())
}

/// Reads to the end, and returns how many bytes there were.
///
/// # Errors
///
/// If the connection breaks, or a byte is not the one that [`push`] wrote there.
pub fn pull(from: &mut impl Read, mut manner: Manner) -> Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut read: u64 = 0;
    loop {
        let length = from.read(&mut buffer[..manner.step(read)])?;
        if length == 0 {
            return Ok(read);
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let piece = piece(read);
            let length = piece.len().min(rest.len());
            if piece[..length] != rest[..length] {
                return Err(Failure::new(format!(
                    "wrong within {length} bytes of {read}"
                )));
            }
            read += length as u64;
            rest = &rest[length..];
        }
    }
}
