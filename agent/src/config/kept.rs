//! The last good configuration, kept for an agent that starts with a broken file.
//!
//! Copies of the file are kept in the service's runtime directory, which survives a restart, and in
//! its state directory, which survives a reboot. Either directory may be missing or read-only. A
//! copy has mode 0600, since a URL in the file may have a token in its query.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tracing::debug;

use super::{Config, keys};

/// The name of the copy.
const NAME: &str = "config.toml";

/// The largest file that is read as a configuration, in bytes.
pub(super) const LIMIT: u64 = 1 << 20;

/// The directories of the service, the newest copy first (`systemd.exec(5)`).
pub(super) fn places() -> Vec<PathBuf> {
    ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"]
        .into_iter()
        .filter_map(|name| std::env::var_os(name).map(PathBuf::from))
        .filter(|path| path.is_absolute())
        .collect()
}

/// Writes `text` to each directory that is writable. Where an older copy can't be replaced, it is
/// removed: only the last good configuration counts.
pub(super) fn keep(places: &[PathBuf], text: &str) {
    for place in places {
        if read(&place.join(NAME)).is_ok_and(|kept| kept == text) {
            continue;
        }
        if let Err(error) = store(place, text) {
            debug!(%error, ?place, "the configuration is not kept");
            remove(place);
        }
    }
}

/// Removes all copies, since the configuration file is gone.
pub(super) fn discard(places: &[PathBuf]) {
    for place in places {
        remove(place);
    }
}

/// The copies that can be read, the newest first.
pub(super) fn load(places: &[PathBuf]) -> impl Iterator<Item = String> {
    places
        .iter()
        .filter_map(|place| read(&place.join(NAME)).ok())
}

fn remove(place: &Path) {
    for name in [NAME.to_owned(), fresh()] {
        match fs::remove_file(place.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                debug!(%error, ?place, "an old configuration can't be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// The name of the temporary file that `store` renames.
fn fresh() -> String {
    format!(".{NAME}.new")
}

fn store(place: &Path, text: &str) -> io::Result<()> {
    let path = place.join(fresh());
    let _ = fs::remove_file(&path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&path, place.join(NAME))
}

/// Reads a copy that no other user can have written.
fn read(path: &Path) -> io::Result<String> {
    let found = fs::symlink_metadata(path)?;
    let own = found.is_file() && found.uid() == nix::unistd::geteuid().as_raw();
    if !own || found.mode() & 0o077 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    read_bounded(path)?.whole()
}

/// The contents of a configuration file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The text, at most [`LIMIT`] bytes of it. U+FFFD stands for bytes that are not UTF-8.
    pub(super) text: String,
    /// Why `text` is not what the file contains.
    pub(super) flaw: Option<String>,
}

impl Found {
    /// Reads the whole configuration, and fails with the first problem.
    pub(super) fn parse(&self) -> Result<Config, String> {
        match &self.flaw {
            Some(flaw) => Err(flaw.clone()),
            None => keys::parse(&self.text),
        }
    }

    fn whole(self) -> io::Result<String> {
        match self.flaw {
            Some(flaw) => Err(io::Error::new(io::ErrorKind::InvalidData, flaw)),
            None => Ok(self.text),
        }
    }
}

/// Reads a file, and of a larger one the first [`LIMIT`] bytes.
pub(super) fn read_bounded(path: &Path) -> io::Result<Found> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)?;
    let too_large = bytes.len() as u64 > LIMIT;
    if too_large {
        bytes.pop();
    }
    let flaw = match std::str::from_utf8(&bytes) {
        _ if too_large => Some("found more than 1 MiB, expected less".to_owned()),
        Ok(_) => None,
        Err(error) => {
            let before = bytes.iter().take(error.valid_up_to());
            let line = before.filter(|byte| **byte == b'\n').count() + 1;
            Some(not_utf8(line))
        }
    };
    Ok(Found {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        flaw,
    })
}

/// The problem of a line that is not UTF-8.
pub(super) fn not_utf8(line: usize) -> String {
    format!("line {line}: found a byte that is not UTF-8")
}
