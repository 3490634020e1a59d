//! `cloud-init clean` and a removal of the package remove the kept document, which has a key in it.

use harness::caller;
use harness::limits::SOON;
use harness::package;
use harness::pid1::{Debian, Machine, Plan};
use harness::wait;
use serde_json::Value;

const KEPT: &str = "/var/lib/vmagent/document";
const SOURCE: &str = "/etc/vmagent/tunnel.yaml";

/// A machine whose agent keeps its document on disk.
fn keeping(debian: Debian) -> Machine {
    let plan = Plan::new(debian)
        .share(package::deb())
        // A removal where no systemd runs, as in an image build, removes it too.
        .script("dpkg --install /run/host/*.deb; install -D /dev/null /var/lib/vmagent/document")
        .script("dpkg --remove vmagent; test ! -e /var/lib/vmagent; dpkg --install /run/host/*.deb")
        .script("printf '[metadata]\\ncache = \"state\"\\n' >>/etc/vmagent/config.toml")
        .file(SOURCE, 0o600, "version: 1\n");
    let machine = caller::on_unix_socket(plan).boot();
    await_kept(&machine);
    machine
}

fn await_kept(machine: &Machine) {
    let there = || machine.path(KEPT).exists().then_some(());
    if let Err(failure) = wait::until("kept document", SOON, there) {
        panic!("{failure}\n{}", machine.journal());
    }
}

/// Waits until the document in force comes from this source.
fn await_source(machine: &Machine, source: &Value) {
    let now = || {
        let output = machine.run("vmagent status --json");
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        (status["metadata"]["source"] == *source).then_some(())
    };
    if let Err(failure) = wait::until("source", SOON, now) {
        panic!("{source}: {failure}\n{}", machine.journal());
    }
}

#[test]
fn cloud_init_clean_takes_it_away_and_a_running_agent_does_not_write_it_again() {
    for debian in Debian::ALL {
        let machine = keeping(debian);
        // cloud-init has to run once, since it cleans only if its directory exists.
        machine.check(
            "mkdir -p /var/lib/cloud; echo left >/run/vmagent/document
             cloud-init clean --logs --seed",
        );
        for path in [SOURCE, "/run/vmagent/document", "/var/lib/vmagent"] {
            assert!(!machine.path(path).exists(), "{debian:?}: {path} is left");
        }
        // The agent gets a document again, from another source or from the same one.
        await_source(&machine, &Value::Null);
        machine.check(&format!("umask 077; echo 'version: 1' >{SOURCE}"));
        await_source(&machine, &"file".into());
        let tried = || {
            let journal = machine.journal();
            journal.contains("can't be kept").then_some(())
        };
        if let Err(failure) = wait::until("attempt to keep it", SOON, tried) {
            panic!("{debian:?}: {failure}\n{}", machine.journal());
        }
        assert!(!machine.path("/var/lib/vmagent").exists(), "{debian:?}");
        // As at the next boot: the agent keeps its document on disk again.
        machine.check("systemd-tmpfiles --create vmagent.conf; systemctl restart vmagent.service");
        await_kept(&machine);
        assert_eq!(
            machine.check("stat -c %U:%a /var/lib/vmagent"),
            "vmagent:700"
        );
    }
}

#[test]
fn a_removal_takes_it_away_and_leaves_what_a_person_wrote() {
    for debian in Debian::ALL {
        let machine = keeping(debian);
        machine.check("dpkg --remove vmagent");
        for path in ["/var/lib/vmagent", "/run/vmagent"] {
            assert!(!machine.path(path).exists(), "{debian:?}: {path} is left");
        }
        assert!(machine.path(SOURCE).exists());
        machine.check("dpkg --purge vmagent");
        assert!(!machine.path("/etc/vmagent").exists());
    }
}
