//! Why sshd is not there, in words.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::explain::Explain;

/// Why a check did not find an sshd.
#[derive(Debug)]
pub struct CheckError {
    pub(super) address: SocketAddr,
    pub(super) reason: Reason,
}

/// What came in place of a banner.
#[derive(Debug)]
pub enum Reason {
    /// Nobody listens, or the address can't be reached.
    Down(io::Error),
    /// Connected, and nothing more for so long that people should know.
    Silent,
    /// Connected, and closed again after these words, if any.
    NoBanner(String),
    /// It speaks, but not SSH; these are its first words.
    NotSsh(String),
}

impl CheckError {
    /// Whether nobody listens, so that a dial reaches no program.
    pub(super) fn is_absence(&self) -> bool {
        matches!(&self.reason, Reason::Down(_))
    }

    /// Whether an sshd that has answered before may be as well as ever, in spite of this.
    ///
    /// It turns a source away before the banner when it has too many strangers waiting
    /// (`MaxStartups`) or a score to settle with it (`PerSourcePenalties`): with words it is
    /// alive whatever happens, without any it gets one more chance.
    pub(super) fn may_pass(&self, doubts: u32) -> bool {
        match &self.reason {
            Reason::NoBanner(said) => {
                doubts == 0
                    || said.starts_with("Not allowed at this time")
                    || said.starts_with("Exceeded MaxStartups")
            }
            Reason::Down(_) | Reason::Silent | Reason::NotSsh(_) => false,
        }
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match &self.reason {
            Reason::Down(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(f, "nobody listens on {address}: connection refused")
            }
            Reason::Down(error) => write!(f, "can't connect to {address}: {error}"),
            Reason::Silent => write!(
                f,
                "{address} takes the connection and says nothing for {} s",
                super::watcher::SILENT.as_secs()
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
        }
    }
}

impl std::error::Error for CheckError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Down(error) => Some(error),
            Reason::Silent | Reason::NoBanner(_) | Reason::NotSsh(_) => None,
        }
    }
}

impl Explain for CheckError {
    fn code(&self) -> &'static str {
        match &self.reason {
            Reason::Down(_) => "sshd-down",
            Reason::Silent => "sshd-silent",
            Reason::NoBanner(_) => "sshd-no-banner",
            Reason::NotSsh(_) => "not-ssh",
        }
    }

    fn advice(&self) -> String {
        match &self.reason {
            Reason::Down(_) => {
                "Start it: systemctl start ssh (or sshd); see systemctl status ssh. If it listens \
                 elsewhere, set [bridge] sshd in /etc/vmagent/config.toml."
            }
            Reason::Silent => {
                "sshd may be slow, stopped or starved, or wait for a name server (UseDNS): see \
                 systemctl status ssh, and whether the machine is out of memory or processes. The \
                 connection is kept, so as not to add to its work."
            }
            Reason::NoBanner(_) => {
                "See journalctl -u ssh. Without any host key sshd can't start: ssh-keygen -A \
                 makes them. MaxStartups, PerSourcePenalties, or /etc/hosts.allow and hosts.deny may \
                 also turn clients away."
            }
            Reason::NotSsh(_) => {
                "Another program has sshd's port: ss -ltnp shows it. Set [bridge] sshd in \
                 /etc/vmagent/config.toml to where sshd listens."
            }
        }
        .to_owned()
    }
}
