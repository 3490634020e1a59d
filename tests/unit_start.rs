//! The service starts on systems that lack what other services take for granted.

use harness::caller;
use harness::limits::SOON;
use harness::pid1::{Debian, Machine, Plan};
use harness::wait;
use serde_json::Value;

use crate::units::plan;

/// Moves the content of `/var`, without the agent's directory, to a file system in memory. `change`
/// is run on it before systemd starts.
fn with_var(debian: Debian, change: &str) -> Plan {
    plan(debian).script(&format!(
        "mount -t tmpfs -o mode=755 tmpfs /mnt
         cp -a /var/. /mnt/
         rm -rf /mnt/lib/vmagent
         mount --bind /mnt /var
         umount -l /mnt
         {change}"
    ))
}

/// The agent has run since its first start, and sshd answers through it.
fn is_well(machine: &Machine, debian: Debian) -> Value {
    let reached = || caller::greeting(machine).ok();
    let line = wait::until("sshd's banner", SOON, reached);
    let line =
        line.unwrap_or_else(|failure| panic!("{debian:?}: {failure}\n{}", machine.journal()));
    assert!(line.starts_with("SSH-2.0-"), "{debian:?}: {line}");
    assert_eq!(
        machine.property("vmagent.service", "NRestarts"),
        "0",
        "{debian:?}: {}",
        machine.journal()
    );
    let status = machine.run("vmagent status --json").stdout;
    serde_json::from_slice(&status).unwrap()
}

#[test]
fn on_a_read_only_var_without_its_directory() {
    for debian in Debian::ALL {
        let config = "[metadata]\ncache = \"state\"\n";
        let machine = with_var(debian, "mount -o remount,ro /var")
            .file("/etc/vmagent/config.toml", 0o644, config)
            .file("/etc/vmagent/tunnel.yaml", 0o600, "version: 1\n")
            .boot();
        assert!(!machine.run("touch /var/lib/x").status.success());
        let status = is_well(&machine, debian);
        assert_eq!(status["config"]["state"], "good", "{status:#}");
        // A document that can't be kept is a note, and does not degrade the health.
        let noted = || {
            let status = machine.run("vmagent status --json").stdout;
            let status: Value = serde_json::from_slice(&status).ok()?;
            let noted = status["metadata"]["unkept"]["code"] == "document-not-kept";
            noted.then_some(status)
        };
        let status = wait::until("note", SOON, noted)
            .unwrap_or_else(|failure| panic!("{failure}\n{}", machine.journal()));
        assert_eq!(status["metadata"]["state"], "found", "{status:#}");
        let message = status["metadata"]["unkept"]["message"].as_str().unwrap();
        assert!(message.contains("/var/lib/vmagent"), "{message}");
        let plain = machine.run("vmagent status").stdout;
        let plain = String::from_utf8_lossy(&plain).into_owned();
        let (faults, notes) = plain.split_once("Worth knowing").expect(&plain);
        assert!(notes.contains("document-not-kept"), "{plain}");
        assert!(!faults.contains("document-not-kept"), "{plain}");
    }
}

#[test]
fn without_var_tmp() {
    for debian in Debian::ALL {
        // systemd-tmpfiles can't create it again.
        let machine = with_var(debian, "rmdir /var/tmp; mount -o remount,ro /var").boot();
        assert!(!machine.path("/var/tmp").exists());
        is_well(&machine, debian);
    }
}

/// No file or directory can be created there, and existing ones stay as they are.
const NO_ROOM: &str = "mount -o remount,nr_inodes=$(($(df --output=iused /var | tail -n 1))) /var";

#[test]
fn on_a_full_var() {
    for debian in Debian::ALL {
        let machine = with_var(debian, NO_ROOM).boot();
        // systemd-tmpfiles had no room to create the directory.
        assert!(!machine.path("/var/lib/vmagent").exists());
        is_well(&machine, debian);
    }
}

#[test]
fn where_a_disk_of_var_does_not_come() {
    for debian in Debian::ALL {
        let line = "/dev/disk/by-label/none /var/tmp ext4 nofail,x-systemd.device-timeout=1s 0 0\n";
        let machine = plan(debian).file("/etc/fstab", 0o644, line).boot();
        assert_eq!(machine.property("var-tmp.mount", "ActiveState"), "inactive");
        is_well(&machine, debian);
    }
}
