//! The packets of a channel that its service has not accepted yet.

use std::collections::VecDeque;
use std::io::{self, ErrorKind::WouldBlock, IoSlice};

use bytes::{Buf, Bytes};
use tokio::net::tcp::OwnedWriteHalf;

/// Bytes on their way to a service.
#[derive(Default)]
pub(super) struct Queue {
    packets: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    /// Appends a packet.
    pub(super) fn push(&mut self, packet: Bytes) {
        if !packet.is_empty() {
            self.bytes += packet.len();
            self.packets.push_back(packet);
        }
    }

    /// How many bytes there are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Writes what the service accepts without blocking, and returns the number of bytes.
    pub(super) fn write(&mut self, service: &OwnedWriteHalf) -> io::Result<usize> {
        let mut total = 0;
        while !self.is_empty() {
            let slices: Vec<IoSlice<'_>> = self
                .packets
                .iter()
                .take(16)
                .map(|packet| IoSlice::new(packet))
                .collect();
            match service.try_write_vectored(&slices) {
                Ok(written) => {
                    self.advance(written);
                    total += written;
                }
                Err(error) if error.kind() == WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(packet) = self.packets.front_mut() {
            if written < packet.len() {
                packet.advance(written);
                return;
            }
            written -= packet.len();
            self.packets.pop_front();
        }
    }
}
