//! Whom the bridge lets in, and what it tells the others.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinError;
use tracing::{debug, warn};

use super::Bridge;
use super::connection::{self, Refused};
use super::listener::Arrival;
use super::store::Left;
use crate::admission::Bounds;
use crate::config::Config;
use crate::host::LocalCid;
use crate::relay::sockets::LINGER;
use crate::status::model::{RefusalCount, RefusalReason};

/// How much the bridge takes on, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at the same time, and how fast new ones may come.
    pub open: Bounds,
    /// Of the open ones, those that wait for sshd.
    pub held: usize,
    /// How long one waits for sshd.
    pub hold: Duration,
    /// How long a half-closed one may stand still, see [`LINGER`].
    pub linger: Duration,
    /// How long the open ones may go on after the stop.
    pub grace: Duration,
}

impl Limits {
    /// What `config` asks for, as far as it goes with so many `descriptors` of this process: half
    /// of them are for the bridge, and each connection takes two.
    #[must_use]
    pub fn new(config: &Config, descriptors: usize) -> Self {
        let wanted = usize::from(config.max_connections);
        let total = wanted.min(descriptors / 4);
        if total < wanted {
            warn!(
                "[bridge] max_connections is {wanted}, but with {descriptors} descriptors \
                 (LimitNOFILE=) it can be no more than {total}"
            );
        }
        // Mostly there is the host and nobody else, and it may use all there is. Where others are
        // let in, none of them alone can keep the host out.
        let share = if config.allow_cids.len() > 1 {
            total.div_ceil(2)
        } else {
            total
        };
        let per_origin = config.max_connections_per_origin.map_or(share, usize::from);
        Self {
            open: Bounds {
                total,
                per_origin,
                rate: NonZeroU32::new(config.max_rate),
            },
            held: 128,
            hold: Duration::from_secs(90),
            linger: LINGER,
            grace: Duration::from_secs(5),
        }
    }
}

impl Bridge {
    /// Goes on with a connection that a former agent had let in, whatever the bounds are now.
    pub(super) fn resume(&mut self, left: Left) {
        let Ok(arrival) = Arrival::again(left.origin) else {
            return debug!("a connection has ended while no agent ran");
        };
        let place = self.admission.readmit(&arrival.origin.party());
        let context = Arc::clone(&self.context);
        let Some(service) = left.service else {
            // It waits for sshd, as if it had just come.
            drop(left.slot);
            let served =
                connection::serve(place, context, self.sshd.clone(), arrival, Duration::ZERO);
            return drop(self.connections.spawn(served));
        };
        let (undelivered, slot) = (left.undelivered, left.slot);
        let resumed = connection::resume(place, context, arrival, service, undelivered, slot);
        self.connections.spawn(resumed);
    }

    /// Leads a connection to sshd, or turns it away.
    pub(super) fn take(&mut self, arrival: Arrival) {
        if let Some(cid) = arrival.local_cid {
            self.on_cid(LocalCid::Known(cid));
        }
        if let Some(cid) = arrival.cid().filter(|cid| !self.allow_cids.contains(cid)) {
            let words = format!("[bridge] allow_cids does not have CID {cid}");
            return self.refuse(arrival, RefusalReason::CidNotAllowed, words);
        }
        match self
            .admission
            .admit(&arrival.origin.party(), Instant::now())
        {
            Ok((place, turn)) => {
                let (context, sshd) = (Arc::clone(&self.context), self.sshd.clone());
                let served = connection::serve(place, context, sshd, arrival, turn);
                self.connections.spawn(served);
            }
            Err(reason) => {
                let words = self.words(&arrival, reason);
                self.refuse(arrival, reason, words);
            }
        }
    }

    /// What a client is told that is over a bound.
    fn words(&self, arrival: &Arrival, reason: RefusalReason) -> String {
        let bounds = self.admission.bounds();
        let origin = &arrival.origin;
        match reason {
            RefusalReason::TooManyOpen => format!(
                "too many connections: {} are open ([bridge] max_connections)",
                bounds.total
            ),
            RefusalReason::TooManyOfOrigin => format!(
                "too many connections of {origin}: {} are open \
                 ([bridge] max_connections_per_origin)",
                bounds.per_origin
            ),
            RefusalReason::TooFast => format!(
                "too many new connections of {origin}: over {} a second ([bridge] max_rate)",
                bounds.rate.map_or(0, NonZeroU32::get)
            ),
            RefusalReason::CidNotAllowed
            | RefusalReason::SshdDown
            | RefusalReason::NoDescriptors
            | RefusalReason::Stopping => reason.to_string(),
        }
    }

    /// A connection has ended; perhaps it never got to sshd.
    pub(super) fn on_ended(&mut self, ended: Result<Result<(), Refused>, JoinError>) {
        if let Ok(Err(refused)) = ended {
            self.turn_away(refused);
        }
    }

    fn refuse(&mut self, arrival: Arrival, reason: RefusalReason, words: String) {
        self.turn_away(Refused::new(arrival, reason, words));
    }

    fn turn_away(&mut self, refused: Refused) {
        let Refused {
            client,
            origin,
            reason,
            words,
        } = refused;
        let origin = origin.party();
        if self.refusals.first_of(&origin, reason) {
            warn!(%origin, %reason, "refused a connection: {words}");
        }
        self.slice.update(|bridge| {
            bridge.refused += 1;
            RefusalCount::add(&mut bridge.refusals, &origin, reason);
        });
        self.turned_away.add(client, &words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_origin_may_use_all_and_of_several_none_may() {
        let config = Config::default();
        let bounds = Limits::new(&config, 65_536).open;
        assert_eq!((bounds.total, bounds.per_origin), (1024, 1024));
        let two = Config {
            allow_cids: vec![2, 5],
            ..config.clone()
        };
        assert_eq!(Limits::new(&two, 65_536).open.per_origin, 512);
        let set = Config {
            max_connections_per_origin: Some(100),
            ..two
        };
        assert_eq!(Limits::new(&set, 65_536).open.per_origin, 100);
        // A process that may open little.
        assert_eq!(Limits::new(&config, 1024).open.total, 256);
    }
}
