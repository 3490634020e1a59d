//! What the status and the journal say of the machine's state.

use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::fault::Fault;
use super::machine::{Machine, Next, Proof, State};
use crate::explain::Explain;
use crate::metadata::document::TunnelSpec;
use crate::status::board::Slice;
use crate::status::model::{self, Timestamp, TunnelState};

/// Shows where the machine stands after a step, and tells the journal what is new.
pub(super) fn publish(
    slice: &Slice<model::Tunnel>,
    before: &State,
    machine: &Machine,
    spec: Option<&TunnelSpec>,
) {
    let state = machine.state();
    let (shown, proxy, fault) = view(state);
    let now = Instant::now();
    let proxy = proxy
        .and_then(|index| spec?.proxies.get(index))
        .map(ToString::to_string);
    let known = slice.get().fault;
    log(known.as_ref(), before, state, proxy.as_deref(), spec);
    slice.update(|slice| {
        if slice.state != shown {
            slice.state = shown;
            slice.since = Timestamp::now();
        }
        if let Some(proxy) = proxy {
            slice.proxy = Some(proxy);
        }
        slice.bind = spec.map(|spec| spec.forward.bind.clone());
        slice.port = spec.map(|spec| spec.forward.port).filter(|port| *port != 0);
        slice.proven = false;
        slice.attempt = machine.attempt();
        slice.next_attempt_at = None;
        match state {
            State::Idle => {
                slice.proxy = None;
                slice.forwards.clear();
            }
            State::Up { port, proof, .. } => {
                slice.port = Some(*port);
                slice.proven = *proof == Proof::Proven;
            }
            State::Proving { port, .. } => slice.port = Some(*port),
            State::Waiting { until, .. } => slice.next_attempt_at = Some(wall(now, *until)),
            State::PortHeld { retry_at, .. } => {
                slice.next_attempt_at = Some(wall(now, *retry_at));
            }
            State::Opening { .. } | State::Closing { .. } => {}
        }
        if matches!(
            state,
            State::Waiting { .. } | State::Idle | State::Opening { .. }
        ) {
            slice.round_trip_ms = None;
            slice
                .forwards
                .iter_mut()
                .for_each(|forward| forward.granted = false);
        }
        match (fault, state) {
            (Some(fault), State::Closing { .. }) if has_code(slice.fault.as_ref(), fault) => {}
            // Each refusal counts once, however often it is shown.
            (Some(fault), _) if before != state => {
                slice.fault = Some(model::Fault::after(slice.fault.as_ref(), fault));
            }
            (Some(_), _) => {}
            // On the way up, the fault of the last attempt still says why it is not up.
            (None, State::Opening { .. } | State::Proving { .. } | State::Closing { .. }) => {}
            (None, _) => slice.fault = None,
        }
    });
}

fn log(
    known: Option<&model::Fault>,
    before: &State,
    after: &State,
    proxy: Option<&str>,
    spec: Option<&TunnelSpec>,
) {
    let proxy = proxy.unwrap_or_default();
    let bind = spec.map_or("", |spec| spec.forward.bind.as_str());
    let (_, _, fault) = view(after);
    if let (State::Up { port, proof, .. }, false) = (after, matches!(before, State::Up { .. })) {
        let proven = *proof == Proof::Proven;
        info!(proxy, bind, port, proven, "the tunnel is up");
    }
    if let Some(fault) = fault.filter(|fault| !has_code(known, fault)) {
        warn!(code = fault.code(), "{fault}. {}", fault.advice());
    }
    if matches!(
        (before, after),
        (State::Up { .. } | State::Closing { .. }, State::Idle)
    ) {
        info!("no tunnel is wanted any more; the port is given back");
    }
}

/// What the status shows of a state: its name, the proxy, the fault.
fn view(state: &State) -> (TunnelState, Option<usize>, Option<&Fault>) {
    match state {
        State::Idle => (TunnelState::Off, None, None),
        State::Opening { proxy, .. } => (TunnelState::Opening, Some(*proxy), None),
        State::PortHeld { proxy, fault, .. } => (TunnelState::PortHeld, Some(*proxy), Some(fault)),
        State::Proving { proxy, fault, .. } => (TunnelState::Proving, Some(*proxy), fault.as_ref()),
        State::Up { proxy, proof, .. } => {
            let fault = match proof {
                Proof::Partial(fault) => Some(fault),
                Proof::Proven | Proof::Forbidden => None,
            };
            (TunnelState::Up, Some(*proxy), fault)
        }
        State::Waiting { fault, .. } => (TunnelState::Waiting, None, Some(fault)),
        State::Closing { then, .. } => {
            let fault = match then {
                Next::Retry(fault) => Some(fault),
                Next::Rest | Next::Reopen => None,
            };
            (TunnelState::Closing, None, fault)
        }
    }
}

fn has_code(shown: Option<&model::Fault>, fault: &Fault) -> bool {
    shown.is_some_and(|shown| shown.code == fault.code())
}

fn wall(now: Instant, then: Instant) -> Timestamp {
    let ahead: Duration = then.saturating_duration_since(now);
    Timestamp(SystemTime::now() + ahead)
}
