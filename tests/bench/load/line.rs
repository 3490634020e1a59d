//! The client's end of one connection.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::time::Duration;

use harness::failure::{Context, Failure, Result};
use socket2::Socket;

use crate::endpoint::Endpoint;
use crate::wire::{ACK, BANNER, Wish};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many connections are asked for before the first of them is there. Those that are in
/// between wait in a listener's queue, and sshd's has 128 places.
const AHEAD: usize = 64;

/// A connection whose wish has been sent.
pub struct Line {
    /// The connection. It blocks, for [`PATIENCE`] at most.
    pub socket: Socket,
}

impl Line {
    /// Connects without a word, as the `number`th of all.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn connect(endpoint: &Endpoint, number: usize) -> Result<Self> {
        let socket = endpoint.connect(number).during("connecting")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket })
    }

    /// Connects as the `number`th of all, and says what for.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn ask(endpoint: &Endpoint, number: usize, wish: Wish) -> Result<Self> {
        let mut line = Self::connect(endpoint, number)?;
        line.socket.write_all(&wish.encode()).during("asking")?;
        Ok(line)
    }

    /// Waits for the server's first byte.
    ///
    /// # Errors
    ///
    /// If none comes.
    pub fn first_byte(&mut self) -> Result<()> {
        let byte = self.read::<1>("waiting for the first byte")?;
        if byte == BANNER[..1] {
            return Ok(());
        }
        // Whoever turns a connection away says why.
        let mut words = byte.to_vec();
        let _ = (&self.socket).take(200).read_to_end(&mut words);
        expect(&words, BANNER)
    }

    /// Waits until the server has heard the wish.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn answered(&mut self) -> Result<()> {
        self.first_byte()?;
        let heard = self.read::<{ BANNER.len() }>("waiting for an answer")?;
        let (banner, answer) = heard.split_at(BANNER.len() - 1);
        expect(banner, &BANNER[1..])?;
        expect(answer, &[ACK])
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    ///
    /// If they don't come.
    pub fn read<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes).during(what)?;
        Ok(bytes)
    }

    /// Sends a byte there and back.
    ///
    /// # Errors
    ///
    /// If it does not come back.
    pub fn echo(&mut self, byte: u8) -> Result<()> {
        self.socket.write_all(&[byte])?;
        let back = self.read::<1>("waiting for the echo")?;
        expect(&back, &[byte])
    }
}

fn expect(heard: &[u8], wanted: &[u8]) -> Result<()> {
    if heard == wanted {
        return Ok(());
    }
    let (heard, wanted) = (heard.escape_ascii(), wanted.escape_ascii());
    Err(Failure::new(format!("heard \"{heard}\", not \"{wanted}\"")))
}

/// Makes so many connections, a few at a time, and calls `f` with each once it is there.
///
/// # Errors
///
/// If one is not made, or those of `f`.
pub fn make(
    endpoint: &Endpoint,
    count: usize,
    wish: Wish,
    mut f: impl FnMut(Line) -> Result<()>,
) -> Result<()> {
    let mut ahead = VecDeque::new();
    for number in 0..count + AHEAD {
        let line = if number < count {
            ahead.push_back(
                Line::ask(endpoint, number, wish).during(format!("connection {number}"))?,
            );
            if ahead.len() < AHEAD {
                continue;
            }
            ahead.pop_front()
        } else {
            ahead.pop_front()
        };
        if let Some(mut line) = line {
            line.answered().during("a connection")?;
            f(line)?;
        }
    }
    Ok(())
}
