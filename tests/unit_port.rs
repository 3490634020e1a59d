//! The vsock port moves between vmagent and systemd's own socket, whatever is enabled.

use harness::caller::{self, Held};
use harness::limits::SOON;
use harness::pid1::{Debian, Machine, Plan};
use harness::wait;
use serde_json::Value;

use crate::units::{answers, plan};

/// The socket unit that systemd 256 and later generate in a VM, on another address.
const GENERATOR: &str = r#"#!/bin/sh
mkdir "$1/sockets.target.wants"
ln -s ../sshd-vsock.socket "$1/sockets.target.wants/"
printf '[Socket]\nListenStream=@bridge\nAccept=yes\n' >"$1/sshd-vsock.socket"
printf '[Service]\nExecStart=-/bin/echo systemd\nStandardInput=socket\n' >"$1/sshd-vsock@.service"
"#;

fn with_generator(debian: Debian) -> Plan {
    plan(debian).file(
        "/etc/systemd/system-generators/sshd-vsock",
        0o755,
        GENERATOR,
    )
}

#[test]
fn enabled_it_takes_the_port_over_and_disabled_it_gives_it_back() {
    const UNITS: &str = "vmagent.socket vmagent.service";
    for debian in Debian::ALL {
        // The port is vmagent's from boot on.
        let machine = with_generator(debian).boot();
        answers(&machine, "SSH-2.0-");
        machine.check(&format!("systemctl disable --quiet --now {UNITS}"));
        answers(&machine, "systemd");
        machine.check(&format!("systemctl enable --quiet --now {UNITS}"));
        answers(&machine, "SSH-2.0-");
        for harmless in [
            "systemctl restart vmagent.socket",
            "systemctl start sshd-vsock.socket",
            "systemctl restart sshd-vsock.socket",
            "systemctl start sockets.target",
            "systemctl isolate multi-user.target",
        ] {
            machine.check(harmless);
            answers(&machine, "SSH-2.0-");
        }
        machine.check("dpkg --remove vmagent");
        answers(&machine, "systemd");

        let machine = with_generator(debian)
            .script(&format!("systemctl disable {UNITS}"))
            .boot();
        answers(&machine, "systemd");
    }
}

/// Waits for a status of the running agent.
fn wait_status(machine: &Machine, what: &str, wanted: impl Fn(&Value) -> bool) {
    let look = || {
        let text = machine.run("vmagent status --json").stdout;
        let status = serde_json::from_slice::<Value>(&text).ok()?;
        wanted(&status).then_some(())
    };
    if let Err(failure) = wait::until(what, SOON, look) {
        panic!("{failure}\n{}", machine.journal());
    }
}

/// Waits until systemd has no jobs left. The service runs then, and has never failed.
fn runs(machine: &Machine) {
    let settled = || {
        let jobs = machine.check("systemctl list-jobs --no-legend");
        jobs.is_empty().then_some(())
    };
    if let Err(failure) = wait::until("end of all jobs", SOON, settled) {
        panic!("{failure}\n{}", machine.journal());
    }
    assert_eq!(machine.property("vmagent.service", "ActiveState"), "active");
    assert_eq!(machine.property("vmagent.service", "NRestarts"), "0");
    assert_eq!(machine.check("systemctl --failed --no-legend"), "");
}

#[test]
fn the_socket_alone_gives_the_port_back_and_takes_it_over() {
    for debian in Debian::ALL {
        let machine = with_generator(debian).boot();
        for (off, on) in [
            (
                "systemctl disable --quiet --now",
                "systemctl enable --quiet --now",
            ),
            (
                "systemctl mask --quiet --now",
                "systemctl unmask --quiet vmagent.socket; systemctl start",
            ),
        ] {
            answers(&machine, "SSH-2.0-");
            let held = Held::open(&machine);
            machine.check(&format!("{off} vmagent.socket"));
            answers(&machine, "systemd");
            runs(&machine);
            // A start of the service does not start the socket.
            machine.check("systemctl restart vmagent.service");
            answers(&machine, "systemd");
            wait_status(&machine, "kept connection", |status| {
                status["bridge"]["open"] == 1
            });
            machine.check(&format!("{on} vmagent.socket"));
            answers(&machine, "SSH-2.0-");
            runs(&machine);
            assert!(held.alive(), "{debian:?}: {}", machine.journal());
        }
        // While the socket is enabled, a stop of it neither gives the port to systemd nor is
        // undone.
        machine.check("systemctl stop vmagent.socket");
        runs(&machine);
        assert_eq!(
            machine.property("vmagent.socket", "ActiveState"),
            "inactive"
        );
        assert_eq!(
            machine.property("sshd-vsock.socket", "ActiveState"),
            "inactive"
        );
        runs(&machine);
        machine.check("systemctl restart vmagent.service");
        answers(&machine, "SSH-2.0-");
        // A stop of both units, a stop of the service alone, and a removal of the package.
        machine.check("systemctl stop vmagent.service vmagent.socket");
        assert_eq!(
            machine.property("vmagent.service", "ActiveState"),
            "inactive"
        );
        machine.check("systemctl start vmagent.service");
        answers(&machine, "SSH-2.0-");
        machine.check("systemctl disable --quiet --now vmagent.socket");
        answers(&machine, "systemd");
        machine.check("dpkg --remove vmagent");
        answers(&machine, "systemd");
    }
}

#[test]
fn what_is_disabled_stays_off_at_the_next_boot() {
    for debian in Debian::ALL {
        for disable in [
            "systemctl disable vmagent.socket",
            "systemctl mask vmagent.socket",
            "echo 'disable vmagent.socket' >/etc/systemd/system-preset/10-here.preset
             systemctl preset vmagent.service vmagent.socket",
        ] {
            let plan = with_generator(debian).script("mkdir -p /etc/systemd/system-preset");
            let machine = plan.script(disable).boot();
            answers(&machine, "systemd");
            runs(&machine);
            // An upgrade does not enable a unit.
            machine.check("dpkg --install /run/host/*.deb");
            answers(&machine, "systemd");
            runs(&machine);
        }
        // With only the service disabled, the socket starts it.
        let machine = with_generator(debian)
            .script("systemctl disable vmagent.service; systemctl enable vmagent.socket")
            .boot();
        answers(&machine, "SSH-2.0-");
    }
}

/// Debian 12 has no vsock socket of systemd's: after vmagent stops, nobody listens.
#[test]
fn without_a_socket_of_systemd_the_port_is_free() {
    let machine = plan(Debian::Bookworm).boot();
    answers(&machine, "SSH-2.0-");
    machine.check("systemctl disable --quiet --now vmagent.socket");
    runs(&machine);
    assert!(caller::greeting(&machine).is_err());
    machine.check("systemctl enable --quiet --now vmagent.socket");
    answers(&machine, "SSH-2.0-");
    runs(&machine);
}
