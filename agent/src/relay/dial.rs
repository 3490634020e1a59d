//! Connects to a service of this guest, from an address that belongs to the origin.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tracing::warn;

use crate::host;
use crate::origin::{Origin, OriginMap, Origins, Party};

/// Loopback answers at once, but for a service whose queue is full: hundreds that come in the same
/// moment are taken as the kernel asks again, after 1, 3 and 7 s. What takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(8);

/// Reaches the services of this guest.
#[derive(Debug, Clone)]
pub struct Dialer {
    map: OriginMap,
    origins: Origins,
    shared: Arc<Shared>,
}

/// The state that all clones of a dialer share.
#[derive(Debug, Default)]
struct Shared {
    /// sshd looks up the name of each client's address.
    looks_up_names: AtomicBool,
    /// The warning about an unusable source address is in the journal already.
    warned: AtomicBool,
}

impl Default for Dialer {
    fn default() -> Self {
        Self::new(Origins::Apart)
    }
}

impl Dialer {
    /// A dialer that uses these source addresses.
    #[must_use]
    pub fn new(origins: Origins) -> Self {
        Self {
            map: OriginMap::default(),
            origins,
            shared: Arc::default(),
        }
    }

    /// The same dialer with other source addresses, for another service.
    #[must_use]
    pub fn with(&self, origins: Origins) -> Self {
        Self {
            origins,
            ..self.clone()
        }
    }

    /// Sets whether sshd looks up the name of each client's address (`UseDNS yes`). If it does, the
    /// kernel chooses the host's source address, 127.0.0.1, whose name is in /etc/hosts: the host's
    /// logins then wait for no name server.
    pub fn set_looks_up_names(&self, looks_up: bool) {
        self.shared.looks_up_names.store(looks_up, Relaxed);
    }

    /// The source address of `origin` for `service`, if the service has an IPv4 address of this
    /// guest. For IPv6 there is none: IPv6 has only one loopback address.
    fn source(&self, service: SocketAddr, origin: &Origin) -> Option<IpAddr> {
        let own = match service.ip() {
            IpAddr::V4(address) if address.is_loopback() => true,
            address @ IpAddr::V4(_) => host::has_address(address),
            IpAddr::V6(_) => false,
        };
        let named = self.shared.looks_up_names.load(Relaxed)
            && matches!(origin.party(), Party::Cid(2) | Party::Unix);
        (own && !named && self.origins == Origins::Apart)
            .then(|| IpAddr::V4(self.map.source(origin)))
    }

    /// Whether `stream` comes from an address that `origin` has for itself.
    #[must_use]
    pub fn is_own(&self, stream: &TcpStream, origin: &Origin) -> bool {
        let own = IpAddr::V4(self.map.source(origin));
        stream.local_addr().is_ok_and(|local| local.ip() == own)
    }

    /// Connects to `service` for `origin`, without Nagle's delay.
    ///
    /// If the kernel can't use the origin's own address, the kernel chooses one: for example, where
    /// the loopback interface has only 127.0.0.1. After a refused connection no other address is
    /// tried, since a firewall may have banned the origin by its address.
    ///
    /// # Errors
    /// The kernel's error, or `TimedOut` after eight seconds.
    pub async fn dial(&self, service: SocketAddr, origin: &Origin) -> io::Result<TcpStream> {
        let Some(source) = self.source(service, origin) else {
            return connect(service, None).await;
        };
        let error = match connect(service, Some(source)).await {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => error,
            result => return result,
        };
        let stream = connect(service, None).await?;
        if !self.shared.warned.swap(true, Relaxed) {
            warn!(
                %source, %service, %error,
                "an origin's own address can't be used; origins share the guest's address, and \
                 sshd's limits and penalties"
            );
        }
        Ok(stream)
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

    #[tokio::test]
    async fn origins_share_the_address_of_the_guest_where_they_are_to_be_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = listener.local_addr().unwrap();
        let apart = Dialer::default();
        for origin in [Origin::Cid(2), Origin::Check, Origin::Named("a".to_owned())] {
            let stream = apart.with(Origins::One).dial(service, &origin).await;
            let seen = stream.unwrap().local_addr().unwrap().ip();
            assert_eq!(seen, IpAddr::from([127, 0, 0, 1]), "{origin}");
        }
    }

    #[tokio::test]
    async fn the_host_alone_comes_from_an_address_with_a_name_where_sshd_looks_names_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = listener.local_addr().unwrap();
        let dialer = Dialer::default();
        dialer.set_looks_up_names(true);
        for (origin, own) in [
            (Origin::Cid(2), false),
            (Origin::Unix, false),
            (Origin::Cid(3), true),
            (Origin::Check, true),
            (Origin::Named("a".to_owned()), true),
        ] {
            let stream = dialer.dial(service, &origin).await.unwrap();
            assert_eq!(dialer.is_own(&stream, &origin), own, "{origin}");
        }
    }
}
