//! Which of many sockets can go on.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What a socket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Something to read, or the end.
    Read,
    /// Room to write.
    Write,
}

impl Want {
    fn of(self, token: u64) -> EpollEvent {
        let flags = match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
        };
        EpollEvent::new(flags, token)
    }
}

/// A set of sockets, each with a token.
pub struct Poll(Epoll);

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Adds a socket. It leaves the set when it is closed.
    ///
    /// # Errors
    ///
    /// If it is in there.
    pub fn add(&self, socket: impl AsFd, token: u64, want: Want) -> io::Result<()> {
        Ok(self.0.add(socket, want.of(token))?)
    }

    /// Changes what a socket waits for.
    ///
    /// # Errors
    ///
    /// If it is not in there.
    pub fn change(&self, socket: impl AsFd, token: u64, want: Want) -> io::Result<()> {
        Ok(self.0.modify(socket, &mut want.of(token))?)
    }

    /// Takes a socket out.
    ///
    /// # Errors
    ///
    /// If it is not in there.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(socket)?)
    }

    /// Waits until some can go on, and puts their tokens into `ready`: none if the time is up.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn wait(&self, limit: Option<Duration>, ready: &mut Vec<u64>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let limit = match limit {
            Some(limit) => EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::MAX),
            None => EpollTimeout::NONE,
        };
        ready.clear();
        let count = loop {
            match self.0.wait(&mut events, limit) {
                Err(Errno::EINTR) => {}
                result => break result?,
            }
        };
        ready.extend(events[..count].iter().map(EpollEvent::data));
        Ok(())
    }
}
