//! Why sshd is not there, in words.

use std::fmt;
use std::io;
use std::time::Duration;

use super::address::Address;
use crate::explain::Explain;

/// Why a check did not find an sshd.
#[derive(Debug)]
pub struct CheckError {
    pub(super) address: Address,
    pub(super) reason: Reason,
    /// The places where the agent searched for sshd, unless the address is configured.
    pub(super) looked_at: Option<String>,
}

/// What came in place of a banner.
#[derive(Debug)]
pub enum Reason {
    /// Nobody listens, or the address can't be reached.
    Down(io::Error),
    /// This user, who is not root, listens there.
    Stranger(u32),
    /// Connected, and not a word for this time.
    Silent(Duration),
    /// Connected, and closed again after these words, if any.
    NoBanner(String),
    /// It speaks, but not SSH; these are its first words.
    NotSsh(String),
}

/// Advice for an sshd that does not speak.
const SILENT: &str = "sshd may be slow, stopped or starved, or wait for a name server (UseDNS, \
    TCP wrappers): see systemctl status ssh, and whether the machine is out of memory or \
    processes. The check stays on its one connection, and adds nothing to sshd's work.";

impl CheckError {
    /// Whether the connection was not established, so that the dial has reached no program.
    pub(super) fn is_absence(&self) -> bool {
        matches!(&self.reason, Reason::Down(_) | Reason::Stranger(_))
    }

    /// Whether sshd has closed the connection without a word. `MaxStartups` and
    /// `PerSourcePenalties` make a healthy sshd do so, before OpenSSH 9.8 always.
    pub(super) fn is_close(&self) -> bool {
        matches!(&self.reason, Reason::NoBanner(said) if said.is_empty())
    }

    /// Whether sshd has closed the connection with the message of `MaxStartups` or
    /// `PerSourcePenalties`: only a running sshd says that.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(&self.reason, Reason::NoBanner(said) if
            said.starts_with("Not allowed at this time")
                || said.starts_with("Exceeded MaxStartups"))
    }

    /// Whether the server sent something that sshd never sends.
    pub(super) fn is_of_another_server(&self) -> bool {
        match &self.reason {
            Reason::NotSsh(_) => true,
            Reason::NoBanner(said) => !said.is_empty() && !self.is_refusal(),
            Reason::Down(_) | Reason::Stranger(_) | Reason::Silent(_) => false,
        }
    }

    /// Whether the kernel has no room for the connection: the queue of the listening socket is
    /// full, since sshd does not accept.
    fn is_queue_full(&self) -> bool {
        matches!(&self.reason, Reason::Down(error) if error.kind() == io::ErrorKind::TimedOut)
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        match &self.reason {
            Reason::Down(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(f, "nobody listens on {address}: connection refused")
            }
            Reason::Down(_) if self.is_queue_full() => {
                write!(f, "{address} does not accept the connection: it times out")
            }
            Reason::Down(error) => write!(f, "can't connect to {address}: {error}"),
            Reason::Stranger(uid) => {
                write!(f, "the user {uid}, and not root, listens on {address}")
            }
            Reason::Silent(time) => write!(
                f,
                "{address} has taken the connection and said nothing for {} s; still waiting",
                time.as_secs()
            ),
            Reason::NoBanner(said) if said.is_empty() => {
                write!(f, "{address} closes the connection before its SSH banner")
            }
            Reason::NoBanner(said) => write!(
                f,
                "{address} closes the connection before its SSH banner, saying \"{said}\""
            ),
            Reason::NotSsh(said) => {
                write!(f, "{address} is no SSH server: it begins with \"{said}\"")
            }
        }?;
        match (&self.looked_at, &self.reason) {
            (Some(places), Reason::Down(_) | Reason::Stranger(_) | Reason::NotSsh(_)) => {
                write!(f, "; sshd was looked for on {places}")
            }
            (Some(_) | None, _) => Ok(()),
        }
    }
}

impl std::error::Error for CheckError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Down(error) => Some(error),
            Reason::Stranger(_) | Reason::Silent(_) | Reason::NoBanner(_) | Reason::NotSsh(_) => {
                None
            }
        }
    }
}

impl Explain for CheckError {
    fn code(&self) -> &'static str {
        match &self.reason {
            Reason::Down(_) if self.is_queue_full() => "sshd-silent",
            Reason::Down(_) | Reason::Stranger(_) => "sshd-down",
            Reason::Silent(_) => "sshd-silent",
            Reason::NoBanner(_) => "sshd-no-banner",
            Reason::NotSsh(_) => "not-ssh",
        }
    }

    fn advice(&self) -> String {
        match &self.reason {
            Reason::Down(_) if self.is_queue_full() => SILENT,
            Reason::Down(_) => {
                "Start it: systemctl start ssh (or sshd); see systemctl status ssh. If it listens \
                 elsewhere, set [bridge] sshd in /etc/vmagent/config.toml."
            }
            Reason::Stranger(_) => {
                "A program of another user has sshd's port: ss -ltnp shows it. Stop it, and start \
                 sshd. Set [bridge] sshd in /etc/vmagent/config.toml if that is your sshd."
            }
            Reason::Silent(_) => SILENT,
            Reason::NoBanner(_) => {
                "See journalctl -u ssh. Without any host key sshd can't start: ssh-keygen -A \
                 makes them. MaxStartups or PerSourcePenalties may also turn clients away, and so \
                 may /etc/hosts.allow and /etc/hosts.deny, after 5 s: allow \
                 127.0.0.0/8 there, or set [bridge] origins = \"one\" in \
                 /etc/vmagent/config.toml."
            }
            Reason::NotSsh(_) => {
                "Another program has sshd's port: ss -ltnp shows it. Set [bridge] sshd in \
                 /etc/vmagent/config.toml to where sshd listens."
            }
        }
        .to_owned()
    }
}
