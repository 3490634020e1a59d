//! The reverse tunnel: one SSH session to a proxy that holds a remote forward to our sshd.
//!
//! ```text
//!              wanted, news, tick
//!                      │
//!   driver ──> machine ┴──> open, close, request, probe ──> session ──> dial, connect, login
//!      ^           └──────> scout, switch ──> sessions         │        requests, refusal
//!      │                                                       │        channels, probe
//!      └──── granted, refused, probed, ended ──────────────────┘
//! ```
//!
//! [`machine`] decides and knows no I/O; [`driver`] feeds it and carries its orders out;
//! [`show`] says where it stands; [`session`] is one SSH session from dial to death by a
//! [`plan`], [`live`] the wires to it, and [`sessions`] those that there are. The names of what can go wrong are in [`fault`], all
//! durations in [`timing`].

mod algorithms;
pub mod backoff;
mod channels;
mod connect;
mod dial;
pub mod driver;
mod evidence;
pub mod fault;
mod ghost;
mod greeting;
mod handler;
mod keepalive;
mod live;
mod login;
pub mod machine;
mod plan;
mod probe;
mod refusal;
mod scout;
mod services;
mod session;
mod sessions;
mod show;
mod tcp;
pub mod timing;
mod vitals;
mod wire;
