//! In the sandbox of its unit, the agent finds each sshd that systemd or Debian may start.

use std::time::Instant;

use harness::caller;
use harness::limits::SOON;
use harness::pid1::{Debian, Machine};
use harness::wait;
use serde_json::Value;

use crate::units::plan;

fn status(machine: &Machine) -> Value {
    let output = machine.run("vmagent status --json");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// A user's connection makes the agent search, and reaches sshd at this address.
fn leads_to(machine: &Machine, address: &str, by: &str) {
    let start = Instant::now();
    let greeting = caller::greeting(machine).unwrap();
    assert!(
        greeting.starts_with("SSH-2.0-OpenSSH"),
        "{address}: {greeting:?}\n{}",
        machine.journal()
    );
    let ready = || {
        let sshd = status(machine)["sshd"].take();
        let there = sshd["state"] == "ready" && sshd["address"] == address;
        there.then_some(sshd)
    };
    let sshd = wait::until("sshd", SOON, ready).unwrap_or_else(|error| {
        panic!(
            "{address}: {error}\n{:#}\n{}",
            status(machine),
            machine.journal()
        )
    });
    println!("{address} by {by} after {:.1?}", start.elapsed());
    assert_eq!(sshd["found_by"], by, "{sshd:#}");
}

/// Replaces the socket unit of sshd by one in this form.
fn socket(machine: &Machine, listen: &str) {
    machine.check(&format!(
        "systemctl stop ssh.service ssh.socket; mkdir -p /etc/systemd/system/ssh.socket.d
        printf '[Socket]\\nListenStream=\\nListenStream={listen}\\n' >/etc/systemd/system/ssh.socket.d/x.conf
        systemctl daemon-reload; systemctl disable ssh.service; systemctl enable --now ssh.socket"
    ));
}

/// The service unit for one connection of a socket unit with `Accept=yes`.
const INSTANCE: &str = "[Service]\nExecStart=-/usr/sbin/sshd -i\nStandardInput=socket\n\
                        RuntimeDirectory=sshd\nRuntimeDirectoryPreserve=yes\n";

#[test]
fn sshd_is_found_however_systemd_starts_it() {
    for debian in Debian::ALL {
        let port = "/etc/ssh/sshd_config.d/port.conf";
        let machine = plan(debian)
            .file(port, 0o644, "Port 2022\n")
            .file("/etc/systemd/system/ssh@.service", 0o644, INSTANCE)
            .boot();
        leads_to(&machine, "127.0.0.1:2022", "sshd_config");
        // In the human-readable status, as root sees it.
        let said = machine.check("vmagent check-config");
        assert!(
            said.contains("sshd is expected on 127.0.0.1:2022 (sshd_config)"),
            "{said}"
        );
        let said = machine.check("vmagent status || true");
        assert!(said.contains("127.0.0.1:2022 (sshd_config)"), "{said}");

        // A port that none of the files names that the agent may read.
        for (hide, options) in [("rm -f", "-p 2023"), ("printf 'Port 2024\\n' >", "")] {
            machine.check(&format!(
                "{hide} {port}; chmod 600 {port} || true
                echo SSHD_OPTS='{options}' >/etc/default/ssh; systemctl restart ssh"
            ));
            let port = if options.is_empty() { 2024 } else { 2023 };
            leads_to(&machine, &format!("127.0.0.1:{port}"), "listening socket");
        }
        machine.check(&format!("rm {port} /etc/default/ssh"));

        for (listen, address) in [
            ("[::1]:2025", "[::1]:2025"),
            // systemd opens it for both families.
            ("[::]:2027", "127.0.0.1:2027"),
            // sshd accepts TCP sockets only, so each connection gets its own process.
            ("/run/sshd.sock\\nAccept=yes", "unix:/run/sshd.sock"),
            ("127.0.0.1:2026", "127.0.0.1:2026"),
        ] {
            socket(&machine, listen);
            leads_to(&machine, address, "ssh.socket");
        }
        // A service that its socket started keeps that socket open.
        machine.check("systemctl disable ssh.socket; systemctl stop ssh.socket ssh.service");
        if debian == Debian::Trixie {
            // The search tries systemd's own socket last. It serves the bridge alone.
            leads_to(&machine, "unix:/run/ssh-unix-local/socket", "ssh.socket");
        }
        machine.check("systemctl enable --now ssh.service");
        // Only the search once a minute detects that sshd listens on a better address.
        leads_to(&machine, "127.0.0.1:22", "port 22");
    }
}
