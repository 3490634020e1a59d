//! What a running program costs.

use std::fs;

use crate::failure::{Failure, Result};

/// The resident memory of a process, in bytes.
///
/// # Errors
///
/// If it is gone.
pub fn resident(id: u32) -> Result<usize> {
    memory(id, "VmRSS:")
}

/// The most memory that a process has had resident since it started, in bytes.
///
/// # Errors
///
/// If it is gone.
pub fn peak(id: u32) -> Result<usize> {
    memory(id, "VmHWM:")
}

/// How many files a process has open.
///
/// # Errors
///
/// If it is gone.
pub fn files(id: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{id}/fd"))?.count())
}

fn memory(id: u32, key: &str) -> Result<usize> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|line| line.split_whitespace().next());
    let kib = word.ok_or_else(|| Failure::new(format!("no {key} in {text}")))?;
    Ok(kib.parse::<usize>()? << 10)
}
