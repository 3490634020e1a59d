//! The tables, and what one has to know to read them.

use std::process::Command;
use std::time::Duration;

use harness::agent;
use harness::failure::Result;
use harness::process;
use harness::site::Direction;
use serde_json::{Value, json};

use crate::matrix::Cell;
use crate::phase::{Phase, Workload};
use crate::renumber::Setting;

/// How long a port is waited for after the guest's address has changed.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// One link: the phases of the agent and of ssh, in the workloads' order.
pub struct Measured {
    /// The link.
    pub cell: Cell,
    /// The agent's, and those of ssh.
    pub phases: [Vec<Phase>; 2],
}

/// One change of the guest's address.
pub struct Moved {
    /// How the proxy was set up.
    pub setting: Setting,
    /// Whether users dialled the port meanwhile.
    pub dialled: bool,
    /// The time of the agent and of ssh.
    pub took: [Option<Duration>; 2],
}

/// A link's results in a line.
pub fn brief(measured: &Measured) -> String {
    let sum =
        |phases: &[Phase], count: fn(&Phase) -> usize| phases.iter().map(count).sum::<usize>();
    let [agent, ssh] = &measured.phases;
    let cuts = |phases: &[Phase]| sum(phases, |phase| phase.cuts);
    let lost = |phases: &[Phase]| sum(phases, |phase| phase.lost);
    format!(
        "cuts {} and {} by ssh; sessions lost {} and {}",
        cuts(agent),
        cuts(ssh),
        lost(agent),
        lost(ssh)
    )
}

/// All tables, the summary first.
pub fn tables(measured: &[Measured], moved: &[Moved]) -> String {
    let mut text = summary(measured);
    for (index, work) in Workload::ALL.into_iter().enumerate() {
        text += &format!("\n## {}\n\n", title(work));
        text += "| link | cuts | sessions lost |";
        text += match work {
            Workload::Idle => "\n|---|---|---|\n",
            Workload::Keys => " agent's keys, ms | keys of ssh, ms |\n|---|---|---|---|---|\n",
            Workload::Bulk(_) => {
                " kB/s | ratio (slices) | health ok | agent's keys, ms | keys of ssh, ms |\n\
                 |---|---|---|---|---|---|---|---|\n"
            }
        };
        for one in measured {
            let [agent, ssh] = [0, 1].map(|peer| &one.phases[peer][index]);
            text += &format!(
                "| {} | {} / {} | {} / {} |",
                one.cell.name, agent.cuts, ssh.cuts, agent.lost, ssh.lost
            );
            if let Workload::Bulk(_) = work {
                text += &format!(
                    " {:.0} / {:.0} | {} | {} |",
                    rate(agent),
                    rate(ssh),
                    ratio(agent, ssh),
                    agent.ok.map(percent).unwrap_or_default()
                );
            }
            if work != Workload::Idle {
                text += &format!(" {} | {} |", keys(agent), keys(ssh));
            }
            text += "\n";
        }
    }
    text + &moves(moved)
}

fn title(work: Workload) -> &'static str {
    match work {
        Workload::Idle => "Idle",
        Workload::Keys => "Typing",
        Workload::Bulk(Direction::Up) => "A transfer from the guest, and typing",
        Workload::Bulk(Direction::Down) => "A transfer to the guest, and typing",
    }
}

fn summary(measured: &[Measured]) -> String {
    let all = |peer: usize| measured.iter().flat_map(move |one| &one.phases[peer]);
    let sums = |count: fn(&Phase) -> usize| [0, 1].map(|peer| all(peer).map(count).sum::<usize>());
    let cuts = sums(|phase| phase.cuts);
    let lost = sums(|phase| phase.lost);
    let pairs = || all(0).zip(all(1));
    let ratios = pairs()
        .filter(|(_, ssh)| ssh.bytes() > 0)
        .map(|(agent, ssh)| agent.bytes() as f64 / ssh.bytes() as f64);
    let slower = |at: f64| {
        pairs()
            .filter(|(_, ssh)| !ssh.keys.is_empty())
            .map(move |(agent, ssh)| match agent.keys.as_slice() {
                // Nobody could log in.
                [] => f64::INFINITY,
                keys => quantile(keys, at) / quantile(&ssh.keys, at),
            })
    };
    let healthy = all(0)
        .filter(|phase| !phase.slices.is_empty())
        .filter_map(|phase| phase.ok);
    let row = |what: &str, values: Vec<f64>, lowest_is_worst: bool| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        let worst = if lowest_is_worst {
            values.first()
        } else {
            values.last()
        };
        let worst = worst.copied().unwrap_or_default();
        format!("| {what} | {:.2} | {worst:.2} |\n", quantile(&values, 0.5))
    };
    format!(
        "The tunnel was cut {} times, that of ssh {} times; sessions of people that were lost: {} and {}.\n\n\
         | agent / ssh | median | worst |\n|---|---|---|\n{}{}{}{}",
        cuts[0],
        cuts[1],
        lost[0],
        lost[1],
        row("bytes moved", ratios.collect(), true),
        row("time of a key, median", slower(0.5).collect(), false),
        row("time of a key, 99 %", slower(0.99).collect(), false),
        row(
            "share of time with health ok in transfers",
            healthy.collect(),
            true
        ),
    )
}

fn moves(moved: &[Moved]) -> String {
    let mut text = "\n## Another address\n\nThe link is down for 10 s, and the guest has another address \
                    afterwards. Seconds from the address to the port held from it.\n\n\
                    | ClientAliveInterval | tcp_retries2 | users | agent | ssh |\n|---|---|---|---|---|\n"
        .to_owned();
    for one in moved {
        let users = if one.dialled {
            "dial each second"
        } else {
            "none"
        };
        let [agent, ssh] = one.took.map(|took| {
            let never = || format!("not in {} s", PATIENCE.as_secs());
            took.map_or_else(never, |took| format!("{:.1}", took.as_secs_f64()))
        });
        let Setting { interval, retries } = one.setting;
        text += &format!("| {interval} | {retries} | {users} | {agent} | {ssh} |\n");
    }
    text
}

fn rate(phase: &Phase) -> f64 {
    let slices = phase.slices.len().max(1) as f64;
    phase.bytes() as f64 / 1000.0 / (slices * 20.0)
}

/// How many times what ssh moved the agent moved: in all, and the lowest and highest of slices.
fn ratio(agent: &Phase, ssh: &Phase) -> String {
    let mut slices: Vec<f64> = agent
        .slices
        .iter()
        .zip(&ssh.slices)
        .filter(|(_, ssh)| **ssh > 0)
        .map(|(agent, ssh)| *agent as f64 / *ssh as f64)
        .collect();
    slices.sort_by(f64::total_cmp);
    let (low, high) = (quantile(&slices, 0.0), quantile(&slices, 1.0));
    let common = agent.slices.len().min(ssh.slices.len());
    let sum = |phase: &Phase| phase.slices.iter().take(common).sum::<u64>();
    let all = sum(agent) as f64 / sum(ssh).max(1) as f64;
    format!("{all:.2} ({low:.2} to {high:.2})")
}

/// The median, the 99th percentile and the worst, if anybody could log in.
fn keys(phase: &Phase) -> String {
    if phase.keys.is_empty() {
        return "no login".to_owned();
    }
    let [median, most, worst] = [0.5, 0.99, 1.0].map(|at| quantile(&phase.keys, at));
    format!("{median:.0} / {most:.0} / {worst:.0}")
}

/// Of values in order of size.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted
        .get((last * at).round() as usize)
        .copied()
        .unwrap_or_default()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// All that was measured.
///
/// # Errors
///
/// If it is no JSON.
pub fn json(measured: &[Measured], moved: &[Moved]) -> Result<String> {
    let phase = |phase: &Phase| {
        let keys = [0.5, 0.99, 1.0].map(|at| quantile(&phase.keys, at));
        json!({
            "cuts": phase.cuts, "lost": phase.lost, "ok": phase.ok, "bytes_in_20_s": phase.slices,
            "key_ms": keys, "keys": phase.keys.len(),
        })
    };
    let links: Vec<Value> = measured
        .iter()
        .map(|one| {
            let peer = |phases: &[Phase]| -> Value {
                let works = Workload::ALL.iter().zip(phases);
                works
                    .map(|(work, one)| (work.name().to_owned(), phase(one)))
                    .collect()
            };
            let [agent, ssh] = &one.phases;
            json!({ "link": one.cell.name, "agent": peer(agent), "ssh": peer(ssh) })
        })
        .collect();
    let moved: Vec<Value> = moved
        .iter()
        .map(|one| {
            let took = one.took.map(|took| took.map(|took| took.as_secs_f64()));
            json!({
                "client_alive_interval": one.setting.interval, "tcp_retries2": one.setting.retries,
                "dialled": one.dialled, "agent": took[0], "ssh": took[1],
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({ "links": links, "moved": moved }))? + "\n")
}

/// The page that is kept.
///
/// # Errors
///
/// If a program does not say its version.
pub fn page(tables: &str, bulk: u64) -> Result<String> {
    let kernel = process::run(Command::new("uname").arg("-sr"))?;
    let kernel = kernel.split('-').next().unwrap_or_default();
    let version = process::run(Command::new(agent::binary()).arg("--version"))?;
    let openssh =
        process::run(Command::new("dpkg-query").args(["-Wf", "${Version}", "openssh-server"]))?;
    Ok(format!(
        "{HEAD}\n{tables}\n{NOTES}\n- Each transfer lasts {bulk} s.\n\n## Made on\n\n- {} processors, {}\n- {}\n\
         - OpenSSH {openssh} on all sides\n",
        std::thread::available_parallelism()?,
        kernel.trim(),
        version.trim(),
    ))
}

const HEAD: &str = "\
# Bad networks

`make bench-networks` wrote this page. The agent and `ssh -N -R` in a loop each have a link of their own with the same
settings between a guest and its proxy, and people use both tunnels in the same way at the same time. In each cell of
a table the agent's number comes first, and that of ssh second.
";

const NOTES: &str = "\
## How to read it

- A *cut* is another login of the tunnel at the proxy; a *session lost* is a login of a person through the tunnel that
  ended early, or did not come about.
- Rate, delay, queue and loss are those of one direction. A queue is given by the time in which a full one drains.
- *Keys*: one byte each 0.2 s through a login of its own, echoed by the guest; median, 99th percentile and worst. A key
  that was never answered counts with the time that it waited.
- *Ratio*: bytes that the agent moved by bytes that ssh moved; in parentheses the lowest and highest of 20 s each.
- ssh is started with `ServerAliveInterval=5`, `ServerAliveCountMax=3` and `ExitOnForwardFailure=yes`, and again a second
  after it has ended.";
