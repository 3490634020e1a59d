//! The release binary, run in a namespace with a Unix socket in place of vsock.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::{fs::PermissionsExt, net::UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::limits::PROGRAM;
use crate::netns::Namespace;
use crate::paths;
use crate::process::Process;
use crate::stopwatch::Stopwatch;
use crate::watch::Watch;

/// The program under test: the one in the Debian package, or the one that `VMAGENT` names.
pub fn binary() -> PathBuf {
    let built = || paths::target().join("deb/release/vmagent");
    std::env::var_os("VMAGENT").map_or_else(built, PathBuf::from)
}

/// A running agent. Killed on drop.
pub struct Agent {
    process: Process,
    dir: PathBuf,
}

impl Agent {
    /// Starts an agent that keeps its files in `dir`: `bridge.sock`, `status.sock`, and a
    /// document at `tunnel.yaml`. It looks for sshd on 127.0.0.1:22 of the namespace, and for
    /// documents in `file` alone, unless `config` says otherwise. `config` maps `[section]`s to
    /// lines, which are added to the defaults.
    ///
    /// # Errors
    ///
    /// If it does not serve its status within [`PROGRAM`]: with its log.
    pub fn start(namespace: &Arc<Namespace>, dir: &Path, config: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(namespace, dir, config, &[])
    }

    /// As [`Agent::start`], with environment variables.
    ///
    /// # Errors
    ///
    /// As [`Agent::start`].
    pub fn start_with(
        namespace: &Arc<Namespace>,
        dir: &Path,
        config: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_by(namespace, dir, config, |mut command| {
            command.envs(environment.iter().copied());
            command
        })
    }

    /// As [`Agent::start`], by a command that is made from the agent's own.
    ///
    /// # Errors
    ///
    /// As [`Agent::start`].
    pub fn start_by(
        namespace: &Arc<Namespace>,
        dir: &Path,
        config: &[(&str, &str)],
        wrap: impl FnOnce(Command) -> Command,
    ) -> Result<Self> {
        Self::run(namespace, dir, &wrap(prepare(dir, config)?), Stdio::null())
    }

    /// As [`Agent::start`], by a service manager that hands a descriptor over
    /// (sd_listen_fds(3)).
    ///
    /// # Errors
    ///
    /// As [`Agent::start`].
    pub fn start_inheriting(
        namespace: &Arc<Namespace>,
        dir: &Path,
        config: &[(&str, &str)],
        descriptor: OwnedFd,
    ) -> Result<Self> {
        let hand_over = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", hand_over]);
        let agent = prepare(dir, config)?;
        shell.arg(agent.get_program()).args(agent.get_args());
        Self::run(namespace, dir, &shell, descriptor.into())
    }

    fn run(
        namespace: &Arc<Namespace>,
        dir: &Path,
        command: &Command,
        stdin: Stdio,
    ) -> Result<Self> {
        let process = namespace.spawn_with(dir, "vmagent", command, stdin)?;
        let mut agent = Self {
            process,
            dir: dir.to_owned(),
        };
        let deadline = Instant::now() + PROGRAM;
        while let Err(failure) = UnixStream::connect(agent.dir.join("status.sock")) {
            agent.process.alive()?;
            if Instant::now() > deadline {
                return Err(Failure::from(failure).during(agent.log()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(agent)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Begins to measure how long it takes for something.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch::start(self.id())
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The socket that stands in for vsock:22.
    pub fn bridge(&self) -> PathBuf {
        self.dir.join("bridge.sock")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.id())?);
        Ok(nix::sys::signal::kill(pid, signal)?)
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    ///
    /// If it has: with its log.
    pub fn alive(&mut self) -> Result<()> {
        self.process.alive()
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If it still runs after `limit`.
    pub fn ends(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        self.process.wait(limit)
    }

    /// Its status now.
    ///
    /// # Errors
    ///
    /// If it does not answer: with its log.
    pub fn status(&self) -> Result<Value> {
        self.wait_for("any status", PROGRAM, |_| true)
    }

    /// Waits until `condition` holds for its status, and returns that status. It hears of each
    /// change as the agent makes it.
    ///
    /// # Errors
    ///
    /// After `limit`: with the last status and its log.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        self.watch()?.until(what, limit, condition)
    }

    /// Follows its status from now on.
    ///
    /// # Errors
    ///
    /// If it is gone: with its log.
    pub fn watch(&self) -> Result<Watch<'_>> {
        Watch::new(self, &self.dir.join("status.sock"))
    }

    /// Waits until the tunnel is in a state.
    ///
    /// # Errors
    ///
    /// As [`Agent::wait_for`].
    pub fn tunnel(&self, state: &str, limit: Duration) -> Result<Value> {
        self.wait_for(&format!("tunnel.state {state}"), limit, |status| {
            status["tunnel"]["state"] == state
        })
    }

    /// Waits until the tunnel shows a fault.
    ///
    /// # Errors
    ///
    /// As [`Agent::wait_for`].
    pub fn tunnel_fault(&self, code: &str, limit: Duration) -> Result<Value> {
        self.wait_for(&format!("tunnel.fault {code}"), limit, |status| {
            status["tunnel"]["fault"]["code"] == code
        })
    }

    /// Runs `vmagent status` on it, with these arguments.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn ask(&self, arguments: &[&str]) -> Result<Output> {
        let socket = self.dir.join("status.sock");
        Ok(Command::new(binary())
            .arg("status")
            .arg("--socket")
            .arg(socket)
            .args(arguments)
            .output()?)
    }

    /// Writes the tunnel document and waits for nothing: the agent notices by itself.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn write_document(&self, document: &str) -> Result<()> {
        write_document(&self.dir, document)
    }
}

/// Writes an agent's tunnel document into `dir`, as one step, for its owner alone.
///
/// # Errors
///
/// If the file can't be written.
pub fn write_document(dir: &Path, document: &str) -> Result<()> {
    let fresh = dir.join(".tunnel.yaml.new");
    fs::write(&fresh, document)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    Ok(fs::rename(&fresh, dir.join("tunnel.yaml"))?)
}

/// Writes its configuration, and says how it is started.
fn prepare(dir: &Path, config: &[(&str, &str)]) -> Result<Command> {
    let path = dir.join("config.toml");
    fs::write(&path, configuration(dir, config))?;
    let mut command = Command::new(binary());
    command
        .args(["run", "--log-level", "debug", "--config"])
        .arg(&path);
    Ok(command)
}

fn configuration(dir: &Path, changes: &[(&str, &str)]) -> String {
    let dir = dir.display();
    let defaults = [
        (
            "bridge",
            format!("listen = \"unix:{dir}/bridge.sock\"\nsshd = \"127.0.0.1:22\""),
        ),
        (
            "metadata",
            format!("file = \"{dir}/tunnel.yaml\"\nsources = [\"file\"]"),
        ),
        ("tunnel", "when = \"always\"".to_owned()),
        ("status", format!("socket = \"{dir}/status.sock\"")),
        ("report", String::new()),
    ];
    let mut text = String::new();
    for (section, lines) in defaults {
        let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        for (_, change) in changes.iter().filter(|(name, _)| *name == section) {
            let key = change
                .split('=')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned();
            lines.retain(|line| line.split('=').next().map(str::trim) != Some(&key));
            lines.push((*change).to_owned());
        }
        if !lines.is_empty() {
            text += &format!("[{section}]\n{}\n", lines.join("\n"));
        }
    }
    text
}
