//! The examples in cloud-init/, booted by the real cloud-init of both releases.

use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use harness::caller;
use harness::limits::SOON;
use harness::package;
use harness::paths;
use harness::pid1::{Debian, Machine, Plan};
use harness::wait;
use serde_json::Value;

/// A fresh private key, in lines.
static KEY: LazyLock<Vec<String>> = LazyLock::new(|| {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&path);
    assert!(keygen.status().unwrap().success());
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
});

/// A line of it, which must not end where others can read it.
fn secret() -> &'static str {
    &KEY[2]
}

/// An example from cloud-init/, with real keys in place of its words.
fn example(name: &str) -> String {
    const HOST_KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL8xJDBaSBFD1brkDGNJ7qJoHIuFlVOqZ7CbbZIgEhQm";
    let text = fs::read_to_string(paths::top().join("cloud-init").join(name)).unwrap();
    let text = text.replace(
        "ssh-ed25519 AAAA-the-public-host-key-of-the-proxy",
        HOST_KEY,
    );
    let is_sample = |line: &&str| line.contains("made for this VM alone: ssh-keygen");
    let sample = text
        .lines()
        .find(is_sample)
        .expect("the place of the private key");
    let indent = &sample[..sample.len() - sample.trim_start().len()];
    let body = &KEY[1..KEY.len() - 1];
    text.replace(
        sample,
        &format!("{indent}{}", body.join(&format!("\n{indent}"))),
    )
}

/// What an image builder makes of a release: vmagent, a preset, and nothing of one instance.
fn image(debian: Debian, preset: &str) -> Plan {
    let preset = fs::read_to_string(paths::top().join("images/presets").join(preset)).unwrap();
    let plan = Plan::new(debian)
        .share(package::deb())
        .file(
            "/etc/systemd/system-preset/50-vmagent.preset",
            0o644,
            &preset,
        )
        .script("dpkg --install /run/host/*.deb")
        // Debian 12's first boot only enables what presets say, and disables nothing.
        .script("systemctl preset vmagent.socket vmagent.service")
        .script("echo uninitialized >/etc/machine-id");
    caller::on_unix_socket(plan)
}

/// The first boot of it in a cloud that hands out this.
fn first_boot(image: Plan, user_data: &str, vendor_data: &str) -> Machine {
    const SEED: &str = "/var/lib/cloud/seed/nocloud";
    image
        .script("rm /etc/cloud/cloud-init.disabled")
        .file(
            "/etc/cloud/cloud.cfg.d/90-bench.cfg",
            0o644,
            "network: {config: disabled}\nlocale: false\n",
        )
        .file(
            &format!("{SEED}/meta-data"),
            0o600,
            "instance-id: i-bench\n",
        )
        .file(&format!("{SEED}/user-data"), 0o600, user_data)
        .file(&format!("{SEED}/vendor-data"), 0o600, vendor_data)
        .boot()
}

/// Fails if cloud-init is not satisfied, or if anybody can read the secret.
fn done_and_discreet(machine: &Machine) {
    let status = machine.run("cloud-init status --wait --long");
    let text = String::from_utf8_lossy(&status.stdout);
    let log = || machine.check("grep -E 'WARN|ERROR|FAIL|Error' /var/log/cloud-init.log || true");
    assert!(
        status.status.success() && text.contains("status: done"),
        "{text}\n{}",
        log()
    );
    let secret = secret();
    machine.check(&format!("grep -rqsF '{secret}' /etc /run /var"));
    let leaks = machine.run(&format!(
        "setpriv --reuid=nobody --regid=nogroup --clear-groups \
         grep -rlsF --exclude-dir=host '{secret}' /etc /home /root /run /srv /tmp /usr /var"
    ));
    assert_eq!(
        String::from_utf8_lossy(&leaks.stdout),
        "",
        "anybody can read it"
    );
}

/// Waits until vmagent has the document, and has it from this source.
fn found(machine: &Machine, source: &str) {
    let metadata = || -> Option<Value> {
        let output = machine.run("vmagent status --json");
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(status["metadata"].clone()).filter(|metadata| metadata["state"] == "found")
    };
    match wait::until("document", SOON, metadata) {
        Ok(metadata) => assert_eq!(metadata["source"], source, "{metadata}"),
        Err(failure) => panic!("{failure}\n{}", machine.journal()),
    }
}

fn is_on(machine: &Machine) {
    assert_eq!(
        machine.check("systemctl is-active vmagent.socket vmagent.service"),
        "active\nactive"
    );
    assert!(caller::greeting(machine).unwrap().starts_with("SSH-2.0-"));
}

#[test]
fn user_data_writes_the_document_and_switches_it_on() {
    for debian in Debian::ALL {
        let machine = first_boot(
            image(debian, "disable.preset"),
            &example("user-data.yaml"),
            "",
        );
        done_and_discreet(&machine);
        is_on(&machine);
        assert_eq!(
            machine.check("stat -c %a:%U:%G /etc/vmagent/tunnel.yaml"),
            "600:root:root"
        );
        found(&machine, "file");
        // An image made of this VM has nothing of it.
        machine.check("cloud-init clean --logs --seed");
        assert!(!machine.path("/etc/vmagent/tunnel.yaml").exists());
        machine.check(&format!("! grep -rlsF '{}' /etc /var", secret()));
    }
}

#[test]
fn a_boothook_survives_the_write_files_of_others() {
    const USER: &str = "#cloud-config\nwrite_files:\n  - {path: /etc/vendor, content: vendor}\n";
    for debian in Debian::ALL {
        let image = image(debian, "disable.preset");
        let machine = first_boot(image, &example("user-data.mime"), USER);
        done_and_discreet(&machine);
        is_on(&machine);
        assert!(machine.path("/etc/vendor").exists());
        assert_eq!(
            machine.check("stat -c %a:%U:%G /etc/vmagent/tunnel.yaml"),
            "600:root:root"
        );
        found(&machine, "file");
    }
}

#[test]
fn vendor_data_survives_the_lists_of_the_user() {
    const USER: &str = "#cloud-config\nwrite_files:\n  - {path: /etc/user, content: user}\n\
        runcmd:\n  - [touch, /run/user-ran]\n";
    for debian in Debian::ALL {
        let machine = first_boot(
            image(debian, "enable.preset"),
            USER,
            &example("vendor-data.yaml"),
        );
        done_and_discreet(&machine);
        is_on(&machine);
        assert!(machine.path("/etc/user").exists() && machine.path("/run/user-ran").exists());
        found(&machine, "cloud-init");
    }
}

#[test]
fn the_preset_of_the_image_decides_until_cloud_init_does() {
    for debian in Debian::ALL {
        let machine = image(debian, "disable.preset").boot();
        let off = machine.run("systemctl is-enabled vmagent.socket vmagent.service");
        assert_eq!(String::from_utf8_lossy(&off.stdout), "disabled\ndisabled\n");
        let off = machine.run("systemctl is-active vmagent.socket vmagent.service");
        assert_eq!(String::from_utf8_lossy(&off.stdout), "inactive\ninactive\n");

        is_on(&image(debian, "enable.preset").boot());
    }
}

#[test]
fn the_examples_are_valid() {
    for debian in Debian::ALL {
        let machine = Plan::new(debian)
            .file("/root/user-data.yaml", 0o600, &example("user-data.yaml"))
            .file(
                "/root/vendor-data.yaml",
                0o600,
                &example("vendor-data.yaml"),
            )
            .boot();
        machine.check("cloud-init schema --config-file /root/user-data.yaml");
        // cloud-init 23.4 and later knows no key of others; its boot does not mind in vendor-data.
        let vendor = machine.run("cloud-init schema --config-file /root/vendor-data.yaml 2>&1");
        let text =
            String::from_utf8_lossy(&vendor.stdout).replace("were unexpected", "was unexpected");
        let complaints = text.matches("was unexpected").count();
        let expected = usize::from(debian == Debian::Trixie);
        assert_eq!(complaints, expected, "{text}");
        assert_eq!(vendor.status.success(), expected == 0, "{text}");
        assert_eq!(
            text.contains("'vmagent' was unexpected"),
            expected == 1,
            "{text}"
        );
    }
}
