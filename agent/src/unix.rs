//! Unix sockets at a path of the file system: made anew, and taken away at the end.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// The length of the queue of connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Who may connect: only this user and root, or everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Mode 0600.
    Owner,
    /// Mode 0666.
    Everybody,
}

/// Why there is no socket at a path.
#[derive(Debug)]
pub enum BindError {
    /// Somebody answers there.
    InUse,
    /// Something that is not a socket is there; it is left alone.
    NotASocket,
    /// The path does not fit into an address.
    TooLong,
    /// The kernel says no.
    Io(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("another program listens there"),
            Self::NotASocket => f.write_str("a file that is not a socket is in the way"),
            Self::TooLong => f.write_str("the path of a Unix socket may have 107 bytes at most"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The file of a socket that we made; it goes when this is dropped, unless it was replaced.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Left behind it does no harm: the next one to bind finds that nobody answers.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A listening stream socket at `path`, which does not block.
///
/// A socket file that a dead process left there is replaced.
///
/// # Errors
/// See [`BindError`].
pub fn bind(path: &Path, access: Access) -> Result<(Socket, SocketFile), BindError> {
    // No path has a NUL in it: it came from text.
    let address = SockAddr::unix(path).map_err(|_| BindError::TooLong)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // Before the bind: the file is made with the mode of the descriptor, less the umask.
    fchmod(&socket, Mode::from_bits_truncate(0o600)).map_err(io::Error::from)?;
    match socket.bind(&address) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        result => result?,
    }
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path)?,
    };
    socket.listen(BACKLOG)?;
    if access == Access::Everybody {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    }
    Ok((socket, file))
}

fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), BindError> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(BindError::NotASocket);
    }
    // Of the wrong type on purpose: it tells the living from the dead, and disturbs neither
    // (unix_find_bsd in net/unix/af_unix.c: ECONNREFUSED before EPROTOTYPE).
    let probe = Socket::new(Domain::UNIX, Type::DGRAM.nonblocking(), None)?;
    match probe.connect(address) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(BindError::Io(e)),
        Ok(()) | Err(_) => Err(BindError::InUse),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_has_its_mode_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        for (access, expected) in [(Access::Owner, 0o600), (Access::Everybody, 0o666)] {
            let path = dir.path().join("socket");
            let bound = bind(&path, access).unwrap();
            assert_eq!(mode(&path), expected);
            UnixStream::connect(&path).unwrap();
            drop(bound);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_a_dead_process_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _bound = bind(&path, Access::Owner).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_answers_and_a_plain_file_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path, Access::Owner), Err(BindError::InUse)));
        UnixStream::connect(&path).unwrap();

        let path = dir.path().join("file");
        std::fs::write(&path, "mine").unwrap();
        let error = bind(&path, Access::Owner);
        assert!(matches!(error, Err(BindError::NotASocket)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_file_that_somebody_replaced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let bound = bind(&path, Access::Owner).unwrap();
        // A hard link keeps the inode's number from being used again.
        std::fs::hard_link(&path, dir.path().join("kept")).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(bound);
        UnixStream::connect(&path).unwrap();
    }
}
