//! Gaps in time: the machine slept, or somebody set the wall clock.

use std::future::pending;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{
    ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags,
};
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;
use tracing::debug;

use crate::host;

/// Beyond the life of any machine, in seconds since 1970: the year 2100.
const NEVER: TimeSpec = TimeSpec::new(4_102_444_800, 0);

/// A timer that never runs out, but is cancelled by the kernel when the wall clock jumps and when
/// the machine resumes (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`).
#[derive(Debug)]
pub(super) struct Clock {
    timer: Option<(TimerFd, AsyncFd<OwnedFd>)>,
    asleep: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        let timer = timer().inspect_err(|error| debug!(%error, "can't watch the clock"));
        Self {
            timer: timer.ok(),
            asleep: asleep(),
        }
    }

    /// Waits for the next gap; returns for how long the machine slept, if it did. Waits for ever
    /// where the kernel does not tell. Nothing is lost if it is dropped before it ends.
    pub(super) async fn changed(&mut self) -> Duration {
        loop {
            let Some((timer, ready)) = &self.timer else {
                return pending().await;
            };
            let readable = ready.readable().await;
            let outcome = match (readable, timer.wait()) {
                (Ok(mut guard), Err(nix::errno::Errno::EAGAIN)) => {
                    guard.clear_ready();
                    continue;
                }
                (Ok(_), Ok(())) => arm(timer),
                (Ok(_), Err(error)) => Err(error),
                (Err(error), _) => {
                    debug!(%error, "can't watch the clock");
                    Err(nix::errno::Errno::EBADF)
                }
            };
            if outcome.is_err() {
                self.timer = None;
                continue;
            }
            let before = std::mem::replace(&mut self.asleep, asleep());
            return self.asleep.saturating_sub(before);
        }
    }
}

fn timer() -> std::io::Result<(TimerFd, AsyncFd<OwnedFd>)> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(TimerClock::CLOCK_REALTIME, flags)?;
    arm(&timer)?;
    let ready = host::watch(timer.as_fd().try_clone_to_owned()?)?;
    Ok((timer, ready))
}

fn arm(timer: &TimerFd) -> nix::Result<()> {
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(NEVER), flags)
}

/// For how long the machine has slept since it booted: one of the clocks counts it, the other
/// does not.
fn asleep() -> Duration {
    let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    let boot = read(ClockId::CLOCK_BOOTTIME);
    boot.saturating_sub(read(ClockId::CLOCK_MONOTONIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_quiet_while_nobody_sets_the_clock() {
        let mut clock = Clock::new();
        assert!(clock.timer.is_some());
        let quiet = tokio::time::timeout(Duration::from_millis(50), clock.changed());
        assert!(quiet.await.is_err());
        assert!(clock.timer.is_some());
    }
}
