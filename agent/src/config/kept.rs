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
    read_bounded(path)
}

/// Reads a file of at most [`LIMIT`] bytes.
pub(super) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(LIMIT + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}
