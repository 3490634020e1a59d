//! What a process costs, as the kernel counts it.

use std::fs;
use std::time::Duration;

use crate::failure::{Failure, Result};

/// Ticks in a second: `USER_HZ`, the same on every Linux that we run on (proc(5)).
const TICKS: f64 = 100.0;

/// The resources that a process holds, and the processor time that it has used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Open file descriptors, without the connections of those who ask for the status.
    pub descriptors: usize,
    /// Resident memory, in KiB.
    pub resident: u64,
    /// The most memory that was resident since it was started, in KiB.
    pub peak: u64,
    /// Address space, in KiB.
    pub address_space: u64,
    /// Processor time since it was started.
    pub processor: Duration,
}

impl Usage {
    /// What the process `id` holds now.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn of(id: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let kibibytes = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key)?.split_whitespace().next())
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| Failure::new(format!("no {key} of process {id}")))
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // After the name: the 14th and 15th field of all.
        let ticks: f64 = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        Ok(Self {
            descriptors: descriptors(id)?,
            resident: kibibytes("VmRSS:")?,
            peak: kibibytes("VmHWM:")?,
            address_space: kibibytes("VmSize:")?,
            processor: Duration::from_secs_f64(ticks / TICKS),
        })
    }
}

/// The names of a process's threads.
///
/// # Errors
///
/// If it is gone.
pub fn threads(id: u32) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        // A thread may end at any time.
        if let Ok(name) = fs::read_to_string(thread?.path().join("comm")) {
            names.push(name.trim_end().to_owned());
        }
    }
    Ok(names)
}

/// The processor time that the first thread of a process has used: the one that carries all
/// connections.
///
/// # Errors
///
/// If it is gone.
pub fn main_thread(id: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{id}/task/{id}/schedstat"))?;
    let nanoseconds = text.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// A status connection ends a moment after its client has left, and says nothing of a leak.
fn descriptors(id: u32) -> Result<usize> {
    let sockets = fs::read_to_string(format!("/proc/{id}/net/unix"))?;
    // Flags, state, inode and path: only a listener has `SO_ACCEPTCON` among its flags (proc(5)).
    let asked: Vec<String> = sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| {
            fields.get(3) == Some(&"00000000")
                && fields
                    .get(7)
                    .is_some_and(|path| path.ends_with("/status.sock"))
        })
        .map(|fields| format!("socket:[{}]", fields[6]))
        .collect();
    let open = fs::read_dir(format!("/proc/{id}/fd"))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| {
            !asked
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        })
        .count();
    Ok(open)
}
