//! The truth about this guest's ways in: one [`model`], a [`board`] on which each part keeps its
//! own slice, a [`server`] that hands it out, and a [`client`] that renders it.

pub mod board;
pub mod client;
pub mod model;
pub mod render;
pub mod server;
mod summary;

#[cfg(test)]
mod tests;
