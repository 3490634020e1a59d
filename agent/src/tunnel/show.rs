//! What the status and the journal say of the machine's state.

use std::time::{Instant, SystemTime};

use tracing::{info, warn};

use super::fault::Fault;
use super::machine::{Input, Machine, Next, Probe, Proof, State};
use crate::explain::Explain;
use crate::metadata::document::TunnelSpec;
use crate::status::board::Slice;
use crate::status::model::{self, ForwardState, ProxyRecord, Timestamp, TunnelState};

/// Which proxy an input speaks against, and with what.
pub(super) fn met(before: &State, input: &Input) -> Option<(usize, Fault)> {
    let fault = match input {
        Input::Scouted(Err(fault)) => return Some((0, fault.clone())),
        Input::Ended(Fault::Stopped) => return None,
        Input::Ended(fault)
        | Input::Refused { fault, .. }
        | Input::Probed(Probe::Failed(fault) | Probe::Partial(fault)) => fault,
        Input::Wanted(_)
        | Input::Granted(_)
        | Input::Probed(Probe::Answered | Probe::Carried | Probe::Untried(_))
        | Input::InUse(_)
        | Input::Scouted(Ok(_))
        | Input::Nudge
        | Input::Woken
        | Input::Tick => return None,
    };
    Some((before.proxy()?, fault.clone()))
}

/// Shows where the machine stands after a step, and tells the journal what is new.
pub(super) fn publish(
    slice: &Slice<model::Tunnel>,
    before: &State,
    met: Option<(usize, Fault)>,
    machine: &Machine,
    spec: Option<&TunnelSpec>,
) {
    let state = machine.state();
    // An attempt that is ended for its slowness has met nothing else.
    let met = met.or_else(|| {
        if let State::Closing {
            then: Next::Retry { proxy, fault },
            ..
        } = state
            && before != state
        {
            return Some((*proxy, fault.clone()));
        }
        None
    });
    // A probe that fails beside a proof is no news.
    let met = met.filter(|(index, _)| {
        let proven = matches!(
            state,
            State::Up {
                proof: Proof::Proven | Proof::Untried(_),
                ..
            }
        );
        !(proven && state.proxy() == Some(*index))
    });
    let names = || {
        spec.into_iter()
            .flat_map(|spec| &spec.proxies)
            .map(ToString::to_string)
    };
    let proxy = state.proxy().and_then(|index| names().nth(index));
    let public_host = state
        .proxy()
        .and_then(|index| spec?.proxies.get(index)?.public_host.clone());
    log(&slice.get().proxies, before, state, met.as_ref(), spec);
    slice.update(|slice| {
        let shown = name(state);
        if slice.state != shown {
            slice.state = shown;
            slice.since = Timestamp::now();
        }
        if !names().eq(slice.proxies.iter().map(|record| record.proxy.clone())) {
            let record = |proxy| ProxyRecord { proxy, fault: None };
            slice.proxies = names().map(record).collect();
        }
        if let Some(proxy) = proxy {
            slice.proxy = Some(proxy);
            slice.public_host = public_host;
        }
        slice.bind = spec.map(|spec| spec.forward.bind.clone());
        slice.port = spec.map(|spec| spec.forward.port).filter(|port| *port != 0);
        slice.proven = false;
        slice.unproven = unproven(slice.unproven.as_ref(), state);
        slice.attempt = machine.attempt();
        slice.next_attempt_at = None;
        match state {
            State::Idle => {
                slice.proxy = None;
                slice.public_host = None;
                slice.forwards.clear();
            }
            State::Up { port, proof, .. } => {
                slice.port = Some(*port);
                slice.proven = *proof == Proof::Proven;
            }
            State::Proving { port, .. } => slice.port = Some(*port),
            State::Waiting { until, .. } => slice.next_attempt_at = Some(wall(*until)),
            State::PortHeld { retry_at, .. } => slice.next_attempt_at = Some(wall(*retry_at)),
            State::Opening { .. } | State::Closing { .. } => {}
        }
        if matches!(
            state,
            State::Waiting { .. } | State::Idle | State::Opening { .. }
        ) {
            slice.round_trip_ms = None;
            for forward in &mut slice.forwards {
                forward.granted = false;
                forward.state = ForwardState::Asking;
            }
        }
        blame(slice, state, met.as_ref());
    });
}

/// Why a tunnel that is up is not proven.
fn unproven(before: Option<&model::Fault>, state: &State) -> Option<model::Fault> {
    let State::Up {
        proof: Proof::Untried(fault) | Proof::Doubtful(fault),
        ..
    } = state
    else {
        return None;
    };
    let mut shown = model::Fault::after(before, fault);
    // It is a reason that lasts, and not met again and again.
    shown.count = 1;
    Some(shown)
}

/// Shows what was met, for the tunnel and for the proxy; a tunnel that is proven, or that nothing
/// speaks against, is without fault.
fn blame(slice: &mut model::Tunnel, state: &State, met: Option<&(usize, Fault)>) {
    if let Some((index, fault)) = met
        && let Some(record) = slice.proxies.get_mut(*index)
    {
        record.fault = Some(model::Fault::after(record.fault.as_ref(), fault));
    }
    match state {
        State::Idle => slice.fault = None,
        State::Up {
            proof: Proof::Proven | Proof::Untried(_),
            proxy,
            ..
        } => {
            slice.fault = None;
            if let Some(record) = slice.proxies.get_mut(*proxy) {
                record.fault = None;
            }
        }
        State::Up {
            proof: Proof::Doubtful(fault),
            ..
        } => {
            let known = slice.fault.as_ref().map(|known| known.code.as_str());
            if met.is_some() || known != Some(fault.code()) {
                slice.fault = Some(model::Fault::after(slice.fault.as_ref(), fault));
            }
        }
        // On the way up, the fault of the last attempt still says why it is not up.
        State::Opening { .. }
        | State::PortHeld { .. }
        | State::Proving { .. }
        | State::Waiting { .. }
        | State::Closing { .. } => {
            if let Some((_, fault)) = met {
                slice.fault = Some(model::Fault::after(slice.fault.as_ref(), fault));
            }
        }
    }
}

fn log(
    known: &[ProxyRecord],
    before: &State,
    after: &State,
    met: Option<&(usize, Fault)>,
    spec: Option<&TunnelSpec>,
) {
    let was_up = |proxy| before.proxy() == Some(proxy) && matches!(before, State::Up { .. });
    if let State::Up {
        port, proof, proxy, ..
    } = after
        && !was_up(*proxy)
        && let Some(spec) = spec
    {
        let name = spec.proxies.get(*proxy).map(tracing::field::display);
        let bind = spec.forward.bind.as_str();
        let proven = *proof == Proof::Proven;
        info!(proxy = name, bind, port, proven, "the tunnel is up");
    }
    if let Some((index, fault)) = met {
        let before = known.get(*index).and_then(|record| record.fault.as_ref());
        if before.is_none_or(|before| before.code != fault.code()) {
            warn!(code = fault.code(), "{fault}. {}", fault.advice());
        }
    }
    if matches!(
        (before, after),
        (State::Up { .. } | State::Closing { .. }, State::Idle)
    ) {
        info!("no tunnel is wanted any more; the port is given back");
    }
}

fn name(state: &State) -> TunnelState {
    match state {
        State::Idle => TunnelState::Off,
        State::Opening { .. } => TunnelState::Opening,
        State::PortHeld { .. } => TunnelState::PortHeld,
        State::Proving { .. } => TunnelState::Proving,
        State::Up { .. } => TunnelState::Up,
        State::Waiting { .. } => TunnelState::Waiting,
        State::Closing { .. } => TunnelState::Closing,
    }
}

fn wall(then: Instant) -> Timestamp {
    Timestamp(SystemTime::now() + then.saturating_duration_since(Instant::now()))
}
