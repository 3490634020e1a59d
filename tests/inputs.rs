//! The units pass root-only files to the agent, each file by its own unit, on the systemd of both
//! releases.

use std::io::Read;
use std::os::unix::net::UnixStream;

use harness::limits::SOON;
use harness::pid1::{Debian, Machine};
use harness::wait;
use serde_json::Value;

use crate::units::plan;

const COMBINED: &str = "/run/cloud-init/combined-cloud-config.json";
const USER_DATA: &str = "/var/lib/cloud/seed/nocloud/user-data";
const VENDOR_DATA: &str = "/var/lib/cloud/seed/nocloud/vendor-data";
const TUNNEL: &str = "/etc/vmagent/tunnel.yaml";

/// The answer of a socket below /run. systemd closes a connection that arrives while the unit is
/// busy.
fn pull(machine: &Machine, socket: &str) -> Value {
    let path = machine.path(format!("/run/{socket}"));
    let answer = || {
        let mut stream = UnixStream::connect(&path).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        // The protocol has no request, so the unit must answer a closed direction.
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        serde_json::from_slice(&answer).ok()
    };
    wait::until(socket, SOON, answer)
        .unwrap_or_else(|failure| panic!("{failure}\n{}", machine.journal()))
}

/// The content of a file as passed on, in base64; `None` if there is no such file.
fn passed_on(machine: &Machine, file: &str) -> Option<String> {
    let answer = pull(machine, &format!("vmagent-inputs{file}"));
    let entry = &answer["file"];
    match entry["state"].as_str() {
        Some("present") => Some(entry["base64"].as_str().unwrap_or_default().to_owned()),
        Some("absent") => None,
        _ => panic!("{answer}\n{}", machine.journal()),
    }
}

/// Writes a root-only file: the text, and a comment of so many bytes.
fn write(machine: &Machine, file: &str, text: &str, padding: usize) {
    machine.check(&format!(
        "umask 077; mkdir -p $(dirname {file}); {{ printf '{text}\\n'; \
         test {padding} = 0 || {{ printf '# '; head -c {padding} /dev/zero | tr '\\0' x; }}; }} >{file}.new; \
         mv {file}.new {file}"
    ));
}

/// Waits until the agent's metadata status fulfils the condition.
fn wait_for(machine: &Machine, what: &str, condition: impl Fn(&Value) -> bool) {
    let mut last = Value::Null;
    let now = || {
        let output = machine.run("vmagent status --json");
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        last = status["metadata"].clone();
        condition(&last).then_some(())
    };
    if let Err(failure) = wait::until(what, SOON, now) {
        panic!("{failure}\n{last:#}\n{}", machine.journal());
    }
}

#[test]
fn root_only_files_reach_it_whenever_they_appear() {
    let files = [
        TUNNEL,
        COMBINED,
        "/var/lib/cloud/instance/cloud-config.txt",
        "/var/lib/cloud/instance/vendor-cloud-config.txt",
        "/var/lib/cloud/instance/vendor2-cloud-config.txt",
        USER_DATA,
        VENDOR_DATA,
        "/var/lib/cloud/seed/nocloud-net/user-data",
        "/var/lib/cloud/seed/nocloud-net/vendor-data",
    ];
    for debian in Debian::ALL {
        let machine = plan(debian).boot();
        for file in files {
            assert_eq!(passed_on(&machine, file), None, "{debian:?}: {file}");
            write(&machine, file, &format!("about {file}"), 0);
            let expected = machine.check(&format!("base64 --wrap=0 {file}"));
            let passed = passed_on(&machine, file);
            assert_eq!(passed, Some(expected), "{debian:?}: {file}");
        }
        // A file that every kernel has, and that the agent's sandbox hides.
        let line = machine.check("base64 --wrap=0 /proc/cmdline");
        let answer = pull(&machine, "vmagent-inputs.sock");
        assert_eq!(answer["kernel-command-line"]["base64"], line);

        machine.check(&format!(": >{TUNNEL}"));
        let empty = passed_on(&machine, TUNNEL);
        assert_eq!(empty.as_deref(), Some(""), "empty is not absent");
        // The largest file that systemd accepts: it counts the name of the credential.
        machine.check(&format!("head -c 1048572 /dev/zero >{TUNNEL}"));
        let largest = passed_on(&machine, TUNNEL).unwrap();
        assert_eq!(largest.len(), 1_398_096);
        machine.check(&format!("rm {TUNNEL}"));
        assert_eq!(passed_on(&machine, TUNNEL), None);

        let stranger = machine.run(&format!(
            "setpriv --reuid=nobody --clear-groups python3 -c '
import socket; socket.socket(socket.AF_UNIX).connect(\"/run/vmagent-inputs{TUNNEL}\")'"
        ));
        assert!(String::from_utf8_lossy(&stranger.stderr).contains("Permission denied"));
        assert_eq!(machine.check("systemctl --failed --no-legend"), "");

        // A stop removes all sockets, and a start creates them again.
        let sockets = "find /run -name 'vmagent-inputs*' -type s; find /run/vmagent-inputs -type s";
        let all = machine.check(sockets).lines().count();
        machine.check("systemctl stop vmagent.socket vmagent.service");
        assert_eq!(machine.check(sockets), "");
        machine.check("systemctl start vmagent.socket vmagent.service");
        assert_eq!(machine.check(sockets).lines().count(), all);
        // An upgrade from a package without these sockets does the same.
        machine.check("systemctl stop 'vmagent-file@*.socket'; systemctl restart vmagent.service");
        assert_eq!(machine.check(sockets).lines().count(), all);
        assert_eq!(all, files.len() + 1);
    }
}

/// systemd refuses to start a socket while its service runs. A pause of the service makes each
/// restart fall into a read.
#[test]
fn a_restart_during_a_read_keeps_all_sockets() {
    const UNIT: &str = "vmagent-file@etc-vmagent-tunnel.yaml.service";
    for debian in Debian::ALL {
        let machine = plan(debian).boot();
        write(&machine, TUNNEL, "version: 1", 0);
        machine.check(&format!(
            "mkdir -p /run/systemd/system/{UNIT}.d; \
             printf '[Service]\\nExecStart=\\nExecStart=/bin/sleep 8\\n' \
             >/run/systemd/system/{UNIT}.d/slow.conf; systemctl daemon-reload"
        ));
        for _ in 0..3 {
            let path = machine.path(format!("/run/vmagent-inputs{TUNNEL}"));
            let reading = || {
                let _connection = UnixStream::connect(&path).ok()?;
                let state = machine.run(&format!("systemctl is-active --quiet {UNIT}"));
                state.status.success().then_some(())
            };
            if let Err(failure) = wait::until("a read", SOON, reading) {
                panic!("{debian:?}: {failure}\n{}", machine.journal());
            }
            machine.check("systemctl restart vmagent.service");
            machine.check(&format!("test -S /run/vmagent-inputs{TUNNEL}"));
        }
        machine.check(&format!(
            "rm -r /run/systemd/system/{UNIT}.d; systemctl daemon-reload; \
             systemctl restart vmagent.service"
        ));
        assert!(passed_on(&machine, TUNNEL).is_some(), "{debian:?}");
        assert_eq!(machine.check("systemctl --failed --no-legend"), "");
    }
}

#[test]
fn a_file_that_is_too_large_costs_itself_alone() {
    const CONFIG: &str = "#cloud-config\\nvmagent: {version: 1}";
    let document = "vmagent: {version: 1}";
    for debian in Debian::ALL {
        let machine = plan(debian).boot();
        // Two files of 530 kB exceed the limit of one unit.
        write(&machine, USER_DATA, "#cloud-config\\nusers: []", 530_000);
        write(&machine, VENDOR_DATA, CONFIG, 530_000);
        wait_for(&machine, "document in a large file", |metadata| {
            metadata["source"] == "nocloud" && metadata["fault"].is_null()
        });
        // The status names a file of 1.1 MB, which hides no other file.
        write(&machine, COMBINED, "{}", 1_100_000);
        wait_for(&machine, "fault of the larger one", |metadata| {
            let fault = &metadata["fault"];
            let said = fault["message"].as_str().unwrap_or_default();
            metadata["source"] == "nocloud"
                && fault["code"] == "metadata-too-large"
                && said.starts_with(COMBINED)
        });
        write(&machine, TUNNEL, document, 0);
        wait_for(&machine, "file beside it", |metadata| {
            metadata["source"] == "file" && metadata["fault"].is_null()
        });
        assert_eq!(machine.check("systemctl --failed --no-legend"), "");
    }
}

/// As in systemd-creds(1) and systemd.exec(5), a drop-in loads an encrypted credential.
#[test]
fn a_credential_may_be_encrypted() {
    const STORE: &str = "/etc/credstore.encrypted";
    for debian in Debian::ALL {
        let machine = plan(debian)
            .file(
                "/etc/vmagent/config.toml",
                0o644,
                "[metadata]\nsources = [\"credential\"]\n",
            )
            .boot();
        wait_for(&machine, "no document", |metadata| {
            metadata["state"] == "absent"
        });
        machine.check(&format!(
            "umask 077; mkdir -p {STORE}; echo 'version: 1' | \
             systemd-creds encrypt --with-key=host --name=vmagent.tunnel - {STORE}/vmagent.tunnel; \
             cp {STORE}/vmagent.tunnel /root/tunnel.cred"
        ));
        for (setting, store) in [
            ("vmagent.tunnel", STORE),
            ("vmagent.tunnel:/root/tunnel.cred", "/nowhere"),
        ] {
            machine.check(&format!(
                "mkdir -p /etc/systemd/system/vmagent.service.d; \
                 printf '[Service]\\nLoadCredentialEncrypted={setting}\\n' \
                 >/etc/systemd/system/vmagent.service.d/credential.conf; \
                 systemctl daemon-reload; systemctl stop vmagent.service; \
                 test {store} = {STORE} || rm -r {STORE}; systemctl start vmagent.service"
            ));
            wait_for(&machine, setting, |metadata| {
                metadata["state"] == "found" && metadata["source"] == "credential"
            });
        }
    }
}
