//! What goes wrong on purpose, each undone on drop, so that a test that fails cleans up.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::{Context, Failure, Result};
use crate::limits::PROGRAM;
use crate::netns::Namespace;
use crate::process;

/// Processes that are stopped until this is dropped.
pub struct Frozen(Vec<Pid>);

impl Frozen {
    /// Stops them.
    ///
    /// # Errors
    ///
    /// If there is none, or one is gone.
    pub fn new(processes: &[Pid]) -> Result<Self> {
        if processes.is_empty() {
            return Err(Failure::new("there is no process to stop"));
        }
        let mut frozen = Self(Vec::new());
        for pid in processes {
            kill(*pid, Signal::SIGSTOP).during(format!("stopping {pid}"))?;
            frozen.0.push(*pid);
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

/// Rules of a namespace's firewall for packets on their way in, until this is dropped.
pub struct Rules {
    namespace: Arc<Namespace>,
    table: String,
}

impl Rules {
    /// Adds these nftables rules, such as `tcp dport 22 reject`.
    ///
    /// # Errors
    ///
    /// What nft says.
    pub fn new(namespace: &Arc<Namespace>, rules: &[String]) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let table = format!("fault{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let lines = rules.join("\n");
        // On the way in: what is dropped on the way out is reported to the sender.
        let script = format!(
            "table inet {table} {{\nchain in {{\ntype filter hook input priority 0\n{lines}\n}}\n}}\n"
        );
        let rules = Self {
            namespace: Arc::clone(namespace),
            table,
        };
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        let output = namespace.output(&command, script.as_bytes(), PROGRAM)?;
        process::succeeded(&command, &output).during(script)?;
        Ok(rules)
    }
}

/// Packets that a namespace loses on their way in, without a word, until this is dropped.
pub struct Silence(#[expect(dead_code, reason = "it ends when it is dropped")] Rules);

impl Silence {
    /// Drops what one of these nftables expressions matches, such as `tcp dport 22`.
    ///
    /// # Errors
    ///
    /// What nft says.
    pub fn new(namespace: &Arc<Namespace>, matches: &[String]) -> Result<Self> {
        let rules: Vec<_> = matches.iter().map(|rule| format!("{rule} drop")).collect();
        Ok(Self(Rules::new(namespace, &rules)?))
    }

    /// All of TCP to and from a server.
    ///
    /// # Errors
    ///
    /// What nft says.
    pub fn of_server(namespace: &Arc<Namespace>, server: SocketAddr) -> Result<Self> {
        let (ip, port) = (server.ip(), server.port());
        let rule = |way: char| format!("ip {way}addr {ip} tcp {way}port {port}");
        Self::new(namespace, &[rule('d'), rule('s')])
    }

    /// The connections that there are to a server now; new ones work.
    ///
    /// # Errors
    ///
    /// What ss or nft says, or if there is none.
    pub fn of_connections(namespace: &Arc<Namespace>, server: SocketAddr) -> Result<Self> {
        let mut rules = Vec::new();
        for port in local_ports(namespace, server)? {
            for (here, there) in [('s', 'd'), ('d', 's')] {
                rules.push(format!(
                    "tcp {here}port {port} tcp {there}port {}",
                    server.port()
                ));
            }
        }
        if rules.is_empty() {
            return Err(Failure::new(format!("nobody is connected to {server}")));
        }
        Self::new(namespace, &rules)
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let mut command = Command::new("nft");
        command.args(["delete", "table", "inet", &self.table]);
        let _ = self.namespace.run(&command, PROGRAM);
    }
}

/// The local ports of the connections to a server.
fn local_ports(namespace: &Namespace, server: SocketAddr) -> Result<Vec<u16>> {
    let mut command = Command::new("ss");
    command.args(["-Htn", "state", "established", "dst", &server.to_string()]);
    namespace
        .run(&command, PROGRAM)?
        .lines()
        .map(|line| {
            // Receive queue, send queue, local address, peer.
            let local = line.split_whitespace().nth(2).unwrap_or_default();
            let port = local.rsplit(':').next().unwrap_or_default();
            port.parse().during(line)
        })
        .collect()
}
