//! The pages and the picture.

use std::fs;
use std::process::Command;

use harness::failure::Result;
use harness::{agent, paths, process};

use crate::measure::Plan;
use crate::part::Part;
use crate::sheet::Sheet;
use crate::svg::{self, Curve, Panel};
use crate::tunnels::RATHOLE;
use crate::{bridges, guest, table};

/// Writes the page of a part, its raw figures, and its picture if there is a curve.
///
/// # Errors
///
/// If a file can't be written, or a program does not say its version.
pub fn write(part: Part, plan: &Plan, sheet: &Sheet, rounds: u32) -> Result<()> {
    let dir = paths::top().join("docs/bench");
    fs::create_dir_all(&dir)?;
    let name = part.name();
    let (head, notes) = match part {
        Part::Bridge => (BRIDGE_HEAD, BRIDGE_NOTES),
        Part::Tunnel => (TUNNEL_HEAD, TUNNEL_NOTES),
    };
    let table = part.table(plan).markdown(sheet);
    let mut page = format!("{head}\n{table}\n{}", sheet.failures());
    if !plan.curve.0.is_empty() {
        fs::write(dir.join(format!("{name}.svg")), picture(plan, sheet))?;
        page += &format!("![throughput and memory over connections]({name}.svg)\n\n");
        page += &curve_table(plan, sheet);
    }
    page += &format!(
        "{NOTES}{notes}- Rounds: {rounds}. [All figures of all rounds]({name}.json)\n\n\
         ## Made on\n\n{}",
        machine(part)?
    );
    fs::write(dir.join(format!("{name}.md")), page)?;
    let raw = serde_json::to_string(&sheet.json())?.replace("},\"", "},\n\"");
    fs::write(dir.join(format!("{name}.json")), format!("{raw}\n"))?;
    println!("written to docs/bench/{name}.md");
    Ok(())
}

/// Writes the page of the guest.
///
/// # Errors
///
/// As for the other pages.
pub fn write_guest(described: &str, sheet: &Sheet, rounds: u32) -> Result<()> {
    let dir = paths::top().join("docs/bench");
    let page = format!(
        "{GUEST_HEAD}\n{}\n{}\nHow to read it:\n\n{}- Rounds: {rounds}. [All figures of all \
         rounds](guest.json)\n\n## Made on\n\n{described}",
        guest::markdown(sheet),
        sheet.failures(),
        guest::NOTES,
    );
    fs::write(dir.join("guest.md"), page)?;
    let raw = serde_json::to_string(&sheet.json())?.replace("},\"", "},\n\"");
    fs::write(dir.join("guest.json"), format!("{raw}\n"))?;
    println!("written to docs/bench/guest.md");
    Ok(())
}

const NAMES: [&str; 3] = [bridges::VMAGENT, bridges::SOCAT, bridges::SOCAT_64K];

fn picture(plan: &Plan, sheet: &Sheet) -> String {
    let (counts, _) = &plan.curve;
    let panel = |title: &str, key: &str, unit: f64, logarithmic: bool| Panel {
        title: title.to_owned(),
        curves: NAMES
            .map(|name| Curve {
                name: name.to_owned(),
                points: counts
                    .iter()
                    .filter_map(|count| {
                        let spread = sheet.spread(&format!("{key}-{count}"), name)?;
                        Some((*count as f64, spread.median / unit))
                    })
                    .collect(),
            })
            .into(),
        logarithmic,
    };
    svg::draw(
        "The bridge over the number of connections",
        "connections",
        counts,
        &[
            panel("up, MiB/s", "curve-up", 1.0, false),
            panel("down, MiB/s", "curve-down", 1.0, false),
            panel(
                "memory of all processes (PSS), MiB",
                "curve-pss",
                1024.0,
                true,
            ),
        ],
    )
}

/// The picture in words.
fn curve_table(plan: &Plan, sheet: &Sheet) -> String {
    let mut text = "| connections |".to_owned();
    let columns = [
        ("up, MiB/s", "curve-up", 1.0),
        ("down, MiB/s", "curve-down", 1.0),
        ("PSS, MiB", "curve-pss", 1024.0),
    ];
    for (title, ..) in columns {
        text += &format!(" {title}: {} |", NAMES.join(", "));
    }
    text += "\n|---:|---:|---:|---:|\n";
    for count in &plan.curve.0 {
        text += &format!("| {count} |");
        for (_, key, unit) in columns {
            let cells = NAMES.map(|name| {
                let spread = sheet.spread(&format!("{key}-{count}"), name);
                spread.map_or_else(|| "-".to_owned(), |s| table::short(s.median / unit))
            });
            text += &format!(" {} |", cells.join(", "));
        }
        text += "\n";
    }
    text + "\n"
}

/// The machine and the programs, as a Markdown list.
fn machine(part: Part) -> Result<String> {
    let kernel = process::run(Command::new("uname").arg("-sr"))?;
    // What a vendor adds to the version says nothing here.
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let cpu = cpu.map_or("unknown", |name| name.trim_start_matches(['\t', ' ', ':']));
    let cores = std::thread::available_parallelism()?;
    let date = process::run(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let mut text = format!(
        "- {cores} processors ({cpu}), {kernel}\n- {}\n",
        date.trim()
    );
    text += &format!(
        "- {}\n",
        says(&agent::binary().display().to_string(), "--version")?
    );
    match part {
        Part::Bridge => text += &format!("- socat {}\n", version("socat")?),
        Part::Tunnel => {
            text += &format!(
                "- openssh {}, as client and proxy\n- {}\n",
                version("openssh-server")?,
                says("autossh", "-V")?
            );
            let rathole = paths::tool("rathole")?;
            let said = process::run(Command::new(rathole).arg("--version"))?;
            let release = said
                .lines()
                .find_map(|line| line.strip_prefix("Build Version:"));
            text += &format!(
                "- rathole {} ({RATHOLE}: Noise_NK_25519_ChaChaPoly_BLAKE2s)\n",
                release.unwrap_or(said.trim()).trim()
            );
        }
    }
    Ok(text)
}

fn version(package: &str) -> Result<String> {
    process::run(Command::new("dpkg-query").args(["-Wf", "${Version}", package]))
}

fn says(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

const GUEST_HEAD: &str = "\
# The bridge over AF_VSOCK

`make bench` wrote this page. All peers run in one guest, and lead from its vsock to a server on its TCP loopback.
Medians of the rounds; for the ratios, the median of the rounds' own ratios, and the least and the most of them.
";

const BRIDGE_HEAD: &str = "\
# The bridge

`make bench` wrote this page. A client on a Unix socket, in vsock's place, reaches a server on TCP loopback directly
and through each of the bridges. Medians of the rounds; for the ratios, the median of the rounds' own ratios, and the
least and the most of them.
";

const TUNNEL_HEAD: &str = "\
# The tunnel

`make bench` wrote this page. A client on a port of the proxy reaches a server of the guest through each of the
tunnels, all on loopback. Medians of the rounds; for the ratios, the median of the rounds' own ratios, and the least
and the most of them.
";

const NOTES: &str = "\
How to read it:

- *up* is from the client to sshd's side, *down* from there to the client. Each transfer is of a number of bytes that
  both ends count; its time ends with the last of them.
- In a round, each thing is measured of all peers before the next thing, and each time another peer is the first. All
  peers are started afresh for each round, and all of them run all the time.
- Client, server and peer share the machine's processors. *direct* is what is left without a peer.
- CPU is that of the peer alone, with all its processes and what the kernel does for them, while the bytes move: the
  kernel counts it for a control group. RSS and PSS are sums over the same processes.
- *for each idle connection*: the difference to 8 open connections, divided by the number of the others.
- A keystroke is a byte every 2 ms; the 8 bulk connections, four each way, move as much as they can.
";

const BRIDGE_NOTES: &str = "\
- socat is `socat UNIX-LISTEN:socket,fork TCP:127.0.0.1:22`, the line that people use but for the family of its
  socket; it forks for each connection, and its backlog is 5.
- vmagent's bounds on connections are lifted where it has them; it logs each connection, as it does by default. The
  others log nothing.
";

const TUNNEL_NOTES: &str = "\
- The proxy is an sshd as the README recommends it. Only the guest's end is counted, of all of them.
- *aes128-gcm* is ssh with the cipher that vmagent asks for; without, and with autossh, it is ssh's default.
- The answer is to a byte that the client sends at once; the first byte is sshd's banner, which nobody asked for.
";
