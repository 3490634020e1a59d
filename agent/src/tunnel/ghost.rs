//! Sessions that fell silent: dead to us, while the proxy's sshd may hold our port for their sake
//! until its own keepalive tells it: after one to two minutes as we recommend it, never by default.
//!
//! Nothing can be said to the proxy while the way there is broken; and once the connection is
//! closed here, nobody is left to say it. So the socket is kept, and reset when the next
//! connection to the same address has come about: the old session ends there at once, and frees
//! the port.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;
use tracing::debug;

use crate::host;

/// How many are kept; more than one only if several proxies fall silent in turn.
const KEPT: usize = 4;

/// The sockets of silent sessions.
#[derive(Debug, Clone, Default)]
pub(super) struct Ghosts(Arc<Mutex<Vec<Ghost>>>);

impl Ghosts {
    /// Keeps a connection to `peer`; the oldest goes if there are too many.
    pub(super) fn keep(&self, local: IpAddr, peer: IpAddr, socket: Socket) {
        // The kernel would give it up by itself, without a word to the proxy.
        let _ = socket.set_tcp_user_timeout(Some(Duration::ZERO));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(Ghost {
            local,
            peer,
            socket,
        });
    }

    /// There is a way to `peer` again: ends those that are there. One whose address this guest
    /// does not have now is kept until it has: no packet can leave from it meanwhile.
    pub(super) fn lay_to_rest(&self, peer: IpAddr) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|ghost| ghost.peer != peer || !host::has_address(ghost.local));
    }
}

/// Reset when it is dropped.
#[derive(Debug)]
struct Ghost {
    local: IpAddr,
    peer: IpAddr,
    socket: Socket,
}

impl Drop for Ghost {
    fn drop(&mut self) {
        debug!(peer = %self.peer, "resetting a connection that had fallen silent");
        // To close a socket that lingers for no time at all is to reset it (socket(7)).
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_peer_of_a_ghost_hears_nothing_until_it_is_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let ghosts = Ghosts::default();
        let address = [127, 0, 0, 1].into();
        ghosts.keep(address, address, ours.into());
        ghosts.lay_to_rest([127, 0, 0, 2].into());
        peer.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let quiet = peer.read(&mut [0]).unwrap_err();
        assert_eq!(quiet.kind(), ErrorKind::WouldBlock);
        ghosts.lay_to_rest(address);
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let reset = peer.read(&mut [0]).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    }
}
