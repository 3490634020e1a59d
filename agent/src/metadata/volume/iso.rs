//! ISO 9660 (ECMA-119), with the names of Joliet, or of Rock Ridge (IEEE P1282), where it has
//! them: `user-data` can't be written without.

use std::io::{Read, Seek};

use super::{Disk, Node, VolumeFault, le16, le32};

/// Volume descriptors have this size, and so do the pieces that a directory is made of.
const SECTOR: usize = 2048;

/// Where the descriptors begin, and how many are looked at.
const FIRST: u64 = 16;
const MOST: u64 = 32;

/// Where a descriptor has the record of the root directory.
const ROOT: usize = 156;

/// What a directory record has before the name.
const HEAD: usize = 33;

/// What tells Joliet: the escape sequences of UCS-2, level 1 to 3.
const JOLIET: [&[u8]; 3] = [b"%/@", b"%/C", b"%/E"];

pub(super) struct Iso {
    pub(super) root: Node,
    joliet: bool,
    block: u64,
}

impl Iso {
    /// Reads the descriptors; none if this is something else.
    pub(super) fn open<D: Read + Seek>(disk: &mut Disk<D>) -> Result<Option<Self>, VolumeFault> {
        let mut primary = None;
        let mut sector = [0; SECTOR];
        for number in FIRST..FIRST + MOST {
            match disk.read(number * SECTOR as u64, &mut sector) {
                Ok(()) if &sector[1..6] == b"CD001" => {}
                // A small disk of another kind.
                Ok(()) | Err(VolumeFault::Damaged(_)) => break,
                Err(fault) => return Err(fault),
            }
            match sector[0] {
                1 => primary = primary.or(Some(Self::of(&sector, false)?)),
                2 if JOLIET.iter().any(|mark| sector[88..].starts_with(mark)) => {
                    return Self::of(&sector, true).map(Some);
                }
                255 => break,
                _ => {}
            }
        }
        Ok(primary)
    }

    fn of(sector: &[u8; SECTOR], joliet: bool) -> Result<Self, VolumeFault> {
        let block = u64::from(le16(sector, 128));
        if !block.is_power_of_two() || block < 512 {
            return Err(VolumeFault::Damaged("its block size is none"));
        }
        Ok(Self {
            root: node(&sector[ROOT..], block),
            joliet,
            block,
        })
    }

    /// The entry of that name in a directory.
    pub(super) fn find(&self, directory: &[u8], name: &str) -> Option<Node> {
        // No record goes beyond its piece: what is left of one is filled up with zeros.
        for mut records in directory.chunks(SECTOR) {
            while let Some(length) = records.first().map(|length| usize::from(*length)) {
                if length <= HEAD || length > records.len() {
                    break;
                }
                let (record, after) = records.split_at(length);
                if self
                    .name(record)
                    .is_some_and(|n| n.eq_ignore_ascii_case(name))
                {
                    return Some(node(record, self.block));
                }
                records = after;
            }
        }
        None
    }

    fn name(&self, record: &[u8]) -> Option<String> {
        let length = usize::from(*record.get(32)?);
        let plain = record.get(HEAD..HEAD + length)?;
        let name = if self.joliet {
            let units = plain
                .chunks_exact(2)
                .map(|u| u16::from_be_bytes([u[0], u[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()?
        } else {
            // A byte more where the name would end on an odd one.
            let after = record
                .get(HEAD + length + (1 - length % 2)..)
                .unwrap_or_default();
            match rock_ridge(after) {
                Some(name) => name,
                None => String::from_utf8(plain.to_vec()).ok()?,
            }
        };
        // Files have a version behind the name: `USER_DAT.;1`.
        let name = name.split(';').next()?;
        Some(name.trim_end_matches('.').to_owned())
    }
}

/// The name in the fields behind a record (`NM`), which may come in more than one piece.
fn rock_ridge(mut fields: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    while let [first, second, length, ..] = fields {
        let length = usize::from(*length);
        if length < 4 || length > fields.len() {
            break;
        }
        let (field, after) = fields.split_at(length);
        if (*first, *second) == (b'N', b'M') {
            name.extend_from_slice(field.get(5..).unwrap_or_default());
        }
        fields = after;
    }
    String::from_utf8(name).ok().filter(|name| !name.is_empty())
}

fn node(record: &[u8], block: u64) -> Node {
    Node {
        start: u64::from(le32(record, 2)) * block,
        size: u64::from(le32(record, 10)),
        directory: record.get(25).is_some_and(|flags| flags & 2 != 0),
    }
}
