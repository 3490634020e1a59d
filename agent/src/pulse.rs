//! A heartbeat for the watchdog: the monitor asks, and the loops that matter answer.
//!
//! A loop that only waits for events is asleep most of the time, so it can't beat by itself
//! without waking for nothing. Here it wakes only when somebody wants to know.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The end that a loop holds; it answers as one branch of the loop's `select!`.
#[derive(Debug)]
pub struct Pulse {
    asked: watch::Receiver<u64>,
    answered: watch::Sender<u64>,
}

impl Pulse {
    /// Waits for the next question and answers it. Waits for ever once the monitor is gone.
    ///
    /// Can be cancelled at any time without losing a question.
    pub async fn answer(&mut self) {
        if self.asked.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.answered.send_replace(*self.asked.borrow_and_update());
    }
}

/// The end that the watchdog's feeder holds.
#[derive(Debug, Default)]
pub struct Monitor {
    asked: watch::Sender<u64>,
    loops: Vec<(&'static str, watch::Receiver<u64>)>,
}

impl Monitor {
    /// A pulse for the loop called `name`.
    pub fn pulse(&mut self, name: &'static str) -> Pulse {
        let (answered, receiver) = watch::channel(0);
        self.loops.push((name, receiver));
        Pulse {
            asked: self.asked.subscribe(),
            answered,
        }
    }

    /// Asks every loop, and waits `within` at most for all the answers.
    ///
    /// # Errors
    /// The names of those that did not answer; a loop that has ended is one of them.
    pub async fn check(&mut self, within: Duration) -> Result<(), Vec<&'static str>> {
        let deadline = Instant::now() + within;
        let question = self.asked.borrow().wrapping_add(1);
        self.asked.send_replace(question);
        let mut silent = Vec::new();
        for (name, answered) in &mut self.loops {
            let answer = answered.wait_for(|answer| *answer == question);
            if !matches!(timeout_at(deadline, answer).await, Ok(Ok(_))) {
                silent.push(*name);
            }
        }
        if silent.is_empty() {
            Ok(())
        } else {
            Err(silent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn loops_that_run_answer_every_question() {
        let mut monitor = Monitor::default();
        for name in ["one", "two"] {
            let mut pulse = monitor.pulse(name);
            tokio::spawn(async move {
                loop {
                    pulse.answer().await;
                }
            });
        }
        for _ in 0..3 {
            assert_eq!(monitor.check(WITHIN).await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_or_has_ended_is_named() {
        let mut monitor = Monitor::default();
        let mut runs = monitor.pulse("runs");
        let _hangs = monitor.pulse("hangs");
        drop(monitor.pulse("ended"));
        tokio::spawn(async move {
            loop {
                runs.answer().await;
            }
        });
        let began = Instant::now();
        assert_eq!(monitor.check(WITHIN).await, Err(vec!["hangs", "ended"]));
        assert_eq!(began.elapsed(), WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_good_for_the_next_question_only() {
        let mut monitor = Monitor::default();
        let mut pulse = monitor.pulse("slow");
        assert!(monitor.check(WITHIN).await.is_err());
        pulse.answer().await;
        assert!(monitor.check(WITHIN).await.is_err());
        tokio::spawn(async move { pulse.answer().await });
        // The answer to the second question is late as well, but the third is answered in time.
        assert!(monitor.check(WITHIN).await.is_ok());
    }
}
