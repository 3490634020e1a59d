//! Files of a disk that is not mounted: config drives and seeds are ISO 9660 or FAT.
//!
//! Read here rather than mounted: that takes a right to read and no other, works where the
//! kernel has no such module, and there is nothing to leave behind. Nothing that stands on the
//! disk is believed: an offset beyond its end is an error, and so is more than fits the limit.

mod fat;
mod iso;

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;
use zeroize::Zeroizing;

use super::reading::{LIMIT, Secret, append};

/// The largest directory that is looked through, in bytes. One of a seed has a few hundred.
const DIRECTORY: usize = 256 << 10;

/// Why a file can't be read.
#[derive(Debug, Error)]
pub enum VolumeFault {
    /// Another file system, or none.
    #[error("it is neither ISO 9660 nor FAT")]
    Unknown,
    /// What the disk says of itself can't be.
    #[error("its file system is damaged: {0}")]
    Damaged(&'static str),
    /// A file is larger than any document.
    #[error("a file in it is larger than {LIMIT} bytes")]
    TooLarge,
    /// The disk can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file system.
pub struct Volume<D> {
    disk: Disk<D>,
    system: System,
}

enum System {
    Iso(iso::Iso),
    Fat(fat::Fat),
}

/// A file or a directory.
#[derive(Clone, Copy)]
struct Node {
    /// Where it begins: a byte of the disk in ISO 9660, a cluster in FAT.
    start: u64,
    /// In bytes; what FAT says of directories is not known.
    size: u64,
    directory: bool,
}

impl<D: Read + Seek> Volume<D> {
    /// Finds out what is on the disk.
    ///
    /// # Errors
    /// [`VolumeFault`].
    pub fn open(disk: D) -> Result<Self, VolumeFault> {
        let mut disk = Disk(disk);
        // Not FAT first: a hybrid ISO image may begin with what looks like its boot sector.
        let system = match iso::Iso::open(&mut disk)? {
            Some(iso) => System::Iso(iso),
            None => match fat::Fat::open(&mut disk)? {
                Some(fat) => System::Fat(fat),
                None => return Err(VolumeFault::Unknown),
            },
        };
        Ok(Self { disk, system })
    }

    /// The bytes of a file; none if there is no such file. Case does not matter.
    ///
    /// # Errors
    /// [`VolumeFault`].
    pub fn file(&mut self, path: &str) -> Result<Option<Secret>, VolumeFault> {
        let mut node = match &self.system {
            System::Iso(iso) => iso.root,
            System::Fat(_) => fat::ROOT,
        };
        for name in path.split('/') {
            if !node.directory {
                return Ok(None);
            }
            let entries = self.content(&node, DIRECTORY)?;
            let found = match &self.system {
                System::Iso(iso) => iso.find(&entries, name),
                System::Fat(_) => fat::find(&entries, name),
            };
            match found {
                Some(found) => node = found,
                None => return Ok(None),
            }
        }
        if node.directory {
            return Ok(None);
        }
        self.content(&node, LIMIT).map(Some)
    }

    fn content(&mut self, node: &Node, limit: usize) -> Result<Secret, VolumeFault> {
        if node.size > limit as u64 {
            return Err(VolumeFault::TooLarge);
        }
        let mut bytes = Secret::default();
        match &self.system {
            System::Iso(_) => self.disk.append(&mut bytes, node.start, node.size, limit)?,
            System::Fat(fat) => fat.content(&mut self.disk, node, &mut bytes, limit)?,
        }
        Ok(bytes)
    }
}

struct Disk<D>(D);

impl<D: Read + Seek> Disk<D> {
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), VolumeFault> {
        self.0.seek(SeekFrom::Start(at))?;
        self.0.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return VolumeFault::Damaged("it goes on behind the end of the disk");
            }
            VolumeFault::Io(error)
        })
    }

    /// Appends `size` bytes of the disk, while they fit the limit.
    fn append(
        &mut self,
        bytes: &mut Secret,
        mut at: u64,
        size: u64,
        limit: usize,
    ) -> Result<(), VolumeFault> {
        let mut chunk = Zeroizing::new([0; 4096]);
        let mut left = usize::try_from(size).map_err(|_| VolumeFault::TooLarge)?;
        while left > 0 {
            let part = left.min(chunk.len());
            self.read(at, &mut chunk[..part])?;
            if !append(bytes, &chunk[..part], limit) {
                return Err(VolumeFault::TooLarge);
            }
            at += part as u64;
            left -= part;
        }
        Ok(())
    }
}

/// Two bytes at an offset, the lower first; 0 behind the end.
fn le16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..) {
        Some([low, high, ..]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at + 2)) << 16 | u32::from(le16(bytes, at))
}

#[cfg(test)]
mod tests;
