//! The kernel's log, for the one line in which it says that this machine was restored from a
//! snapshot. A hypervisor tells the kernel by the VM generation ID; no event of that device reaches
//! user space (tried on Debian 13's 6.12).
//!
//! Only root may open `/dev/kmsg`, so systemd does (`OpenFile=`, since 253) and hands it over.

use std::future::pending;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Whence, lseek, read};
use tokio::io::unix::AsyncFd;
use tracing::debug;

use crate::host;

/// The name of the descriptor that is handed over.
pub(crate) const NAME: &str = "kmsg";

/// From drivers/char/random.c, `add_vmfork_randomness()`, since Linux 5.18.
const RESTORED: &[u8] = b"virtual machine fork";

/// One record, with its properties: `CONSOLE_EXT_LOG_MAX` (linux/console.h).
const RECORD: usize = 8192;

/// The log from now on.
#[derive(Debug)]
pub(super) struct Kmsg {
    log: Option<AsyncFd<OwnedFd>>,
    record: Vec<u8>,
}

impl Kmsg {
    /// Reads what comes after this. Without a descriptor nothing ever does.
    pub(super) fn new(log: Option<OwnedFd>) -> Self {
        let opened = log.map(open).transpose();
        let opened = opened.inspect_err(|error| debug!(%error, "can't follow the kernel's log"));
        Self {
            log: opened.ok().flatten(),
            record: vec![0; RECORD],
        }
    }

    /// Waits until this machine has been restored. Nothing is lost if it is dropped before.
    pub(super) async fn restored(&mut self) {
        loop {
            let Some(log) = &self.log else {
                return pending().await;
            };
            let Ok(mut ready) = log.readable().await else {
                self.log = None;
                continue;
            };
            match read(log.get_ref(), &mut self.record) {
                Ok(length) if says_restored(self.record.get(..length).unwrap_or_default()) => {
                    return;
                }
                // EPIPE: records were overwritten before they were read; the next one is there.
                Ok(1..) | Err(Errno::EPIPE | Errno::EINTR) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Ok(0) | Err(_) => {
                    debug!("the kernel's log has ended");
                    drop(ready);
                    self.log = None;
                }
            }
        }
    }
}

/// Whether a record is the kernel's own (facility 0) and says so. Its text is after the first
/// semicolon, behind `PRIORITY,SEQUENCE,..` (Documentation/ABI/testing/dev-kmsg).
fn says_restored(record: &[u8]) -> bool {
    let Some(end) = record.iter().position(|byte| *byte == b';') else {
        return false;
    };
    let (prefix, text) = record.split_at(end);
    let priority = prefix
        .split(|byte| *byte == b',')
        .next()
        .unwrap_or_default();
    let kernel = std::str::from_utf8(priority)
        .ok()
        .and_then(|text| text.parse::<u32>().ok())
        .is_some_and(|priority| priority >> 3 == 0);
    kernel && text.windows(RESTORED.len()).any(|part| part == RESTORED)
}

fn open(log: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    let flags = OFlag::from_bits_truncate(fcntl(&log, FcntlArg::F_GETFL)?);
    fcntl(&log, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    lseek(&log, 0, Whence::SeekEnd)?;
    host::watch(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_line_counts_and_no_other() {
        for (record, restored) in [
            (
                "5,412,3612,-;random: crng reseeded due to virtual machine fork\n",
                true,
            ),
            // The same, written by a process: the facility of user messages.
            (
                "13,412,3612,-;random: crng reseeded due to virtual machine fork\n",
                false,
            ),
            ("6,411,3611,-;random: crng init done\n", false),
            ("virtual machine fork", false),
            ("", false),
        ] {
            assert_eq!(says_restored(record.as_bytes()), restored, "{record}");
        }
    }

    #[tokio::test]
    async fn without_the_log_nothing_ever_comes() {
        let mut kmsg = Kmsg::new(None);
        let quiet = std::time::Duration::from_millis(20);
        let heard = tokio::time::timeout(quiet, kmsg.restored()).await;
        assert!(heard.is_err());
    }
}
