//! The forwards beside the one to sshd: each is asked for, granted or refused for itself.

use std::time::Instant;

use super::fault::{Fault, Pace};
use super::timing::Timing;
use crate::metadata::document::ServiceForward;
use crate::status::model::{self, ForwardState};

/// The services of one session.
pub(super) struct Services {
    list: Vec<Entry>,
    timing: Timing,
}

struct Entry {
    forward: ServiceForward,
    state: ForwardState,
    /// When to ask again for a port that is held.
    retry_at: Option<Instant>,
    /// How it was refused first; the reason stays the same for the life of a session.
    refusal: Option<Fault>,
    shown: Option<model::Fault>,
}

impl Services {
    /// All of them are about to be asked for.
    pub(super) fn new(forwards: Vec<ServiceForward>, timing: Timing) -> Self {
        let entry = |forward| Entry {
            forward,
            state: ForwardState::Asking,
            retry_at: None,
            refusal: None,
            shown: None,
        };
        Self {
            list: forwards.into_iter().map(entry).collect(),
            timing,
        }
    }

    /// All of them, with their places.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &ServiceForward)> {
        self.list.iter().map(|entry| &entry.forward).enumerate()
    }

    /// How this one was refused before.
    pub(super) fn refusal(&self, index: usize) -> Option<Fault> {
        self.list.get(index)?.refusal.clone()
    }

    /// Takes the proxy's answer for one of them.
    pub(super) fn answered(&mut self, now: Instant, index: usize, answer: Result<u16, Fault>) {
        let Some(entry) = self.list.get_mut(index) else {
            return;
        };
        entry.retry_at = None;
        match answer {
            Ok(_) => {
                entry.state = ForwardState::Up;
                entry.refusal = None;
                entry.shown = None;
            }
            Err(fault) => {
                let held = fault.pace() == Pace::Soon;
                let (_, late) = self.timing.port_held;
                entry.retry_at = held.then(|| now + late.mul_f64(0.5 + 0.5 * fastrand::f64()));
                entry.state = if held {
                    ForwardState::PortHeld
                } else {
                    ForwardState::Denied
                };
                entry.shown = Some(model::Fault::after(entry.shown.as_ref(), &fault));
                entry.refusal = Some(fault);
            }
        }
    }

    /// The next one that is due to be asked for again; it is not due any more after that.
    pub(super) fn due(&mut self, now: Instant) -> Option<(usize, ServiceForward)> {
        let due = |entry: &Entry| entry.retry_at.is_some_and(|at| at <= now);
        let (index, entry) = self
            .list
            .iter_mut()
            .enumerate()
            .find(|(_, entry)| due(entry))?;
        entry.retry_at = None;
        Some((index, entry.forward.clone()))
    }

    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.list.iter().filter_map(|entry| entry.retry_at).min()
    }

    /// Whether one of them is granted.
    pub(super) fn any_up(&self) -> bool {
        self.list
            .iter()
            .any(|entry| entry.state == ForwardState::Up)
    }

    /// What the status shows of them.
    pub(super) fn show(&self) -> Vec<model::Forward> {
        let show = |entry: &Entry| model::Forward {
            bind: entry.forward.at.bind.clone(),
            port: entry.forward.at.port,
            to: entry.forward.to.to_string(),
            state: entry.state,
            granted: entry.state == ForwardState::Up,
            fault: entry.shown.clone(),
            refused: 0,
            refusal: None,
        };
        self.list.iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metadata::document::RemoteForward;
    use crate::origin::Origins;

    fn forward(port: u16) -> ServiceForward {
        ServiceForward {
            at: RemoteForward {
                bind: "127.0.0.1".to_owned(),
                port,
            },
            to: ([127, 0, 0, 1], 80).into(),
            origins: Origins::One,
        }
    }

    fn held(port: u16) -> Fault {
        Fault::PortHeld {
            proxy: "proxy:22".to_owned(),
            bind: "127.0.0.1".to_owned(),
            port,
            detail: "",
        }
    }

    #[test]
    fn a_held_port_is_asked_for_again_and_a_denied_one_is_not() {
        let now = Instant::now();
        let mut services =
            Services::new(vec![forward(1), forward(2), forward(3)], Timing::default());
        assert_eq!(services.all().count(), 3);
        services.answered(now, 0, Ok(1));
        services.answered(now, 1, Err(held(2)));
        let denied = Fault::ForwardDenied {
            proxy: "proxy:22".to_owned(),
            bind: "127.0.0.1".to_owned(),
            port: 3,
        };
        services.answered(now, 2, Err(denied));
        assert!(services.any_up());
        let states: Vec<_> = services.show().iter().map(|shown| shown.state).collect();
        use ForwardState::{Denied, PortHeld, Up};
        assert_eq!(states, [Up, PortHeld, Denied]);
        let due = services.deadline().unwrap();
        assert!(due > now && due <= now + Duration::from_secs(5));
        assert_eq!(services.due(now), None);
        assert_eq!(services.due(due), Some((1, forward(2))));
        assert_eq!(services.due(due), None, "it has been asked for");
        services.answered(due, 1, Err(held(2)));
        assert_eq!(services.show()[1].fault.as_ref().unwrap().count, 2);
        services.answered(due, 1, Ok(2));
        assert_eq!(services.show()[1].fault, None);
        assert_eq!(services.deadline(), None);
    }
}
