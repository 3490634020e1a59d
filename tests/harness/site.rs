//! A guest and its proxy with a network link between them: what [`crate::scene`] has in one
//! namespace is in two here.
//!
//! ```text
//! users ── 127.0.0.1:12345 ── proxy (10.98.0.2:2222) ══ link ══ (10.98.0.1) agent or ssh ── sshd
//! ```

mod pipes;
mod port;
mod transfer;
mod typist;
mod users;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::{self, Agent};
use crate::failure::{Context, Result};
use crate::link::{Link, Way};
use crate::netns::Namespace;
use crate::openssh::{Sshd, TUNNEL_USER, make_key};
use crate::process::Process;
use crate::scene::{self, OPTIONS, PORT};
use crate::ssh::{Client, Key};
use crate::wait;

pub use transfer::{Direction, Transfer};
pub use typist::Typist;
pub use users::Users;

/// How long a tunnel may take over the worst of links: connection, key exchange, login and
/// forward are about ten round trips.
const UP: Duration = Duration::from_secs(60);

/// How long a user's login may take. With a queue of 2 s each round trip takes that and more.
const LOGIN: Duration = Duration::from_secs(120);

/// A site. Each has namespaces, servers, keys and a link of its own.
pub struct Site {
    /// The link between both.
    pub link: Link,
    /// The proxy, on the far side.
    pub proxy: Sshd,
    /// The guest's sshd, on the near side.
    pub sshd: Sshd,
    /// Where the guest is.
    pub guest: Arc<Namespace>,
    /// Where the proxy and the users are.
    pub outside: Arc<Namespace>,
    /// A person who may log in to the guest as root. The way `tunnel` is the proxy's port.
    pub client: Client,
    key: Key,
    dir: tempfile::TempDir,
}

impl Site {
    /// A site with this link, `ways` being its settings up (from the guest) and down, and with the
    /// recommended proxy configuration.
    ///
    /// # Errors
    ///
    /// If a peer does not start.
    pub fn new(ways: [Way; 2]) -> Result<Self> {
        Self::with_proxy(ways, &Sshd::proxy_config())
    }

    /// The same with another proxy configuration.
    ///
    /// # Errors
    ///
    /// If a peer does not start.
    pub fn with_proxy(ways: [Way; 2], config: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        for name in ["proxy", "sshd", "agent"] {
            fs::create_dir(dir.path().join(name))?;
        }
        let (guest, outside) = (Namespace::new()?, Namespace::new()?);
        let link = Link::between(&guest, &outside, ways)?;
        let at = |name: &str| dir.path().join(name);
        let proxy = Sshd::new(&outside, &at("proxy"), (Link::FAR, 2222).into(), config)?;
        let sshd = Sshd::new(&guest, &at("sshd"), ([127, 0, 0, 1], 22).into(), "")?;
        let key = make_key(&at("guest_key"), "ed25519")?;
        let person = make_key(&at("person_key"), "ed25519")?;
        sshd.authorize("", &person.public()?)?;
        proxy.authorize(OPTIONS, &key.public()?)?;
        let client = Client::new(dir.path(), &person)?;
        let port = format!("Port {PORT}");
        let way = [
            "HostName 127.0.0.1".to_owned(),
            port,
            "HostKeyAlias guest".to_owned(),
        ];
        client.add("tunnel", &way)?;
        Ok(Self {
            link,
            proxy,
            sshd,
            guest,
            outside,
            client,
            key,
            dir,
        })
    }

    /// Starts an agent, which has not logged in yet.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn agent(&self) -> Result<Agent> {
        let host = Link::FAR.to_string();
        let proxy = scene::proxy_entry(&host, 2222, &self.proxy.host_key("ed25519")?);
        let document = scene::document(&[proxy], "0.0.0.0", PORT, &self.key, "")?;
        let dir = self.dir.path().join("agent");
        agent::write_document(&dir, &document)?;
        Agent::start(&self.guest, &dir, &[])
    }

    /// Starts an agent and waits until its tunnel is up.
    ///
    /// # Errors
    ///
    /// If it is not up within a minute.
    pub fn agent_up(&self) -> Result<Agent> {
        let agent = self.agent()?;
        agent.tunnel("up", UP)?;
        Ok(agent)
    }

    /// Starts `ssh -R` in a loop, as people do who have no agent.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn ssh(&self) -> Result<Process> {
        let hosts = self.dir.path().join("proxy_hosts");
        let key = self.proxy.host_key("ed25519")?;
        fs::write(&hosts, format!("[{}]:2222 {key}\n", Link::FAR))?;
        // The kernel kills the shell with the test, and the client with the shell.
        let script = format!(
            "while :; do setpriv --pdeathsig KILL ssh -F none -N -p 2222 -i {key} \
             -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes \
             -o UserKnownHostsFile={hosts} -o StrictHostKeyChecking=yes \
             -o ServerAliveInterval=5 -o ServerAliveCountMax=3 -o ExitOnForwardFailure=yes \
             -R 0.0.0.0:{PORT}:127.0.0.1:22 {TUNNEL_USER}@{}; sleep 1; done",
            Link::FAR,
            key = self.key.path.display(),
            hosts = hosts.display(),
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        self.guest.spawn(self.dir.path(), "ssh-loop", &command)
    }

    /// As [`Site::ssh`], and waits until the port is there.
    ///
    /// # Errors
    ///
    /// If it is not there within a minute.
    pub fn ssh_up(&self) -> Result<Process> {
        let process = self.ssh()?;
        wait::until("port of ssh -R", UP, || self.holder().ok().flatten())
            .map_err(|failure| failure.during(process.log()))?;
        Ok(process)
    }

    /// How many logins of the tunnel the proxy has seen.
    pub fn logins(&self) -> usize {
        let accepted = format!("Accepted publickey for {TUNNEL_USER}");
        self.proxy.log().matches(&accepted).count()
    }

    /// Logs in through the tunnel, runs a command, and returns what it printed.
    ///
    /// # Errors
    ///
    /// If the login or the command fails, or takes longer than `limit`.
    pub fn login(&self, script: &str, limit: Duration) -> Result<String> {
        let mut command = self.client.command("ssh");
        command.args(["tunnel", "--", script]);
        self.outside.run(&command, limit)
    }

    /// Sets `net.ipv4.tcp_retries2` of the proxy: how often its kernel repeats what nobody
    /// acknowledges (tcp(7)).
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn proxy_retries(&self, count: u32) -> Result<()> {
        // A thread sees the parameters of its own network namespace.
        let path = "/proc/sys/net/ipv4/tcp_retries2";
        let set = move || fs::write(path, count.to_string());
        self.outside.enter(set).during(path)
    }

    /// A directory that goes with the site.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}
