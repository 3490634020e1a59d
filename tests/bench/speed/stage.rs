//! Where it all happens: a network of its own, the load's server as its sshd, and the peers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use harness::agent::{self, Agent};
use harness::failure::Result;
use harness::netns::Namespace;
use harness::process::Process;
use harness::wait;
use tempfile::TempDir;

use crate::cost::Group;
use crate::load::{Load, START};
use crate::peer::Peer;

/// Where both ways in lead: the load's server, in sshd's place.
pub const SERVICE: &str = "127.0.0.1:22";

/// Without a bound on connections, as long as descriptors go.
pub const ANY_NUMBER: usize = usize::MAX;

/// Connections that an agent takes which can't be told how many.
const USUAL: usize = 1000;

/// A network with the load's server.
pub struct Stage {
    // Dropped in this order.
    _server: Process,
    /// The network.
    pub namespace: Arc<Namespace>,
    /// The load's client.
    pub load: Load,
    dir: TempDir,
}

impl Stage {
    /// A fresh one.
    ///
    /// # Errors
    ///
    /// If the server does not start.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let namespace = Namespace::new()?;
        let mut server = Load::program()?;
        server.args(["serve", &format!("tcp:{SERVICE}")]);
        let server = namespace.spawn(dir.path(), "server", &server)?;
        let stage = Self {
            _server: server,
            load: Load::new(&namespace),
            namespace,
            dir,
        };
        stage.serves(&format!("tcp:{SERVICE}"))?;
        Ok(stage)
    }

    /// The load's server itself, with nothing in between.
    pub fn direct(&self) -> Peer {
        Peer {
            name: "direct",
            endpoint: format!("tcp:{SERVICE}"),
            group: None,
            most: ANY_NUMBER,
            parts: Vec::new(),
        }
    }

    /// A directory for this.
    ///
    /// # Errors
    ///
    /// If it can't be made.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Starts a program as a peer, in a group of its own.
    ///
    /// # Errors
    ///
    /// If it does not serve in time: with what it said.
    pub fn program(&self, name: &'static str, endpoint: String, command: &Command) -> Result<Peer> {
        let group = Group::new(name)?;
        let process = self
            .namespace
            .spawn(&self.dir(name)?, "program", &group.wrap(command))?;
        self.serves(&endpoint)
            .map_err(|failure| failure.during(format!("{name}: {}", process.log())))?;
        Ok(Peer {
            name,
            endpoint,
            group: Some(group),
            most: ANY_NUMBER,
            parts: vec![Box::new(process)],
        })
    }

    /// Starts an agent, with its own defaults but for what a bench needs: no bounds.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn agent(&self, dir: &Path, bridge: &[(&str, &str)]) -> Result<(Agent, Group, usize)> {
        let group = Group::new("vmagent")?;
        let mut config = bridge.to_vec();
        let mut most = USUAL;
        if knows(dir, UNBOUND)? {
            config.extend(UNBOUND.map(|line| ("bridge", line)));
            most = 8000;
        }
        let path = dir.join("config.toml");
        let agent = Agent::start_by(&self.namespace, dir, &config, |_| {
            // What is logged by default is part of what it costs.
            let mut command = Command::new(agent::binary());
            command.args(["run", "--config"]).arg(path);
            group.wrap(&command)
        })?;
        Ok((agent, group, most))
    }

    /// Waits until something is served there.
    ///
    /// # Errors
    ///
    /// If nothing is in time.
    pub fn serves(&self, endpoint: &str) -> Result<()> {
        wait::retry(endpoint, START, || {
            self.load.measure(endpoint, &["connect", "1"]).map(drop)
        })
    }
}

/// The keys that lift the bridge's bounds: the other bridges have none.
pub const UNBOUND: [&str; 3] = [
    "max_connections = 8000",
    "max_connections_per_origin = 8000",
    "max_rate = 1000000",
];

/// Whether the agent knows these keys.
fn knows(dir: &Path, lines: [&str; 3]) -> Result<bool> {
    let path = dir.join("asked.toml");
    std::fs::write(&path, format!("[bridge]\n{}\n", lines.join("\n")))?;
    let mut command = Command::new(agent::binary());
    command.args(["check-config", "--config"]).arg(&path);
    Ok(command.output()?.status.success())
}
