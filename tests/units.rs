//! The units, under a real systemd of either generation.

use std::time::Duration;

use harness::caller::{self, Caller};
use harness::limits::SOON;
use harness::package;
use harness::pid1::{Debian, Machine, Plan};
use harness::wait;

/// How soon a killed agent is ready again.
const RESTARTED: Duration = Duration::from_secs(3);

/// The exposure that `systemd-analyze security` may find at most, times ten.
const EXPOSURE: u32 = 17;

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
        let units = "vmagent.socket vmagent.service vmagent-port.service vmagent-inputs.socket \
                     vmagent-inputs@x.service vmagent-file@x.socket vmagent-file@x.service";
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
            .file("/etc/hostname", 0o644, "web1\n")
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
        // The sandbox hides /proc/sys and the kernel's later names.
        let status = machine.run("vmagent status --json").stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        assert_eq!(status["host_name"], "web1", "{status:#}");
    }
}

#[test]
fn it_needs_no_vsock_device() {
    let machine = plan(Debian::Bookworm).boot();
    assert!(!machine.path("/dev/vsock").exists());
    assert_eq!(machine.property("vmagent.service", "SubState"), "running");
}

/// Waits until this one answers on the port.
pub(crate) fn answers(machine: &Machine, who: &str) {
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
fn a_crash_is_not_the_end() {
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
