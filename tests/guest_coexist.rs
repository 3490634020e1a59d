//! In a real guest: the bridge beside others that have its vsock port, and what one end of a
//! connection over true AF_VSOCK does to the other.

use std::time::{Duration, Instant};

use harness::failure::{Failure, Result};
use harness::guest::Guest;
use harness::limits::SOON;
use harness::netns::Namespace;
use serde_json::Value;

/// How soon vmagent is on its way to the port once another has left it. What follows is the start
/// of a socket and a process by systemd: a second, and many where the processor is emulated.
const NOTICED: f64 = 4.0;
/// An emulated guest is slow to start programs, and that it is slow is no fault.
const PATIENCE: Duration = SOON;

/// A program that has the port before vmagent: an SSH server, as far as anybody can tell.
const OTHER: &str = "systemd-run --quiet --unit=other python3 -c '
import socket
listener = socket.socket(socket.AF_VSOCK)
listener.bind((socket.VMADDR_CID_ANY, 22))
listener.listen()
while True:
    caller, _ = listener.accept()
    caller.sendall(b\"SSH-2.0-other\\r\\n\")
    caller.close()'
until ss --vsock --listening --no-header | grep -q :22; do sleep 0.1; done";

fn bridge(status: &Value) -> (&str, &str) {
    let bridge = &status["bridge"];
    (
        bridge["state"].as_str().unwrap_or_default(),
        bridge["fault"]["code"].as_str().unwrap_or_default(),
    )
}

#[test]
fn others_on_the_vsock_port_and_the_ends_of_connections() -> Result<()> {
    let namespace = Namespace::new()?;
    let guest = Guest::restore(&namespace)?;
    another_is_left_alone_and_followed(&guest)?;
    a_masked_socket_leaves_the_port_to_systemd_and_what_that_leaves_to_nobody(&guest)?;
    ends_and_resets_are_carried_over_true_vsock(&guest)
}

fn another_is_left_alone_and_followed(guest: &Guest) -> Result<()> {
    // So that its socket unit finds the port taken, and the unprivileged agent is on its own.
    guest.run("systemctl stop vmagent.socket vmagent.service")?;
    guest.run(OTHER)?;
    guest.run("systemctl start vmagent.service")?;
    let status = guest.wait_status("foreign", PATIENCE, |status| {
        bridge(status) == ("foreign", "port-served") && status["health"] != "starting"
    })?;
    assert_eq!(status["health"], "ok", "{status:#}");
    let plain = guest.run("vmagent status")?;
    assert!(plain.contains("To switch to vmagent"), "{plain}");

    guest.run("systemctl stop other")?;
    let start = Instant::now();
    guest.wait_status("ready bridge", PATIENCE, |status| {
        bridge(status).0 == "ready"
    })?;
    let took = start.elapsed();
    let stamps = guest.run(
        "journalctl --boot --output=short-monotonic | sed -n \
         's/^\\[ *\\([0-9.]*\\)\\].*\\(Stopped other.service\\|it is free now\\).*/\\1/p'",
    )?;
    let stamps: Vec<f64> = stamps
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    println!("left and noticed at {stamps:?}; served {took:?} later");
    guest.ssh("true")?;
    assert_eq!(guest.run("systemctl is-active vmagent.socket")?, "active\n");
    let [first, second] = stamps[..] else {
        return Err(Failure::new(format!("{stamps:?}")));
    };
    assert!(second - first <= NOTICED, "{stamps:?}");
    Ok(())
}

fn a_masked_socket_leaves_the_port_to_systemd_and_what_that_leaves_to_nobody(
    guest: &Guest,
) -> Result<()> {
    guest.run("systemctl mask --now vmagent.socket")?;
    guest.wait_status("foreign", PATIENCE, |status| {
        bridge(status) == ("foreign", "port-served")
    })?;
    guest.ssh("true")?;
    let restarts = || guest.run("systemctl show --value --property=NRestarts vmagent.service");
    let before: u32 = restarts()?.trim().parse()?;
    guest.run("systemctl stop sshd-vsock.socket")?;
    let status = guest.wait_status("free port", PATIENCE, |status| {
        bridge(status) == ("waiting", "bind-denied") && status["bridge"]["fault"]["count"] != 1
    })?;
    let advice = status["bridge"]["fault"]["advice"]
        .as_str()
        .unwrap_or_default();
    assert!(advice.contains("systemctl restart vmagent"), "{advice}");
    // It asked for the port once, and does not insist.
    assert_eq!(restarts()?, format!("{}\n", before + 1));
    guest.run("systemctl unmask vmagent.socket; systemctl enable vmagent.socket; systemctl restart vmagent")?;
    guest.wait_status("ready bridge", PATIENCE, |status| {
        bridge(status).0 == "ready"
    })?;
    guest.ssh("true").map(drop)
}

fn ends_and_resets_are_carried_over_true_vsock(guest: &Guest) -> Result<()> {
    guest.write("/run/relay.py", include_str!("guest_relay.py"))?;
    guest.run(
        "printf '[bridge]\\nallow_cids = [1, 2]\\nsshd = \"127.0.0.1:2200\"\\n' \
             >/etc/vmagent/config.toml
         systemctl restart vmagent.service",
    )?;
    let said = guest.run("timeout 50 python3 /run/relay.py 2>&1")?;
    println!("{said}");
    assert_eq!(said.lines().count(), 6, "{said}");
    guest.wait_status("end of all connections", PATIENCE, |status| {
        status["bridge"]["open"] == 0
    })?;
    Ok(())
}
