//! A real OpenSSH server with its own keys and configuration, in a namespace.

mod files;
mod keys;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::{Context, Failure, Result};
use crate::fault::Frozen;
use crate::limits::PROGRAM;
use crate::netns::Namespace;
use crate::process::Process;
use crate::wait;

pub use keys::{make_key, make_key_of, sign};

/// The account that tunnels log in to: one that every Debian has, and nobody uses.
pub const TUNNEL_USER: &str = "nobody";

/// A server. Killed on drop, with its sessions; [`Sshd::stop`] and [`Sshd::start`] for a while.
pub struct Sshd {
    /// Where it listens.
    pub address: SocketAddr,
    namespace: Arc<Namespace>,
    dir: PathBuf,
    process: Option<Process>,
    files: files::Files,
}

impl Sshd {
    /// Starts a server on `address` that keeps its files in `dir`, which must be there.
    /// `config` is added to its configuration, and goes before all else.
    ///
    /// # Errors
    ///
    /// If it does not listen within [`PROGRAM`]: with its log.
    pub fn new(
        namespace: &Arc<Namespace>,
        dir: &Path,
        address: SocketAddr,
        config: &str,
    ) -> Result<Self> {
        // Where sshd puts its unprivileged half; a running service has it made by systemd.
        fs::create_dir_all("/run/sshd")?;
        keys::make(dir)?;
        let mut text = format!("{config}\n");
        let _ = writeln!(
            text,
            "ListenAddress {} \nPort {}",
            address.ip(),
            address.port()
        );
        for kind in ["ed25519", "ecdsa", "rsa"] {
            let _ = writeln!(
                text,
                "HostKey {}",
                dir.join(format!("host_{kind}")).display()
            );
        }
        let _ = writeln!(text, "AuthorizedKeysFile {}/authorized_keys", dir.display());
        // The directories of a test belong to it alone, but /tmp above them to everybody.
        let _ = writeln!(
            text,
            "StrictModes no\nPidFile none\nUsePAM no\nLogLevel VERBOSE"
        );
        let _ = writeln!(
            text,
            "Subsystem sftp internal-sftp\nPasswordAuthentication no"
        );
        fs::write(dir.join("sshd_config"), text)?;
        fs::write(dir.join("authorized_keys"), "")?;
        let mut server = Self {
            address,
            namespace: Arc::clone(namespace),
            dir: dir.to_owned(),
            process: None,
            files: files::Files::default(),
        };
        server.start()?;
        Ok(server)
    }

    /// The configuration that the documentation recommends for a proxy.
    pub fn proxy_config() -> String {
        format!(
            "Match User {TUNNEL_USER}\n    AllowTcpForwarding yes\n    \
             AllowStreamLocalForwarding no\n    MaxSessions 0\n    \
             GatewayPorts clientspecified\n    PermitTTY no\n    X11Forwarding no\n    \
             AllowAgentForwarding no\n    ClientAliveInterval 15\n    ClientAliveCountMax 3\n\
             Match all"
        )
    }

    /// Lets this public key in, with these options of `authorized_keys`.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn authorize(&self, options: &str, public: &str) -> Result<()> {
        let path = self.dir.join("authorized_keys");
        let text = fs::read_to_string(&path)?;
        fs::write(&path, format!("{text}{options} {public}\n")).during(path.display())
    }

    /// Lets nobody in any more.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn revoke_all(&self) -> Result<()> {
        Ok(fs::write(self.dir.join("authorized_keys"), "")?)
    }

    /// The namespace that it runs in.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The directory with its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it logged since it was last started.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The id of its listening process.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The processes of its sessions.
    ///
    /// # Errors
    ///
    /// If /proc can't be read.
    pub fn sessions(&self) -> Result<Vec<Pid>> {
        // Nobody's children are not our sessions: every process descends from 0.
        let Some(listener) = self.id() else {
            return Ok(Vec::new());
        };
        let listener = i32::try_from(listener)?;
        let mut parents = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(id) = entry?.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            // The name, in parentheses, may have spaces in it. A process may be gone by now.
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.split_whitespace().nth(1));
            if let Some(parent) = parent.and_then(|word| word.parse::<i32>().ok()) {
                parents.insert(id, parent);
            }
        }
        let ours = |id: &i32| {
            let mut up = parents.get(id);
            while up.is_some_and(|parent| *parent != listener) {
                up = up.and_then(|parent| parents.get(parent));
            }
            up.is_some()
        };
        Ok(parents
            .keys()
            .filter(|id| ours(id))
            .map(|id| Pid::from_raw(*id))
            .collect())
    }

    /// Kills the listener; sessions that it has taken live on, as they do when a service restarts.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Kills the listener and the processes of all its sessions, as when the machine goes down.
    ///
    /// # Errors
    ///
    /// If /proc can't be read.
    pub fn crash(&mut self) -> Result<()> {
        // Stopped, it makes no session behind our back.
        let frozen = self
            .id()
            .map(|id| -> Result<_> { Frozen::new(&[Pid::from_raw(i32::try_from(id)?)]) })
            .transpose()?;
        let sessions = self.sessions()?;
        self.stop();
        drop(frozen);
        kill_all(&sessions);
        Ok(())
    }

    /// Kills the processes of its sessions. The listener goes on.
    ///
    /// # Errors
    ///
    /// If /proc can't be read.
    pub fn cut(&self) -> Result<()> {
        kill_all(&self.sessions()?);
        Ok(())
    }

    /// Changes its configuration file. A start reads it.
    ///
    /// # Errors
    ///
    /// If the file can't be written, or has no such text.
    pub fn configure(&self, from: &str, to: &str) -> Result<()> {
        let path = self.dir.join("sshd_config");
        let text = fs::read_to_string(&path)?;
        if !text.contains(from) {
            return Err(Failure::new(format!("no {from:?} in {}", path.display())));
        }
        fs::write(&path, text.replace(from, to)).during(path.display())
    }

    /// Starts it again with the same keys and configuration.
    ///
    /// # Errors
    ///
    /// If it does not listen within [`PROGRAM`]: with its log.
    pub fn start(&mut self) -> Result<()> {
        let mut command = Command::new("/usr/sbin/sshd");
        command
            .args(["-D", "-e", "-f"])
            .arg(self.dir.join("sshd_config"));
        let mut process = {
            let command = self.files.wrap(&command);
            self.namespace.spawn(&self.dir, "sshd", &command)?
        };
        wait::until("listening sshd", PROGRAM, || {
            process.alive().err().map(Err).or_else(|| {
                process
                    .log()
                    .contains("Server listening on")
                    .then_some(Ok(()))
            })
        })
        .and_then(|result| result)
        .map_err(|failure| failure.during(process.log()))?;
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for Sshd {
    /// Sessions outlive their listener, but not the test.
    fn drop(&mut self) {
        let _ = self.crash();
    }
}

/// Kills these processes, and waits until the kernel has closed what they had open. One that is
/// gone already is as good.
fn kill_all(processes: &[Pid]) {
    for pid in processes {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    let closed = |pid: &Pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        files.map_or(true, |mut files| files.next().is_none())
    };
    let _ = wait::until("end of the processes", PROGRAM, || {
        processes.iter().all(closed).then_some(())
    });
}
