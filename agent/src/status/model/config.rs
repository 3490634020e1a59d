//! The slice of the configuration.

use serde::{Deserialize, Serialize};

use super::Fault;

/// Which configuration the agent runs with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// See [`ConfigState`].
    pub state: ConfigState,
    /// The file, whether it exists or not.
    pub path: String,
    /// Why the file is not in force as it stands.
    pub fault: Option<Fault>,
}

/// The states of the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigState {
    /// The file is in force.
    #[default]
    Good,
    /// There is no file: the defaults are in force.
    Absent,
    /// The file is broken: the last good configuration is in force.
    LastGood,
    /// The file is broken, and no good one is known: its valid keys and the defaults are in force,
    /// and the tunnel is off.
    Partial,
}
