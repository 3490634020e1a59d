//! Connects to a service of this guest, from an address that belongs to the origin.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::origin::{Origin, OriginMap};

/// Loopback answers at once, but for a service whose queue is full: hundreds that come in the same
/// moment are taken as the kernel asks again, after 1, 3 and 7 s. What takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(8);

/// Reaches the services of this guest.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    origins: OriginMap,
}

impl Dialer {
    /// The address under which `service` will see `origin`.
    ///
    /// Only a service in 127.0.0.0/8 can be reached from there; any other sees this guest.
    #[must_use]
    pub fn source(&self, service: SocketAddr, origin: &Origin) -> Option<IpAddr> {
        match service.ip() {
            IpAddr::V4(address) if address.is_loopback() => {
                Some(IpAddr::V4(self.origins.source(origin)))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// Connects to `service` for `origin`; small packets are sent at once.
    ///
    /// # Errors
    /// What the kernel says, or `TimedOut` after eight seconds.
    pub async fn dial(&self, service: SocketAddr, origin: &Origin) -> io::Result<TcpStream> {
        let socket = if service.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_nodelay(true)?;
        if let Some(source) = self.source(service, origin) {
            // The port is chosen at connect: ports of closed connections are usable again at once.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(SocketAddr::new(source, 0))?;
        }
        timeout(DEADLINE, socket.connect(service))
            .await
            .map_err(io::Error::from)?
    }
}
