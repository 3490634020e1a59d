//! Notices a proxy that is gone without a word, and measures the way to it.

use std::sync::Arc;
use std::time::Duration;

use russh::client::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::fault::Fault;
use super::handler::Gate;
use super::plan::Told;
use super::timing::Timing;
use super::wire::Arrivals;

/// Asks for a sign of life again and again; returns when none comes.
///
/// A busy line answers late. It is dead only when nothing at all has arrived on it for as long as
/// an answer may take, and the time between two questions besides: so long sshd may be busy with
/// itself, wherever in that time it begins. One with a thousand uploads at once has been seen to
/// take 8 s before it sends the first byte: it moves all that it has gathered with each packet.
pub(super) async fn watch(
    handle: Arc<Handle<Gate>>,
    arrivals: Arrivals,
    proxy: String,
    timing: Timing,
    tell: mpsc::Sender<Told>,
) -> Fault {
    loop {
        sleep(timing.keepalive).await;
        let sent = Instant::now();
        tokio::select! {
            answer = handle.send_ping() => {
                let round_trip = answer.is_ok().then(|| milliseconds(sent.elapsed()));
                // A session that retires has nobody to tell it to.
                let _ = tell.send(Told::RoundTrip(round_trip)).await;
            }
            after = silence(&arrivals, sent, &timing) => return Fault::KeepaliveLost { proxy, after },
        }
    }
}

/// Returns once nothing has arrived for the time in which something must; `sent` is when it was
/// asked for. No answer can be missed before that, however long this machine itself stood still.
async fn silence(arrivals: &Arrivals, sent: Instant, timing: &Timing) -> Duration {
    loop {
        let last = arrivals.last();
        let silent = last + timing.keepalive + timing.keepalive_lost;
        let dead = silent.max(sent + timing.keepalive_lost);
        if dead <= Instant::now() {
            return last.elapsed();
        }
        sleep_until(dead).await;
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
            let after = silence(&arrivals, Instant::now(), &Timing::default()).await;
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
        let (last, _) = tokio::join!(others, silence(&arrivals, sent, &timing));
        assert_eq!(last.elapsed(), 13 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_stood_still_itself_has_missed_no_answer() {
        let arrivals = Arrivals::new();
        sleep(3600 * SECOND).await;
        let sent = Instant::now();
        silence(&arrivals, sent, &Timing::default()).await;
        assert_eq!(sent.elapsed(), 8 * SECOND);
    }
}
