//! What a server says before its banner. It may be anything (RFC 4253, 4.2), and where no banner
//! follows it is the reason: sshd says `Exceeded MaxStartups`, or `Not allowed at this time` to an
//! address that it punishes; and another service answers in its own protocol.

/// How much may come before the banner, in bytes; sshd says a line at most. The library's own
/// limit is 20 lines of 255.
const LIMIT: usize = 8 * 1024;

/// How much of it is shown, in characters.
const SHOWN: usize = 80;

/// The start of what a server sends.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    heard: Vec<u8>,
    banner: bool,
}

impl Greeting {
    /// Takes what arrived; false when it is too much for one that has a banner still to come.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> bool {
        if self.banner {
            return true;
        }
        let room = LIMIT.saturating_sub(self.heard.len());
        self.heard.extend(bytes.iter().take(room));
        self.banner = self
            .heard
            .split_inclusive(|byte| *byte == b'\n')
            .any(|line| line.starts_with(b"SSH-") && line.ends_with(b"\n"));
        if self.banner {
            self.heard = Vec::new();
        }
        self.banner || bytes.len() < room
    }

    /// Whether the banner has come, to its end.
    pub(super) fn has_banner(&self) -> bool {
        self.banner
    }

    /// The first line of what came in a banner's place, fit to be shown.
    pub(super) fn words(&self) -> Option<String> {
        let line = self.heard.split(|byte| *byte == b'\n').next()?;
        let text = String::from_utf8_lossy(line);
        let shown: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(SHOWN)
            .collect();
        (!shown.is_empty()).then_some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pieces: &[&str]) -> Greeting {
        let mut greeting = Greeting::default();
        for piece in pieces {
            assert!(greeting.hear(piece.as_bytes()));
        }
        greeting
    }

    #[test]
    fn a_banner_is_known_whole_and_after_other_lines() {
        for (pieces, banner) in [
            (&["SSH-2.0-OpenSSH_9.2\r\n"][..], true),
            (&["SSH-2.0-", "OpenSSH_9.2\r", "\n"], true),
            (&["welcome\r\nall\r\nSSH-2.0-x\r\n\0\0\x05"], true),
            (&["SSH-2.0-half"], false),
            (&["HTTP/1.1 400 SSH-2.0-\r\n"], false),
            (&[], false),
        ] {
            assert_eq!(heard(pieces).has_banner(), banner, "{pieces:?}");
        }
    }

    #[test]
    fn what_comes_in_its_place_is_shown_by_its_first_line() {
        let words = heard(&["Exceeded MaxStartups\r\nmore\r\n"]).words();
        assert_eq!(words.as_deref(), Some("Exceeded MaxStartups"));
        assert_eq!(heard(&["\x1b[2Jgone\r\n"]).words().unwrap(), "[2Jgone");
        assert_eq!(heard(&[&"x".repeat(500)]).words().unwrap().len(), SHOWN);
        assert_eq!(heard(&[]).words(), None);
        assert_eq!(heard(&["SSH-2.0-x\r\n"]).words(), None);
    }

    #[test]
    fn lines_without_end_are_too_much() {
        let mut greeting = Greeting::default();
        let line = [b'x'; 100];
        let taken = (0..1000).take_while(|_| greeting.hear(&line)).count();
        assert_eq!(taken, LIMIT / 100);
        // After the banner it is the library's.
        let mut greeting = heard(&["SSH-2.0-x\r\n"]);
        assert!((0..1000).all(|_| greeting.hear(&line)));
    }
}
