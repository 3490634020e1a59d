//! Why the bridge does not listen.

use std::fmt;
use std::io;

use crate::config::Listen;
use crate::explain::Explain;

/// Why the bridge does not listen, or what is odd about it.
#[derive(Debug)]
pub(super) enum Fault {
    /// The kernel has no AF_VSOCK for this process.
    NoVsock(io::Error),
    /// There is AF_VSOCK, but no device.
    NoDevice,
    /// It takes a privilege.
    Denied { listen: Listen, source: io::Error },
    /// Any other reason.
    Failed {
        listen: Listen,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another program listens there, and leads to an SSH server: all is well.
    Served(Listen),
    /// Another program listens there, and leads nowhere.
    Taken { listen: Listen, why: String },
    /// Another program listens there, and this process can't try it.
    Untried { listen: Listen, why: String },
    /// What the service manager handed over is not what we can use.
    WrongSocket(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVsock(source) => write!(f, "this kernel offers no vsock: {source}"),
            Self::NoDevice => f.write_str("this VM has no vsock device, or not yet"),
            Self::Denied { listen, source } => write!(f, "may not listen on {listen}: {source}"),
            Self::Failed { listen, source } => write!(f, "can't listen on {listen}: {source}"),
            Self::Served(listen) => write!(
                f,
                "another program serves {listen}, and leads to an SSH server"
            ),
            Self::Taken { listen, why } => {
                write!(f, "another program listens on {listen}, and {why}")
            }
            Self::Untried { listen, why } => write!(
                f,
                "another program listens on {listen}; where it leads can't be tried from here: \
                 {why}"
            ),
            Self::WrongSocket(found) => write!(
                f,
                "the service manager handed over {found}; expected a listening vsock or Unix \
                 stream socket"
            ),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoVsock(source) | Self::Denied { source, .. } => Some(source),
            Self::Failed { source, .. } => Some(source.as_ref()),
            Self::NoDevice
            | Self::Served(_)
            | Self::Taken { .. }
            | Self::Untried { .. }
            | Self::WrongSocket(_) => None,
        }
    }
}

impl Explain for Fault {
    fn code(&self) -> &'static str {
        match self {
            Self::NoVsock(_) | Self::NoDevice => "vsock-unavailable",
            Self::Denied { .. } => "bind-denied",
            Self::Failed { .. } => "bind-failed",
            Self::Served(_) => "port-served",
            Self::Taken { .. } => "port-taken",
            Self::Untried { .. } => "port-taken-unproven",
            Self::WrongSocket(_) => "inherited-wrong-socket",
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NoVsock(_) | Self::NoDevice => {
                "Give the VM a vsock device (libvirt: <vsock><cid auto='yes'/></vsock>; QEMU: \
                 -device vhost-vsock-pci,guest-cid=42), or set [bridge] listen = \"off\" in \
                 /etc/vmagent/config.toml if it is not wanted."
            }
            Self::Denied {
                listen: Listen::Vsock(_),
                ..
            } => {
                "Let systemd bind the port: systemctl enable vmagent.socket, then systemctl \
                 restart vmagent. Without systemd, grant CAP_NET_BIND_SERVICE."
            }
            Self::Denied { .. } => {
                "Let the agent's user write to the directory of [bridge] listen."
            }
            Self::Failed { .. } => "See [bridge] listen in /etc/vmagent/config.toml.",
            // Not "enable --now": a socket unit can't be started while its service runs.
            Self::Served(Listen::Vsock(_)) => {
                "It may stay. To switch to vmagent: if it is systemd's sshd-vsock.socket, \
                 systemctl enable vmagent.socket, then systemctl restart vmagent; otherwise stop \
                 the other program, and vmagent takes the port within seconds."
            }
            Self::Served(_) => {
                "It may stay. To switch to vmagent, stop it: vmagent takes over within seconds."
            }
            Self::Taken { .. } | Self::Untried { .. } => {
                "If it is systemd's sshd-vsock.socket, systemctl enable vmagent.socket, then \
                 systemctl restart vmagent takes the port over. Otherwise stop the other program, \
                 or set [bridge] listen to another port or to \"off\"."
            }
            Self::WrongSocket(_) => {
                "See systemctl cat vmagent.socket: it needs ListenStream=vsock::22 and Accept=no."
            }
        }
        .to_owned()
    }
}
