//! The Debian package: what it leaves alone when it is installed, upgraded and removed.

use std::collections::BTreeSet;
use std::process::Command;

use harness::caller::{self, Caller, Held};
use harness::package;
use harness::pid1::{self, Debian, Machine, Plan};
use harness::turn;

const INSTALL: &str = "dpkg --install /run/host/*.deb";

/// A machine that runs, and has the package only in [`Machine::SHARED`].
fn bare(debian: Debian) -> Machine {
    caller::on_unix_socket(Plan::new(debian).share(package::deb())).boot()
}

/// The inode of the listening socket: another one is another socket.
fn listener(machine: &Machine) -> String {
    machine.check("awk '$8 == \"@bridge\" && $4 == \"00010000\" { print $7 }' /proc/net/unix")
}

fn lifecycle(debian: Debian) {
    let scratch = tempfile::tempdir().unwrap();
    let newer = package::with_version("9.9-1", scratch.path());
    let machine = bare(debian);
    let text = machine.check(LITTER);
    let before: BTreeSet<&str> = text.lines().collect();

    machine.check(INSTALL);
    assert_eq!(machine.property("vmagent.service", "ActiveState"), "active");
    assert_eq!(
        machine.check("systemctl is-enabled vmagent.socket vmagent.service"),
        "enabled\nenabled"
    );
    let (pid, socket) = (
        machine.property("vmagent.service", "MainPID"),
        listener(&machine),
    );
    let held = Held::open(&machine);

    // An upgrade cuts nothing, refuses nothing, and leaves the old process to a person.
    std::fs::copy(&newer, machine.shared().join("newer")).unwrap();
    let caller = Caller::start(&machine);
    machine.check("dpkg --install /run/host/newer");
    machine.check("dpkg --install --force-confnew /run/host/newer");
    let calls = caller.stop();
    assert!(
        calls.answered > 10 && (calls.refused, calls.cut) == (0, 0),
        "{calls:?}"
    );
    assert!(held.alive(), "the upgrade cut an open connection");
    assert_eq!(machine.property("vmagent.service", "MainPID"), pid);
    assert_eq!(
        listener(&machine),
        socket,
        "the upgrade opened another socket"
    );
    let running = machine.check(&format!("readlink /proc/{pid}/exe"));
    assert_eq!(running, "/usr/bin/vmagent (deleted)");

    // The restart that follows cuts nothing either, and makes new connections wait.
    let held = Held::open(&machine);
    let caller = Caller::start(&machine);
    machine.check("systemctl restart vmagent.service");
    let calls = caller.stop();
    assert!((calls.refused, calls.cut) == (0, 0), "{calls:?}");
    assert!(held.alive(), "the restart cut an open connection");
    assert_eq!(
        listener(&machine),
        socket,
        "the restart opened another socket"
    );

    // What an administrator switched off stays off.
    machine.check("systemctl disable --quiet --now vmagent.socket vmagent.service");
    machine.check("dpkg --install /run/host/newer");
    assert_eq!(
        machine.property("vmagent.socket", "ActiveState"),
        "inactive"
    );
    assert_eq!(
        machine.property("vmagent.service", "UnitFileState"),
        "disabled"
    );
    machine.check("systemctl enable --quiet --now vmagent.socket vmagent.service");

    machine.check("dpkg --remove vmagent");
    assert_eq!(listener(&machine), "", "the port is still taken");
    assert_eq!(
        machine.property("vmagent.service", "ActiveState"),
        "inactive"
    );
    assert!(
        machine.path("/etc/vmagent/config.toml").exists(),
        "a conffile survives a removal"
    );
    // Installed again, it is on again: nothing was masked.
    machine.check(INSTALL);
    assert!(caller::greeting(&machine).unwrap().starts_with("SSH-2.0-"));

    machine.check("umask 077; echo secret >/etc/vmagent/tunnel.yaml; dpkg --purge vmagent");
    let after = machine.check(LITTER);
    let added: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(line))
        .collect();
    assert_eq!(added, [""; 0], "a purge leaves something behind");
    assert_eq!(machine.check("systemctl --failed --no-legend"), "");
}

/// Everything below /etc, /usr and /var that is not the system's own bookkeeping, nor the user,
/// whom Debian keeps, nor what `dpkg` and `systemctl` themselves keep.
const LITTER: &str = "find /etc /usr /var /run/systemd/system -xdev \
    ! -path '/var/lib/dpkg*' ! -path '/var/cache/*' ! -path '/var/log/*' ! -path '/var/lib/systemd/deb-systemd*' \
    ! -name 'passwd*' ! -name 'group*' ! -name 'shadow*' ! -name 'gshadow*' ! -name .pwd.lock \
    ! -path '/etc/systemd/system/vmagent.*' | sort";

#[test]
fn install_upgrade_remove_purge_on_debian_12() {
    lifecycle(Debian::Bookworm);
}

#[test]
fn install_upgrade_remove_purge_on_debian_13() {
    lifecycle(Debian::Trixie);
}

#[test]
fn baked_into_an_image_it_is_on_from_the_first_boot() {
    for debian in Debian::ALL {
        let plan = Plan::new(debian).share(package::deb()).script(INSTALL);
        let machine = caller::on_unix_socket(plan).boot();
        assert!(
            caller::greeting(&machine).unwrap().starts_with("SSH-2.0-"),
            "{debian:?}"
        );
        assert_eq!(machine.property("vmagent.service", "NRestarts"), "0");
    }
}

#[test]
fn lintian_has_no_complaint() {
    for debian in Debian::ALL {
        let machine = bare(debian);
        let found = machine.check("cd /tmp; lintian --allow-root --fail-on none /run/host/*.deb");
        assert_eq!(found, "", "{debian:?}");
    }
}

fn piuparts(debian: Debian) {
    let _turn = turn::take();
    let mut piuparts = Command::new("piuparts");
    piuparts.arg(format!("--distribution={}", debian.codename()));
    piuparts.arg(format!("--mirror={} main", debian.mirror()));
    piuparts.arg(format!("--existing-chroot={}", debian.rootfs().display()));
    // There is no older version to upgrade from; that directory is debconf's own.
    piuparts.args([
        "--no-upgrade-test",
        "--ignore-regex=/var/cache/debconf/tmp.ci/?",
    ]);
    piuparts.arg(package::deb());
    let output = pid1::without_vsock(move || piuparts.output())
        .join()
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("PASS: All tests"),
        "{debian:?}: {text}"
    );
}

#[test]
fn piuparts_passes_on_debian_12_with_systemd_not_running() {
    piuparts(Debian::Bookworm);
}

#[test]
fn piuparts_passes_on_debian_13_with_systemd_not_running() {
    piuparts(Debian::Trixie);
}
