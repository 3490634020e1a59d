//! `/etc/vmagent/config.toml`: every key is optional, an unknown one is an error.
//!
//! `vmagent check-config` refuses any fault ([`Config::load`]). The agent itself always starts
//! ([`Settled::read`]): a broken file is replaced by the last good configuration.

mod kept;
mod keys;
mod salvage;
mod settle;
mod source;
mod url;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::metadata::document::When;
use crate::origin::Origins;
use crate::sshd::Address;

pub use settle::{Broken, Settled};
pub use source::SourceName;
pub use url::HttpUrl;
pub(crate) use url::shown;

/// Where the configuration is read from unless the command line names another file.
pub const DEFAULT_PATH: &str = "/etc/vmagent/config.toml";

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[bridge] listen`.
    pub listen: Listen,
    /// `[bridge] allow_cids`.
    pub allow_cids: Vec<u32>,
    /// `[bridge] sshd`; `None` lets the agent search for sshd.
    pub sshd: Option<Address>,
    /// `[bridge] host_keys`: the directory with that sshd's public host keys.
    pub host_keys: PathBuf,
    /// `[bridge] origins`: the source addresses that sshd sees.
    pub origins: Origins,
    /// `[bridge] max_connections`.
    pub max_connections: u16,
    /// `[bridge] max_connections_per_origin`; none leaves it to the number of allowed origins.
    pub max_connections_per_origin: Option<u16>,
    /// `[bridge] max_rate`, in connections a second.
    pub max_rate: u32,
    /// `[metadata] sources`, in order; none leaves it to the platform that this is.
    pub sources: Option<Vec<SourceName>>,
    /// `[metadata] url`: the base of the services that a cloud has.
    pub url: HttpUrl,
    /// `[metadata] document_url`: of the source `url`.
    pub document_url: Option<HttpUrl>,
    /// `[metadata] file`.
    pub file: PathBuf,
    /// `[metadata] cache`.
    pub cache: Cache,
    /// `[tunnel] when`; none leaves it to the document.
    pub when: Option<When>,
    /// `[report] url`: the service that gets the reports.
    pub report_url: ReportUrl,
    /// `[report] guest_attributes`.
    pub guest_attributes: GuestAttributes,
    /// `[status] user`: the account that printed commands log in to.
    pub user: Option<String>,
    /// `[status] socket`.
    pub status_socket: PathBuf,
}

/// What the bridge listens on, unless it inherits a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A vsock port on every context ID of this guest.
    Vsock(u32),
    /// A Unix socket, for a VMM without vsock.
    Unix(PathBuf),
    /// Nothing.
    Off,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(port) => write!(f, "vsock:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Off => f.write_str("off"),
        }
    }
}

/// The service that gets the reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportUrl {
    /// The `report.url` of the document in force, if it has one.
    Document,
    /// This one.
    Fixed(HttpUrl),
    /// None: a broken configuration may have named one.
    Off,
}

/// Whether the host keys are published as guest attributes of Google Compute Engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestAttributes {
    /// Where the firmware says that this is one.
    Auto,
    /// Whatever it says.
    Always,
    /// Not at all.
    Never,
}

/// Where the last good document is kept for the next agent of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// In the runtime directory, which is in memory.
    Runtime,
    /// In the state directory, which survives a reboot.
    State,
    /// Nowhere.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen::Vsock(22),
            allow_cids: vec![2],
            sshd: None,
            host_keys: PathBuf::from("/etc/ssh"),
            origins: Origins::Apart,
            max_connections: 1024,
            max_connections_per_origin: None,
            // A login costs a processor of the guest more than 20 ms.
            max_rate: 100,
            sources: None,
            url: HttpUrl::default(),
            document_url: None,
            file: PathBuf::from("/etc/vmagent/tunnel.yaml"),
            cache: Cache::Runtime,
            when: None,
            report_url: ReportUrl::Document,
            guest_attributes: GuestAttributes::Auto,
            user: None,
            status_socket: PathBuf::from("/run/vmagent/status.sock"),
        }
    }
}

/// Why a configuration is refused: the file, the place in it, and what is accepted there.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads `path`, or [`DEFAULT_PATH`] when there is none; only the latter may be missing.
    ///
    /// # Errors
    /// A file that can't be read, is not TOML, or has an unknown key or a wrong value.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let error = |problem| ConfigError {
            file: file.to_owned(),
            problem,
        };
        match kept::read_bounded(file) {
            Ok(found) => found.parse().map_err(error),
            Err(e) if path.is_none() && e.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(e) => Err(error(format!("can't be read: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests;
