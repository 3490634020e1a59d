//! Reads local files without being led astray: regular ones, and of a bounded size.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::reading::{LIMIT, Secret, SourceFault, append};

/// What systemd shows in place of a credential whose file is missing (`SetCredential=`).
const ABSENT: &[u8] = b"vmagent:absent";

/// What a file was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Its bytes.
    Bytes(Secret),
    /// There is no such file.
    Missing,
    /// It is not for us to read.
    Denied,
}

impl Content {
    /// What systemd passes on of a file that may be missing.
    pub(super) fn of_credential(self) -> Self {
        match self {
            Self::Bytes(bytes) if bytes.trim_ascii() == ABSENT => Self::Missing,
            other @ (Self::Bytes(_) | Self::Missing | Self::Denied) => other,
        }
    }
}

/// Reads a whole regular file of at most [`LIMIT`] bytes.
///
/// # Errors
/// A device, a pipe or a directory; a larger file; a failure of the system.
pub(super) fn read_bounded(path: &Path) -> Result<Content, SourceFault> {
    let io = |error: io::Error| {
        let kind = error.kind();
        if matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory) {
            return Ok(Content::Missing);
        }
        if kind == ErrorKind::PermissionDenied {
            return Ok(Content::Denied);
        }
        Err(unreadable(path, &error.to_string()))
    };
    // Looked at before it is opened: opening a device may already do something.
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(unreadable(path, "it is not a regular file")),
        Err(error) => return io(error),
    }
    // Should it have become a pipe since, this does not wait for somebody to write.
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut file = match OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
    {
        Ok(file) => file,
        Err(error) => return io(error),
    };
    match read_to_end(&mut file) {
        Ok(Some(bytes)) => Ok(Content::Bytes(bytes)),
        Ok(None) => Err(SourceFault::TooLarge { place: shown(path) }),
        Err(error) => io(error),
    }
}

/// Reads at most [`LIMIT`] bytes; `None` if there are more.
///
/// # Errors
/// Those of the reader.
pub(super) fn read_to_end(reader: &mut impl Read) -> io::Result<Option<Secret>> {
    let mut bytes = Secret::default();
    let mut chunk = zeroize::Zeroizing::new([0; 8 << 10]);
    loop {
        match reader.read(&mut chunk[..]) {
            Ok(0) => return Ok(Some(bytes)),
            Ok(count) if append(&mut bytes, &chunk[..count], LIMIT) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The fault of a file that is there and can't be read.
pub(super) fn unreadable(path: &Path, problem: &str) -> SourceFault {
    SourceFault::Unreadable {
        place: shown(path),
        problem: problem.to_owned(),
    }
}

/// A path as the status shows it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
