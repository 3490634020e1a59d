//! Where the load goes: `unix:/path`, `tcp:ADDRESS:PORT`, `vsock:CID:PORT`, or `mux:/path:PORT`
//! for a guest's port behind the socket of a VMM that asks for `CONNECT port`.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::str::FromStr;

use harness::failure::{Context, Failure, Result};
use harness::vsock;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, SockAddr, Socket, Type};

/// `VMADDR_CID_ANY` of vsock(7): all context ids of a server.
const ANY: u32 = u32::MAX;

/// As many as the kernel lets wait (`net.core.somaxconn`).
const BACKLOG: i32 = i32::MAX;

/// How many clients the load seems to be.
const CLIENTS: usize = 4;

/// An address of a stream socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
    /// A context id and a port. For guests only: a machine's own device may be somebody else's.
    Vsock(u32, u32),
    /// A guest's port, through a VMM's socket. There is no listening on it.
    Mux(PathBuf, u32),
}

impl FromStr for Endpoint {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Failure::new(format!(
                "{text:?}: not unix:/path, tcp:ADDRESS:PORT, vsock:CID:PORT or mux:/path:PORT"
            ))
        };
        match text.split_once(':').ok_or_else(wrong)? {
            ("unix", path) => Ok(Self::Unix(path.into())),
            ("tcp", address) => Ok(Self::Tcp(address.parse().during(text)?)),
            ("vsock", address) => {
                let (cid, port) = address.split_once(':').ok_or_else(wrong)?;
                let cid = match cid {
                    "any" => ANY,
                    _ => cid.parse().during(text)?,
                };
                Ok(Self::Vsock(cid, port.parse().during(text)?))
            }
            ("mux", address) => {
                let (path, port) = address.rsplit_once(':').ok_or_else(wrong)?;
                Ok(Self::Mux(path.into(), port.parse().during(text)?))
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Vsock(cid, port) => write!(f, "vsock:{cid}:{port}"),
            Self::Mux(path, port) => write!(f, "mux:{}:{port}", path.display()),
        }
    }
}

impl Endpoint {
    fn address(&self) -> io::Result<SockAddr> {
        match self {
            Self::Unix(path) | Self::Mux(path, _) => SockAddr::unix(path),
            Self::Tcp(address) => Ok((*address).into()),
            Self::Vsock(cid, port) => Ok(SockAddr::vsock(*cid, *port)),
        }
    }

    fn socket(&self) -> io::Result<Socket> {
        let domain = match self {
            Self::Unix(_) | Self::Mux(..) => Domain::UNIX,
            Self::Tcp(address) => Domain::for_address(*address),
            Self::Vsock(..) => Domain::VSOCK,
        };
        Socket::new(domain, Type::STREAM, None)
    }

    /// What is set on every connection: small packets go out at once, as ssh sets it.
    fn tuned(&self, socket: Socket) -> io::Result<Socket> {
        if let Self::Tcp(_) = self {
            socket.set_tcp_nodelay(true)?;
        }
        Ok(socket)
    }

    /// Connects, and waits for it. On loopback, `number` makes it one of [`CLIENTS`] clients:
    /// who bounds what one may do is not measured by it.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn connect(&self, number: usize) -> io::Result<Socket> {
        if let Self::Mux(path, port) = self {
            let stream =
                vsock::connect(path, *port).map_err(|e| io::Error::other(e.to_string()))?;
            return Ok(OwnedFd::from(stream).into());
        }
        let socket = self.tuned(self.socket()?)?;
        if let Self::Tcp(SocketAddr::V4(to)) = self
            && to.ip().is_loopback()
        {
            let client = (number % CLIENTS) as u8;
            let from = SocketAddrV4::new([127, 0, 1, client + 1].into(), 0);
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&from.into())?;
        }
        socket.connect(&self.address()?)?;
        Ok(socket)
    }

    /// Listens. A Unix socket that lies there is replaced.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn listen(&self) -> io::Result<Socket> {
        if let Self::Mux(..) = self {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if let Self::Unix(path) = self
            && fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        {
            fs::remove_file(path)?;
        }
        let socket = self.socket()?;
        socket.set_reuse_address(true)?;
        socket.bind(&self.address()?)?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    }

    /// Takes a connection that waits at a listener of this endpoint. It does not block.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn accept(&self, listener: &Socket) -> io::Result<Socket> {
        let (socket, _) = listener.accept()?;
        socket.set_nonblocking(true)?;
        self.tuned(socket)
    }
}
