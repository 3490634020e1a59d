//! How a server introduces itself (RFC 4253, 4.2): other lines first, if it likes, then
//! `SSH-protoversion-softwareversion comments`, 255 bytes at most with its line end.

/// The longest line that is taken, in bytes, with its end.
const LINE: usize = 255;
/// Lines before the banner. The RFC knows no limit; OpenSSH takes 1024, and says one itself.
const LINES: usize = 20;
/// How much of what is no banner is repeated to people, in characters.
const EXCERPT: usize = 60;

/// What the bytes received so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introduction {
    /// A whole banner, without its line end and with control characters escaped.
    Banner(String),
    /// No SSH server would say this; it begins with these words.
    NotSsh(String),
    /// Not enough to tell.
    Incomplete,
}

/// Finds the banner in the first bytes that a server sent.
#[must_use]
pub fn introduction(received: &[u8]) -> Introduction {
    let mut rest = received;
    for _ in 0..LINES {
        let Some(end) = rest.iter().take(LINE).position(|byte| *byte == b'\n') else {
            if rest.len() < LINE {
                return Introduction::Incomplete;
            }
            return Introduction::NotSsh(excerpt(received));
        };
        if rest.starts_with(b"SSH-") {
            return Introduction::Banner(text(&rest[..end]));
        }
        rest = &rest[end + 1..];
    }
    Introduction::NotSsh(excerpt(received))
}

/// The first line of `received`, fit to be shown to a person.
pub(super) fn excerpt(received: &[u8]) -> String {
    let line = received.split(|byte| *byte == b'\n').next();
    let text = text(line.unwrap_or_default());
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    crate::status::render::printable(&String::from_utf8_lossy(line)).into_owned()
}
