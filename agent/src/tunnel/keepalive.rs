//! Notices a proxy that is gone without a word, and measures the way to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::client::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::fault::Fault;
use super::handler::Gate;
use super::plan::Told;
use super::tcp::{self, Progress};
use super::timing::Timing;
use super::vitals::{Arrivals, Vitals};

/// Between the question and the first look at what the kernel knows, and between two looks.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LOOK: Duration = Duration::from_secs(1);

/// Segments that the kernel sends without an answer, each after twice the time of the one before,
/// while a connection may still live: on a line with a long and unsteady round trip that takes
/// longer than on others.
const UNANSWERED: u32 = 1 + 2 + 4 + 8;

/// How long a keepalive may stay unanswered before a fresh connection asks whether small packets
/// pass, and how long the answer may take: together less than the time until the session counts as
/// dead.
const DOUBT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_millis(2500);

/// The parts of a session that the keepalive watches.
pub(super) struct Watched {
    pub(super) handle: Arc<Handle<Gate>>,
    pub(super) arrivals: Arrivals,
    pub(super) vitals: Vitals,
    /// The proxy, as people know it, and its address.
    pub(super) proxy: String,
    pub(super) address: SocketAddr,
    pub(super) timing: Timing,
    pub(super) tell: mpsc::Sender<Told>,
}

/// Asks for a sign of life again and again; returns when none comes.
///
/// A busy line answers late, so the answer itself counts little. Bytes that arrive are life, and so
/// are bytes of ours that the proxy's kernel acknowledges while others wait before the question.
/// The proxy is dead only when there is neither for as long as an answer may take, and the time
/// between two questions besides: sshd may be busy with itself that long, wherever in that time it
/// begins. One with a thousand uploads at once has been seen to take 8 s before it sends the first
/// byte: it moves all that it has gathered with each packet.
pub(super) async fn watch(watched: Watched) -> Fault {
    let Watched {
        handle,
        arrivals,
        vitals,
        timing,
        tell,
        ..
    } = &watched;
    loop {
        sleep(timing.keepalive).await;
        let sent = Instant::now();
        let silent = async {
            tokio::join!(
                silence(arrivals, || vitals.now(), sent, timing),
                watched.small_packets_pass(sent)
            )
        };
        tokio::select! {
            answer = handle.send_ping() => {
                let round_trip = answer.is_ok().then(|| milliseconds(sent.elapsed()));
                // A session that retires has nobody to tell it to.
                let _ = tell.send(Told::RoundTrip(round_trip)).await;
            }
            (after, small_packets_pass) = silent => return watched.lost(after, small_packets_pass),
        }
    }
}

impl Watched {
    /// The fault for a silence of so long.
    fn lost(&self, after: Duration, small_packets_pass: bool) -> Fault {
        let proxy = self.proxy.clone();
        if small_packets_pass {
            return Fault::PathMtu { target: proxy };
        }
        Fault::KeepaliveLost { proxy, after }
    }

    /// Whether small packets go both ways where it looks as if full ones did not: one of ours is
    /// sent again and again, or the proxy's kernel takes what we send, and nothing comes back.
    async fn small_packets_pass(&self, sent: Instant) -> bool {
        sleep(DOUBT).await;
        let progress = self.vitals.now().unwrap_or_default();
        let doubt =
            progress.repeats_full_packet() || progress.delivered && progress.is_acknowledging();
        // A busy line answers late, and a connection costs the proxy's sshd a line in its log.
        let silent = self.arrivals.last() <= sent;
        silent && doubt && tcp::small_packets_pass(self.address, ANSWER).await
    }
}

/// Returns once there was no sign of life for the time in which one must come; `sent` is when it
/// was asked for. No answer can be missed before that, however long this machine itself stood
/// still.
async fn silence(
    arrivals: &Arrivals,
    progress: impl Fn() -> Option<Progress>,
    sent: Instant,
    timing: &Timing,
) -> Duration {
    let mut acknowledged = progress().map(|progress| progress.acknowledged);
    // Where the question is in the stream of all bytes, by the first look.
    let mut question = None;
    let mut moved = None;
    let mut delivered = None;
    let mut look = sent + FIRST_LOOK;
    loop {
        sleep_until(look).await;
        let now = Instant::now();
        let last = arrivals.last();
        let known = progress();
        let longest = longest(known, timing);
        let mut dead = (last + longest).max(sent + timing.keepalive_lost);
        if let Some(known) = known {
            let question = *question.get_or_insert(known.acknowledged + known.waiting);
            if known.acknowledged >= question {
                let since = *delivered.get_or_insert(now);
                dead = dead.max(since + timing.keepalive_lost);
            } else {
                // The question waits behind other bytes.
                if acknowledged.is_some_and(|before| before < known.acknowledged) {
                    moved = Some(now);
                }
                dead = dead.max(moved.map_or(dead, |moved| moved + longest));
            }
            acknowledged = Some(known.acknowledged);
        }
        if dead <= now {
            return last.elapsed();
        }
        look = (now + LOOK).min(dead);
    }
}

/// The longest silence of a connection that lives.
fn longest(progress: Option<Progress>, timing: &Timing) -> Duration {
    let usual = timing.keepalive + timing.keepalive_lost;
    let patience = progress.map_or(Duration::ZERO, |progress| progress.patience());
    (patience * UNANSWERED).clamp(usual, timing.silence.max(usual))
}

/// Whether the connection still stands, as far as can be seen within `wake` on a line that answers
/// at once: an answer to `ping`, or anything that arrives or that the proxy's kernel acknowledges.
pub(super) async fn stands(
    ping: impl Future<Output = bool>,
    arrivals: Arrivals,
    progress: impl Fn() -> Option<Progress>,
    wake: Duration,
) -> bool {
    let asked = Instant::now();
    let before = progress().unwrap_or_default();
    let wait = wake.max(4 * before.patience());
    tokio::select! {
        answered = ping => answered,
        () = sleep(wait) => {
            let acknowledged = progress().unwrap_or_default().acknowledged;
            arrivals.last() > asked || acknowledged > before.acknowledged
        }
    }
}

/// To a tenth, which is as good as it is.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_line_may_be_silent_as_long_wherever_the_silence_begins() {
        for asked_later in [0, 1, 4, 5] {
            let arrivals = Arrivals::new();
            sleep(60 * SECOND).await;
            arrivals.note();
            let last = Instant::now();
            sleep(asked_later * SECOND).await;
            let after = silence(&arrivals, || None, Instant::now(), &Timing::default()).await;
            assert_eq!((last.elapsed(), after), (13 * SECOND, 13 * SECOND));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_arrives_is_a_sign_of_life() {
        let (arrivals, sent) = (Arrivals::new(), Instant::now());
        let others = async {
            for _ in 0..10 {
                sleep(12 * SECOND).await;
                arrivals.note();
            }
            Instant::now()
        };
        let timing = Timing::default();
        let (last, _) = tokio::join!(others, silence(&arrivals, || None, sent, &timing));
        assert_eq!(last.elapsed(), 13 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_stood_still_itself_has_missed_no_answer() {
        let arrivals = Arrivals::new();
        sleep(3600 * SECOND).await;
        let sent = Instant::now();
        silence(&arrivals, || None, sent, &Timing::default()).await;
        assert_eq!(sent.elapsed(), 8 * SECOND);
    }

    /// A transfer that fills the line: the kernel sends, and nothing arrives.
    #[tokio::test(start_paused = true)]
    async fn bytes_that_the_peer_acknowledges_are_a_sign_of_life_while_the_question_waits() {
        let (arrivals, sent) = (Arrivals::new(), Instant::now());
        let progress = || {
            let seconds = sent.elapsed().as_secs().min(100);
            Some(Progress {
                acknowledged: seconds,
                waiting: 1000,
                ..Progress::default()
            })
        };
        silence(&arrivals, progress, sent, &Timing::default()).await;
        let took = sent.elapsed();
        assert!(took >= 112 * SECOND && took <= 115 * SECOND, "{took:?}");
    }

    /// Processes of the proxy that are stopped: its kernel takes the question all the same.
    #[tokio::test(start_paused = true)]
    async fn a_question_that_was_delivered_is_to_be_answered() {
        let arrivals = Arrivals::new();
        sleep(5 * SECOND).await;
        let sent = Instant::now();
        let progress = || {
            Some(Progress {
                acknowledged: u64::from(sent.elapsed() > SECOND / 100),
                delivered: true,
                ..Progress::default()
            })
        };
        let after = silence(&arrivals, progress, sent, &Timing::default()).await;
        assert!(after <= 14 * SECOND, "{after:?}");
    }

    /// The same, while a user's bytes keep coming behind the question.
    #[tokio::test(start_paused = true)]
    async fn later_bytes_do_not_put_the_answer_off() {
        let (arrivals, sent) = (Arrivals::new(), Instant::now());
        let progress = || {
            let milliseconds = u64::try_from(sent.elapsed().as_millis()).unwrap();
            Some(Progress {
                acknowledged: milliseconds * 10,
                waiting: 1000,
                ..Progress::default()
            })
        };
        silence(&arrivals, progress, sent, &Timing::default()).await;
        assert!(sent.elapsed() <= 14 * SECOND, "{:?}", sent.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_with_a_long_round_trip_may_be_silent_for_as_long_as_with_ssh() {
        for (round_trip, expected) in [(1, 13), (200, 13), (1100, 16), (3000, 20)] {
            let (arrivals, sent) = (Arrivals::new(), Instant::now());
            let progress = || {
                Some(Progress {
                    waiting: 1000,
                    round_trip: (Duration::from_millis(round_trip), Duration::ZERO),
                    ..Progress::default()
                })
            };
            silence(&arrivals, progress, sent, &Timing::default()).await;
            assert_eq!(sent.elapsed().as_secs(), expected, "{round_trip} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_line_stands_though_it_answers_late() {
        let never = std::future::pending::<bool>;
        let start = Instant::now();
        let moving = || {
            Some(Progress {
                acknowledged: u64::from(start.elapsed() > SECOND),
                ..Progress::default()
            })
        };
        assert!(stands(never(), Arrivals::new(), moving, 2 * SECOND).await);
        assert!(!stands(never(), Arrivals::new(), || None, 2 * SECOND).await);
        let arrivals = Arrivals::new();
        let arrive = async {
            sleep(SECOND).await;
            arrivals.note();
        };
        let stands = stands(never(), arrivals.clone(), || None, 2 * SECOND);
        assert!(tokio::join!(stands, arrive).0);
    }
}
