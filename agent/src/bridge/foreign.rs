//! Where another program has the port: whether it leads to an SSH server as well.

use std::io;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::VMADDR_CID_LOCAL;
use socket2::{Domain, SockAddr, Type};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::fault::Fault;
use crate::config::Listen;
use crate::relay::sockets::Socket;
use crate::sshd::{Reason, read_banner};

/// To connect, which takes no time where it is possible at all.
const CONNECT: Duration = Duration::from_secs(2);
/// To read the banner: an `sshd -i` has to start first.
const BANNER: Duration = Duration::from_secs(5);

/// What is known of another's listener.
#[derive(Debug)]
pub(super) enum Proof {
    /// It is being tried.
    Pending,
    /// An SSH banner has been read through it.
    Banner,
    /// It can't be tried from inside this guest, for this reason.
    Impossible(String),
    /// It was tried, and does not lead to an SSH server.
    Failed(String),
}

impl Proof {
    /// What people should know of the listener on `listen`.
    pub(super) fn fault(&self, listen: &Listen) -> Option<Fault> {
        let listen = listen.clone();
        match self {
            Self::Pending => None,
            Self::Banner => Some(Fault::Served(listen)),
            Self::Impossible(why) => Some(Fault::Untried {
                listen,
                why: why.clone(),
            }),
            Self::Failed(why) => Some(Fault::Taken {
                listen,
                why: why.clone(),
            }),
        }
    }
}

/// Connects to whoever listens there, and reads how they introduce themselves.
pub(super) async fn prove(listen: &Listen) -> Proof {
    let socket = match timeout(CONNECT, connect(listen)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Proof::Impossible(error.to_string()),
        Err(_) => return Proof::Impossible("the connection takes too long".to_owned()),
    };
    match read_banner(&mut { socket }, BANNER).await {
        Ok(_) => Proof::Banner,
        Err(Reason::NotSsh(said)) => {
            Proof::Failed(format!("it is no SSH server: it says \"{said}\""))
        }
        Err(Reason::Silent(_)) => Proof::Failed("it says nothing".to_owned()),
        Err(Reason::NoBanner(_) | Reason::Down(_) | Reason::Stranger(_)) => {
            Proof::Failed("it closes the connection before any SSH banner".to_owned())
        }
    }
}

async fn connect(listen: &Listen) -> io::Result<Socket> {
    match listen {
        Listen::Vsock(port) => {
            let socket = socket2::Socket::new(Domain::VSOCK, Type::STREAM.nonblocking(), None)?;
            // Needs the loopback transport, vsock_loopback: without it the kernel says ENODEV.
            match socket.connect(&SockAddr::vsock(VMADDR_CID_LOCAL, *port)) {
                Err(e) if e.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
                result => result?,
            }
            let socket = Socket::new(socket)?;
            socket.connected().await?;
            Ok(socket)
        }
        Listen::Unix(path) => UnixStream::connect(path).await?.try_into(),
        Listen::Off => Err(io::ErrorKind::NotConnected.into()),
    }
}
