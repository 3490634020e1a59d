//! The address of sshd: a TCP address, or a Unix socket.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use super::listening;
use crate::origin::Origin;
use crate::relay::dial::Dialer;

/// The deadline of a connection to a Unix socket, as for one over TCP.
const DEADLINE: Duration = Duration::from_secs(8);

/// The pause before the next connect to a Unix socket whose queue is full (`EAGAIN`, unix(7)).
const FULL: Duration = Duration::from_millis(20);

/// Where an sshd listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Connects to sshd for `origin`. On a Unix socket sshd sees no client address, so it can't
    /// tell origins apart.
    ///
    /// The stream of a Unix socket is a [`TcpStream`] as well. Of the calls that this type makes,
    /// only those for TCP options and for addresses fail on a Unix socket.
    ///
    /// # Errors
    /// The kernel's error, or `TimedOut` after eight seconds.
    pub async fn dial(&self, dialer: &Dialer, origin: &Origin) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(address) => dialer.dial(*address, origin).await,
            Self::Unix(path) => {
                let stream = timeout(DEADLINE, connect(path)).await??;
                TcpStream::from_std(OwnedFd::from(stream.into_std()?).into())
            }
        }
    }

    /// The listening socket at this address; `None` also if the kernel can't say.
    pub(super) fn listener(&self) -> Option<listening::Owner> {
        match self {
            Self::Tcp(address) => listening::look(*address),
            Self::Unix(path) => {
                // Flags, type and state are fields 3 to 5 of 8 (proc_pid_net(5)).
                let table = fs::read("/proc/self/net/unix").ok()?;
                let table = String::from_utf8_lossy(&table);
                table.lines().find_map(|line| listens_on(line, path))
            }
        }
    }
}

async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(FULL).await,
            result => return result,
        }
    }
}

/// Whether a line of `/proc/net/unix` describes a socket that listens on `path`.
fn listens_on(line: &str, path: &Path) -> Option<listening::Owner> {
    // `__SO_ACCEPTCON` (linux/net.h).
    const ACCEPTS: &str = "00010000";
    let mut fields = line.split_ascii_whitespace();
    let flags = fields.nth(3)?;
    let inode = fields.nth(2)?.parse().ok()?;
    let bound = fields.next()?;
    let found = flags == ACCEPTS && Path::new(bound) == path;
    found.then_some(listening::Owner { uid: 0, inode })
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_dialled_seen_and_half_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sshd.sock");
        let address = Address::Unix(path.clone());
        assert_eq!(address.to_string(), format!("unix:{}", path.display()));
        let dialer = Dialer::default();
        let error = address.dial(&dialer, &Origin::Check).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(address.listener(), None);

        let listener = UnixListener::bind(&path).unwrap();
        assert!(address.listener().is_some());
        let mut near = address.dial(&dialer, &Origin::Check).await.unwrap();
        assert!(!dialer.is_own(&near, &Origin::Check));
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        near.write_all(b"in").await.unwrap();
        near.shutdown().await.unwrap();
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        drop(far);
        assert_eq!(heard, "in");
        heard.clear();
        near.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "SSH-2.0-x\r\n");
        drop((listener, near));
        assert_eq!(address.listener(), None);
    }

    /// The kernel refuses a connect at once while the queue is full.
    #[tokio::test]
    async fn a_full_queue_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sshd.sock");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket
            .bind(&socket2::SockAddr::unix(&path).unwrap())
            .unwrap();
        socket.listen(0).unwrap();
        let listener = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
        let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let address = Address::Unix(path);
        let dialer = Dialer::default();
        let mut second = Box::pin(address.dial(&dialer, &Origin::Check));
        assert!(timeout(FULL * 3, &mut second).await.is_err());
        drop(listener.accept().unwrap());
        second.await.unwrap();
    }
}
