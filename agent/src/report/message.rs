//! What is told. Pure.

use serde::Serialize;

use crate::status::model::{ReportTarget, Status, TunnelDecision, TunnelState};

/// The version of the form of a report.
const SCHEMA: u32 = 1;

/// What there is to tell one of those who are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Message {
    /// The host keys, each as a kind and its base64.
    HostKeys(Vec<String>),
    /// All of it.
    Whole(Whole),
}

/// The body of a report to `[report] url`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Whole {
    schema: u32,
    instance_id: Option<String>,
    host_name: Option<String>,
    user: String,
    host_keys: Vec<String>,
    tunnel: Tunnel,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Tunnel {
    state: State,
    /// The fingerprint of the key that the tunnel logs in with.
    key: Option<String>,
    proxy: Option<String>,
    public_host: Option<String>,
    bind: Option<String>,
    port: Option<u16>,
    proven: bool,
}

/// Whether the tunnel can be used. What it does to get there is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Up,
    Down,
    Off,
}

impl Message {
    /// What is true now; none while that is about to change or nothing is known.
    pub(super) fn of(target: ReportTarget, status: &Status) -> Option<Self> {
        let host_keys = status.host_keys.clone();
        match target {
            ReportTarget::GuestAttributes => {
                (!host_keys.is_empty()).then_some(Self::HostKeys(host_keys))
            }
            ReportTarget::Url => {
                let state = state(status)?;
                let tunnel = &status.tunnel;
                Some(Self::Whole(Whole {
                    schema: SCHEMA,
                    instance_id: status.instance_id.clone(),
                    host_name: status.host_name.clone(),
                    user: status.login.user.clone(),
                    host_keys,
                    tunnel: Tunnel {
                        state,
                        key: tunnel.key.clone(),
                        proxy: tunnel.proxy.clone(),
                        public_host: tunnel.public_host.clone(),
                        bind: tunnel.bind.clone(),
                        port: tunnel.port,
                        proven: tunnel.proven,
                    },
                }))
            }
        }
    }
}

/// A state that may last.
fn state(status: &Status) -> Option<State> {
    if status.is_settling() {
        return None;
    }
    let about_to = matches!(
        status.nat.decision,
        TunnelDecision::Always | TunnelDecision::Needed
    );
    match status.tunnel.state {
        TunnelState::Up => Some(State::Up),
        TunnelState::Waiting | TunnelState::PortHeld => Some(State::Down),
        TunnelState::Off => (!about_to).then_some(State::Off),
        TunnelState::Opening | TunnelState::Proving | TunnelState::Closing => None,
    }
}
