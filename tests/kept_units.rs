//! The unit's part in keeping the last good document: it outlives a restart and a crash, and
//! nothing else.

use harness::limits::SOON;
use harness::pid1::{Debian, Machine};
use harness::wait;
use serde_json::Value;

use crate::units::plan;

const KEPT: &str = "/run/vmagent/document";

/// Waits until the agent's metadata are like this.
fn wait_for(machine: &Machine, what: &str, condition: impl Fn(&Value) -> bool) {
    let now = || {
        let output = machine.run("vmagent status --json");
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        condition(&status["metadata"]).then_some(())
    };
    if let Err(failure) = wait::until(what, SOON, now) {
        panic!("{failure}\n{}", machine.journal());
    }
}

#[test]
fn it_lies_in_memory_from_one_agent_to_the_next_and_goes_with_the_service() {
    for debian in Debian::ALL {
        let machine = plan(debian).boot();
        let source = "/etc/vmagent/tunnel.yaml";
        machine.check(&format!("umask 077; echo 'version: 1' >{source}"));
        let there = || machine.path(KEPT).exists().then_some(());
        if let Err(failure) = wait::until("kept document", SOON, there) {
            panic!("{debian:?}: {failure}\n{}", machine.journal());
        }
        assert_eq!(
            machine.check(&format!("stat -c %U:%a {KEPT}")),
            "vmagent:600"
        );
        assert_eq!(machine.check("stat -f -c %T /run/vmagent"), "tmpfs");
        // The disk has room for one document and the last good configuration.
        assert_eq!(
            machine.check("stat -c %U:%a /var/lib/vmagent"),
            "vmagent:700"
        );
        assert_eq!(machine.check("ls -A /var/lib/vmagent"), "config.toml");

        // Fault: its source can't be read any more.
        machine.check(&format!("rm {source} && mkdir {source}"));
        wait_for(&machine, "failure", |metadata| {
            metadata["state"] == "failed"
        });
        for end in [
            "systemctl restart vmagent.service",
            "systemctl kill --signal=KILL vmagent.service",
        ] {
            machine.check(end);
            wait_for(&machine, end, |metadata| {
                metadata["kept"] == true && metadata["source"] == "file"
            });
        }
        machine.check("systemctl stop vmagent.socket vmagent.service");
        assert!(!machine.path(KEPT).exists());
        machine.check("systemctl start vmagent.socket vmagent.service");
        wait_for(&machine, "failure without one", |metadata| {
            metadata["state"] == "failed" && metadata["source"].is_null()
        });
    }
}
