//! Bytes that were read on one side of a relay and are still to be written on the other.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::in_flight::InFlight;

/// What was read in one direction and not yet written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rest {
    bytes: Box<[u8]>,
    written: usize,
}

impl Rest {
    /// What is still to be written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Whether there is nothing to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Notes that so many bytes are written.
    pub(super) fn take(&mut self, written: usize) {
        self.written += written;
        if self.is_empty() {
            // Only a blocked peer costs memory.
            *self = Self::default();
        }
    }
}

impl From<&[u8]> for Rest {
    fn from(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.into(),
            written: 0,
        }
    }
}

/// What is on its way in both directions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// From the origin to the service.
    pub inward: Rest,
    /// From the service to the origin.
    pub outward: Rest,
}

/// The first bytes of the file. The last one is the version: whoever does not know it can't tell
/// what is lost.
const MAGIC: [u8; 8] = *b"vmagent1";

impl Undelivered {
    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inward.is_empty() && self.outward.is_empty()
    }

    /// Marks the directions in which something is on its way, as `pump` does.
    pub fn mark(&self, mark: &AtomicU8) {
        mark.store(0, Relaxed);
        for (rest, direction) in [
            (&self.inward, InFlight::inward(mark)),
            (&self.outward, InFlight::outward(mark)),
        ] {
            if !rest.is_empty() {
                direction.set();
            }
        }
    }

    /// Writes it to a file that lives in memory only, for another process:
    /// [`MAGIC`], the length of the inward bytes (u64, little endian), these, the outward bytes.
    ///
    /// # Errors
    /// When there is no memory or no descriptor.
    pub fn write(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("undelivered", MFdFlags::MFD_CLOEXEC)?);
        let (inward, outward) = (self.inward.bytes(), self.outward.bytes());
        file.write_all(&MAGIC)?;
        file.write_all(&(inward.len() as u64).to_le_bytes())?;
        file.write_all(inward)?;
        file.write_all(outward)?;
        Ok(file.into())
    }

    /// Reads what [`Self::write`] has written.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(file: OwnedFd) -> io::Result<Self> {
        let mut file = File::from(file);
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        let parse = || {
            let (magic, text) = text.split_first_chunk()?;
            let (length, text) = text.split_first_chunk()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (inward, outward) = text.split_at_checked(length)?;
            (*magic == MAGIC).then(|| Self {
                inward: inward.into(),
                outward: outward.into(),
            })
        };
        parse().ok_or_else(|| io::Error::other("no bytes of a relay, or of another version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_refused() {
        let mut rest = Rest::from(&b"out"[..]);
        rest.take(1);
        for undelivered in [
            Undelivered::default(),
            Undelivered {
                inward: b"in"[..].into(),
                outward: rest,
            },
        ] {
            let read = Undelivered::read(undelivered.write().unwrap()).unwrap();
            assert_eq!(read.inward.bytes(), undelivered.inward.bytes());
            assert_eq!(read.outward.bytes(), undelivered.outward.bytes());
        }
        for wrong in [
            &b""[..],
            b"vmagent2\0\0\0\0\0\0\0\0",
            b"vmagent1\x05\0\0\0\0\0\0\0four",
            b"vmagent1\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            let mut file = File::from(memfd_create("wrong", MFdFlags::MFD_CLOEXEC).unwrap());
            file.write_all(wrong).unwrap();
            assert!(Undelivered::read(file.into()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_rest_that_is_written_holds_no_memory() {
        let mut rest = Rest::from(&[0; 100][..]);
        rest.take(99);
        assert_eq!(rest.bytes(), [0]);
        rest.take(1);
        assert_eq!(rest, Rest::default());
    }
}
