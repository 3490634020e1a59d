//! The two halves of the bench: whom it compares, what it measures of them, and what is required.

use harness::failure::Result;

use crate::measure::{Plan, bulk_bytes};
use crate::peer::Peer;
use crate::stage::Stage;
use crate::table::{Goal, Row, Table};
use crate::{bridges, tunnels};

/// A half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A local socket to sshd.
    Bridge,
    /// A proxy's port to sshd.
    Tunnel,
}

impl Part {
    /// Both, in the order in which they are measured.
    pub const ALL: [Self; 2] = [Self::Bridge, Self::Tunnel];

    /// A word for it: on the command line, and as the page's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Tunnel => "tunnel",
        }
    }

    /// Starts its peers.
    ///
    /// # Errors
    ///
    /// If one does not start.
    pub fn start(self, stage: &Stage) -> Result<Vec<Peer>> {
        match self {
            Self::Bridge => bridges::start(stage),
            Self::Tunnel => tunnels::start(stage),
        }
    }

    /// What is measured; much less for a look.
    pub fn plan(self, quick: bool) -> Plan {
        let sizes: &[usize] = if quick { &[1, 100] } else { &[1, 100, 1000] };
        let bulk = |part: u64, of_many: u64| {
            let bytes =
                |count: usize| bulk_bytes(count) / if count < 1000 { part } else { of_many };
            sizes.iter().map(|count| (*count, bytes(*count))).collect()
        };
        let sequence = (!quick).then_some(20_000);
        match self {
            Self::Bridge => Plan {
                bulk: bulk(1, 1),
                connects: 1000,
                trips: 10_000,
                keys: 300,
                held: 1000,
                sequence,
                curve: if quick {
                    (vec![1, 16, 250], 1)
                } else {
                    (CURVE.to_vec(), 3)
                },
            },
            Self::Tunnel => Plan {
                // ssh moves 20 MiB/s over a thousand.
                bulk: bulk(2, 8),
                // Some of them need 44 ms for each.
                connects: 100,
                trips: 5000,
                keys: 300,
                held: 208,
                sequence,
                curve: (Vec::new(), 0),
            },
        }
    }

    /// Its table.
    pub fn table(self, plan: &Plan) -> Table {
        match self {
            Self::Bridge => bridge(plan),
            Self::Tunnel => tunnel(plan),
        }
    }
}

/// Connections of the growth curve.
const CURVE: [usize; 7] = [1, 4, 16, 64, 250, 1000, 4000];

fn bridge(plan: &Plan) -> Table {
    let socat = bridges::SOCAT;
    let mut rows = Vec::new();
    for (key, title) in bulk_rows(plan) {
        rows.push(Row::new(&key, title).goal(Goal::Least(1.5, socat)));
    }
    for (key, title) in cpu_rows(plan) {
        rows.push(Row::new(&key, title).goal(Goal::Most(0.5, socat)));
    }
    for (key, title) in FIRST {
        rows.push(Row::new(key, title).goal(Goal::Most(0.2, socat)));
    }
    rows.extend(rest(plan, |row| match row.key.as_str() {
        "connection-rss" => row.goal(Goal::Below(4.0)),
        "key-times" => row.goal(Goal::Below(2.0)),
        _ => row,
    }));
    Table {
        peers: &bridges::ALL,
        rivals: &[bridges::SOCAT, bridges::SOCAT_64K],
        rows,
    }
}

fn tunnel(plan: &Plan) -> Table {
    let (same, default) = (tunnels::SSH_SAME, tunnels::SSH);
    let mut rows = Vec::new();
    for (key, title) in bulk_rows(plan) {
        let row = Row::new(&key, title).goal(Goal::Least(1.05, same));
        rows.push(row.goal(Goal::Least(1.7, default)));
    }
    for (key, title) in cpu_rows(plan) {
        rows.push(Row::new(&key, title).goal(Goal::Most(0.9, same)));
    }
    for (key, title) in FIRST {
        let row = Row::new(key, title);
        rows.push(if key.ends_with("p50") {
            row.goal(Goal::Below(0.5))
        } else {
            row
        });
    }
    rows.extend(rest(plan, |row| match row.key.as_str() {
        "idle-rss" => row.goal(Goal::Below(6.0 * 1024.0)),
        "connection-rss" => row.goal(Goal::Below(20.0)),
        "key-times" => row.goal(Goal::Below(2.0)),
        _ => row,
    }));
    Table {
        peers: &tunnels::ALL,
        rivals: &[tunnels::SSH_SAME, tunnels::SSH],
        rows,
    }
}

fn bulk_rows(plan: &Plan) -> Vec<(String, String)> {
    rows_of(plan, "", "MiB/s")
}

fn cpu_rows(plan: &Plan) -> Vec<(String, String)> {
    rows_of(plan, "-cpu", "CPU s/GiB")
}

fn rows_of(plan: &Plan, suffix: &str, unit: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for way in ["up", "down"] {
        for (count, _) in &plan.bulk {
            let plural = if *count == 1 { "" } else { "s" };
            rows.push((
                format!("{way}-{count}{suffix}"),
                format!("{way}, {count} connection{plural}, {unit}"),
            ));
        }
    }
    rows
}

const FIRST: [(&str, &str); 4] = [
    ("first-byte-p50", "connect to sshd's first byte, p50, ms"),
    ("first-byte-p99", "connect to sshd's first byte, p99, ms"),
    ("answer-p50", "connect, speak, be answered: p50, ms"),
    ("answer-p99", "connect, speak, be answered: p99, ms"),
];

/// The rows that have a goal in one half only, or in none.
fn rest(plan: &Plan, goals: impl Fn(Row) -> Row) -> Vec<Row> {
    let each = format!("for each of {} idle connections", plan.held);
    let sequence = plan.sequence.unwrap_or_default();
    let rows = [
        ("trip-p50", "1-byte round trip, p50, µs".to_owned()),
        ("trip-p99", "1-byte round trip, p99, µs".to_owned()),
        ("key-idle", "a keystroke's echo, p50, µs".to_owned()),
        (
            "key-loaded",
            "the same beside 8 bulk connections, p50, µs".to_owned(),
        ),
        ("key-times", "times its idle value".to_owned()),
        ("key-bulk", "what the 8 moved meanwhile, MiB/s".to_owned()),
        ("idle-rss", "RSS, idle, KiB".to_owned()),
        ("idle-pss", "PSS, idle, KiB".to_owned()),
        ("connection-rss", format!("RSS {each}, KiB")),
        ("connection-pss", format!("PSS {each}, KiB")),
        (
            "sequence-growth",
            format!("RSS after {sequence} connections more, KiB"),
        ),
        ("sequence-rate", "these connections, each second".to_owned()),
    ];
    rows.into_iter()
        .map(|(key, title)| goals(Row::new(key, title)))
        .collect()
}
