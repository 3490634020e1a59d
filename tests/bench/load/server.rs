//! `bench-load serve`: echoes, sinks and sources, for thousands of connections at a time.
//!
//! Two threads, so that a byte that is to come back does not wait for those that are sunk: one
//! takes connections, reads their wishes and echoes; the other moves bytes.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use harness::failure::{Context, Result};
use socket2::Socket;

use crate::CHUNK;
use crate::endpoint::Endpoint;
use crate::poll::{Poll, Want};
use crate::wire::{ACK, BANNER, GO, WISH, Wish};

const LISTENER: u64 = 0;

/// Serves until it is killed.
///
/// # Errors
///
/// If it can't listen, or has no more descriptors.
pub fn serve(endpoint: &Endpoint) -> Result<()> {
    let listener = endpoint
        .listen()
        .during(format!("listening on {endpoint}"))?;
    listener.set_nonblocking(true)?;
    let bulk = Arc::new(Bulk {
        poll: Poll::new()?,
        movers: Mutex::default(),
    });
    let second = Arc::clone(&bulk);
    thread::spawn(move || second.run());
    let poll = Poll::new()?;
    poll.add(&listener, LISTENER, Want::Read)?;
    let mut talks = HashMap::new();
    let mut ready = Vec::new();
    let mut next = LISTENER;
    loop {
        poll.wait(None, &mut ready)?;
        for token in &ready {
            if *token == LISTENER {
                // One at a time: those that talk already get their turn in between.
                match endpoint.accept(&listener) {
                    Ok(mut socket) => {
                        next += 1;
                        poll.add(&socket, next, Want::Read)?;
                        // A new connection has room for it, unless its client is gone.
                        let _ = socket.write(BANNER);
                        talks.insert(next, Talk::new(socket));
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
                    Err(e) => return Err(e.into()),
                }
            } else if let Some(mut talk) = talks.remove(token) {
                match talk.go_on() {
                    Ok(Next::Talk) => {
                        talks.insert(*token, talk);
                    }
                    Ok(Next::Move(way)) => {
                        poll.remove(&talk.socket)?;
                        bulk.take(*token, talk.socket, way)?;
                    }
                    // The client has broken off, or was no client of ours.
                    Err(_) => {}
                }
            }
        }
    }
}

/// A connection that has not said its whole wish, or wants its bytes back.
struct Talk {
    socket: Socket,
    heard: Vec<u8>,
    echoes: bool,
}

enum Next {
    Talk,
    Move(Way),
}

/// What a connection moves, and how many bytes there are left.
#[derive(Clone, Copy)]
enum Way {
    In { all: u64, left: u64 },
    WaitForGo { all: u64 },
    Out { left: u64 },
    Done,
}

impl Talk {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            heard: Vec::new(),
            echoes: false,
        }
    }

    fn go_on(&mut self) -> io::Result<Next> {
        let mut buffer = [0; 4096];
        // No more than the wish: what follows it belongs to what it asks for.
        let room = if self.echoes {
            buffer.len()
        } else {
            WISH - self.heard.len()
        };
        let heard = match self.socket.read(&mut buffer[..room]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => &buffer[..length],
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Next::Talk),
            Err(e) => return Err(e),
        };
        if self.echoes {
            // As much as is asked of it: one that does not read its echo is broken off.
            self.socket.write_all(heard)?;
            return Ok(Next::Talk);
        }
        self.heard.extend_from_slice(heard);
        let Ok(wish) = <[u8; WISH]>::try_from(self.heard.as_slice()) else {
            return Ok(Next::Talk);
        };
        let wish = Wish::decode(wish).ok_or(ErrorKind::InvalidData)?;
        self.socket.write_all(&[ACK])?;
        Ok(match wish {
            Wish::Echo => {
                self.heard = Vec::new();
                self.echoes = true;
                Next::Talk
            }
            Wish::Sink(all) => Next::Move(Way::In { all, left: all }),
            Wish::Source(all) => Next::Move(Way::WaitForGo { all }),
        })
    }
}

/// Those that move bytes, which the second thread does.
struct Bulk {
    poll: Poll,
    movers: Mutex<HashMap<u64, Mover>>,
}

struct Mover {
    socket: Socket,
    way: Way,
}

impl Bulk {
    fn take(&self, token: u64, socket: Socket, way: Way) -> io::Result<()> {
        // It has to be there when the first event comes.
        let mut movers = self.movers.lock().unwrap_or_else(PoisonError::into_inner);
        self.poll.add(&socket, token, Want::Read)?;
        movers.insert(token, Mover { socket, way });
        Ok(())
    }

    fn run(&self) {
        let mut buffer = vec![0; CHUNK];
        let mut ready = Vec::new();
        while self.poll.wait(None, &mut ready).is_ok() {
            for token in &ready {
                let mut movers = self.movers.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(mut mover) = movers.remove(token) else {
                    continue;
                };
                drop(movers);
                // Broken off by its client otherwise, which knows.
                if self.go_on(*token, &mut mover, &mut buffer).is_ok() {
                    let mut movers = self.movers.lock().unwrap_or_else(PoisonError::into_inner);
                    movers.insert(*token, mover);
                }
            }
        }
    }

    fn go_on(&self, token: u64, mover: &mut Mover, buffer: &mut [u8]) -> io::Result<()> {
        let Mover { socket, way } = mover;
        let room = |left: u64| usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let moved = match *way {
            Way::In { left, .. } => socket.read(&mut buffer[..room(left)]),
            Way::Out { left } => socket.write(&buffer[..room(left)]),
            Way::WaitForGo { .. } | Way::Done => socket.read(&mut buffer[..1]),
        };
        let moved = match moved {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(moved) => moved as u64,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        match way {
            Way::In { all, left } => {
                *left -= moved;
                if *left == 0 {
                    socket.write_all(&all.to_be_bytes())?;
                    *way = Way::Done;
                }
            }
            Way::Out { left } => {
                *left -= moved;
                if *left == 0 {
                    self.poll.change(&*socket, token, Want::Read)?;
                    *way = Way::Done;
                }
            }
            Way::WaitForGo { all } if buffer[0] == GO => {
                self.poll.change(&*socket, token, Want::Write)?;
                *way = Way::Out { left: *all };
            }
            // More than was announced.
            Way::WaitForGo { .. } | Way::Done => return Err(ErrorKind::InvalidData.into()),
        }
        Ok(())
    }
}
