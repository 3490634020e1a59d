//! The way in through NAT: a tunnel that the guest holds to a proxy.

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use harness::failure::Result;
use harness::guest::{Guest, key};
use harness::limits::SOON;
use harness::metadata::Metadata;
use harness::wait;
use harness::world::{LOOPBACK, PUBLIC, World};

const UP: Duration = SOON;

/// Where a person puts the tunnel document.
const DOCUMENT: &str = "/etc/vmagent/tunnel.yaml";
const KEPT: &str = "/run/vmagent/document";

#[test]
fn people_come_in_through_the_proxy_and_an_attacker_locks_nobody_else_out() -> Result<()> {
    let world = World::new(&[PUBLIC, LOOPBACK])?;
    let guest = Guest::restore(&world.namespace)?;
    world.add_ways(&guest, &key()?)?;
    let login = |way| guest.client.run(&world.namespace, way, "id --user --name");
    guest.write(DOCUMENT, &world.document(LOOPBACK)?)?;
    guest.wait_tunnel(UP)?;
    assert_eq!(login("jump")?, "root\n");

    guest.write(DOCUMENT, &world.document(PUBLIC)?)?;
    let status = guest.wait_status("tunnel to the public port", UP, |status| {
        status["tunnel"]["state"] == "up" && status["tunnel"]["port"] == PUBLIC.port
    })?;
    assert_eq!(status["tunnel"]["proven"], true, "{status:#}");
    assert_eq!(status["nat"]["verdict"], "nat", "{status:#}");
    assert_eq!(login("tunnel")?, "root\n");

    // What a scanner does: connects, reads the banner, leaves. From 127.0.0.1.
    let port = ([127, 0, 0, 1], PUBLIC.port).into();
    let banner = || -> Result<bool> {
        let mut stream = world.namespace.connect(port)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut start = [0; 8];
        Ok(matches!(stream.read(&mut start), Ok(n) if start[..n].starts_with(b"SSH-2.0")))
    };
    let answered = (0..100).filter(|_| banner().unwrap_or(false)).count();
    assert_ne!(answered, 0, "the attacker never reached sshd");
    wait::until("penalty for the attacker", SOON, || {
        (!banner().unwrap_or(false)).then_some(())
    })?;

    // While sshd still punishes it, the host and another origin get in.
    assert_eq!(guest.ssh("echo host")?, "host\n");
    let mut ssh = guest.client.command("ssh");
    ssh.args(["-b", "127.0.0.9", "tunnel", "--", "echo other"]);
    assert_eq!(world.namespace.run(&ssh, SOON)?, "other\n");
    assert!(
        !banner()?,
        "sshd had forgiven the attacker: nothing was shown"
    );
    Ok(())
}

#[test]
fn no_secret_leaves_the_memory_of_the_agent() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let metadata = Metadata::start(&world.namespace)?;
    metadata.openstack("i-secret", &world.wrapped(PUBLIC)?);
    let guest = Guest::restore(&world.namespace)?;
    guest.run("systemctl reload vmagent.service")?;
    guest.wait_tunnel(UP)?;
    guest.run("systemctl reload vmagent.service; systemctl restart vmagent.service")?;
    guest.wait_tunnel(UP)?;

    let secret = world.secret()?;
    assert!(secret.len() > 60);
    let places = [
        ("the journal", "journalctl --output=verbose --no-pager"),
        ("status", "vmagent status; vmagent status --json"),
        (
            "the environment",
            "cat /proc/$(systemctl show --value --property=MainPID vmagent.service)/environ",
        ),
        (
            "the command line",
            "cat /proc/$(systemctl show --value --property=MainPID vmagent.service)/cmdline",
        ),
    ];
    for (place, command) in places {
        let text = guest.run(&format!("{{ {command}; }} | grep -acF '{secret}' || true"))?;
        assert_eq!(text, "0\n", "the private key is in {place}");
    }
    // But for the kept document, in memory and for its owner alone.
    let files = guest.run(&format!(
        "grep -rlaF '{secret}' /run /etc /tmp /var 2>/dev/null | sort --unique || true"
    ))?;
    assert_eq!(files, format!("{KEPT}\n"), "the private key is in files");
    let kept = guest.run(&format!(
        "stat --file-system --format=%T {KEPT}; stat --format='%a %U' {KEPT}"
    ))?;
    assert_eq!(kept, "tmpfs\n600 vmagent\n");
    let swap = "cat /sys/fs/cgroup/system.slice/vmagent.service/memory.swap.max";
    assert_eq!(
        guest.run(swap)?,
        "0\n",
        "what is in memory can be swapped out"
    );
    // All that was ever written to the disk, deleted files too. And the search would find it.
    let on_disk = |text: &str| -> Result<bool> {
        guest.run("sync")?;
        // One byte sequence in a file of any size.
        let mut grep = Command::new("grep");
        grep.args(["-qaF", text]).arg(guest.disk());
        Ok(grep.status()?.success())
    };
    assert!(!on_disk(&secret)?, "the private key is on the disk");
    let canary = format!("{}{}", world.secret()?, "canary");
    guest.run(&format!("echo '{canary}' >/var/tmp/canary"))?;
    assert!(on_disk(&canary)?, "the search finds nothing at all");
    Ok(())
}
