//! The units, under a real systemd of either generation.

use std::io::Write;
use std::time::{Duration, Instant};

use harness::caller::{self, Caller};
use harness::limits::SOON;
use harness::package;
use harness::pid1::{Debian, Machine, Plan};
use harness::wait;

/// How soon a killed agent is ready again.
const RESTARTED: Duration = Duration::from_secs(3);

/// The exposure that `systemd-analyze security` may find at most, times ten.
const EXPOSURE: u32 = 15;

/// A machine that is not booted, with the package in its image.
pub(crate) fn plan(debian: Debian) -> Plan {
    let plan = Plan::new(debian)
        .share(package::deb())
        .script("dpkg --install /run/host/*.deb");
    caller::on_unix_socket(plan)
}

#[test]
fn systemd_understands_them_and_finds_little_exposed() {
    for debian in Debian::ALL {
        let machine = plan(debian).boot();
        let units = "vmagent.socket vmagent.service vmagent-inputs.socket vmagent-inputs@x.service \
                     vmagent-file@x.socket vmagent-file@x.service";
        let said = machine.check(&format!("systemd-analyze verify {units} 2>&1"));
        // Newer than systemd 252, which passes over it: vmagent does without there.
        let newer =
            |line: &&str| debian == Debian::Bookworm && line.contains("Unknown key 'OpenFile'");
        let faults: Vec<_> = said.lines().filter(|line| !newer(line)).collect();
        assert_eq!(faults, [""; 0], "{debian:?}");
        for unit in [
            "vmagent.service",
            "vmagent-inputs@.service",
            "vmagent-file@.service",
        ] {
            machine.check(&format!(
                "systemd-analyze security --offline=true --threshold={EXPOSURE} {unit}"
            ));
        }
    }
}

#[test]
fn it_runs_in_its_sandbox() {
    for debian in Debian::ALL {
        // A device that stands in for vsock, to see that it is let in, and only for reading.
        let machine = plan(debian)
            .script("mknod -m 666 /dev/vsock c 1 3; touch /dev/other")
            .boot();
        assert_eq!(
            machine.property("vmagent.service", "NRestarts"),
            "0",
            "{}",
            machine.journal()
        );
        let pid = machine.property("vmagent.service", "MainPID");
        let status = machine.check(&format!("cat /proc/{pid}/status"));
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.trim().to_owned()
        };
        let vmagent = machine.check("id -u vmagent");
        assert_eq!(field("Uid:"), [vmagent.as_str(); 4].join("\t"));
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set}");
        }
        assert_eq!(
            (field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()),
            ("1", "2")
        );
        assert_eq!(
            machine.property("vmagent.service", "OOMScoreAdjust"),
            "-900"
        );
        assert_eq!(machine.property("vmagent.service", "LimitNOFILE"), "65536");
        assert_eq!(machine.property("vmagent.service", "LimitCORE"), "0");
        assert_eq!(machine.check("stat -c %U:%a /run/vmagent"), "vmagent:755");

        let inside =
            |script: &str| machine.run(&format!("nsenter -t {pid} -m -- sh -c '{script}'"));
        assert!(
            inside("test -c /dev/vsock && ! test -e /dev/other")
                .status
                .success()
        );
        assert!(
            !inside("touch /etc/x || touch /var/x || touch /home/x")
                .status
                .success()
        );
    }
}

#[test]
fn it_needs_no_vsock_device() {
    let machine = plan(Debian::Bookworm).boot();
    assert!(!machine.path("/dev/vsock").exists());
    assert_eq!(machine.property("vmagent.service", "SubState"), "running");
}

/// What systemd 256 and later generate in a VM, with another address.
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

/// Waits until this one answers on the port.
fn answers(machine: &Machine, who: &str) {
    let answer = || {
        caller::greeting(machine)
            .ok()
            .filter(|line| line.starts_with(who))
    };
    if let Err(failure) = wait::until(who, SOON, answer) {
        panic!("{failure}\n{}", machine.journal());
    }
    assert_eq!(machine.check("systemctl --failed --no-legend"), "");
}

#[test]
fn enabled_it_takes_the_port_over_and_disabled_it_gives_it_back() {
    const UNITS: &str = "vmagent.socket vmagent.service";
    for debian in Debian::ALL {
        // From boot on.
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

#[test]
fn neither_a_crash_nor_a_bad_configuration_is_the_end() {
    for debian in Debian::ALL {
        let machine = plan(debian).boot();
        let restarts = || {
            machine
                .property("vmagent.service", "NRestarts")
                .parse::<u32>()
                .unwrap()
        };
        let caller = Caller::start(&machine);
        for count in 1..=3 {
            machine.check("systemctl kill --signal=KILL vmagent.service");
            wait::until("restart", SOON, || {
                (restarts() == count && caller::greeting(&machine).is_ok()).then_some(())
            })
            .unwrap();
            // By systemd's clock, in microseconds: from the end of the one to the start of the next.
            let stamp = |name: &str| -> u64 {
                let name = format!("{name}TimestampMonotonic");
                let text = machine.property("vmagent.service", &name);
                text.parse().unwrap()
            };
            let took = Duration::from_micros(stamp("ActiveEnter") - stamp("ActiveExit"));
            println!("{debian:?}: killed, ready after {took:.2?} of {RESTARTED:?}");
            assert!(took <= RESTARTED, "{took:?}");
        }
        let calls = caller.stop();
        assert!(calls.refused == 0 && calls.cut <= 3, "{calls:?}");

        // Connections that wait must not drive a process round that can't start; and when a
        // person mends the file, nothing else is needed.
        let config = machine.path("/etc/vmagent/config.toml");
        let good = std::fs::read_to_string(&config).unwrap();
        let bad = good.clone() + "\nnonsense = 1\n";
        std::fs::File::create(&config)
            .unwrap()
            .write_all(bad.as_bytes())
            .unwrap();
        let broken = Instant::now();
        machine.run("systemctl restart vmagent.service");
        let waiting = Caller::start(&machine);
        let three = || (restarts() >= 3).then_some(());
        wait::until("three attempts", SOON, three).unwrap();
        assert!(
            broken.elapsed() > Duration::from_secs(1),
            "it is driven round"
        );
        assert!(machine.journal().contains("status=78"));
        assert_eq!(machine.property("vmagent.socket", "ActiveState"), "active");
        std::fs::write(&config, good).unwrap();
        answers(&machine, "SSH-2.0-");
        let calls = waiting.stop();
        assert!(calls.refused == 0 && calls.cut == 0, "{calls:?}");
    }
}

#[test]
fn what_hangs_is_restarted() {
    let machine = plan(Debian::Trixie)
        .file(
            "/etc/systemd/system/vmagent.service.d/soon.conf",
            0o644,
            "[Service]\nWatchdogSec=2\n",
        )
        .boot();
    machine.check("systemctl kill --signal=STOP vmagent.service");
    wait::until("restart", SOON, || {
        (machine.property("vmagent.service", "NRestarts") == "1").then_some(())
    })
    .unwrap();
    answers(&machine, "SSH-2.0-");
}
