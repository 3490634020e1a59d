//! A real guest: the image under test, running in QEMU.
//!
//! Two ways to get one. [`Guest::restore`] continues from a saved state of a
//! booted guest: a second or two, and also a true test of what a restored VM
//! sees (a vsock device that appears late, a clock that jumps). [`Boot`](crate::boot::Boot) boots
//! one, for what happens at boot: cloud-init, credentials, ordering.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::control::Control;
use crate::failure::{Context, Failure, Result};
use crate::limits::SOON;
use crate::netns::Namespace;
use crate::process::{self, Process};
use crate::qmp::Qmp;
use crate::saved::Saved;
use crate::ssh::{Client, Key};
use crate::turn::{self, Turn};
use crate::vsock::Vsock;
use crate::watch::in_short;
use crate::{seed, wait};

/// How long a boot may take where the processor is emulated and shared.
pub const BOOT: Duration = Duration::from_secs(180);
pub(crate) const COMMAND: Duration = SOON;

/// The name of the way in over vsock in [`Guest::client`].
pub const VM: &str = "vm";

/// The key that every guest lets in as root.
///
/// # Errors
///
/// If it can't be made.
pub fn key() -> Result<Key> {
    Saved::key()
}

/// A running guest. Killed on drop; if the test panics, its console and the
/// agent's journal are printed first.
pub struct Guest {
    /// The host's end of its vsock device.
    pub vsock: Vsock,
    /// The ways in, for ssh, scp and sftp.
    pub client: Client,
    pub(crate) qmp: Mutex<Qmp>,
    pub(crate) control: Mutex<Control>,
    pub(crate) qemu: Mutex<Process>,
    /// What starts it again after a reboot.
    pub(crate) again: Command,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) dir: TempDir,
    pub(crate) turn: Arc<Turn>,
}

impl Guest {
    /// Runs a bash script in the guest as root, on a channel that has nothing
    /// to do with sshd, vsock or the agent. Waits for a guest that boots.
    ///
    /// # Errors
    ///
    /// If the script fails, or after [`SOON`].
    pub fn run(&self, script: &str) -> Result<String> {
        self.run_within(script, COMMAND)
    }

    /// As [`Guest::run`], with a limit of its own.
    ///
    /// # Errors
    ///
    /// If the script fails, or after `limit`.
    pub fn run_within(&self, script: &str, limit: Duration) -> Result<String> {
        lock(&self.control).run(script, limit)
    }

    /// Logs in over vsock, from the host, and runs a command.
    ///
    /// # Errors
    ///
    /// If the login or the command fails, or after [`SOON`].
    pub fn ssh(&self, script: &str) -> Result<String> {
        self.examined(self.client.run(&self.namespace, VM, script))
    }

    /// What `vmagent status --json` prints, whatever its exit status.
    ///
    /// # Errors
    ///
    /// If it prints no JSON.
    pub fn status(&self) -> Result<Value> {
        let text = self.run("vmagent status --json || (($? <= 2))")?;
        serde_json::from_str(&text).during(format!("reading vmagent's status {text:?}"))
    }

    /// Waits for a status that a test wants to see, and returns it.
    ///
    /// # Errors
    ///
    /// After `limit`: with the last status.
    pub fn wait_status(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let result = wait::retry_at_leisure(what, limit, || {
            let status = self.status()?;
            if wanted(&status) {
                Ok(status)
            } else {
                Err(Failure::new(format!("{}: {status:#}", in_short(&status))))
            }
        });
        self.examined(result)
    }

    /// Waits until cloud-init has ended, and returns what it says of itself (`status.json`): its
    /// own command takes an emulated guest ten seconds.
    ///
    /// # Errors
    ///
    /// If it does not end, or wrote no JSON.
    pub fn cloud_init(&self) -> Result<Value> {
        let result = wait::retry_at_leisure("end of cloud-init", BOOT, || {
            self.run("test -e /run/cloud-init/result.json && cat /run/cloud-init/status.json")
        });
        let text = self.examined(result)?;
        let mut said: Value = serde_json::from_str(&text).during(format!("reading {text:?}"))?;
        Ok(said["v1"].take())
    }

    /// Waits until the tunnel is up, and returns the status.
    ///
    /// # Errors
    ///
    /// After `limit`: with the last status.
    pub fn wait_tunnel(&self, limit: Duration) -> Result<Value> {
        self.wait_status("tunnel", limit, |status| status["tunnel"]["state"] == "up")
    }

    /// Writes a file in the guest that only root can read, in one step.
    ///
    /// # Errors
    ///
    /// If the directory is not there.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let text = seed::base64(text.as_bytes());
        self.run(&format!(
            "umask 077; base64 -d <<<{text} >{path}.new && mv {path}.new {path}"
        ))
        .map(drop)
    }

    /// Gives the guest a disk with the content of this file, and returns the device. A loop
    /// device: udev treats it as any other.
    ///
    /// # Errors
    ///
    /// If it can't be written or set up.
    pub fn plug_disk(&self, image: &Path) -> Result<String> {
        let mut pack = Command::new("sh");
        pack.args(["-c", "gzip --stdout \"$0\" | base64 --wrap=0"]);
        let packed = process::run(pack.arg(image))?;
        let script = format!(
            "modprobe loop; umask 077; file=$(mktemp /var/tmp/disk.XXXXXX); base64 -d <<<{packed} | gunzip >$file
             losetup --find --show --read-only $file"
        );
        Ok(self.run(&script)?.trim().to_owned())
    }

    /// Waits until sshd's banner can be read over vsock, and returns it.
    ///
    /// # Errors
    ///
    /// After `limit`: with the last attempt's error.
    pub fn wait_banner(&self, limit: Duration) -> Result<String> {
        let result = wait::retry("SSH banner over vsock", limit, || {
            lock(&self.qemu).alive()?;
            let mut stream = self.vsock.connect(22)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut banner = [0; 255];
            let length = stream.read(&mut banner)?;
            let banner = String::from_utf8_lossy(&banner[..length])
                .trim_end()
                .to_owned();
            if banner.starts_with("SSH-") {
                Ok(banner)
            } else {
                Err(Failure::new(format!("not a banner: {banner:?}")))
            }
        });
        self.examined(result)
    }

    /// Stops its processors for this time or longer: another guest has its place meanwhile.
    ///
    /// # Errors
    ///
    /// What QEMU says.
    pub fn pause(&self, time: Duration) -> Result<()> {
        self.qmp().execute("stop", json!({}))?;
        turn::lend(&self.turn, || thread::sleep(time));
        self.qmp().execute("cont", json!({})).map(drop)
    }

    /// QEMU's control socket.
    pub fn qmp(&self) -> MutexGuard<'_, Qmp> {
        lock(&self.qmp)
    }

    /// The network that the guest is in.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// A directory that goes with the guest.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file that has all that this guest wrote to its disk.
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// What there is to learn from a guest that did not do what it should.
    fn autopsy(&self) -> String {
        let console = self.console();
        let lines: Vec<_> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        let script = "systemctl list-jobs; systemctl --failed
            journalctl --no-pager -n 60 -u 'vmagent*' -u ssh.service -u 'cloud-*'; vmagent status";
        let script = format!("{{ {script}; }} 2>&1; true");
        let said = match lock(&self.control).run(&script, Duration::from_secs(15)) {
            Ok(text) => text,
            Err(error) => format!("no more to learn from it: {error}"),
        };
        let qemu = match lock(&self.qemu).alive() {
            Ok(()) => "QEMU runs".to_owned(),
            Err(end) => end.to_string(),
        };
        format!(
            "---- {qemu}\n---- the guest's console, last lines\n{tail}\n---- the agent in the \
             guest\n{said}"
        )
    }

    /// Adds what there is to learn to the failure of a wait.
    pub(crate) fn examined<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|failure| Failure::new(format!("{failure}\n{}", self.autopsy())))
    }

    /// What the guest printed on its serial console.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("serial.log")).unwrap_or_default())
            .into_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.autopsy());
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
