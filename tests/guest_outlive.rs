//! Sessions over a real vsock device outlive the agent.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use harness::failure::Result;
use harness::guest::{Guest, VM};
use harness::netns::Namespace;
use harness::process;
use harness::wait;

const SOON: Duration = Duration::from_secs(30);
const SIZE: u64 = 32 << 20;

#[test]
fn sessions_over_vsock_go_on_when_the_agent_is_restarted_and_killed() -> Result<()> {
    let namespace = Namespace::new()?;
    let guest = Guest::restore(&namespace)?;
    // Somebody is logged in, and sees a line now and then.
    let mut ssh = guest.client.command("ssh");
    ssh.arg(VM).arg("while sleep 0.2; do echo still here; done");
    let mut session = namespace.spawn(guest.dir(), "session", &ssh)?;
    let mut goes_on = || -> Result<()> {
        session.alive()?;
        let before = session.log().len();
        let more = || (session.log().len() > before).then_some(());
        wait::until("another line of the session", SOON, more)
    };
    goes_on()?;

    // And copies a file, which takes a while.
    let file = guest.dir().join("file");
    let content: Vec<u8> = (0..SIZE / 4)
        .flat_map(|number| (number as u32).wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(&file, &content)?;
    let mut scp = guest.client.command("scp");
    scp.arg(&file).arg(format!("{VM}:/var/tmp/copy"));
    let mut copy = namespace.spawn(guest.dir(), "scp", &scp)?;
    let size = || guest.run("stat -c %s /var/tmp/copy 2>/dev/null || echo 0");
    let mut before = 0;
    for _ in 0..3 {
        let more = || {
            let now = size().ok()?.trim().parse().ok()?;
            (now > before + SIZE / 16).then_some(now)
        };
        before = wait::until("more of it", SOON, more)?;
        guest.run("systemctl restart vmagent.service")?;
        guest.wait_status("continued connections", SOON, |status| {
            status["bridge"]["resumed"] == 2
        })?;
    }
    assert!(before < SIZE * 3 / 4, "it was nearly over: {before}");
    assert!(
        copy.wait(Duration::from_secs(120))?.success(),
        "{}",
        copy.log()
    );
    let mut sum = Command::new("sha256sum");
    let expected = process::run(sum.stdin(File::open(&file)?))?;
    assert_eq!(guest.run("sha256sum </var/tmp/copy")?, expected);
    goes_on()?;

    guest.run("systemctl kill --signal=KILL vmagent.service")?;
    guest.wait_status("continued connection", SOON, |status| {
        status["bridge"]["resumed"] == 1
    })?;
    goes_on()
}
