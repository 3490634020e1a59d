//! The states and sources in the slice `sshd` of the status.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The states of sshd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SshdState {
    /// sshd's banner has been read.
    Ready,
    /// sshd does not answer, and the agent retries.
    Waiting,
}

/// The source of sshd's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FoundBy {
    /// `[bridge] sshd`.
    #[serde(rename = "configuration")]
    Configuration,
    /// Port 22 of a loopback address.
    #[serde(rename = "port 22")]
    Port22,
    /// `Port` or `ListenAddress` in sshd_config(5).
    #[serde(rename = "sshd_config")]
    SshdConfig,
    /// A socket unit of systemd.
    #[serde(rename = "ssh.socket")]
    SshSocket,
    /// A listening socket whose banner is an SSH server's.
    #[serde(rename = "listening socket")]
    ListeningSocket,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration",
            Self::Port22 => "port 22",
            Self::SshdConfig => "sshd_config",
            Self::SshSocket => "ssh.socket",
            Self::ListeningSocket => "listening socket",
        })
    }
}
