//! What tells a guest who it is: a NoCloud seed, SMBIOS strings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Result};
use crate::process;

/// A NoCloud seed.
#[derive(Clone, Default)]
pub struct Seed {
    /// The instance's name for itself; a new one is a new instance.
    pub instance_id: String,
    /// `user-data`, with its first line (`#cloud-config`, a MIME header, ..).
    pub user_data: String,
    /// `vendor-data`; none if empty.
    pub vendor_data: String,
}

impl Seed {
    /// The disk that cloud-init finds it on.
    #[must_use]
    pub fn drive(self) -> Drive {
        let meta_data = format!("instance-id: {}\n", self.instance_id);
        let mut files = vec![
            ("meta-data".to_owned(), meta_data),
            ("user-data".to_owned(), self.user_data),
        ];
        if !self.vendor_data.is_empty() {
            files.push(("vendor-data".to_owned(), self.vendor_data));
        }
        Drive {
            label: "cidata",
            files,
        }
    }
}

/// A disk that tells a guest who it is.
#[derive(Clone)]
pub struct Drive {
    /// The label of its volume.
    pub label: &'static str,
    /// Paths and texts.
    pub files: Vec<(String, String)>,
}

impl Drive {
    /// Writes it as an ISO 9660 image into `dir`.
    ///
    /// # Errors
    ///
    /// What genisoimage says.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let files = self.files.iter();
        let files: Vec<_> = files.map(|(path, text)| (&path[..], &text[..])).collect();
        iso(&dir.join("drive"), self.label, &files)
    }
}

/// Writes an ISO 9660 image with a volume label and these files: `path` with `.iso` behind it.
///
/// # Errors
///
/// What genisoimage says.
pub fn iso(path: &Path, label: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let image = path.with_extension("iso");
    let mut command = Command::new("genisoimage");
    command
        .args(["-quiet", "-joliet", "-rock", "-volid", label, "-output"])
        .arg(&image)
        .arg(tree(path, files)?);
    process::run(&mut command)?;
    Ok(image)
}

/// Writes a FAT image in the same way: `path` with `.img` behind it.
///
/// # Errors
///
/// What mkfs.vfat or mcopy says.
pub fn fat(path: &Path, label: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let image = path.with_extension("img");
    let mut make = Command::new("mkfs.vfat");
    make.args(["-n", label, "-C"]).arg(&image).arg("256");
    process::run(&mut make)?;
    let mut copy = Command::new("sh");
    copy.args(["-c", "mcopy -s -i \"$0\" \"$1\"/* ::/"]);
    copy.arg(&image).arg(tree(path, files)?);
    process::run(&mut copy)?;
    Ok(image)
}

/// A directory of these files, and of nothing else.
fn tree(path: &Path, files: &[(&str, &str)]) -> Result<PathBuf> {
    let content = path.with_extension("tree");
    for (name, text) in files {
        let file = content.join(name);
        fs::create_dir_all(file.parent().unwrap_or(&content)).during(file.display())?;
        fs::write(file, text)?;
    }
    Ok(content)
}

/// The SMBIOS string that carries a systemd credential into the guest.
pub fn credential(name: &str, value: &[u8]) -> String {
    format!(
        "type=11,value=io.systemd.credential.binary:{name}={}",
        base64(value)
    )
}

/// RFC 4648 base64, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let symbol = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() {
                char::from(symbol)
            } else {
                '='
            });
        }
    }
    text
}

/// The bytes of RFC 4648 base64; anything outside the alphabet is skipped.
pub fn unbase64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut word, mut bits) = (0_u32, 0);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    bytes
}

/// A short name for a text: equal for equal texts, and in practice only then.
pub(crate) fn digest(text: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
