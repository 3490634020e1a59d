//! vmagent keeps a virtual machine reachable over SSH, and tells the truth about it.
//!
//! ```text
//!  host ── AF_VSOCK:22 ──> bridge ─┐                       ┌─> status socket <── vmagent status
//!                                  ├─> relay ──> sshd      │
//!  proxy ── forwarded channel ─────┘   127.0.0.1:22        │
//!    ^                                                     │
//!    └── session (russh) <── tunnel driver <── machine ────┤  each part publishes its own slice
//!                                ^    ^                    │
//!         metadata ── Desired ───┘    └── nudges ──────────┘
//!         (files, credentials, HTTP)      (SIGHUP)
//! ```
//!
//! [`daemon`] starts one task for each part and joins them with `watch` channels; nothing else
//! is shared. The bridge and the tunnel do not know each other, so a dead tunnel cannot hurt the
//! rescue path. Each part writes its own slice of the [`status::model::Status`].

pub mod admission;
mod aside;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod explain;
pub mod host;
pub mod host_keys;
mod identity;
pub mod logging;
mod lookup;
pub mod metadata;
pub mod moment;
pub mod nat;
pub mod news;
pub mod origin;
pub mod print;
pub mod pulse;
pub mod refusals;
pub mod relay;
pub mod report;
pub mod sshd;
pub mod status;
pub mod tunnel;
pub mod unix;
mod use_dns;
mod web;
