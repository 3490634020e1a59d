//! Sessions over a real vsock device outlive the agent.

use std::fs;
use std::process::Command;

use harness::failure::Result;
use harness::guest::{Guest, VM};
use harness::limits::SOON;
use harness::netns::Namespace;
use harness::wait;

/// Four bytes each. It is no multiple of what anything on the way has room for.
const BLOCK: u32 = (1 << 18) + 1;

/// What came here and what left here have one sum: nothing was lost, doubled or moved.
const SEND: &str = r#"
    cd "$0"
    until [ -e stop ]; do cat block || exit; echo >>blocks; done |
        tee >(sha256sum >sum) | "$@" sha256sum
"#;

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

    // And another sends more and more, until it has gone through the restarts.
    let dir = guest.dir();
    let block: Vec<u8> = (0..BLOCK)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(dir.join("block"), block)?;
    let mut send = Command::new("bash");
    send.args(["-c", SEND]).arg(dir).args([ssh.get_program()]);
    send.args(guest.client.command("ssh").get_args()).arg(VM);
    let mut stream = namespace.spawn(dir, "stream", &send)?;
    let sent = || fs::metadata(dir.join("blocks")).map_or(0, |blocks| blocks.len());
    for _ in 0..3 {
        let before = sent();
        let more = || (sent() > before + 2).then_some(());
        wait::until("more of it", SOON, more)?;
        guest.run("systemctl restart vmagent.service")?;
        guest.wait_status("continued connections", SOON, |status| {
            status["bridge"]["resumed"] == 2
        })?;
        stream.alive()?;
    }
    fs::write(dir.join("stop"), "")?;
    let outcome = stream.wait(SOON)?;
    assert!(outcome.success(), "{}", stream.log());
    let sum = || {
        fs::read_to_string(dir.join("sum"))
            .ok()
            .filter(|sum| sum.ends_with('\n'))
    };
    let sum = wait::until("the sum of what was sent", SOON, sum)?;
    assert_eq!(stream.log(), sum, "after {} blocks", sent());
    goes_on()?;

    // Its sshd in the guest may take longer to leave than its client here.
    guest.wait_status("one connection", SOON, |status| {
        status["bridge"]["open"] == 1
    })?;
    guest.run("systemctl kill --signal=KILL vmagent.service")?;
    guest.wait_status("continued connection", SOON, |status| {
        status["bridge"]["resumed"] == 1
    })?;
    goes_on()
}
