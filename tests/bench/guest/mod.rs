//! The bridges over real AF_VSOCK: all of them in one guest, loaded from inside it over
//! `vsock_loopback`, and from its host through the device.
//!
//! `rig` has the guest, `peer` those that are compared. The figures go to the same kind of sheet
//! and table as all others.

mod peer;
mod rig;

use harness::failure::{Failure, Result};
use serde_json::Value;

use crate::interrupt;
use crate::sheet::Sheet;
use crate::table::{Goal, Row, Table};
use peer::Peer;
use rig::{Rig, Side};

/// How much is measured. The guest may be emulated.
struct Plan {
    /// Bytes that the connections of one measurement move together.
    bytes: u64,
    /// Connections that are made one after the other, with their times taken.
    connects: usize,
    /// Round trips on an open connection.
    trips: usize,
    /// Idle connections that are held open.
    held: usize,
}

/// How many connections move bytes at a time.
const BULK: [usize; 2] = [1, 100];

fn plan(quick: bool) -> Plan {
    let part = if quick { 8 } else { 1 };
    Plan {
        bytes: (64 << 20) / part,
        connects: 200 / part as usize,
        trips: 2000 / part as usize,
        held: 100,
    }
}

/// The part of the bench that needs a guest.
pub struct Guests {
    rig: Rig,
    plan: Plan,
}

impl Guests {
    /// Starts the guest with all peers in it; much less is measured for a look.
    ///
    /// # Errors
    ///
    /// If there is no image, or a peer does not answer.
    pub fn start(quick: bool) -> Result<Self> {
        Ok(Self {
            rig: Rig::new()?,
            plan: plan(quick),
        })
    }

    /// Measures all peers once: each thing of all of them before the next thing.
    ///
    /// # Errors
    ///
    /// If a peer fails.
    pub fn round(&self, number: u32, sheet: &mut Sheet) -> Result<()> {
        let mut round = Round {
            rig: &self.rig,
            plan: &self.plan,
            number,
            turn: number as usize,
            sheet,
        };
        round.all(Peer::is_bridge, Round::memory)?;
        for side in Side::ALL {
            for count in BULK {
                for way in ["up", "down"] {
                    round.all(Peer::carries_load, |round, peer| {
                        round.bulk(side, peer, way, count)
                    })?;
                }
            }
            round.all(|_| true, |round, peer| round.connects(side, peer))?;
            round.all(Peer::carries_load, |round, peer| round.trips(side, peer))?;
        }
        Ok(())
    }

    /// The guest and its programs, as a Markdown list.
    ///
    /// # Errors
    ///
    /// If a program does not say its version.
    pub fn describe(&self) -> Result<String> {
        self.rig.describe()
    }
}

/// What one has to know to read the tables.
pub const NOTES: &str = "\
- *direct* is the load's own server on vsock: what the device moves with nothing in between. The bridges lead to the
  same server on TCP, so a part of what they add is the second socket's.
- *sshd -i* is what systemd's own sshd-vsock.socket starts for each connection. It leads nowhere else, so its greeting
  is all there is to compare.
- CPU and memory are those of the control group in the guest, with every process that it ever had. *socat* has one for
  each connection; PSS counts once what they share.
- Between host and guest is vhost-device-vsock, a program, where a host has its kernel's vhost_vsock: compare columns
  there, and take no figure for a host's.
- *RSS, idle* is at the beginning of a round. From the second on, socat has about two hundred processes of the round
  before that have not ended.
- *socat* listens with `backlog=128`: with its default of five it drops connections of a burst.
";

/// The tables in Markdown, each with a heading.
pub fn markdown(sheet: &Sheet) -> String {
    let tables = Side::ALL.map(|side| {
        let heading = side.title();
        format!("### {heading}\n\n{}", table(side).markdown(sheet))
    });
    tables.join("\n")
}

fn table(side: Side) -> Table {
    let socat = Peer::Socat.name();
    let mut rows = Vec::new();
    for way in ["up", "down"] {
        for count in BULK {
            let plural = if count == 1 { "" } else { "s" };
            let title = format!("{way}, {count} connection{plural}");
            let row = Row::new(
                side.key(&format!("{way}-{count}")),
                format!("{title}, MiB/s"),
            );
            rows.push(row.goal(Goal::Least(1.5, socat)));
            let key = side.key(&format!("{way}-{count}-cpu"));
            let row = Row::new(key, format!("{title}, CPU s/GiB"));
            rows.push(row.goal(Goal::Most(0.5, socat)));
        }
    }
    for part in ["p50", "p99"] {
        let key = side.key(&format!("first-byte-{part}"));
        let row = Row::new(key, format!("connect to first byte, {part}, ms"));
        rows.push(row.goal(Goal::Most(0.2, socat)));
    }
    for part in ["p50", "p99"] {
        let key = side.key(&format!("trip-{part}"));
        rows.push(Row::new(key, format!("1-byte round trip, {part}, µs")));
    }
    for (key, title) in [
        ("idle-rss", "RSS, idle, KiB"),
        ("idle-pss", "PSS, idle, KiB"),
        ("connection-rss", "RSS for each idle connection, KiB"),
        ("connection-pss", "PSS for each idle connection, KiB"),
    ] {
        rows.push(Row::new(side.key(key), title));
    }
    Table {
        peers: &PEERS,
        rivals: &RIVALS,
        rows,
    }
}

const PEERS: [&str; 5] = Peer::names();
const RIVALS: [&str; 2] = [Peer::Socat.name(), Peer::SocatBig.name()];

struct Round<'a> {
    rig: &'a Rig,
    plan: &'a Plan,
    number: u32,
    turn: usize,
    sheet: &'a mut Sheet,
}

impl Round<'_> {
    /// Does it with all that it can be done with; each time another of them is the first.
    fn all(
        &mut self,
        wanted: impl Fn(Peer) -> bool,
        mut measure: impl FnMut(&mut Self, Peer) -> Result<()>,
    ) -> Result<()> {
        let mut peers = Peer::ALL;
        peers.rotate_left(self.turn % Peer::ALL.len());
        self.turn += 1;
        for peer in peers.into_iter().filter(|peer| wanted(*peer)) {
            if let Err(failure) = measure(self, peer) {
                interrupt::check()?;
                // One that does not stand it is not the end of the others.
                let failure = failure.during(format!("round {}, {}", self.number, peer.name()));
                eprintln!("  {failure}");
                self.sheet.fail(failure.to_string());
            }
        }
        Ok(())
    }

    fn put(&mut self, side: Side, what: &str, peer: Peer, figure: f64) {
        let what = side.key(what);
        eprintln!("  {what}, {}: {figure:.4}", peer.name());
        self.sheet.put(&what, peer.name(), self.number, figure);
    }

    fn bulk(&mut self, side: Side, peer: Peer, way: &str, count: usize) -> Result<()> {
        let (result, used) = self.rig.bulk(side, peer, way, count, self.plan.bytes)?;
        let key = format!("{way}-{count}");
        self.put(side, &key, peer, number(&result, "/mib_per_second")?);
        if peer.is_bridge() {
            let gib = number(&result, "/bytes")? / f64::from(1 << 30);
            let key = format!("{key}-cpu");
            self.put(side, &key, peer, used.as_secs_f64() / gib);
        }
        Ok(())
    }

    fn connects(&mut self, side: Side, peer: Peer) -> Result<()> {
        let count = self.plan.connects.to_string();
        let result = self.rig.load(side, peer, &["greeting", &count])?;
        for part in ["p50", "p99"] {
            let microseconds = number(&result, &format!("/first_byte/{part}_us"))?;
            let key = format!("first-byte-{part}");
            self.put(side, &key, peer, microseconds / 1e3);
        }
        Ok(())
    }

    fn trips(&mut self, side: Side, peer: Peer) -> Result<()> {
        let count = self.plan.trips.to_string();
        let result = self.rig.load(side, peer, &["round-trip", &count])?;
        for part in ["p50", "p99"] {
            let microseconds = number(&result, &format!("/round_trip/{part}_us"))?;
            self.put(side, &format!("trip-{part}"), peer, microseconds);
        }
        Ok(())
    }

    /// What is held does not depend on where it comes from.
    fn memory(&mut self, peer: Peer) -> Result<()> {
        let side = Side::Guest;
        let none = self.rig.memory(peer, 0)?;
        let some = self.rig.memory(peer, self.plan.held)?;
        let held = self.plan.held as f64;
        self.put(side, "idle-rss", peer, none.resident);
        self.put(side, "idle-pss", peer, none.proportional);
        let resident = (some.resident - none.resident) / held;
        let proportional = (some.proportional - none.proportional) / held;
        self.put(side, "connection-rss", peer, resident);
        self.put(side, "connection-pss", peer, proportional);
        Ok(())
    }
}

fn number(result: &Value, pointer: &str) -> Result<f64> {
    let number = result.pointer(pointer).and_then(Value::as_f64);
    number.ok_or_else(|| Failure::new(format!("no {pointer} in {result}")))
}
