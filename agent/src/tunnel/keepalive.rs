//! Notices a proxy that is gone without a word, and measures the way to it.

use std::sync::Arc;
use std::time::Duration;

use russh::client::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::fault::Fault;
use super::handler::Gate;
use super::plan::Told;
use super::timing::Timing;
use super::wire::Arrivals;

/// Asks for a sign of life again and again; returns when none comes.
///
/// A busy line answers late. It is dead only when nothing at all has arrived on it for as long as
/// an answer may take.
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
            after = silence(&arrivals, &timing) => return Fault::KeepaliveLost { proxy, after },
        }
    }
}

/// Returns once nothing has arrived for the time in which something must.
async fn silence(arrivals: &Arrivals, timing: &Timing) -> Duration {
    let mut arrived = arrivals.bytes();
    let mut since = Instant::now();
    loop {
        let left = timing.keepalive_lost.saturating_sub(since.elapsed());
        sleep(left.min(timing.keepalive)).await;
        if arrivals.bytes() != arrived {
            arrived = arrivals.bytes();
            since = Instant::now();
        } else if since.elapsed() >= timing.keepalive_lost {
            return since.elapsed();
        }
    }
}

/// To a tenth, which is as good as it is.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
