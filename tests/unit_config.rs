//! Under a real systemd, a broken configuration closes neither the ways in nor their connections.

use harness::caller::{Caller, Held};
use harness::limits::SOON;
use harness::pid1::{Debian, Machine};
use harness::wait;
use serde_json::Value;

use crate::units::{answers, plan};

/// The slice `config` of the status.
fn config(machine: &Machine) -> Value {
    let output = machine.run("vmagent status --json");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status["config"].clone()
}

fn wait_config(machine: &Machine, state: &str, code: Option<&str>) {
    let now = || {
        let config = config(machine);
        let same = config["state"] == state && config["fault"]["code"].as_str() == code;
        same.then_some(())
    };
    if let Err(failure) = wait::until(state, SOON, now) {
        panic!("{failure}: {}\n{}", config(machine), machine.journal());
    }
}

#[test]
fn a_broken_configuration_costs_no_way_in_and_no_connection() {
    const FILE: &str = "/etc/vmagent/config.toml";
    for debian in Debian::ALL {
        let machine = plan(debian).boot();
        wait_config(&machine, "good", None);
        let held = Held::open(&machine);
        let caller = Caller::start(&machine);
        machine.check(&format!("cp -a {FILE} /tmp/good; echo nonsense=1 >>{FILE}"));
        machine.check("systemctl restart vmagent.service");
        wait_config(&machine, "last-good", Some("config-invalid"));
        machine.check(&format!("cp -a /tmp/good {FILE}; chmod 600 {FILE}"));
        machine.check("systemctl restart vmagent.service");
        wait_config(&machine, "last-good", Some("config-unreadable"));
        let calls = caller.stop();
        assert!(
            calls.answered > 0 && (calls.refused, calls.cut) == (0, 0),
            "{calls:?}"
        );
        assert!(held.alive());
        // A stop removes the runtime directory, as a reboot does.
        machine.check("systemctl stop vmagent.socket vmagent.service");
        machine.check("systemctl start vmagent.service");
        wait_config(&machine, "last-good", Some("config-unreadable"));
        answers(&machine, "SSH-2.0-");
        let said = machine.run("vmagent check-config").status.code();
        assert_eq!(said, Some(0), "it is good, and root can read it");
        machine.check(&format!(
            "chmod 644 {FILE}; systemctl restart vmagent.service"
        ));
        wait_config(&machine, "good", None);
        assert_eq!(machine.property("vmagent.service", "NRestarts"), "0");

        // Now no good configuration is known.
        machine.check("systemctl stop vmagent.socket vmagent.service");
        machine.check(&format!(
            "rm /var/lib/vmagent/config.toml; echo nonsense=1 >>{FILE}"
        ));
        machine.check("systemctl start vmagent.service");
        wait_config(&machine, "partial", Some("config-invalid"));
        answers(&machine, "SSH-2.0-");
        assert_eq!(machine.run("vmagent check-config").status.code(), Some(78));
        let plain = machine.run("vmagent status");
        let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
        assert!(
            plain.starts_with("degraded") && plain.contains("config-invalid"),
            "{plain}"
        );
        assert_eq!(machine.property("vmagent.service", "NRestarts"), "0");
        let said = machine.journal();
        let lines = said
            .lines()
            .filter(|line| line.contains("no good one is known"));
        assert_eq!(lines.count(), 1, "{said}");
    }
}
