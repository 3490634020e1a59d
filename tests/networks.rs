//! The tunnel on bad networks: it carries what `ssh -R` carries on the same link in the same run,
//! and its status is true meanwhile. `make bench-networks` has many more of them.

use std::thread;
use std::time::Duration;

use harness::failure::{Context, Failure, Result};
use harness::link::Way;
use harness::site::{Direction, Site, Transfer, Typist};
use harness::wait;
use harness::watch::in_short;

const SECOND: Duration = Duration::from_secs(1);

/// Longer than it takes from one probe to the next, and to the end of a tunnel that fails it.
const PAST_A_PROBE: Duration = Duration::from_secs(100);

/// Several times what it takes to give up a session on which nothing arrives.
const PAST_A_KEEPALIVE: Duration = Duration::from_secs(65);

/// What the guest's sshd logs about a client that does not speak SSH.
const GARBAGE: [&str; 4] = [
    "Bad protocol version",
    "invalid protocol identifier",
    "invalid characters",
    "banner line too long",
];

/// A transfer on a link of this many bits per second, which it fills, with a queue of a second.
#[derive(Debug, Clone, Copy)]
struct Cell {
    rate: u64,
    direction: Direction,
    lasts: Duration,
}

impl Cell {
    fn site(self) -> Result<Site> {
        Site::new([Way::new(self.rate).delay(20).queue(1000); 2])
    }

    /// How many bytes `ssh -R` carries.
    fn by_ssh(self) -> Result<u64> {
        let site = self.site()?;
        let _ssh = site.ssh_up()?;
        let transfer = Transfer::start(&site, self.direction)?;
        transfer.lasts(self.lasts)?;
        one_login(&site)?;
        Ok(transfer.arrived())
    }

    /// How many bytes the agent carries. Its status is good all the time.
    fn by_agent(self) -> Result<u64> {
        let site = self.site()?;
        let mut agent = site.agent_up()?;
        let transfer = Transfer::start(&site, self.direction)?;
        let mut watch = agent.watch()?;
        let (lasted, bad) = thread::scope(|scope| {
            let lasted = scope.spawn(|| transfer.lasts(self.lasts));
            let bad = watch.until("bad status", self.lasts, |status| {
                let fault = &status["tunnel"]["fault"]["code"];
                status["health"] != "ok" || fault == "wrong-guest"
            });
            (lasted.join().expect("a transfer"), bad)
        });
        let arrived = transfer.arrived();
        agent.alive()?;
        if let Ok(status) = bad {
            let text = format!("{}\n{}", in_short(&status), agent.log());
            return Err(Failure::new(text));
        }
        lasted.map_err(|failure| failure.during(agent.log()))?;
        one_login(&site)?;
        let said = site.sshd.log();
        match GARBAGE.iter().find(|words| said.contains(*words)) {
            Some(_) => Err(Failure::new(said).during("sshd heard something else than SSH")),
            None => Ok(arrived),
        }
    }

    fn run(self) -> Result<()> {
        let (ssh, agent) = thread::scope(|scope| {
            let ssh = scope.spawn(move || self.by_ssh());
            let agent = self.by_agent();
            (ssh.join().expect("ssh -R"), agent)
        });
        let ssh = ssh.during(format!("{self:?} by ssh -R: the link does not carry it"))?;
        let agent = agent.during(format!("{self:?} by the agent"))?;
        println!("{self:?}: {agent} bytes, by ssh -R {ssh}");
        if agent < ssh / 2 {
            return Err(Failure::new(format!("{self:?}: {agent} bytes of {ssh}")));
        }
        Ok(())
    }
}

fn one_login(site: &Site) -> Result<()> {
    match site.logins() {
        1 => Ok(()),
        count => Err(Failure::new(site.proxy.log()).during(format!("{count} logins at the proxy"))),
    }
}

/// Each of them waits nearly all the time, on a link of its own.
fn all(cells: &[Cell]) {
    let failures: Vec<Failure> = thread::scope(|scope| {
        let running: Vec<_> = cells
            .iter()
            .map(|cell| scope.spawn(|| cell.run()))
            .collect();
        let results = running.into_iter().map(|cell| cell.join().expect("a cell"));
        results.filter_map(Result::err).collect()
    });
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_transfer_that_fills_the_link_is_never_cut() {
    let mut cells = Vec::new();
    for rate in [4_000_000, 2_000_000, 1_000_000] {
        for direction in Direction::BOTH {
            cells.push(Cell {
                rate,
                direction,
                lasts: PAST_A_PROBE,
            });
        }
    }
    for rate in [512_000, 256_000, 128_000] {
        let direction = Direction::Up;
        cells.push(Cell {
            rate,
            direction,
            lasts: PAST_A_KEEPALIVE,
        });
    }
    all(&cells);
}

/// A person logs in beside a transfer that fills the link, and types: the median of the time that
/// a key takes.
fn typed(site: &Site) -> Result<Duration> {
    let transfer = Transfer::start(site, Direction::Up)?;
    wait::until("transfer that fills the link", 60 * SECOND, || {
        (transfer.arrived() > 2_000_000).then_some(())
    })?;
    let typist = Typist::start(site)?;
    let keys = wait::until("a hundred keys", 60 * SECOND, || {
        Some(typist.latencies()).filter(|keys| keys.len() >= 100)
    });
    let mut keys = keys?;
    keys.sort();
    Ok(keys[keys.len() / 2])
}

#[test]
fn a_person_logs_in_and_types_beside_a_transfer_as_well_as_with_ssh() {
    let site = || Site::new([Way::new(2_000_000).delay(20).queue(500); 2]);
    let by_ssh = || {
        let site = site()?;
        let _ssh = site.ssh_up()?;
        typed(&site)
    };
    let by_agent = || {
        let site = site()?;
        let agent = site.agent_up()?;
        typed(&site).map_err(|failure| failure.during(agent.log()))
    };
    let (ssh, agent) = thread::scope(|scope| {
        let ssh = scope.spawn(by_ssh);
        let agent = by_agent();
        (ssh.join().expect("ssh -R"), agent)
    });
    let (ssh, agent) = (ssh.during("ssh -R").unwrap(), agent.unwrap());
    println!("a key takes {agent:.1?}, with ssh -R {ssh:.1?}");
    assert!(agent < 2 * ssh, "{agent:?} and {ssh:?}");
}
