//! The table, and what one has to know to make it again.

use std::process::Command;
use std::time::Duration;

use harness::agent;
use harness::failure::Result;
use harness::process;

use crate::fault::Fault;
use crate::peer::Peer;
use crate::stage::{AUTOSSH, Stage};
use crate::trial::Outcome;

/// One cell's worth of one round.
pub struct Measured {
    /// What was done.
    pub fault: Fault,
    /// To whom.
    pub peer: Peer,
    /// What came of it: one for each of the fault's rows.
    pub outcomes: Vec<Outcome>,
}

/// The table in Markdown: median, and worst in parentheses.
pub fn table(measured: &[Measured]) -> String {
    let mut text = "| fault | seconds from |".to_owned();
    for peer in Peer::ALL {
        text += &format!(" {} |", peer.name());
    }
    text += "\n|---|---|---|---|---|---|\n";
    for fault in Fault::ALL {
        for (row, (what, from)) in fault.rows().iter().enumerate() {
            let cells: Vec<_> = Peer::ALL
                .map(|peer| {
                    let ours = measured
                        .iter()
                        .filter(|one| one.fault == fault && one.peer == peer);
                    cell(ours.map(|one| one.outcomes[row]).collect())
                })
                .into();
            if cells.iter().any(|cell| !cell.is_empty()) {
                text += &format!("| {what} | {from} | {} |\n", cells.join(" | "));
            }
        }
    }
    text
}

fn cell(mut outcomes: Vec<Outcome>) -> String {
    outcomes.sort_by_key(|outcome| match outcome {
        Outcome::After(time) => *time,
        Outcome::NotWithin(_) | Outcome::GaveUp => Duration::MAX,
    });
    let Some(worst) = outcomes.last() else {
        return String::new();
    };
    let median = brief(outcomes[(outcomes.len() - 1) / 2]);
    let worst = brief(*worst);
    if median == worst {
        return median;
    }
    format!("{median} ({worst})")
}

/// An outcome in a word or two.
pub fn brief(outcome: Outcome) -> String {
    match outcome {
        Outcome::After(time) if time < Duration::from_secs(10) => {
            format!("{:.2}", time.as_secs_f64())
        }
        Outcome::After(time) => format!("{:.1}", time.as_secs_f64()),
        Outcome::GaveUp => "never: gave up".to_owned(),
        Outcome::NotWithin(limit) => format!("never in {} s", limit.as_secs()),
    }
}

/// The machine and the programs, as a Markdown list.
///
/// # Errors
///
/// If a program does not say its version.
pub fn machine(stage: &Stage) -> Result<String> {
    let says = |program: &str, argument: &str| -> Result<String> {
        let output = Command::new(program).arg(argument).output()?;
        Ok(first_line(&[output.stdout, output.stderr].concat()))
    };
    let inside = |script: &str| first_line(stage.machine.check(script).as_bytes());
    let kernel = process::run(Command::new("uname").arg("-sr"))?;
    // What a vendor adds to the version says nothing here.
    let kernel = kernel.split('-').next().unwrap_or_default();
    let proxy =
        process::run(Command::new("dpkg-query").args(["-Wf", "${Version}", "openssh-server"]))?;
    Ok(format!(
        "- {} processors, {}\n- {}\n- {}\n- the peers' client: {}; the proxy and the guest's sshd: \
         openssh-server {proxy}\n- {}\n",
        std::thread::available_parallelism()?,
        kernel.trim(),
        says(&agent::binary().display().to_string(), "--version")?,
        says(AUTOSSH, "-V")?,
        inside("ssh -V 2>&1"),
        inside("systemctl --version"),
    ))
}

fn first_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// The units of the peers, as they were run.
pub fn units() -> String {
    Peer::ALL
        .map(|peer| {
            let unit = peer.unit();
            format!("{}:\n\n```ini\n{unit}```\n", peer.name())
        })
        .join("\n")
}

/// The page that is kept.
///
/// # Errors
///
/// As [`machine`].
pub fn page(stage: &Stage, measured: &[Measured], rounds: u32, limit: Duration) -> Result<String> {
    Ok(format!(
        "{HEAD}\n{}\n{NOTES}\n- *never in N s*: it was not there N seconds after; N is {} s where the end of the fault is \
         waited for.\n- Rounds: {rounds}.\n\n## Made on\n\n{}\n## The peers\n\n{PEERS}\n{}",
        table(measured),
        limit.as_secs(),
        machine(stage)?,
        units()
    ))
}

const HEAD: &str = "\
# Seconds to recovery

`make bench-recovery` wrote this page. The same faults are done to four peers side by side, for real, and it is
measured when a stranger can again read the banner of the guest's sshd through the proxy's port. Median of the
rounds, and the worst in parentheses where it differs.
";

const NOTES: &str = "\
How to read it:

- The yardstick is the same for all: a TCP connection to the proxy's port every 20 ms, with a second of patience each.
  What a peer says of itself does not count.
- *Noticed*: the peer has given up its dead connection; for the port that is bound to loopback, vmagent's status says
  `not-reachable`, or ssh has ended. It is waited for 30 s.
- Each tunnel has been up for at least 11 s before it is disturbed, where it is up to begin with.
- What lasts from one time to another lasts differently long in each round, so that a fixed schedule of retries does
  not meet its end by luck in all of them.
- *never: gave up*: the unit has failed for good (systemd's start limit), or the program has ended.";

const PEERS: &str = "\
All dial the same kind of proxy, an sshd as the README recommends it (`ClientAliveInterval 15`, `ClientAliveCountMax 3`),
with a key of the same kind and the same cipher, aes128-gcm. All run as units of one systemd. `ssh_config` has `HostName`,
`Port`, `User`, `IdentityFile`, `IdentitiesOnly yes`, `PreferredAuthentications publickey`, `Ciphers`,
`StrictHostKeyChecking yes` and a `UserKnownHostsFile`, and nothing else. `AUTOSSH_POLL` has its default.
";
