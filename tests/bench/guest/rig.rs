//! The guest with all peers in it, and the load on either side.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use harness::failure::{Context, Failure, Result};
use harness::guest::{Guest, VM};
use harness::netns::Namespace;
use harness::{paths, process, wait};
use serde_json::Value;

use super::peer::{Peer, SERVER};
use crate::load::Load;

/// How long one measurement may take. The guest may be emulated.
const LIMIT: Duration = Duration::from_secs(300);

/// Where the load comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The guest itself, by `vsock_loopback`.
    Guest,
    /// Its host, through the device.
    Host,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Guest, Self::Host];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Guest => "Inside a guest, over vsock_loopback",
            Self::Host => "From the host, through the vsock device",
        }
    }

    /// What a figure is written down under.
    pub fn key(self, what: &str) -> String {
        match self {
            Self::Guest => format!("guest-{what}"),
            Self::Host => format!("host-{what}"),
        }
    }
}

/// What a peer costs.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, summed over its processes, in KiB.
    pub resident: f64,
    /// The same, with what they share counted once.
    pub proportional: f64,
}

/// A guest with the peers.
pub struct Rig {
    guest: Guest,
    namespace: Arc<Namespace>,
    load: Load,
}

impl Rig {
    /// Restores a guest, brings in what it does not have, and starts all peers.
    ///
    /// # Errors
    ///
    /// If one of them does not answer.
    pub fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let guest = Guest::restore(&namespace)?;
        let rig = Self {
            load: Load::new(&namespace),
            guest,
            namespace,
        };
        rig.bring_programs()?;
        rig.guest.run(&format!(
            "modprobe vsock_loopback
             systemd-run --quiet --unit=bench-server --property=LimitNOFILE=65536 \
                 /opt/bench/bench-load serve tcp:{SERVER}"
        ))?;
        for peer in Peer::ALL {
            rig.guest.run(&peer.start()).during(peer.name())?;
            for side in Side::ALL {
                wait::retry(peer.name(), LIMIT, || {
                    rig.load(side, peer, &["greeting", "1"])
                })?;
            }
        }
        Ok(rig)
    }

    /// The load program, and the machine's socat with all that it is linked with.
    fn bring_programs(&self) -> Result<()> {
        let socat = Path::new("/usr/bin/socat");
        let mut libraries = linked(socat)?;
        let archive = self.guest.dir().join("programs.tar");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--dereference", "--transform=s,.*/,,", "--file"])
            .arg(&archive)
            .arg(socat)
            .arg(paths::helper("bench-load")?)
            .args(&libraries);
        process::run(&mut tar)?;
        let mut scp = self.guest.client.command("scp");
        scp.arg(&archive).arg(format!("{VM}:/run/bench.tar"));
        self.namespace.run(&scp, LIMIT)?;
        // It needs the loader of the machine that it comes from.
        libraries.retain(|path| is_loader(path));
        let loader = libraries
            .first()
            .and_then(|path| path.file_name())
            .ok_or_else(|| Failure::new("socat has no loader"))?;
        self.guest.run(&format!(
            "mkdir -p /opt/bench/lib; cd /opt/bench; tar -xf /run/bench.tar -C lib; rm /run/bench.tar
             mv lib/bench-load .
             printf '#!/bin/sh\\nexec {lib}/{loader} --library-path {lib} {lib}/socat \"$@\"\\n' >socat
             chmod +x socat",
            lib = "/opt/bench/lib",
            loader = loader.display(),
        ))?;
        Ok(())
    }

    /// What the load program measures through a peer.
    ///
    /// # Errors
    ///
    /// If a connection fails.
    pub fn load(&self, side: Side, peer: Peer, what: &[&str]) -> Result<Value> {
        match side {
            Side::Guest => {
                let endpoint = Self::endpoint(peer);
                let what = what.join(" ");
                let script = format!("/opt/bench/bench-load measure {endpoint} {what}");
                let printed = self.guest.run_within(&script, LIMIT)?;
                serde_json::from_str(&printed).during(printed)
            }
            Side::Host => self.load.measure(&self.endpoint_outside(peer), what),
        }
    }

    /// The same of bytes that move, with the processor time that the peer uses from when all
    /// connections are there until the last byte is.
    ///
    /// # Errors
    ///
    /// If a connection fails.
    pub fn bulk(
        &self,
        side: Side,
        peer: Peer,
        way: &str,
        count: usize,
        bytes: u64,
    ) -> Result<(Value, Duration)> {
        let what = ["--steps", way, &count.to_string(), &bytes.to_string()];
        let stat = format!(
            "cat /sys/fs/cgroup/system.slice/{}.service/cpu.stat",
            peer.unit()
        );
        let (result, before, after) = match side {
            Side::Guest => {
                let printed = self.guest.run_within(
                    &format!(
                        "coproc LOAD {{ /opt/bench/bench-load measure {} {}; }}
                         read -r _ <&${{LOAD[0]}}; {stat}; echo; echo >&${{LOAD[1]}}
                         read -r result <&${{LOAD[0]}}; {stat}; echo; echo \"$result\"
                         pid=$LOAD_PID; eval \"exec ${{LOAD[1]}}>&-\"; wait $pid",
                        Self::endpoint(peer),
                        what.join(" ")
                    ),
                    LIMIT,
                )?;
                let mut parts = printed.split("\n\n");
                let mut part = || parts.next().unwrap_or_default().to_owned();
                let (before, after, result) = (part(), part(), part());
                (
                    serde_json::from_str(&result).during(printed)?,
                    before,
                    after,
                )
            }
            Side::Host => {
                let mut steps = self.load.begin(&self.endpoint_outside(peer), &what)?;
                steps.next()?;
                let before = self.guest.run(&stat)?;
                steps.go()?;
                let result = steps.next()?;
                let after = self.guest.run(&stat)?;
                steps.end()?;
                (result, before, after)
            }
        };
        Ok((result, used(&after)?.saturating_sub(used(&before)?)))
    }

    fn endpoint(peer: Peer) -> String {
        format!("vsock:1:{}", peer.port())
    }

    fn endpoint_outside(&self, peer: Peer) -> String {
        format!("mux:{}:{}", self.guest.vsock.socket.display(), peer.port())
    }

    /// The machine and the programs, as a Markdown list.
    ///
    /// # Errors
    ///
    /// If a program does not say its version.
    pub fn describe(&self) -> Result<String> {
        let inside = self.guest.run(
            "nproc; uname -r; systemd-detect-virt; /opt/bench/socat -V | sed -n 's/^socat version //p'
             ssh -V 2>&1; vmagent --version",
        )?;
        let mut lines = inside.lines();
        let mut next = || {
            lines
                .next()
                .unwrap_or_default()
                .split(" on ")
                .next()
                .unwrap_or_default()
        };
        let (processors, kernel, virtualization) = (next(), next(), next());
        // systemd-detect-virt calls an emulated machine qemu, and one with KVM kvm.
        let how = match virtualization {
            "kvm" => "with KVM",
            _ => "without KVM: its processors are emulated (TCG), so compare columns, not machines",
        };
        Ok(format!(
            "- a guest in QEMU {how}; {processors} processors, Linux {kernel}\n\
             - from the host through vhost-device-vsock, which stands for the host's kernel\n\
             - socat {}; {}; {}\n",
            next(),
            next(),
            next(),
        ))
    }

    /// The memory of a peer that has so many connections, which say nothing.
    ///
    /// # Errors
    ///
    /// If the connections are not made.
    pub fn memory(&self, peer: Peer, connections: usize) -> Result<Memory> {
        let (unit, port) = (peer.unit(), peer.port());
        let printed = self.guest.run_within(
            &format!(
                "set -e; if (({connections})); then
                     coproc LOAD {{ /opt/bench/bench-load measure vsock:1:{port} hold {connections}; }}
                     read -r _ <&${{LOAD[0]}}
                 fi
                 for pid in $(cat /sys/fs/cgroup/system.slice/{unit}.service/cgroup.procs); do
                     cat /proc/$pid/smaps_rollup
                 done
                 if (({connections})); then pid=$LOAD_PID; eval \"exec ${{LOAD[1]}}>&-\"; wait $pid; fi"
            ),
            LIMIT,
        )?;
        let sum = |key: &str| {
            let lines = printed.lines().filter_map(|line| line.strip_prefix(key));
            let numbers =
                lines.filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            numbers.sum()
        };
        Ok(Memory {
            resident: sum("Rss:"),
            proportional: sum("Pss:"),
        })
    }
}

/// The processor time that a control group has used, with all processes that have ended.
fn used(stat: &str) -> Result<Duration> {
    let used = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    let used = used.ok_or_else(|| Failure::new(format!("no usage_usec: {stat}")))?;
    Ok(Duration::from_micros(used.trim().parse()?))
}

/// The libraries of a program and the loader, as ldd names them.
fn linked(program: &Path) -> Result<Vec<PathBuf>> {
    let printed = process::run(Command::new("ldd").arg(program))?;
    let paths = printed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

fn is_loader(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
}
