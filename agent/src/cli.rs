//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// Keeps a VM reachable over SSH: a vsock bridge and a self-healing reverse tunnel
///
/// The host reaches the VM over vsock, without any network in the guest: ssh root@vsock/CID.
/// Where the metadata of the VM has a tunnel document, everybody else reaches it through a port
/// of an SSH proxy that the agent logs in to: ssh -p PORT root@PROXY.
#[derive(Debug, Parser)]
#[command(name = "vmagent", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Can this VM be reached, how, and if not, why?   vmagent status
The same for a program, once all is well:       vmagent status --json --wait 60
Has the tunnel come up within a minute?         vmagent status --wait-for tunnel --wait 60
Is what I wrote right?                          vmagent check-config --document tunnel.yaml";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until it is told to stop
    ///
    /// Listens on vsock port 22 and leads to the local sshd, and holds the reverse tunnel that
    /// the metadata asks for. No configuration is needed. It logs to the standard error.
    ///
    /// SIGHUP reads the metadata anew; SIGTERM and SIGINT stop it.
    ///
    /// A broken configuration does not end the agent: the last good one stays in force, and vmagent
    /// status names the fault.
    ///
    /// Exit status: 0 told to stop; 2 wrong usage.
    Run(Run),
    /// Say whether this VM can be reached, how, and if not, why
    ///
    /// Exit status: 0 all is well, or the way in of --wait-for is up; 1 degraded or starting;
    /// 2 wrong usage; 3 the agent is not running; 4 not allowed to ask it; 74 the standard output
    /// can't be written.
    Status(Status),
    /// Check a configuration, and a tunnel document, without running anything
    ///
    /// Exit status: 0 both are good; 78 one is not, and the message names the fault; 74 the
    /// standard output can't be written.
    CheckConfig(CheckConfig),
    /// Hand the inputs that only root may read to the agent (run by systemd).
    #[command(hide = true)]
    Inputs,
}

/// `vmagent run`
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration [default: /etc/vmagent/config.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How much to log
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}

/// `vmagent status`
#[derive(Debug, Args)]
pub struct Status {
    /// Print the status as JSON: one object, or with --watch one line for each change
    #[arg(long)]
    pub json: bool,
    /// Print it again at each change, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Print the lines of a known_hosts file by which ssh knows this VM, for each way in
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub known_hosts: bool,
    /// With --known-hosts: print the lines for this name, which HostKeyAlias in ssh_config(5) selects
    #[arg(long = "as", value_name = "ALIAS", requires = "known_hosts")]
    pub alias: Option<Alias>,
    /// Print a stanza of ssh_config(5) for each way in: Host ALIAS-vsock, Host ALIAS-tunnel
    ///
    /// The last stanza (the tunnel's, if the tunnel is up) is also for the plain ALIAS. ALIAS
    /// defaults to the VM's host name. --known-hosts --as ALIAS prints the host keys.
    #[arg(long, value_name = "ALIAS", num_args = 0..=1,
          conflicts_with_all = ["json", "watch", "known_hosts"])]
    pub ssh_config: Option<Option<Alias>>,
    /// Wait until all is well, this long at most; also for an agent that has not started
    ///
    /// The agent answers for the metadata that it has read. For a tunnel document that was written
    /// just now, use --wait-for tunnel.
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Wait until this way in is up, for as long as it takes; --wait sets a limit
    ///
    /// Exit status: 0 this way in is up, whatever the rest; 1 it was not up within --wait SECONDS.
    #[arg(long, value_name = "WAY")]
    pub wait_for: Option<Way>,
    /// The agent's status socket [default: the configured one]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// A name for a VM in ssh_config(5) and known_hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias(String);

impl Alias {
    /// The first label of a host name, or `vm` if that label is no valid alias.
    #[must_use]
    pub fn of(host_name: Option<&str>) -> Self {
        let label = host_name.and_then(|name| name.split('.').next());
        let own = label.filter(|label| *label != "localhost");
        let alias = own.and_then(|label| label.parse().ok());
        alias.unwrap_or_else(|| Self("vm".to_owned()))
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Alias {
    type Err = &'static str;

    /// Refuses characters that have a meaning in patterns, in known_hosts or for a shell.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err("expected letters, digits, \".\", \"_\" and \"-\", a letter or digit first")
    }
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// The reverse tunnel is up.
    Tunnel,
    /// The vsock bridge is ready, or another program serves its port.
    Bridge,
    /// One of the two.
    Any,
}

/// `vmagent check-config`
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// The configuration [default: /etc/vmagent/config.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A tunnel document to check as well; - for standard input
    #[arg(long, value_name = "FILE")]
    pub document: Option<PathBuf>,
}

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Both ways in are down.
    Error,
    /// One way in is down.
    Warn,
    /// What a person would want in the journal a year later.
    Info,
    /// The rest.
    Debug,
    /// Everything.
    Trace,
}

/// The argument parser itself: the manual page and the completions are made from it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}
