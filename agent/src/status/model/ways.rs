//! The ways in, and the account for them, in the status.

use serde::{Deserialize, Serialize};

/// The account that printed commands log in to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// See [`LoginSource`].
    pub source: LoginSource,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            user: "root".to_owned(),
            source: LoginSource::Default,
        }
    }
}

/// The source of the account's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginSource {
    /// `[status] user`.
    Configuration,
    /// The default user of cloud-init's configuration; the account exists.
    CloudInit,
    /// Root, since neither of the above applies.
    Default,
}

/// A command that reaches this guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayIn {
    /// `vsock` or `tunnel`.
    pub via: String,
    /// The command to type, with the account in [`super::Status::login`].
    pub command: String,
    /// The lines for `known_hosts` by which ssh knows this guest over this way in.
    #[serde(default)]
    pub known_hosts: Vec<String>,
    /// The options of ssh_config(5) for this way, without `Host` and `HostKeyAlias`.
    #[serde(default)]
    pub ssh_config: Vec<String>,
}
