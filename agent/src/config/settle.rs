//! Which configuration the agent runs with, whatever the file is like.
//!
//! | the file | in force |
//! |---|---|
//! | good | it |
//! | missing, and not named on the command line | the defaults |
//! | unreadable, and a good one is [`kept`] | the kept one |
//! | broken, and a good one is kept | the kept one; a way in that either switches off is off |
//! | broken, and none is kept | its valid keys and the defaults ([`salvage`]); the tunnel is off |
//! | unreadable, and none is kept | the defaults; the tunnel is off |

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::salvage::{Salvaged, salvage, salvage_copy};
use super::{Cache, Config, DEFAULT_PATH, GuestAttributes, Listen, ReportUrl, kept};
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
    /// The file is no TOML or no UTF-8, is larger than 1 MiB, or has an unknown key or a wrong value.
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
        let found = match kept::read_bounded(&file) {
            Ok(found) => Ok(found),
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                kept::discard(places);
                return settled(Config::default(), ConfigState::Absent, None);
            }
            Err(error) => Err(error.to_string()),
        };
        let mut salvaged = match &found {
            Ok(found) => match found.parse() {
                Ok(config) => {
                    kept::keep(places, &found.text);
                    return settled(config, ConfigState::Good, None);
                }
                Err(_) => salvage(&found.text),
            },
            Err(_) => illegible(),
        };
        let flaw = found.as_ref().ok().and_then(|found| found.flaw.clone());
        let flaw = flaw.filter(|flaw| !salvaged.problems.contains(flaw));
        salvaged.problems.splice(0..0, flaw);
        let problem = count(&salvaged.problems);
        let (config, state, in_force) = match last_good(places) {
            Some(config) => {
                let (config, in_force) = stricter(config, &salvaged);
                (config, ConfigState::LastGood, in_force)
            }
            None => {
                let in_force = if found.is_ok() { VALID_KEYS } else { DEFAULTS };
                let config = without_tunnel(salvaged.config);
                (config, ConfigState::Partial, in_force)
            }
        };
        let file = file.clone();
        let broken = match found {
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
        let found = kept::read_bounded(path.unwrap_or(Path::new(DEFAULT_PATH)));
        let config = found.map_or_else(|_| Self::default(), |found| salvage(&found.text).config);
        config.status_socket
    }
}

const LAST_GOOD: &str = "the last good configuration is in force";
const LAST_GOOD_LESS: &str = "the last good configuration is in force, without what this file \
                              switches off";
const VALID_KEYS: &str = "no good one is known, so its valid keys and the defaults are in force, \
                          and the tunnel is off";
const DEFAULTS: &str = "no good one is known, so the defaults are in force, and the tunnel is off";

/// The configuration for an unreadable file.
fn illegible() -> Salvaged {
    let config = Config {
        cache: Cache::Off,
        guest_attributes: GuestAttributes::Never,
        report_url: ReportUrl::Off,
        ..Config::default()
    };
    Salvaged {
        config,
        no_bridge: false,
        no_tunnel: false,
        problems: Vec::new(),
    }
}

fn without_tunnel(config: Config) -> Config {
    Config {
        when: Some(When::Never),
        ..config
    }
}

/// The last good configuration, without the ways in that the broken file switches off: the copy may
/// be an old one that could neither be replaced nor removed.
fn stricter(mut config: Config, salvaged: &Salvaged) -> (Config, &'static str) {
    if !salvaged.no_bridge && !salvaged.no_tunnel {
        return (config, LAST_GOOD);
    }
    if salvaged.no_bridge {
        config.listen = Listen::Off;
    }
    if salvaged.no_tunnel {
        config.when = Some(When::Never);
    }
    (config, LAST_GOOD_LESS)
}

/// The newest copy that is TOML. The agent that kept the copy accepted it, so a key that is unknown
/// here belongs to another version.
fn last_good(places: &[PathBuf]) -> Option<Config> {
    kept::load(places)
        .find(|text| text.parse::<toml::Table>().is_ok())
        .map(|text| salvage_copy(&text))
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
