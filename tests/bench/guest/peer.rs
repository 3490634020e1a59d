//! What leads from vsock to a server in the guest.

use crate::stage::UNBOUND;

/// Where the load server listens in the guest, for those that lead to it.
pub const SERVER: &str = "127.0.0.1:2200";

/// One way from vsock to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The bridge.
    Vmagent,
    /// A process for each connection, as people set it up.
    Socat,
    /// The same with as much room as its manual recommends for speed.
    SocatBig,
    /// What systemd makes by itself: an `sshd -i` for each connection. It is no bridge to
    /// anything else, so its greeting is all there is to compare.
    Sshd,
    /// The load server itself, with nothing in between: as fast as vsock is.
    Direct,
}

impl Peer {
    /// All of them, in the table's order.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::Vmagent,
        Self::Socat,
        Self::SocatBig,
        Self::Sshd,
    ];

    /// Their names, in the same order.
    pub const fn names() -> [&'static str; 5] {
        let [a, b, c, d, e] = Self::ALL;
        [a.name(), b.name(), c.name(), d.name(), e.name()]
    }

    /// Its column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmagent => "vmagent",
            Self::Socat => "socat",
            Self::SocatBig => "socat -b 65536",
            Self::Sshd => "sshd -i",
            Self::Direct => "direct",
        }
    }

    /// Its vsock port.
    pub fn port(self) -> u32 {
        match self {
            Self::Vmagent => 2201,
            Self::Socat => 2202,
            Self::SocatBig => 2203,
            Self::Sshd => 2204,
            Self::Direct => 2205,
        }
    }

    /// The name of its unit in the guest, and so of its control group.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Vmagent => "bench-vmagent",
            Self::Socat => "bench-socat",
            Self::SocatBig => "bench-socat-big",
            Self::Sshd => "bench-sshd",
            Self::Direct => "bench-direct",
        }
    }

    /// Whether it leads to the load server, so that everything can be measured through it.
    pub fn carries_load(self) -> bool {
        self != Self::Sshd
    }

    /// Whether it is a program of its own between vsock and the server.
    pub fn is_bridge(self) -> bool {
        matches!(self, Self::Vmagent | Self::Socat | Self::SocatBig)
    }

    /// The bash script that starts it in the guest; what it needs is in `/opt/bench`.
    pub fn start(self) -> String {
        let (unit, port) = (self.unit(), self.port());
        let run = |program: &str| {
            format!("systemd-run --quiet --unit={unit} --property=LimitNOFILE=65536 {program}\n")
        };
        // Its default of five connections that wait would not last through a burst.
        let socat = |options: &str| {
            run(&format!(
                "/opt/bench/socat {options} VSOCK-LISTEN:{port},fork,backlog=128 TCP:{SERVER}"
            ))
        };
        match self {
            Self::Vmagent => {
                let config = format!(
                    "[bridge]\nlisten = \"vsock:{port}\"\nallow_cids = [1, 2]\nsshd = \"{SERVER}\"\n\
                     {}\n[metadata]\nsources = []\n[status]\nsocket = \"/opt/bench/status.sock\"\n",
                    UNBOUND.join("\n")
                );
                let vmagent = run("/usr/bin/vmagent run --config /opt/bench/vmagent.toml");
                format!("cat >/opt/bench/vmagent.toml <<'END'\n{config}END\n{vmagent}")
            }
            Self::Socat => socat(""),
            Self::SocatBig => socat("-b 65536"),
            Self::Sshd => format!(
                "cat >/run/systemd/system/{unit}.socket <<'END'\n[Socket]\nListenStream=vsock::{port}\n\
                 Accept=yes\nMaxConnections=1024\nTriggerLimitIntervalSec=0\nPollLimitIntervalSec=0\nEND\n\
                 cat >/run/systemd/system/{unit}@.service <<'END'\n[Unit]\nCollectMode=inactive-or-failed\n\
                 [Service]\nExecStart=-/usr/sbin/sshd -i\nStandardInput=socket\nEND\n\
                 systemctl daemon-reload\nsystemctl start {unit}.socket\n"
            ),
            Self::Direct => run(&format!("/opt/bench/bench-load serve vsock:any:{port}")),
        }
    }
}
