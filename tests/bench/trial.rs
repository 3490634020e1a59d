//! One peer with a proxy of its own, and the yardstick that is the same for all: can a stranger
//! reach the guest's sshd through the proxy's port?

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::failure::{Context, Failure, Result};
use harness::openssh::{Sshd, TUNNEL_USER, make_key};
use harness::ssh::Key;
use serde_json::{Value, json};

use crate::interrupt;
use crate::peer::Peer;
use crate::stage::{Slot, Stage};

/// How often it is tried to reach the guest.
const PERIOD: Duration = Duration::from_millis(20);

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often systemd is asked whether it has given up: seldom, the question costs time.
const ASK: Duration = Duration::from_secs(5);

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// It came, after this time.
    After(Duration),
    /// It will not come: systemd has given the unit up, or the program has ended for good.
    GaveUp,
    /// It did not come in this time.
    NotWithin(Duration),
}

/// A peer, its proxy, and its files. What it runs on and what disturbs it are dropped with it.
pub struct Trial {
    /// Who is tried.
    pub peer: Peer,
    /// The proxy.
    pub proxy: Sshd,
    /// What belongs to it alone.
    pub slot: Slot,
    /// Where it is.
    pub stage: Arc<Stage>,
    key: Key,
}

impl Trial {
    /// A proxy with this configuration that knows the peer's key, and a peer that is told to dial
    /// it as `host` but is not yet started. For a thread in the machine's network, as all else.
    ///
    /// # Errors
    ///
    /// If a file can't be written or the proxy does not start.
    pub fn new(
        stage: &Arc<Stage>,
        peer: Peer,
        config: &str,
        host: impl Fn(&Slot) -> String,
    ) -> Result<Self> {
        let slot = stage.slot()?;
        let proxy = Sshd::new(&stage.namespace, &slot.dir, slot.proxy(), config)?;
        let key = Key {
            path: slot.dir.join("key"),
        };
        let host = host(&slot);
        let trial = Self {
            peer,
            proxy,
            slot,
            stage: Arc::clone(stage),
            key,
        };
        trial.configure(&host)?;
        trial.admit(&trial.key)?;
        Ok(trial)
    }

    /// The same with the recommended proxy, dialled by its address.
    ///
    /// # Errors
    ///
    /// As [`Trial::new`].
    pub fn usual(stage: &Arc<Stage>, peer: Peer) -> Result<Self> {
        Self::new(stage, peer, &Sshd::proxy_config(), |slot| {
            slot.proxy().ip().to_string()
        })
    }

    fn configure(&self, host: &str) -> Result<()> {
        let (dir, inside) = (&self.slot.dir, self.slot.inside());
        let inside = inside.display();
        let (proxy, forward) = (self.slot.proxy().port(), self.slot.forward().port());
        let host_key = self.proxy.host_key("ed25519")?;
        fs::write(dir.join("ports"), format!("FORWARD={forward}\n"))?;
        fs::write(dir.join("known_hosts"), format!("proxy {host_key}\n"))?;
        fs::write(
            dir.join("ssh_config"),
            format!(
                "Host proxy\n  HostName {host}\n  Port {proxy}\n  User {TUNNEL_USER}\n  \
                 IdentityFile {inside}/key\n  IdentitiesOnly yes\n  \
                 PreferredAuthentications publickey\n  Ciphers aes128-gcm@openssh.com\n  \
                 HostKeyAlias proxy\n  UserKnownHostsFile {inside}/known_hosts\n  \
                 StrictHostKeyChecking yes\n"
            ),
        )?;
        fs::write(
            dir.join("config.toml"),
            format!(
                "[bridge]\nlisten = \"off\"\n[metadata]\nsources = [\"file\"]\n\
                 file = \"{inside}/tunnel.yaml\"\n[status]\nsocket = \"{inside}/status.sock\"\n"
            ),
        )?;
        let document = json!({"vmagent": {"version": 1, "tunnel": {
            "when": "always",
            "proxies": [{"host": host, "port": proxy, "user": TUNNEL_USER, "host_keys": [host_key]}],
            "bind": "0.0.0.0",
            "port": forward,
            "private_key": self.key.private()?,
        }}});
        fs::write(dir.join("tunnel.yaml"), document.to_string()).during("writing the document")
    }

    fn admit(&self, key: &Key) -> Result<()> {
        let port = self.slot.forward().port();
        let options = format!(
            "restrict,port-forwarding,permitlisten=\"0.0.0.0:{port}\",permitopen=\"127.0.0.1:{port}\""
        );
        self.proxy.authorize(&options, &key.public()?)
    }

    /// Makes a new key, the only one that the proxy takes from now on.
    ///
    /// # Errors
    ///
    /// If it can't be made.
    pub fn rotate(&self) -> Result<Key> {
        let fresh = make_key(&self.slot.dir.join("fresh"), "ed25519")?;
        self.proxy.revoke_all()?;
        self.admit(&fresh)?;
        Ok(fresh)
    }

    /// Delivers a key to the place where the peer looks for it, each file in one step.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn deliver(&self, key: &Key) -> Result<()> {
        let replace = |name: &str, text: &str| -> Result<()> {
            let path = self.slot.dir.join(format!("{name}.new"));
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            Ok(fs::rename(&path, self.slot.dir.join(name))?)
        };
        if self.peer != Peer::Vmagent {
            // ssh offers the public half that lies beside the private one.
            replace("key.pub", &key.public()?)?;
            return replace("key", &key.private()?);
        }
        let text = fs::read_to_string(self.slot.dir.join("tunnel.yaml"))?;
        let mut document: Value = serde_json::from_str(&text)?;
        document["vmagent"]["tunnel"]["private_key"] = key.private()?.into();
        replace("tunnel.yaml", &document.to_string())
    }

    /// Lets the proxy's name resolve.
    ///
    /// # Errors
    ///
    /// If the machine's file can't be written.
    pub fn name(&self) -> Result<()> {
        let path = self.stage.machine.path("/etc/hosts");
        let mut hosts: File = OpenOptions::new().append(true).open(path)?;
        let line = format!("{} {}\n", self.slot.proxy().ip(), self.slot.name());
        Ok(hosts.write_all(line.as_bytes())?)
    }

    /// The name of its unit.
    pub fn unit(&self) -> String {
        format!("{}@{}.service", self.peer.template(), self.slot.number)
    }

    /// Starts the peer.
    ///
    /// # Errors
    ///
    /// If systemd refuses.
    pub fn start(&self) -> Result<()> {
        self.stage.systemctl("start", &self.unit())
    }

    /// Whether the guest is reached now.
    pub fn reached(&self) -> bool {
        let read = || -> io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.slot.forward(), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut banner = [0; 8];
            stream.read_exact(&mut banner)?;
            Ok(&banner == b"SSH-2.0-")
        };
        read().unwrap_or(false)
    }

    /// Makes sure that the fault has had its effect: what was not gone can't come back.
    ///
    /// # Errors
    ///
    /// If the guest is reached.
    pub fn must_be_gone(&self) -> Result<()> {
        if self.reached() {
            return Err(Failure::new(
                "the fault has no effect: the guest is reached",
            ));
        }
        Ok(())
    }

    /// Waits until the guest is reached, for at most `limit` from `since` on.
    ///
    /// # Errors
    ///
    /// If the program is to end.
    pub fn back(&self, since: Instant, limit: Duration) -> Result<Outcome> {
        self.until(since, limit, || self.reached())
    }

    /// Waits for what is seen from outside, for at most `limit` from `since` on.
    ///
    /// # Errors
    ///
    /// If the program is to end.
    pub fn until(
        &self,
        since: Instant,
        limit: Duration,
        seen: impl Fn() -> bool,
    ) -> Result<Outcome> {
        let mut asked = Instant::now();
        loop {
            interrupt::check()?;
            if seen() {
                return Ok(Outcome::After(since.elapsed()));
            }
            if since.elapsed() >= limit {
                return Ok(Outcome::NotWithin(limit));
            }
            if asked.elapsed() >= ASK {
                if self.stage.gave_up(&self.unit()) {
                    return Ok(Outcome::GaveUp);
                }
                asked = Instant::now();
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// Whether the peer has a connection to the proxy that it has not given up.
    pub fn connected(&self) -> bool {
        let IpAddr::V4(ip) = self.slot.proxy().ip() else {
            return false;
        };
        // "remote_address st" of proc_pid_net(5), the address in network order; 01 is ESTABLISHED.
        let ip = u32::from_le_bytes(ip.octets());
        let wanted = format!(" {ip:08X}:{:04X} 01 ", self.slot.proxy().port());
        let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap_or_default();
        table.lines().any(|line| line.contains(&wanted))
    }

    /// What vmagent says is wrong with its tunnel.
    pub fn fault(&self) -> Option<String> {
        let stream = UnixStream::connect(self.slot.dir.join("status.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        let status: Value = serde_json::from_str(&line).ok()?;
        status["tunnel"]["fault"]["code"]
            .as_str()
            .map(str::to_owned)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = self.stage.systemctl("stop", &self.unit());
    }
}
