//! Connections through a forward that the service behind it does not take.

use std::io;

use thiserror::Error;

use crate::explain::Explain;
use crate::sshd::Address;
use crate::status::model::{Fault, Forward};

/// Why a connection through a forward did not reach its service.
#[derive(Debug, Error)]
#[error("{to}, the service behind port {port} of the proxy, did not take a connection: {error}")]
pub(super) struct Unanswered<'a> {
    pub(super) to: &'a Address,
    pub(super) port: u32,
    pub(super) error: &'a io::Error,
}

impl Explain for Unanswered<'_> {
    fn code(&self) -> &'static str {
        if self.error.kind() == io::ErrorKind::ConnectionRefused {
            "service-refused"
        } else {
            "service-unreachable"
        }
    }

    fn advice(&self) -> String {
        let to = self.to;
        format!(
            "Start the service in this VM (ss -ltnp shows what listens), or correct \"to: {to}\" in \
             the tunnel document."
        )
    }
}

impl Unanswered<'_> {
    /// Counts the failure in the forward of its connection.
    pub(super) fn count(&self, forwards: &mut [Forward]) {
        for forward in through(forwards, self.to, self.port) {
            forward.refused += 1;
            forward.refusal = Some(Fault::after(forward.refusal.as_ref(), self));
        }
    }
}

/// Clears the fault of a forward whose service took a connection.
pub(super) fn answered(forwards: &mut [Forward], to: &Address, port: u32) {
    for forward in through(forwards, to, port) {
        forward.refusal = None;
    }
}

fn through<'a>(
    forwards: &'a mut [Forward],
    to: &Address,
    port: u32,
) -> impl Iterator<Item = &'a mut Forward> + use<'a> {
    let to = to.to_string();
    let mine = move |forward: &&mut Forward| forward.to == to && u32::from(forward.port) == port;
    forwards.iter_mut().filter(mine)
}
