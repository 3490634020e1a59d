//! What a peer costs, with all the processes that it forks: the kernel counts it for a control
//! group, and forgets nothing of those that have ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::failure::{Context, Failure, Result};
use harness::wait;

/// A control group of its own for one peer. Its processes are killed on drop.
pub struct Group {
    dir: PathBuf,
}

/// Memory of all processes of a peer, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident; what several of them share counts for each.
    pub resident: f64,
    /// The same, but what is shared is divided among those who share it.
    pub proportional: f64,
}

impl Group {
    /// A group with nobody in it.
    ///
    /// # Errors
    ///
    /// Without a writable cgroup2 file system.
    pub fn new(name: &str) -> Result<Self> {
        let name: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        let dir = top()?.join(format!("vmagent-bench-{}-{name}", std::process::id()));
        fs::create_dir(&dir).during(dir.display())?;
        Ok(Self { dir })
    }

    /// The same command, in this group from its first instruction on.
    pub fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("sh");
        wrapped
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(self.dir.join("cgroup.procs"))
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(key, value);
            }
        }
        wrapped
    }

    /// The processor time that was used in it.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn processor(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.dir.join("cpu.stat"))?;
        let used = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        let used = used.ok_or_else(|| Failure::new("no usage_usec in cpu.stat"))?;
        Ok(Duration::from_micros(used.parse().during(used)?))
    }

    /// The memory of those who are in it.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn memory(&self) -> Result<Memory> {
        let mut memory = Memory {
            resident: 0.0,
            proportional: 0.0,
        };
        for process in fs::read_to_string(self.dir.join("cgroup.procs"))?.lines() {
            // One that has just ended has none.
            let rollup =
                fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
            for line in rollup.lines() {
                let mut words = line.split_whitespace();
                let sum = match words.next() {
                    Some("Rss:") => &mut memory.resident,
                    Some("Pss:") => &mut memory.proportional,
                    _ => continue,
                };
                *sum += words.next().unwrap_or_default().parse::<f64>()?;
            }
        }
        Ok(memory)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
        let _ = wait::until("end of a group", Duration::from_secs(10), || {
            fs::remove_dir(&self.dir).ok()
        });
    }
}

/// Where cgroup2 is mounted.
fn top() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let at = fields.next()?;
        (fields.next() == Some("cgroup2")).then(|| Path::new(at).to_owned())
    });
    found.ok_or_else(|| Failure::new("no cgroup2 file system is mounted"))
}
