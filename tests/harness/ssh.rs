//! The ssh client: one configuration file for each set of ways in, so that a
//! person can use the very same to have a look.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Result};
use crate::limits::SOON;
use crate::netns::Namespace;
use crate::{paths, process};

/// A key pair in two files, `path` and `path.pub`.
#[derive(Clone)]
pub struct Key {
    /// The private half.
    pub path: PathBuf,
}

impl Key {
    /// Makes an ed25519 key, or takes the one that is there.
    ///
    /// # Errors
    ///
    /// What ssh-keygen says.
    pub fn at(path: &Path) -> Result<Self> {
        if !path.exists() {
            let mut command = Command::new("ssh-keygen");
            command
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "vmagent-test", "-f"])
                .arg(path);
            process::run(&mut command)?;
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The public half, as in an `authorized_keys` file.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub fn public(&self) -> Result<String> {
        let text =
            fs::read_to_string(self.path.with_extension("pub")).during(self.path.display())?;
        Ok(text.trim().to_owned())
    }

    /// The private half, as in a tunnel document.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub fn private(&self) -> Result<String> {
        fs::read_to_string(&self.path).during(self.path.display())
    }
}

/// An `ssh_config` file with the ways into one guest.
pub struct Client {
    /// The file.
    pub config: PathBuf,
}

impl Client {
    /// Starts a configuration in `dir` that logs in as root with `key`.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn new(dir: &Path, key: &Key) -> Result<Self> {
        let client = Self {
            config: dir.join("ssh_config"),
        };
        let mut text = String::new();
        // Nothing of the machine's own configuration or agent counts here.
        let _ = writeln!(
            text,
            "IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none",
            key.path.display()
        );
        let _ = writeln!(
            text,
            "User root\nBatchMode yes\nLogLevel ERROR\nStrictHostKeyChecking accept-new"
        );
        let _ = writeln!(
            text,
            "UserKnownHostsFile {}",
            dir.join("known_hosts").display()
        );
        let _ = writeln!(text, "GlobalKnownHostsFile /dev/null\nConnectTimeout 30");
        fs::write(&client.config, text)?;
        Ok(client)
    }

    /// Adds a way in: a host's name and the lines of its `Host` block.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn add(&self, name: &str, lines: &[String]) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        fs::write(
            &self.config,
            format!("{text}\nHost {name}\n    {}\n", lines.join("\n    ")),
        )?;
        Ok(())
    }

    /// Adds a way in through a guest's vsock.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn add_vsock(&self, name: &str, socket: &Path) -> Result<()> {
        let proxy = format!(
            "ProxyCommand {} {} 22",
            paths::helper("vsock-connect")?.display(),
            socket.display()
        );
        self.add(
            name,
            &[
                proxy,
                "ProxyUseFdpass yes".into(),
                format!("HostKeyAlias {name}"),
            ],
        )
    }

    /// `ssh`, `scp` or `sftp` with this configuration.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(&self.config);
        command
    }

    /// Logs in, runs a command, and returns what it printed.
    ///
    /// # Errors
    ///
    /// If the login or the command fails, or after [`SOON`].
    pub fn run(&self, namespace: &Namespace, host: &str, script: &str) -> Result<String> {
        let mut command = self.command("ssh");
        command.args([host, "--", script]);
        namespace.run(&command, SOON)
    }
}
