//! Connections of the bridge outlive the agent: a restart, an upgrade, a crash.

use std::thread;
use std::time::Instant;

use harness::caller::{self, Held};
use harness::limits::SOON;
use harness::package;
use harness::pid1::{Debian, Machine, Plan};
use harness::wait;
use serde_json::Value;

/// How ssh in the machine reaches it by the bridge. The connection is ssh's own: nobody between
/// the two could hide what happens to it.
const CLIENT: &str = r#"
mkdir -m 700 -p ~root/.ssh
ssh-keygen -q -t ed25519 -N '' -f ~root/.ssh/id_ed25519
cp ~root/.ssh/id_ed25519.pub ~root/.ssh/authorized_keys
echo "guest $(cat /etc/ssh/ssh_host_ed25519_key.pub)" >~root/.ssh/known_hosts
cat >/usr/local/bin/bridge <<'END'
#!/usr/bin/python3
import array, socket
peer = socket.socket(socket.AF_UNIX)
peer.connect("\0bridge")
fds = array.array("i", [peer.fileno()])
socket.socket(fileno=1).sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
END
chmod +x /usr/local/bin/bridge
cat >~root/.ssh/config <<END
Host guest
  ProxyCommand /usr/local/bin/bridge
  ProxyUseFdpass yes
  Ciphers aes128-gcm@openssh.com
  HostKeyAlgorithms ssh-ed25519
END
"#;

fn machine(debian: Debian) -> Machine {
    let plan = Plan::new(debian)
        .share(package::deb())
        .script("dpkg --install /run/host/*.deb")
        .script(CLIENT);
    caller::on_unix_socket(plan).boot()
}

/// Waits for a status of the agent that runs now.
fn wait_status(machine: &Machine, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
    let look = || {
        let text = machine.run("vmagent status --json").stdout;
        serde_json::from_slice(&text).ok().filter(&mut wanted)
    };
    match wait::until(what, SOON, look) {
        Ok(status) => status,
        Err(failure) => panic!("{failure}\n{}", machine.journal()),
    }
}

fn open(machine: &Machine, count: u64) {
    let what = format!("{count} open connections");
    wait_status(machine, &what, |status| status["bridge"]["open"] == count);
}

/// Starts the agent anew, and returns when the one connection is open again.
fn restart(machine: &Machine) {
    machine.check("systemctl restart vmagent.service");
    wait_status(machine, "continued connection", |status| {
        status["bridge"]["resumed"] == 1 && status["bridge"]["open"] == 1
    });
}

/// How much of the copy has arrived.
fn size(machine: &Machine) -> u64 {
    std::fs::metadata(machine.path("/tmp/copy")).map_or(0, |file| file.len())
}

#[test]
fn a_gibibyte_survives_ten_restarts_in_its_middle() {
    for debian in Debian::ALL {
        let machine = machine(debian);
        machine.check("head -c 1G </dev/urandom >/tmp/big");
        // Held back, so that it lasts; each restart falls into it.
        machine.check("systemd-run --quiet --unit=copy scp -l 1200000 /tmp/big guest:/tmp/copy");
        open(&machine, 1);
        let (start, mut before) = (Instant::now(), 0);
        for count in 0..10 {
            let more = || (size(&machine) > before + (32 << 20)).then_some(());
            wait::until("more of it", SOON, more).unwrap();
            restart(&machine);
            before = size(&machine);
            println!("{count}: {before} bytes after {:?}", start.elapsed());
        }
        assert!(before < 1 << 30, "it was over before the last restart");
        let ended = || {
            let state = machine.property("copy.service", "ActiveState");
            (state == "inactive" || state == "failed").then_some(state)
        };
        let state = wait::until("end of scp", SOON, ended).unwrap();
        assert_eq!(state, "inactive", "{}", machine.journal());
        machine.check("cmp /tmp/big /tmp/copy");
        println!("{debian:?}: {:?} in all", start.elapsed());
    }
}

/// Both directions are full when the agent stops, so it has bytes of both to hand over.
#[test]
fn bytes_that_wait_on_both_sides_are_handed_over() {
    for debian in Debian::ALL {
        let machine = machine(debian);
        let peers = machine.shared().join("peers");
        std::fs::write(peers, include_str!("harness/outlive.py")).unwrap();
        machine.check(
            "mkdir /tmp/sums; echo '[bridge]\nsshd = \"127.0.0.1:2200\"' >/etc/vmagent/config.toml
             systemd-run --quiet --unit=serve python3 /run/host/peers serve 2200 /tmp/sums
             until [ -e /tmp/sums/serve.ready ]; do sleep 0.05; done
             systemctl restart vmagent.service
             systemd-run --quiet --unit=call python3 /run/host/peers call bridge /tmp/sums",
        );
        open(&machine, 1);
        for role in ["serve", "call"] {
            let note = machine.path(format!("/tmp/sums/{role}.blocked"));
            wait::until("full connection", SOON, || note.exists().then_some(())).unwrap();
        }
        for _ in 0..3 {
            restart(&machine);
        }
        let journal = machine.check("journalctl --unit=vmagent.service --output=cat");
        let handed = |line: &&str| {
            let bytes = |name: &str| {
                line.split(' ')
                    .find_map(|word| word.strip_prefix(name)?.parse::<u64>().ok())
            };
            line.contains("left to the next agent")
                && bytes("undelivered_in=") > Some(0)
                && bytes("undelivered_out=") > Some(0)
        };
        assert_eq!(journal.lines().filter(handed).count(), 3, "{journal}");
        machine.check("touch /tmp/sums/read");
        let sums = || {
            let sum = |name: &str| std::fs::read(machine.path("/tmp/sums").join(name)).ok();
            Some([
                (sum("serve.sent")?, sum("call.received")?),
                (sum("call.sent")?, sum("serve.received")?),
            ])
        };
        for (sent, received) in wait::until("all bytes", SOON, sums).unwrap() {
            assert!(!sent.is_empty() && sent == received, "{debian:?}");
        }
        open(&machine, 0);
    }
}

#[test]
fn idle_sessions_survive_a_crash_and_a_stop_ends_them() {
    const MANY: u64 = 50;
    for debian in Debian::ALL {
        let machine = machine(debian);
        let mut held: Vec<_> = (0..MANY).map(|_| Held::open(&machine)).collect();
        // Kept by systemd, which is asked for it after a second.
        let kept = || {
            let kept = machine.property("vmagent.service", "NFileDescriptorStore");
            (kept.parse::<u64>().unwrap() > 2 * MANY).then_some(())
        };
        wait::until("kept descriptors", SOON, kept).unwrap();
        for _ in 0..3 {
            machine.check("systemctl kill --signal=KILL vmagent.service");
            wait_status(&machine, "continued connections", |status| {
                status["bridge"]["resumed"] == MANY && status["bridge"]["open"] == MANY
            });
        }
        let stopped = held.split_off(held.len() / 2);
        for connection in held {
            assert!(connection.alive(), "{}", machine.journal());
        }
        open(&machine, MANY / 2);
        machine.check("systemctl stop vmagent.service");
        for connection in stopped {
            assert!(!connection.alive());
        }
        let left = machine.property("vmagent.service", "NFileDescriptorStore");
        assert_eq!(left, "0");
    }
}

/// A crash in the middle of a transfer may have bytes in the memory that is gone. Then the
/// connection is cut: what arrives is all of it, or an error.
#[test]
fn a_crash_in_a_transfer_leaves_no_hole() {
    let machine = machine(Debian::Trixie);
    machine.check("head -c 256M </dev/urandom >/tmp/big");
    let mut survived = 0;
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        let copy = thread::scope(|scope| {
            let copy = scope.spawn(|| {
                machine.run("scp -q -l 2000000 /tmp/big guest:/tmp/copy && cmp /tmp/big /tmp/copy")
            });
            let half_done = || (size(&machine) > 64 << 20).then_some(());
            wait::until("a part of it", SOON, half_done).unwrap();
            machine.check("systemctl kill --signal=KILL vmagent.service");
            copy.join().unwrap()
        });
        let said = String::from_utf8_lossy(&copy.stderr).into_owned();
        assert!(
            !said.contains("MAC") && !said.contains("differ") && !said.contains("padding"),
            "{said}"
        );
        survived += u32::from(copy.status.success());
        open(&machine, 0);
        machine.check("rm -f /tmp/copy");
    }
    println!("{survived} of {TRIES} transfers survived");
}

/// While the agent can't start, systemd keeps the sockets of the last one.
#[test]
fn an_agent_that_does_not_start_costs_no_session() {
    let machine = machine(Debian::Trixie);
    let held = Held::open(&machine);
    open(&machine, 1);
    machine.check("mv /usr/bin/vmagent /usr/bin/vmagent.away");
    machine.run("systemctl restart vmagent.service");
    let attempts = || {
        let count = machine.property("vmagent.service", "NRestarts");
        (count.parse::<u32>().unwrap() >= 2).then_some(())
    };
    wait::until("two attempts", SOON, attempts).unwrap();
    machine.check("mv /usr/bin/vmagent.away /usr/bin/vmagent");
    open(&machine, 1);
    assert!(held.alive());
}
