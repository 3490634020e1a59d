//! What is measured of each peer, in turn.

use harness::failure::{Failure, Result};
use serde_json::Value;

use crate::cost::Memory;
use crate::interrupt;
use crate::load::Load;
use crate::peer::Peer;
use crate::sheet::Sheet;

const GIB: f64 = (1_u64 << 30) as f64;

/// Connections that are open before the first that counts as a further one.
const FEW: usize = 8;

/// How much is measured.
pub struct Plan {
    /// Connections, and how many bytes they move together.
    pub bulk: Vec<(usize, u64)>,
    /// Connections that are made one after the other, with their times taken.
    pub connects: usize,
    /// Round trips on an open connection.
    pub trips: usize,
    /// Keystrokes beside bulk connections.
    pub keys: usize,
    /// Idle connections that are held open.
    pub held: usize,
    /// Connections after which a peer should be as large as before, in the first round.
    pub sequence: Option<usize>,
    /// Connections of the growth curve, and in how many rounds it is made.
    pub curve: (Vec<usize>, u32),
}

/// One round's measuring.
pub struct Round<'a> {
    /// How much.
    pub plan: &'a Plan,
    /// By what.
    pub load: &'a Load,
    /// Its number, from 1.
    pub number: u32,
    /// Where it is written down.
    pub sheet: &'a mut Sheet,
}

impl Round<'_> {
    /// Measures all peers: each thing of all of them before the next thing, and each time another
    /// of them is the first. What a peer fails at is written down.
    ///
    /// # Errors
    ///
    /// If the program is to end.
    pub fn run(&mut self, peers: &[Peer]) -> Result<()> {
        let mut turn = self.number as usize;
        self.all(peers, &mut turn, Self::memory)?;
        for (count, bytes) in &self.plan.bulk {
            for way in ["up", "down"] {
                self.all(peers, &mut turn, |round, peer| {
                    round.bulk(peer, way, *count, *bytes)
                })?;
            }
        }
        self.all(peers, &mut turn, Self::connects)?;
        self.all(peers, &mut turn, Self::trips)?;
        self.all(peers, &mut turn, Self::fairness)?;
        let (curve, rounds) = &self.plan.curve;
        if self.number <= *rounds {
            for count in curve {
                for way in ["up", "down"] {
                    // Thousands that end take a moment, in which the others have their turn.
                    self.all(peers, &mut turn, |round, peer| {
                        round.curve(peer, way, *count)
                    })?;
                }
            }
        }
        if self.number == 1
            && let Some(count) = self.plan.sequence
        {
            self.all(peers, &mut turn, |round, peer| round.sequence(peer, count))?;
        }
        Ok(())
    }

    fn all(
        &mut self,
        peers: &[Peer],
        turn: &mut usize,
        mut measure: impl FnMut(&mut Self, &Peer) -> Result<()>,
    ) -> Result<()> {
        for offset in 0..peers.len() {
            let peer = &peers[(*turn + offset) % peers.len()];
            if let Err(failure) = measure(self, peer) {
                interrupt::check()?;
                // One that does not stand it is not the end of the others.
                let failure = failure.during(format!("round {}, {}", self.number, peer.name));
                eprintln!("  {failure}");
                self.sheet.fail(failure.to_string());
            }
        }
        *turn += 1;
        Ok(())
    }

    fn put(&mut self, what: &str, peer: &Peer, figure: f64) {
        eprintln!("  {what}, {}: {figure:.4}", peer.name);
        self.sheet.put(what, peer.name, self.number, figure);
    }

    /// Idle, and for each connection that is open beyond the first few.
    fn memory(&mut self, peer: &Peer) -> Result<()> {
        let Some(group) = &peer.group else {
            return Ok(());
        };
        let idle = group.memory()?;
        let few = self.held(peer, FEW)?;
        let many = self.held(peer, self.plan.held)?;
        let each = |of: fn(&Memory) -> f64| (of(&many) - of(&few)) / (self.plan.held - FEW) as f64;
        let (resident, proportional) = (each(|m| m.resident), each(|m| m.proportional));
        self.put("idle-rss", peer, idle.resident);
        self.put("idle-pss", peer, idle.proportional);
        self.put("connection-rss", peer, resident);
        self.put("connection-pss", peer, proportional);
        Ok(())
    }

    fn held(&self, peer: &Peer, count: usize) -> Result<Memory> {
        let mut held = self
            .load
            .begin(&peer.endpoint, &["hold", &count.to_string()])?;
        held.next()?;
        let memory = peer.memory()?;
        held.end()?;
        Ok(memory)
    }

    fn bulk(&mut self, peer: &Peer, way: &str, count: usize, bytes: u64) -> Result<()> {
        let (rate, processor, _) = self.moved(peer, way, count, bytes)?;
        self.put(&format!("{way}-{count}"), peer, rate);
        if peer.group.is_some() {
            self.put(&format!("{way}-{count}-cpu"), peer, processor);
        }
        Ok(())
    }

    /// MiB/s, seconds of processor time for each GiB, and the memory before the first byte.
    fn moved(
        &self,
        peer: &Peer,
        way: &str,
        count: usize,
        bytes: u64,
    ) -> Result<(f64, f64, Option<Memory>)> {
        let what = ["--steps", way, &count.to_string(), &bytes.to_string()];
        let mut steps = self.load.begin(&peer.endpoint, &what)?;
        steps.next()?;
        let memory = peer.group.as_ref().map(|_| peer.memory()).transpose()?;
        let before = peer.processor()?;
        steps.go()?;
        let result = steps.next()?;
        // All of them are still there: what they used is counted, and their end is not.
        let used = peer.processor()?.saturating_sub(before);
        steps.end()?;
        let moved = figure(&result, &["bytes"])?;
        Ok((
            figure(&result, &["mib_per_second"])?,
            used.as_secs_f64() / (moved / GIB),
            memory,
        ))
    }

    fn connects(&mut self, peer: &Peer) -> Result<()> {
        let count = self.plan.connects.to_string();
        let result = self.load.measure(&peer.endpoint, &["connect", &count])?;
        for what in ["first_byte", "answer"] {
            for part in ["p50", "p99"] {
                let micros = figure(&result, &[what, &format!("{part}_us")])?;
                let name = format!("{}-{part}", what.replace('_', "-"));
                self.put(&name, peer, micros / 1000.0);
            }
        }
        Ok(())
    }

    fn trips(&mut self, peer: &Peer) -> Result<()> {
        let count = self.plan.trips.to_string();
        let result = self.load.measure(&peer.endpoint, &["round-trip", &count])?;
        for part in ["p50", "p99"] {
            let micros = figure(&result, &["round_trip", &format!("{part}_us")])?;
            self.put(&format!("trip-{part}"), peer, micros);
        }
        Ok(())
    }

    fn fairness(&mut self, peer: &Peer) -> Result<()> {
        let count = self.plan.keys.to_string();
        let result = self.load.measure(&peer.endpoint, &["fairness", &count])?;
        let idle = figure(&result, &["idle", "p50_us"])?;
        let loaded = figure(&result, &["loaded", "p50_us"])?;
        self.put("key-idle", peer, idle);
        self.put("key-loaded", peer, loaded);
        self.put("key-times", peer, loaded / idle);
        self.put("key-bulk", peer, figure(&result, &["bulk_mib_per_second"])?);
        Ok(())
    }

    fn curve(&mut self, peer: &Peer, way: &str, count: usize) -> Result<()> {
        if count > peer.most {
            return Ok(());
        }
        let (rate, processor, memory) = self.moved(peer, way, count, bulk_bytes(count))?;
        self.put(&format!("curve-{way}-{count}"), peer, rate);
        if let Some(memory) = memory.filter(|_| way == "up") {
            self.put(&format!("curve-rss-{count}"), peer, memory.resident);
            self.put(&format!("curve-pss-{count}"), peer, memory.proportional);
        }
        if peer.group.is_some() {
            self.put(&format!("curve-{way}-{count}-cpu"), peer, processor);
        }
        Ok(())
    }

    fn sequence(&mut self, peer: &Peer, count: usize) -> Result<()> {
        if peer.group.is_none() {
            return Ok(());
        }
        let before = peer.memory()?;
        let result = self
            .load
            .measure(&peer.endpoint, &["sequence", &count.to_string()])?;
        let after = peer.memory()?;
        let seconds = figure(&result, &["seconds"])?;
        self.put("sequence-rate", peer, count as f64 / seconds);
        self.put("sequence-growth", peer, after.resident - before.resident);
        Ok(())
    }
}

/// What so many connections move together in a second or two.
pub fn bulk_bytes(connections: usize) -> u64 {
    // A few connections get going at once; many need some bytes each to say anything.
    (768 << 20) + connections as u64 * (128 << 10)
}

fn figure(value: &Value, path: &[&str]) -> Result<f64> {
    let found = path.iter().try_fold(value, |value, key| value.get(key));
    let number = found.and_then(Value::as_f64);
    number.ok_or_else(|| Failure::new(format!("no {} in {value}", path.join("."))))
}
