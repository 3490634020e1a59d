//! What the status says of the ways in.

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

/// Where the name of the account is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginSource {
    /// `[status] user`.
    Configuration,
    /// The default user of cloud-init's configuration; the account exists.
    CloudInit,
    /// Neither: root.
    Default,
}

/// A command that reaches this guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayIn {
    /// `vsock` or `tunnel`.
    pub via: String,
    /// What to type, with the account of [`super::Status::login`].
    pub command: String,
    /// The lines of a `known_hosts` file by which ssh knows this guest when it comes this way.
    #[serde(default)]
    pub known_hosts: Vec<String>,
    /// The options of ssh_config(5) for this way, without `Host` and `HostKeyAlias`.
    #[serde(default)]
    pub ssh_config: Vec<String>,
}
