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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn banner(text: &str) -> Introduction {
        Introduction::Banner(text.to_owned())
    }

    #[test]
    fn the_banner_is_found_behind_other_lines_and_with_either_line_end() {
        for (received, expected) in [
            (
                "SSH-2.0-OpenSSH_10.0p2 Debian-7\r\n",
                banner("SSH-2.0-OpenSSH_10.0p2 Debian-7"),
            ),
            ("SSH-2.0-x\nrest", banner("SSH-2.0-x")),
            ("hello\r\nthere\nSSH-2.0-x\r\n", banner("SSH-2.0-x")),
            ("SSH-2.0-\x1b[31mred\r\n", banner("SSH-2.0-\\u{1b}[31mred")),
            ("SSH-2.0-x", Introduction::Incomplete),
            ("", Introduction::Incomplete),
        ] {
            assert_eq!(introduction(received.as_bytes()), expected, "{received:?}");
        }
    }

    #[test]
    fn what_never_becomes_a_banner_is_given_up() {
        let endless = vec![b'x'; 255];
        let expected = Introduction::NotSsh(format!("{}..", "x".repeat(60)));
        assert_eq!(introduction(&endless), expected);
        assert_eq!(introduction(&endless[..254]), Introduction::Incomplete);
        let chatty = "HTTP/1.1 400\r\n".repeat(20);
        let expected = Introduction::NotSsh("HTTP/1.1 400".to_owned());
        assert_eq!(introduction(chatty.as_bytes()), expected);
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_verdict(bytes: Vec<u8>, more: Vec<u8>) {
            let before = introduction(&bytes);
            if before != Introduction::Incomplete {
                let after = introduction(&[bytes, more].concat());
                if matches!(before, Introduction::Banner(_)) {
                    prop_assert_eq!(before, after);
                } else {
                    prop_assert!(matches!(after, Introduction::NotSsh(_)));
                }
            }
        }

        #[test]
        fn it_is_decided_within_a_bounded_number_of_bytes(line in "[^\n]{0,254}", lines in 0..30_usize) {
            let mut text = format!("{line}\n").repeat(lines).into_bytes();
            text.extend([b'x'; 256]);
            prop_assert_ne!(introduction(&text), Introduction::Incomplete);
        }

        #[test]
        fn what_is_shown_has_no_control_characters(bytes: Vec<u8>) {
            prop_assert!(!excerpt(&bytes).contains(char::is_control));
        }
    }
}
