//! `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3). Pure: the time comes in.

use std::time::{Duration, SystemTime};

/// The longest that a service is left alone, whatever it says: it may be the last way in.
const CAP: Duration = Duration::from_secs(600);

/// For how long to leave a service alone. A date counts from the service's own (`Date`) where it
/// has one: the clock of a guest that boots may be anywhere.
pub(super) fn parse(value: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let pause = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More digits than a number has are a long time.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let now = date.and_then(moment).unwrap_or(now);
        moment(value)?.duration_since(now).unwrap_or_default()
    };
    Some(pause.min(CAP))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, the one form of a date that is still written.
fn moment(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.trim().split(' ').skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next() != Some("GMT") {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn seconds_and_dates_are_read_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |value, date| parse(value, date, now).map(|pause| pause.as_secs());
        for (value, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86400", Some(600)),
            ("99999999999999999999999", Some(600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(600)),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:50:37 CET", None),
            ("Sun, 99 Nov 1994 08:50:37 GMT", None),
        ] {
            assert_eq!(seconds(value, None), expected, "{value}");
        }
        // A guest whose clock is a day behind.
        let late = Some("Mon, 07 Nov 1994 08:49:37 GMT");
        assert_eq!(seconds("Mon, 07 Nov 1994 08:50:07 GMT", late), Some(30));
        assert_eq!(
            seconds("Mon, 07 Nov 1994 08:50:07 GMT", Some("now")),
            Some(600)
        );
        assert_eq!(moment(DATE), Some(now));
    }
}
