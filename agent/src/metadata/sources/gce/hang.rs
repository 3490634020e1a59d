//! Waits for GCE to say that the attribute is another now.
//!
//! The service holds a request back until the value differs from the version that it names, or for
//! `timeout_sec`. For an attribute that does not exist it does not wait; so all attributes are
//! waited for then, until ours is among them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{FLAVOR, NAME, PLACES};
use crate::metadata::document::tree;
use crate::metadata::reading::SourceFault;
use crate::metadata::sources::Later;
use crate::metadata::sources::http::{Answer, Http, Page};

/// How long the service is to hold a request back. A round comes along about as often.
const HOLD: Duration = Duration::from_secs(300);

/// What it may take longer.
const GRACE: Duration = Duration::from_secs(10);

/// Between two requests to a service that answers at once all the same, or not at all.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// The result of the last read of one attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// There was no read yet, or the answer had no version.
    #[default]
    Nothing,
    /// There is no such attribute.
    Absent,
    /// It has this version.
    Version(String),
}

/// Ends once something else can be read than what is known; none where that can't be told.
pub(super) fn until_changed(http: &Http, known: &[Known; 2]) -> Option<Later<'static, ()>> {
    let change = |(place, known): (&&'static str, &Known)| -> Option<Later<'static, ()>> {
        match known.clone() {
            Known::Nothing => None,
            Known::Absent => Some(Box::pin(appears(http.clone(), place))),
            Known::Version(version) => Some(Box::pin(differs(http.clone(), place, version))),
        }
    };
    PLACES.iter().zip(known).filter_map(change).reduce(either)
}

/// Waits for the first of two changes.
fn either(mut one: Later<'static, ()>, mut other: Later<'static, ()>) -> Later<'static, ()> {
    Box::pin(async move {
        tokio::select! {
            () = &mut one => {}
            () = &mut other => {}
        }
    })
}

async fn differs(http: Http, place: &str, version: String) {
    let attribute = format!("{place}{NAME}");
    let mut pause = Pause::default();
    loop {
        let asked = Instant::now();
        let answer = held(&http, &attribute, &version).await;
        match &answer {
            Ok(Answer::Page(page)) if page.header("etag") == Some(&version) => {}
            Ok(Answer::Page(page)) if page.header("etag").is_some() => return,
            Ok(Answer::NoContent | Answer::None | Answer::Gone) => return,
            Ok(Answer::Page(_) | Answer::Unchanged | Answer::Unauthorized) | Err(_) => {}
        }
        pause.after(asked, answer.err()).await;
    }
}

async fn appears(http: Http, place: &str) {
    let attributes = format!("{place}?recursive=true&alt=json");
    let mut pause = Pause::default();
    let mut version: Option<String> = None;
    loop {
        let asked = Instant::now();
        let answer = match &version {
            Some(version) => held(&http, &attributes, version).await,
            None => http.get(&attributes, FLAVOR).await,
        };
        if let Ok(Answer::Page(page)) = &answer {
            if has_ours(page) {
                return;
            }
            let first = version.is_none();
            version = page.header("etag").map(str::to_owned);
            if first && version.is_some() {
                continue;
            }
        }
        pause.after(asked, answer.err()).await;
    }
}

async fn held(http: &Http, path: &str, version: &str) -> Result<Answer, SourceFault> {
    let sign = if path.contains('?') { '&' } else { '?' };
    let path = format!(
        "{path}{sign}wait_for_change=true&last_etag={}&timeout_sec={}",
        escaped(version),
        HOLD.as_secs()
    );
    http.get_within(HOLD + GRACE, &path, FLAVOR).await
}

fn has_ours(page: &Page) -> bool {
    // Others' attributes are secrets as well: the tree is wiped.
    tree(&page.body)
        .is_ok_and(|tree| matches!(&tree.0, Value::Object(all) if all.contains_key(NAME)))
}

/// As it may stand in a query (RFC 3986 section 2.3).
fn escaped(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| match unreserved(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Keeps a service that does not hold requests back from being asked all the time.
#[derive(Debug, Default)]
struct Pause(Duration);

impl Pause {
    async fn after(&mut self, asked: Instant, fault: Option<SourceFault>) {
        let rest = fault.as_ref().and_then(SourceFault::retry_after);
        if let Some(fault) = fault {
            debug!(%fault, "can't wait for a change");
        }
        sleep(self.next(asked.elapsed(), rest, fastrand::f64())).await;
    }

    /// How long to wait after a request that was held for so long. `chance` is from 0 to 1.
    fn next(&mut self, held: Duration, rest: Option<Duration>, chance: f64) -> Duration {
        if held >= HOLD / 2 {
            self.0 = Duration::ZERO;
        } else {
            self.0 = (self.0 * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        }
        let pause = self.0.mul_f64(0.75 + chance / 2.0);
        pause.max(rest.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_holds_nothing_back_is_not_asked_all_the_time() {
        let mut pause = Pause::default();
        let mut next = |held, rest| {
            let (held, rest) = (Duration::from_secs(held), rest);
            pause.next(held, rest, 0.5).as_secs()
        };
        let pauses: Vec<_> = (0..8).map(|_| next(0, None)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        // One that does is asked again at once, unless it wants rest.
        assert_eq!(next(HOLD.as_secs(), None), 0);
        assert_eq!(next(0, None), 1);
        assert_eq!(next(0, Some(Duration::from_secs(120))), 120);
    }
}
