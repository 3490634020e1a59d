//! Logs to the standard error: for journald with priorities, for people with the time.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as log};

use crate::cli::LogLevel;
use crate::status::render::printable;

/// Starts logging. A second call changes nothing.
pub fn init(level: LogLevel) {
    let journal = std::env::var("JOURNAL_STREAM").ok();
    let layer = log::layer()
        .with_writer(io::stderr)
        .event_format(Line {
            journal: journal.is_some_and(|stream| is_stderr(&stream)),
            colour: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        })
        .with_filter(LevelFilter::from_level(Level::from(level)))
        // What the libraries say of themselves is not for the journal of a VM.
        .with_filter(filter_fn(|event| event.target().starts_with("vmagent")));
    // It fails only if there is one already.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Whether `$JOURNAL_STREAM`, `device:inode`, is our standard error (systemd.exec(5)).
///
/// It is inherited by children whose standard error goes elsewhere, so its mere presence says
/// nothing.
fn is_stderr(stream: &str) -> bool {
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// How an event becomes a line.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// With a priority in front, as sd-daemon(3) says, and without what journald adds itself.
    journal: bool,
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        } else {
            let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
            let (on, off) = match (self.colour, level) {
                (true, Level::ERROR) => ("\x1b[1;31m", "\x1b[0m"),
                (true, Level::WARN) => ("\x1b[1;33m", "\x1b[0m"),
                _ => ("", ""),
            };
            write!(writer, "{now} {on}{level:>5}{off} ")?;
        }
        let mut text = String::new();
        for span in context.event_scope().into_iter().flatten() {
            write!(text, "{}", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(text, "[{fields}]")?;
            }
            text.push_str(": ");
        }
        context.format_fields(Writer::new(&mut text), event)?;
        // Messages quote what others sent: a line end in it would be a line of theirs.
        writeln!(writer, "{}", printable(&text))
    }
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{info, info_span, warn};

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(journal: bool, events: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = log::layer()
            .with_writer(move || writer.clone())
            .event_format(Line {
                journal,
                colour: false,
            });
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, events);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let text = logged(true, || {
            let span = info_span!("bridge", origin = %"cid 2");
            span.in_scope(|| info!(seen_as = "127.1.0.2", "connection opened"));
            warn!("hm");
        });
        assert_eq!(
            text,
            "<6>bridge[origin=cid 2]: connection opened seen_as=\"127.1.0.2\"\n<4>hm\n"
        );
    }

    #[test]
    fn people_get_the_time_and_the_level() {
        let text = logged(false, || warn!(count = 3, "hm"));
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{text}");
        assert_eq!(rest, " WARN hm count=3\n");
    }

    #[test]
    fn nobody_writes_lines_of_their_own() {
        let banner = "SSH-2.0-x\n<0>panic\x1b[2J";
        let text = logged(true, || info!(%banner, "sshd answers"));
        assert_eq!(
            text,
            "<6>sshd answers banner=SSH-2.0-x\\n<0>panic\\u{1b}[2J\n"
        );
    }

    #[test]
    fn a_journal_stream_of_somebody_else_is_not_ours() {
        assert!(!is_stderr("0:0"));
        assert!(!is_stderr("nonsense"));
    }
}
