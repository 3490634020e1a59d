//! An /etc/hosts of an agent's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Result;

/// The file. Programs that [`Hosts::wrap`] starts see it in the place of the machine's.
pub struct Hosts(PathBuf);

impl Hosts {
    /// A file in `dir` with these addresses for these names.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn new(dir: &Path, entries: &[(&str, &str)]) -> Result<Self> {
        let hosts = Self(dir.join("hosts"));
        hosts.set(entries)?;
        Ok(hosts)
    }

    /// Has these addresses for these names from now on, and no others.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn set(&self, entries: &[(&str, &str)]) -> Result<()> {
        let lines = entries.iter().map(|(ip, name)| format!("{ip} {name}\n"));
        // In place: a mount shows the file that was there when it was made.
        Ok(fs::write(&self.0, lines.collect::<String>())?)
    }

    /// The same program in a mount namespace of its own, with this file as /etc/hosts.
    pub fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("unshare");
        let script = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
        wrapped
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(&self.0)
            .arg(command.get_program())
            .args(command.get_args());
        wrapped
    }
}
