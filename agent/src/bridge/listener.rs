//! The listening socket: inherited, or bound by ourselves; vsock and Unix alike.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc::{SOCK_CLOEXEC, SOCK_NONBLOCK, VMADDR_CID_ANY};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::fault::Fault;
use crate::config::Listen;
use crate::host::{self, Inherited, LocalCid};
use crate::origin::Origin;
use crate::unix::{self, Access, BindError, SocketFile};

/// The context ID of the host.
const HOST: u32 = 2;
/// The length of the queue of connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: AsyncFd<OwnedFd>,
    name: Listen,
    inherited: bool,
    // Taken away with the listener; there is none for vsock, or when the file is not ours.
    _file: Option<SocketFile>,
}

/// A connection that was accepted; it does not block.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The connection.
    pub(super) socket: OwnedFd,
    /// Who is at its other end.
    pub(super) origin: Origin,
    /// Our own context ID, as the host addressed it.
    pub(super) local_cid: Option<u32>,
}

impl Arrival {
    fn new(socket: OwnedFd, peer: &SockAddr) -> Self {
        let cid = |address: &SockAddr| address.as_vsock_address().map(|(cid, _)| cid);
        let peer = cid(peer);
        // Others may reach us by another name: loopback is 1.
        let local_cid = (peer == Some(HOST))
            .then(|| cid(&SockRef::from(&socket).local_addr().ok()?))
            .flatten();
        Self {
            socket,
            origin: peer.map_or(Origin::Unix, Origin::Cid),
            local_cid,
        }
    }

    /// A connection that was accepted by another process.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn again(socket: OwnedFd) -> io::Result<Self> {
        let peer = SockRef::from(&socket).peer_addr()?;
        Ok(Self::new(socket, &peer))
    }

    /// The context ID at the other end, if it has one.
    pub(super) fn cid(&self) -> Option<u32> {
        match self.origin {
            Origin::Cid(cid) => Some(cid),
            Origin::Unix | Origin::Client { .. } | Origin::Named(_) | Origin::Check => None,
        }
    }
}

/// What the descriptors that the service manager handed over are good for.
#[derive(Debug)]
pub(super) enum Adopted {
    /// One of them is our listener.
    Listener(Listener),
    /// There are some, and none is.
    Wrong(Fault),
    /// There are none.
    Nothing,
}

/// Takes the first descriptor that is a listening vsock or Unix stream socket; the others stay.
pub(super) fn adopt(inherited: &mut Vec<Inherited>) -> Adopted {
    let mut wrong = Vec::new();
    for index in 0..inherited.len() {
        match examine(&inherited[index].fd) {
            Ok(name) => return Listener::adopt(inherited.remove(index), name),
            Err(found) => wrong.push(format!("{found} ({})", inherited[index].name)),
        }
    }
    if wrong.is_empty() {
        Adopted::Nothing
    } else {
        Adopted::Wrong(Fault::WrongSocket(wrong.join(", ")))
    }
}

/// What a descriptor listens on, or what else it is.
fn examine(fd: &OwnedFd) -> Result<Listen, &'static str> {
    let socket = SockRef::from(fd);
    let Ok(address) = socket.local_addr() else {
        return Err("a descriptor that is no socket");
    };
    let name = match (address.as_vsock_address(), address.is_unix()) {
        (Some((_, port)), _) => Listen::Vsock(port),
        (None, true) => Listen::Unix(match address.as_pathname() {
            Some(path) => path.to_owned(),
            None => "(abstract)".into(),
        }),
        (None, false) => return Err("a socket of another family"),
    };
    if !matches!(socket.r#type(), Ok(Type::STREAM)) {
        return Err("a socket that is no stream");
    }
    if !matches!(socket.is_listener(), Ok(true)) {
        return Err("a socket that does not listen");
    }
    Ok(name)
}

impl Listener {
    fn adopt(inherited: Inherited, name: Listen) -> Adopted {
        let watched = SockRef::from(&inherited.fd)
            .set_nonblocking(true)
            .and_then(|()| host::watch(inherited.fd));
        match watched {
            Ok(socket) => Adopted::Listener(Self {
                socket,
                name,
                inherited: true,
                _file: None,
            }),
            Err(error) => Adopted::Wrong(Fault::WrongSocket(format!(
                "a socket that can't be watched: {error}"
            ))),
        }
    }

    /// Listens on `listen`: a vsock port on every context ID of this guest, or a Unix socket that
    /// only root and our own user may use, since all who use it are one origin to sshd.
    ///
    /// # Errors
    /// Says why not, and what to do.
    pub(super) fn bind(listen: &Listen) -> Result<Self, Fault> {
        let (socket, file) = match listen {
            Listen::Vsock(port) => (bind_vsock(*port)?, None),
            Listen::Unix(path) => {
                let (socket, file) =
                    unix::bind(path, Access::Owner).map_err(|e| unix_fault(listen, e))?;
                (socket, Some(file))
            }
            Listen::Off => return Err(failed(listen, "it is switched off".into())),
        };
        Ok(Self {
            socket: host::watch(socket.into()).map_err(|e| failed(listen, e.into()))?,
            name: listen.clone(),
            inherited: false,
            _file: file,
        })
    }

    /// What it listens on.
    pub(super) fn name(&self) -> &Listen {
        &self.name
    }

    /// Whether the service manager made it, and holds it as well.
    pub(super) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// This guest's own context ID, where this is a vsock listener.
    pub(super) fn local_cid(&self) -> LocalCid {
        match self.name {
            Listen::Vsock(_) => host::local_cid(),
            Listen::Unix(_) | Listen::Off => LocalCid::Unknown,
        }
    }

    /// The next connection. Can be cancelled at any time without losing one.
    pub(super) async fn accept(&self) -> io::Result<Arrival> {
        loop {
            let mut ready = self.socket.readable().await?;
            let accept = |listener: &AsyncFd<OwnedFd>| {
                SockRef::from(listener.get_ref()).accept4(SOCK_CLOEXEC | SOCK_NONBLOCK)
            };
            if let Ok(accepted) = ready.try_io(accept) {
                let (socket, peer) = accepted?;
                return Ok(Arrival::new(socket.into(), &peer));
            }
        }
    }
}

/// Whether an error of an accept is about that one connection only.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Whether an error of an accept says that the listener itself is no good any more.
pub(super) fn is_lost(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP)
    )
}

// Accepted connections have the listener's buffer, and it stays the kernel's: 256 KiB. In a guest
// with Debian 13's 6.12, sizes from 64 KiB to 4 MiB moved bytes as fast, within what is noise
// there, over loopback and from the host. More than 256 KiB can't be had anyway: that kernel lets
// nobody send ahead more than its own buffer holds, and who dials has the default. And what a
// client sends ahead is the kernel's memory, measured 252 KiB for each connection that stands
// still, times all that are open.
fn bind_vsock(port: u32) -> Result<Socket, Fault> {
    let listen = Listen::Vsock(port);
    let socket =
        Socket::new(Domain::VSOCK, Type::STREAM.nonblocking(), None).map_err(Fault::NoVsock)?;
    socket
        .bind(&SockAddr::vsock(VMADDR_CID_ANY, port))
        .and_then(|()| socket.listen(BACKLOG))
        .map_err(|e| vsock_fault(&listen, e))?;
    Ok(socket)
}

fn vsock_fault(listen: &Listen, error: io::Error) -> Fault {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => taken(listen),
        Some(Errno::EACCES | Errno::EPERM) => Fault::Denied {
            listen: listen.clone(),
            source: error,
        },
        // The transport is not there yet.
        Some(Errno::EADDRNOTAVAIL | Errno::ENODEV) => Fault::NoVsock(error),
        Some(_) | None => failed(listen, error.into()),
    }
}

fn unix_fault(listen: &Listen, error: BindError) -> Fault {
    match error {
        BindError::InUse => taken(listen),
        BindError::Io(e) if e.kind() == io::ErrorKind::PermissionDenied => Fault::Denied {
            listen: listen.clone(),
            source: e,
        },
        BindError::NotASocket | BindError::TooLong | BindError::Io(_) => {
            failed(listen, error.into())
        }
    }
}

fn taken(listen: &Listen) -> Fault {
    Fault::Taken {
        listen: listen.clone(),
        why: "it has not been tried yet".to_owned(),
    }
}

fn failed(listen: &Listen, source: Box<dyn std::error::Error + Send + Sync>) -> Fault {
    Fault::Failed {
        listen: listen.clone(),
        source,
    }
}
