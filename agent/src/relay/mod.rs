//! Bytes both ways between an origin and a service of this guest.
//!
//! [`dial`] connects to the service from the origin's own address. Then one of two pumps moves
//! the bytes: [`sockets`] between two file descriptors (the bridge), [`channel`] between an SSH
//! channel and one (the tunnel), whose [`backlog`] is bounded for a session as a whole.

pub mod backlog;
pub mod channel;
pub mod dial;
pub mod outbox;
pub mod sockets;
