//! A server that knows no SSH, and says to each connection what it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Door, reset};
use crate::failure::Result;
use crate::netns::Namespace;

/// What a server does with a connection.
#[derive(Debug, Clone)]
pub enum Script {
    /// Says this, and from then on nothing, but holds the connection.
    Holds(Vec<u8>),
    /// Says this and closes.
    Leaves(Vec<u8>),
    /// Says this again and again, as fast as it is taken.
    Repeats(Vec<u8>),
    /// Says this, one byte a second.
    Trickles(Vec<u8>),
    /// Resets the connection at the first word.
    Resets,
}

/// A running server. It ends on drop, with its connections.
pub struct Raw(Door);

impl Raw {
    /// Starts a server on a free port of the namespace's loopback.
    ///
    /// # Errors
    ///
    /// If it can't listen.
    pub fn start(namespace: &Namespace, script: Script) -> Result<Self> {
        Ok(Self(Door::new(namespace, move |stream| {
            script.play(stream)
        })?))
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

impl Script {
    fn play(&self, mut stream: &TcpStream) -> Result<()> {
        match self {
            Self::Holds(text) => {
                stream.write_all(text)?;
                hold(stream)
            }
            Self::Leaves(text) => {
                stream.write_all(text)?;
                stream.shutdown(Shutdown::Write)?;
                // Closed with something unread, the text might never arrive.
                hold(stream)
            }
            Self::Repeats(text) => loop {
                stream.write_all(text)?;
            },
            Self::Trickles(text) => {
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                for byte in text {
                    stream.write_all(&[*byte])?;
                    pause(stream)?;
                }
                stream.set_read_timeout(None)?;
                hold(stream)
            }
            Self::Resets => {
                let _ = stream.read(&mut [0; 4096])?;
                reset(stream)
            }
        }
    }
}

/// Until the other side leaves.
fn hold(mut stream: &TcpStream) -> Result<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored)? > 0 {}
    Ok(())
}

/// For as long as the stream's read timeout, unless the other side leaves.
fn pause(mut stream: &TcpStream) -> Result<()> {
    let mut ignored = [0; 4096];
    loop {
        match stream.read(&mut ignored) {
            Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
