//! A relay in front of a real server that goes wrong after so many of its bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use super::{Door, reset};
use crate::failure::Result;
use crate::netns::Namespace;

/// What a relay does once the bytes that it lets through are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Holds the connection and lets nothing through, as a network that drops all packets.
    Freezes,
    /// Resets the connection.
    Resets,
}

/// A running relay. It ends on drop, with its connections.
pub struct Relay(Door);

impl Relay {
    /// Starts a relay to `server` on a free port of the namespace's loopback. From the server it
    /// lets `bytes` through on each connection; into it, all there is until then.
    ///
    /// # Errors
    ///
    /// If it can't listen.
    pub fn start(
        namespace: &Arc<Namespace>,
        server: SocketAddr,
        bytes: u64,
        fate: Fate,
    ) -> Result<Self> {
        let connecting = Arc::downgrade(namespace);
        Ok(Self(Door::new(
            namespace,
            move |client| match connecting.upgrade() {
                Some(namespace) => relay(client, &namespace.connect(server)?, bytes, fate),
                None => Ok(()),
            },
        )?))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// How many connections it has taken.
    pub fn taken(&self) -> usize {
        self.0.taken()
    }
}

fn relay(mut client: &TcpStream, mut server: &TcpStream, bytes: u64, fate: Fate) -> Result<()> {
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = std::io::copy(&mut &*client, &mut &*server);
            let _ = server.shutdown(Shutdown::Both);
        });
        let mut left = bytes;
        let mut buffer = [0; 4096];
        let outcome = loop {
            let length = match server.read(&mut buffer) {
                Ok(0) | Err(_) => break Ok(()),
                Ok(length) => length.min(usize::try_from(left).unwrap_or(usize::MAX)),
            };
            left -= length as u64;
            if let Err(error) = client.write_all(&buffer[..length]) {
                break Err(error.into());
            }
            if left == 0 && fate == Fate::Resets {
                break reset(client);
            }
        };
        // Lets the other thread go, whose read would keep the connection open.
        if fate == Fate::Resets {
            let _ = client.shutdown(Shutdown::Read);
        }
        outcome
    })
}
