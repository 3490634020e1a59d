//! The promises of vmagent, each proven against real peers.

mod bad_input;
mod bridge;
mod cloud_init;
mod failover;
mod fleet;
mod guest_faults;
mod guest_login;
mod guest_package;
mod guest_sources;
mod guest_tunnel;
mod heals;
mod hostile;
mod hostile_channels;
mod images;
mod local_sshd;
mod news;
mod outlive;
mod packages;
mod refusals;
mod resources;
mod stall;
mod status;
mod transfer;
mod trust;
mod tunnel;
mod units;
