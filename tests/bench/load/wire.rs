//! What the load's client and server say to each other.
//!
//! ```text
//!   server  banner ..... ack ........................ count of a sink's bytes
//!   client      wish ......... bytes, or "go" to a source
//! ```
//!
//! The banner makes it an sshd to whoever watches one. The client does not wait for it, as
//! clients of SSH do not. The ack says that the whole way is there, before any time is taken.

/// How the server introduces itself.
pub const BANNER: &[u8] = b"SSH-2.0-bench_load\r\n";

/// The server has read the wish.
pub const ACK: u8 = b'+';

/// The source may begin.
pub const GO: u8 = b'!';

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Send back what comes.
    Echo,
    /// Take so many bytes, and say how many they were.
    Sink(u64),
    /// Wait for [`GO`], and send so many bytes.
    Source(u64),
}

/// A wish on the wire: a letter, and a number in network order.
pub const WISH: usize = 9;

impl Wish {
    /// As it is sent.
    pub fn encode(self) -> [u8; WISH] {
        let (letter, number) = match self {
            Self::Echo => (b'e', 0),
            Self::Sink(bytes) => (b'w', bytes),
            Self::Source(bytes) => (b'r', bytes),
        };
        let mut wire = [letter; WISH];
        wire[1..].copy_from_slice(&number.to_be_bytes());
        wire
    }

    /// As it was received; nothing if it is no wish: a check of sshd says something else.
    pub fn decode(wire: [u8; WISH]) -> Option<Self> {
        let [letter, number @ ..] = wire;
        let number = u64::from_be_bytes(number);
        match letter {
            b'e' => Some(Self::Echo),
            b'w' => Some(Self::Sink(number)),
            b'r' => Some(Self::Source(number)),
            _ => None,
        }
    }
}
