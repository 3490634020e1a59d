//! FAT12, FAT16 and FAT32, with long names: Microsoft's "FAT: General Overview of On-Disk
//! Format", 1.03.

use std::io::{Read, Seek};

use super::{Disk, Node, Secret, VolumeFault, le16, le32};

/// The size of a directory entry.
const ENTRY: usize = 32;

/// Bits of an entry's attributes.
const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;

/// Where the characters of a long name stand in an entry.
const LONG: [std::ops::Range<usize>; 3] = [1..11, 14..26, 28..32];

/// The root directory. No file begins at cluster 0.
pub(super) const ROOT: Node = Node {
    start: 0,
    size: 0,
    directory: true,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

pub(super) struct Fat {
    width: Width,
    /// Where the first table begins, in bytes; likewise the others.
    table: u64,
    root: u64,
    root_size: u64,
    data: u64,
    /// The size of a cluster, and how many there are.
    cluster: u64,
    clusters: u64,
    /// Where the root directory begins in FAT32.
    root_cluster: u64,
}

impl Fat {
    /// Reads the boot sector; none if this is something else.
    pub(super) fn open<D: Read + Seek>(disk: &mut Disk<D>) -> Result<Option<Self>, VolumeFault> {
        let mut boot = [0; 512];
        match disk.read(0, &mut boot) {
            Ok(()) => {}
            Err(VolumeFault::Damaged(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        }
        let number = |at| u64::from(le16(&boot, at));
        let either = |short: u64, long| match short {
            0 => u64::from(le32(&boot, long)),
            short => short,
        };
        let (sector, cluster) = (number(11), u64::from(boot[13]) * number(11));
        let (tables, root_size) = (u64::from(boot[16]), number(17) * ENTRY as u64);
        let valid = le16(&boot, 510) == 0xaa55
            && sector.is_power_of_two()
            && (512..=4096).contains(&sector)
            && cluster.is_power_of_two()
            && tables > 0;
        if !valid {
            return Ok(None);
        }
        let table = number(14) * sector;
        let root = table + tables * either(number(22), 36) * sector;
        let data = root + root_size.next_multiple_of(sector);
        let all = either(number(19), 32) * sector;
        let clusters = all.saturating_sub(data) / cluster;
        let width = match clusters {
            ..4085 => Width::Twelve,
            4085..65525 => Width::Sixteen,
            65525.. => Width::ThirtyTwo,
        };
        // A small FAT32, which some programs make, has no root directory of a fixed size.
        let width = if root_size == 0 {
            Width::ThirtyTwo
        } else {
            width
        };
        Ok(Some(Self {
            width,
            table,
            root,
            root_size,
            data,
            cluster,
            clusters,
            root_cluster: u64::from(le32(&boot, 44)),
        }))
    }

    /// Reads a file, or a directory to its end.
    pub(super) fn content<D: Read + Seek>(
        &self,
        disk: &mut Disk<D>,
        node: &Node,
        bytes: &mut Secret,
        limit: usize,
    ) -> Result<(), VolumeFault> {
        let mut cluster = node.start;
        if cluster == 0 && node.directory {
            if self.width != Width::ThirtyTwo {
                return disk.append(bytes, self.root, self.root_size, limit);
            }
            cluster = self.root_cluster;
        }
        let mut left = if node.directory { u64::MAX } else { node.size };
        // Ends with the chain, or once that is as long as the limit.
        while left > 0 {
            if cluster < 2 || cluster - 2 >= self.clusters {
                return Err(VolumeFault::Damaged("a file leads outside of it"));
            }
            let at = self.data + (cluster - 2) * self.cluster;
            let part = left.min(self.cluster);
            disk.append(bytes, at, part, limit)?;
            left -= part;
            match self.next(disk, cluster)? {
                Some(next) => cluster = next,
                None if node.directory || left == 0 => break,
                None => return Err(VolumeFault::Damaged("a file ends before its end")),
            }
        }
        Ok(())
    }

    /// What the table says of a cluster: the next one, or that it is the last.
    fn next<D: Read + Seek>(
        &self,
        disk: &mut Disk<D>,
        cluster: u64,
    ) -> Result<Option<u64>, VolumeFault> {
        let mut entry = [0; 4];
        let (offset, size, end) = match self.width {
            Width::Twelve => (cluster * 3 / 2, 2, 0x0ff8),
            Width::Sixteen => (cluster * 2, 2, 0xfff8),
            Width::ThirtyTwo => (cluster * 4, 4, 0x0fff_fff8),
        };
        disk.read(self.table + offset, &mut entry[..size])?;
        let entry = u64::from(u32::from_le_bytes(entry));
        let next = match self.width {
            Width::Twelve if cluster % 2 == 1 => entry >> 4,
            Width::Twelve => entry & 0x0fff,
            Width::Sixteen => entry,
            Width::ThirtyTwo => entry & 0x0fff_ffff,
        };
        Ok((next < end).then_some(next))
    }
}

/// The entry of that name, long or short, in a directory.
pub(super) fn find(directory: &[u8], name: &str) -> Option<Node> {
    // A long name stands in entries before its own, the last piece first.
    let mut long: Vec<u16> = Vec::new();
    for entry in directory.chunks_exact(ENTRY) {
        match entry[0] {
            0 => return None,
            0xe5 => long.clear(),
            _ if entry[11] == LONG_NAME => {
                if entry[0] & 0x40 != 0 {
                    long.clear();
                }
                let bytes: Vec<u8> = LONG.into_iter().flat_map(|at| entry[at].to_vec()).collect();
                let piece = bytes.chunks_exact(2).map(|unit| le16(unit, 0));
                let piece = piece.take_while(|unit| *unit != 0);
                // More than 255 characters is no name.
                long.truncate(255);
                long.splice(0..0, piece);
            }
            _ if entry[11] & VOLUME != 0 => long.clear(),
            _ => {
                let whole = char::decode_utf16(long.drain(..)).collect::<Result<String, _>>();
                let fits = |known: &str| known.eq_ignore_ascii_case(name);
                let long = whole.unwrap_or_default();
                if !long.is_empty() && fits(&long) || fits(&short(entry)) {
                    return Some(node(entry));
                }
            }
        }
    }
    None
}

fn short(entry: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (base, extension) = (text(&entry[..8]), text(&entry[8..11]));
    if extension.is_empty() {
        base
    } else {
        format!("{base}.{extension}")
    }
}

fn node(entry: &[u8]) -> Node {
    Node {
        start: u64::from(le16(entry, 20)) << 16 | u64::from(le16(entry, 26)),
        size: u64::from(le32(entry, 28)),
        directory: entry[11] & DIRECTORY != 0,
    }
}
