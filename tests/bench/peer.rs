//! Those that are compared: four units of one systemd. `%i` is the trial, with files of its own.

/// One way to hold a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// What this is about.
    Vmagent,
    /// autossh, told to watch by ssh's own means and never to give up.
    Autossh,
    /// `ssh -R` in a unit that leaves all else to the defaults.
    Plain,
    /// `ssh -R` in a unit by somebody who knows both ssh and systemd.
    Careful,
}

/// What ssh has to be told so that it ends when there is no tunnel.
const WATCHFUL: &str =
    "-o ServerAliveInterval=5 -o ServerAliveCountMax=3 -o ExitOnForwardFailure=yes";

impl Peer {
    /// All of them, in the table's order.
    pub const ALL: [Self; 4] = [Self::Vmagent, Self::Autossh, Self::Plain, Self::Careful];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vmagent => "vmagent",
            Self::Autossh => "autossh",
            Self::Plain => "unit, defaults",
            Self::Careful => "unit, careful",
        }
    }

    /// The name of its unit, a template, without the suffix.
    pub fn template(self) -> &'static str {
        match self {
            Self::Vmagent => "vmagent",
            Self::Autossh => "autossh",
            Self::Plain => "ssh-plain",
            Self::Careful => "ssh-careful",
        }
    }

    /// The text of its unit.
    pub fn unit(self) -> String {
        let options = "-N -F /run/host/%i/ssh_config";
        let forward = "-R 0.0.0.0:${FORWARD}:127.0.0.1:22 proxy";
        let ports = "EnvironmentFile=/run/host/%i/ports";
        match self {
            Self::Vmagent => "[Service]\nExecStart=/run/host/vmagent run \
                              --config /run/host/%i/config.toml\nRestart=always\n"
                .to_owned(),
            Self::Autossh => format!(
                "[Service]\n{ports}\nEnvironment=AUTOSSH_GATETIME=0\n\
                 ExecStart=/run/host/autossh -M 0 {options} {WATCHFUL} {forward}\n"
            ),
            Self::Plain => format!(
                "[Service]\n{ports}\nExecStart=/usr/bin/ssh {options} {forward}\nRestart=always\n"
            ),
            Self::Careful => format!(
                "[Unit]\nStartLimitIntervalSec=0\n[Service]\n{ports}\n\
                 ExecStart=/usr/bin/ssh {options} {WATCHFUL} {forward}\nRestart=always\nRestartSec=5\n"
            ),
        }
    }
}
