//! Starts, drives and cleans up the real peers that the tests need.

pub mod agent;
pub mod boot;
pub mod caller;
pub mod control;
pub mod failure;
pub mod guest;
pub mod image;
mod launch;
pub mod metadata;
pub mod netns;
pub mod openssh;
pub mod package;
pub mod paths;
pub mod pid1;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod rootfs;
mod saved;
pub mod scene;
pub mod seed;
pub mod snapshot;
pub mod ssh;
pub mod vsock;
pub mod wait;
pub mod world;
