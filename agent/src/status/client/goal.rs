//! The goal of a client that waits for a status.

use std::time::Duration;

use serde_json::Value;

use crate::cli::Way;

/// The goal, and how long to wait for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Goal {
    /// This way in; without one, that all is well.
    pub(super) way: Option<Way>,
    /// Set where it is waited for.
    pub(super) wait: bool,
    /// How long at most.
    pub(super) limit: Option<Duration>,
}

impl Goal {
    /// Whether a status has what is asked for. It may be of a newer agent.
    pub(super) fn is_met(&self, status: &Value) -> bool {
        let word = |pointer| status.pointer(pointer).and_then(Value::as_str);
        let tunnel = || word("/tunnel/state") == Some("up");
        let bridge = || matches!(word("/bridge/state"), Some("ready" | "foreign"));
        match self.way {
            None => word("/health") == Some("ok"),
            Some(Way::Tunnel) => tunnel(),
            Some(Way::Bridge) => bridge(),
            Some(Way::Any) => tunnel() || bridge(),
        }
    }
}
