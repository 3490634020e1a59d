//! Which configuration the agent runs with, whatever the file is like.
//!
//! | the file | in force |
//! |---|---|
//! | good | it |
//! | missing, and not named on the command line | the defaults |
//! | broken or unreadable, and a good one is [`kept`] | the kept one |
//! | broken, and none is kept | its valid keys and the defaults ([`salvage`]); the tunnel is off |
//! | unreadable, and none is kept | the defaults; the tunnel is off |

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::salvage::{Salvaged, salvage};
use super::{Config, DEFAULT_PATH, GuestAttributes, kept, keys};
use crate::explain::Explain;
use crate::metadata::document::When;
use crate::status::model::{ConfigState, Configuration, Fault};

/// The configuration in force, and what is wrong with the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    /// The configuration in force.
    pub config: Config,
    /// Which configuration that is.
    pub state: ConfigState,
    /// The file.
    pub file: PathBuf,
    /// Why the file is not in force as it stands.
    pub broken: Option<Broken>,
}

/// A fault of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Broken {
    /// The file can't be read.
    #[error("{} can't be read: {why}; {in_force}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The kernel's error.
        why: String,
        /// The configuration in force instead.
        in_force: &'static str,
    },
    /// The file is no TOML, or has an unknown key or a wrong value.
    #[error("{}: {problem}; {in_force}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The place, what was found there, and what is accepted.
        problem: String,
        /// The configuration in force instead.
        in_force: &'static str,
    },
}

impl Explain for Broken {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "config-unreadable",
            Self::Invalid { .. } => "config-invalid",
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Unreadable { file, .. } => format!(
                "make it a file that the user vmagent can read (chmod 644 {}), then: \
                 systemctl restart vmagent",
                file.display()
            ),
            Self::Invalid { file, .. } => format!(
                "correct it until vmagent check-config --config {} accepts it, then: \
                 systemctl restart vmagent",
                file.display()
            ),
        }
    }
}

impl Settled {
    /// Reads `path`, or [`DEFAULT_PATH`] if it is `None`; only the default path may be missing.
    /// Keeps a copy of a good configuration for later starts.
    #[must_use]
    pub fn read(path: Option<&Path>) -> Self {
        Self::read_in(path, &kept::places())
    }

    pub(super) fn read_in(path: Option<&Path>, places: &[PathBuf]) -> Self {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH)).to_owned();
        let settled = |config, state, broken| Self {
            config,
            state,
            file: file.clone(),
            broken,
        };
        let text = match kept::read_bounded(&file) {
            Ok(text) => Ok(text),
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                kept::discard(places);
                return settled(Config::default(), ConfigState::Absent, None);
            }
            Err(error) => Err(error.to_string()),
        };
        let salvaged = match &text {
            Ok(text) => match keys::parse(text) {
                Ok(config) => {
                    kept::keep(places, text);
                    return settled(config, ConfigState::Good, None);
                }
                Err(_) => salvage(text),
            },
            Err(_) => illegible(),
        };
        let problem = count(&salvaged.problems);
        let (config, state, in_force) = match last_good(places) {
            Some(config) => (config, ConfigState::LastGood, LAST_GOOD),
            None => {
                let in_force = if text.is_ok() { VALID_KEYS } else { DEFAULTS };
                let config = without_tunnel(salvaged.config);
                (config, ConfigState::Partial, in_force)
            }
        };
        let file = file.clone();
        let broken = match text {
            Ok(_) => Broken::Invalid {
                file,
                problem,
                in_force,
            },
            Err(why) => Broken::Unreadable {
                file,
                why,
                in_force,
            },
        };
        settled(config, state, Some(broken))
    }

    /// The slice `config` of the status.
    #[must_use]
    pub fn show(&self) -> Configuration {
        Configuration {
            state: self.state,
            path: self.file.display().to_string(),
            fault: self
                .broken
                .as_ref()
                .map(|broken| Fault::after(None, broken)),
        }
    }
}

impl Config {
    /// The status socket of the agent that runs with this file, as far as the file can be read.
    #[must_use]
    pub fn status_socket(path: Option<&Path>) -> PathBuf {
        let text = kept::read_bounded(path.unwrap_or(Path::new(DEFAULT_PATH)));
        let config = text.map_or_else(|_| Self::default(), |text| salvage(&text).config);
        config.status_socket
    }
}

const LAST_GOOD: &str = "the last good configuration is in force";
const VALID_KEYS: &str = "no good one is known, so its valid keys and the defaults are in force, \
                          and the tunnel is off";
const DEFAULTS: &str = "no good one is known, so the defaults are in force, and the tunnel is off";

/// The configuration for an unreadable file.
fn illegible() -> Salvaged {
    let config = Config {
        guest_attributes: GuestAttributes::Never,
        ..Config::default()
    };
    Salvaged {
        config,
        problems: Vec::new(),
    }
}

fn without_tunnel(config: Config) -> Config {
    Config {
        when: Some(When::Never),
        ..config
    }
}

/// The newest copy that parses. The agent that kept the copy accepted it, so a key that is unknown
/// here belongs to another version.
fn last_good(places: &[PathBuf]) -> Option<Config> {
    kept::load(places).find_map(|text| {
        let table = text.parse().ok()?;
        let (read, problems) = keys::read(&table);
        let config = salvage(&text).config;
        // An unknown section belongs to another version: it is not a misspelt `[tunnel]`.
        let tunnel = problems.iter().any(|problem| problem.is_in("tunnel"));
        let when = if tunnel { config.when } else { read.when };
        Some(Config { when, ..config })
    })
}

/// The first problem, and the number of further ones.
fn count(problems: &[String]) -> String {
    let (first, others) = match problems.split_first() {
        Some((first, others)) => (first.as_str(), others.len()),
        None => ("", 0),
    };
    match others {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more)"),
    }
}

#[cfg(test)]
mod tests;
