//! Where it all happens: a systemd with the peers' units, and a network with all the proxies.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use harness::agent;
use harness::failure::{Context, Result};
use harness::netns::Namespace;
use harness::openssh::{Sshd, make_key};
use harness::pid1::{Debian, Machine, Plan};
use harness::wait;

use crate::peer::Peer;

/// Where the proxies are. Not loopback, so that a forward that is bound to loopback only is told
/// from a public one.
pub const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// What Debian's autossh, a script, starts in the end.
pub const AUTOSSH: &str = "/usr/lib/autossh/autossh";

/// What all peers run on: the release with the newest of systemd and ssh.
const DEBIAN: Debian = Debian::Trixie;

/// The machine and what all trials share.
pub struct Stage {
    // Dropped in this order.
    _sshd: Sshd,
    /// The machine's network, for programs from outside.
    pub namespace: Arc<Namespace>,
    /// The machine.
    pub machine: Machine,
    slots: AtomicU16,
}

/// What belongs to one trial alone.
pub struct Slot {
    /// Its number.
    pub number: u16,
    /// Its files, seen from outside.
    pub dir: PathBuf,
}

impl Slot {
    /// Where its proxy listens.
    pub fn proxy(&self) -> SocketAddr {
        (PUBLIC, 10_000 + self.number).into()
    }

    /// Where its guest is reached through the proxy.
    pub fn forward(&self) -> SocketAddr {
        (PUBLIC, 20_000 + self.number).into()
    }

    /// A name for the proxy, which nobody resolves yet.
    pub fn name(&self) -> String {
        format!("proxy-{}.example.org", self.number)
    }

    /// Its files, as the machine sees them.
    pub fn inside(&self) -> PathBuf {
        Path::new(Machine::SHARED).join(self.number.to_string())
    }
}

impl Stage {
    /// Boots the machine, and starts the guest's sshd in it.
    ///
    /// # Errors
    ///
    /// If a program is missing, or does not start.
    pub fn new() -> Result<Arc<Self>> {
        let mut plan = Plan::new(DEBIAN)
            .share(&agent::binary())
            .share(Path::new(AUTOSSH))
            // As before the network is up: an answer at once, and never a good one.
            .file("/etc/resolv.conf", 0o644, "nameserver 127.0.0.1\n")
            .file("/etc/hosts", 0o644, "127.0.0.1 localhost\n")
            // The guest's sshd is started from outside, with the harness's configuration.
            .script("systemctl mask ssh.service ssh.socket");
        for peer in Peer::ALL {
            let path = format!("/etc/systemd/system/{}@.service", peer.template());
            plan = plan.file(&path, 0o644, &peer.unit());
        }
        let machine = plan.boot();
        let namespace = Namespace::join(&machine.network())?;
        let mut command = Command::new("ip");
        command.args(["address", "add", &format!("{PUBLIC}/32"), "dev", "lo"]);
        namespace.run(&command, Duration::from_secs(10))?;
        let dir = machine.shared().join("sshd");
        fs::create_dir(&dir)?;
        // The yardstick's connections are no logins, and are not to be counted as such.
        let own = ([127, 0, 0, 1], 22).into();
        let sshd = Sshd::new(&namespace, &dir, own, "MaxStartups 1000")?;
        Ok(Arc::new(Self {
            _sshd: sshd,
            namespace,
            machine,
            slots: AtomicU16::new(0),
        }))
    }

    /// A place for one more trial, with the host keys that all proxies have.
    ///
    /// # Errors
    ///
    /// If its files can't be written.
    pub fn slot(&self) -> Result<Slot> {
        let number = self.slots.fetch_add(1, Ordering::Relaxed);
        let dir = self.machine.shared().join(number.to_string());
        fs::create_dir(&dir)?;
        for kind in ["ed25519", "ecdsa", "rsa"] {
            for name in [format!("host_{kind}"), format!("host_{kind}.pub")] {
                let from = self.machine.shared().join("sshd").join(&name);
                fs::copy(&from, dir.join(&name)).during(from.display())?;
            }
        }
        make_key(&dir.join("key"), "ed25519")?;
        Ok(Slot { number, dir })
    }

    /// Whether a unit has come to an end that systemd does not mend.
    pub fn gave_up(&self, unit: &str) -> bool {
        let state = self.machine.property(unit, "ActiveState");
        ["failed", "inactive"].contains(&state.as_str())
    }

    /// The journal of a unit.
    pub fn journal(&self, unit: &str) -> String {
        let script = format!("journalctl --no-pager --no-hostname -o short-monotonic -u '{unit}'");
        String::from_utf8_lossy(&self.machine.run(&script).stdout).into_owned()
    }

    /// Starts or stops a unit.
    ///
    /// # Errors
    ///
    /// If systemd refuses.
    pub fn systemctl(&self, verb: &str, unit: &str) -> Result<()> {
        let output = self.machine.run(&format!("systemctl {verb} '{unit}'"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        wait::until(&format!("{verb} of {unit}: {said}"), Duration::ZERO, || {
            output.status.success().then_some(())
        })
    }
}
