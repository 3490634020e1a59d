//! Connects to a service of this guest, from an address that belongs to the origin.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tracing::debug;

use crate::host;
use crate::origin::{Origin, OriginMap};

/// Loopback answers at once, but for a service whose queue is full: hundreds that come in the same
/// moment are taken as the kernel asks again, after 1, 3 and 7 s. What takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(8);

/// Reaches the services of this guest.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    origins: OriginMap,
    sshd: Option<SocketAddr>,
}

impl Dialer {
    /// A dialer for a guest whose sshd is expected at `sshd`.
    #[must_use]
    pub fn new(sshd: SocketAddr) -> Self {
        Self {
            origins: OriginMap::default(),
            sshd: Some(sshd),
        }
    }

    /// The address from which `origin` reaches `service`, where it can have one of its own: on
    /// 127.0.0.0/8, and on another IPv4 address of this guest where sshd listens. Another service
    /// there may go by the guest's own address. IPv6 has one loopback address only.
    fn source(&self, service: SocketAddr, origin: &Origin) -> Option<IpAddr> {
        let own = match service.ip() {
            IpAddr::V4(address) if address.is_loopback() => true,
            address @ IpAddr::V4(_) => self.sshd == Some(service) && host::has_address(address),
            IpAddr::V6(_) => false,
        };
        own.then(|| IpAddr::V4(self.origins.source(origin)))
    }

    /// Whether `stream` comes from an address that `origin` has for itself.
    #[must_use]
    pub fn is_own(&self, stream: &TcpStream, origin: &Origin) -> bool {
        let own = IpAddr::V4(self.origins.source(origin));
        stream.local_addr().is_ok_and(|local| local.ip() == own)
    }

    /// Connects to `service` for `origin`; small packets are sent at once. Where the origin can't
    /// have its own address, as on a loopback interface with 127.0.0.1 alone, it shares this
    /// guest's: a way in is worth more than one that is told apart.
    ///
    /// # Errors
    /// What the kernel says, or `TimedOut` after eight seconds.
    pub async fn dial(&self, service: SocketAddr, origin: &Origin) -> io::Result<TcpStream> {
        let source = self.source(service, origin);
        match connect(service, source).await {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable && source.is_some() => {
                debug!(?source, %service, "can't be used; connecting without it");
                connect(service, None).await
            }
            result => result,
        }
    }
}

async fn connect(service: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if service.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen at connect: ports of closed connections are usable again at once.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    timeout(DEADLINE, socket.connect(service))
        .await
        .map_err(io::Error::from)?
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_origin_has_its_own_address_where_the_service_is_on_ipv4() {
        for (bind, apart) in [
            ("127.0.0.1:0", true),
            ("127.0.0.9:0", true),
            ("[::1]:0", false),
        ] {
            let listener = TcpListener::bind(bind).await.unwrap();
            let dialer = Dialer::default();
            let service = listener.local_addr().unwrap();
            let stream = dialer.dial(service, &Origin::Cid(2)).await.unwrap();
            assert_eq!(dialer.is_own(&stream, &Origin::Cid(2)), apart, "{bind}");
            assert!(!dialer.is_own(&stream, &Origin::Check));
        }
    }
}
