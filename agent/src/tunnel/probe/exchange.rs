//! The protocol between the two ends of a probe, without I/O.
//!
//! ```text
//!  probe                                        agent, on the channel that the proxy opens
//!    │ vmagent-probe NONCE                  ───────>  │
//!    │ <───────  vmagent-proof NONCE ok BANNER        │ it has read sshd's banner
//!    │ 4 KiB of padding                     ───────>  │ only where nobody uses the tunnel
//!    │ <───────  4 KiB, vmagent-whole NONCE           │
//! ```
//!
//! The padding makes full packets in both directions: a path that drops them without a word
//! (RFC 2923, 2.1) passes the first two lines and no login.

use std::fmt;
use std::io;

use super::super::fault::Fault;

/// How much padding goes each way, in bytes: more than two packets of any Ethernet.
pub(in crate::tunnel) const PADDING: usize = 4096;

/// The most that is read of what the other end says, in bytes: the padding, a few lines of at most
/// 255 bytes (RFC 4253, 4.2), and what another server may say first.
const LIMIT: usize = PADDING + 4096;

/// The secret of one probe, known to this agent alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tunnel) struct Nonce(u128);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Nonce {
    /// A nonce that nobody can guess.
    ///
    /// # Errors
    /// If the kernel has no random bytes.
    pub(super) fn random() -> io::Result<Self> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        Ok(Self(u128::from_ne_bytes(secret)))
    }

    #[cfg(test)]
    pub(super) fn test(value: u128) -> Self {
        Self(value)
    }

    /// Whether these first bytes of a connection are the probe's.
    pub(in crate::tunnel) fn opens(self, bytes: &[u8]) -> bool {
        bytes == self.greeting().as_bytes()
    }

    /// The probe's first line.
    pub(super) fn greeting(self) -> String {
        format!("vmagent-probe {self}\r\n")
    }

    /// The answer that the probe waits for. `sshd` is sshd's banner, or why there is none.
    pub(in crate::tunnel) fn proof(self, sshd: &Result<String, String>) -> String {
        match sshd {
            Ok(banner) => format!("vmagent-proof {self} ok {banner}\r\n"),
            Err(why) => format!("vmagent-proof {self} down {why}\r\n"),
        }
    }

    /// The answer to the probe's padding.
    pub(in crate::tunnel) fn whole(self) -> Vec<u8> {
        let mut answer = padding();
        answer.extend_from_slice(format!("vmagent-whole {self}\r\n").as_bytes());
        answer
    }
}

/// [`PADDING`] bytes that are one line.
fn padding() -> Vec<u8> {
    let mut padding = vec![b'.'; PADDING];
    padding.splice(PADDING - 2.., *b"\r\n");
    padding
}

/// The probe's end of it.
#[derive(Debug)]
pub(super) struct Exchange {
    nonce: Nonce,
    padded: bool,
    received: Vec<u8>,
    proof: Option<Proof>,
    whole: bool,
    late: bool,
}

#[derive(Debug)]
enum Proof {
    Ok,
    SshdDown(String),
}

/// The probe's next step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    Send(Vec<u8>),
    Done,
}

/// How an exchange ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This agent answered.
    Answered,
    /// This agent answered: it has no sshd, for this reason.
    SshdDown(String),
    /// This agent answered, and the padding was lost on the way.
    PaddingLost,
    /// Another program answered, which began like this.
    Other(String),
    /// Nothing came.
    Silent,
}

impl Exchange {
    /// A new one; `padded` asks for full packets as well.
    pub(super) fn new(nonce: Nonce, padded: bool) -> Self {
        Self {
            nonce,
            padded,
            received: Vec::new(),
            proof: None,
            whole: false,
            late: false,
        }
    }

    /// The probe's first line.
    pub(super) fn greeting(&self) -> String {
        self.nonce.greeting()
    }

    /// The other end has not said all of it in time.
    pub(super) fn late(&mut self) {
        self.late = true;
    }

    /// Takes what the other end said.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Step {
        let room = LIMIT.saturating_sub(self.received.len());
        self.received.extend(bytes.iter().take(room));
        if self.proof.is_none() {
            self.proof = self.find_proof();
            match self.proof {
                Some(Proof::Ok) if self.padded => return Step::Send(padding()),
                Some(_) => return Step::Done,
                None => {}
            }
        } else {
            let end = format!("vmagent-whole {}", self.nonce);
            let whole = self.lines().any(|line| line == end);
            self.whole = whole;
        }
        if self.whole || self.received.len() == LIMIT {
            Step::Done
        } else {
            Step::Read
        }
    }

    /// The verdict so far.
    pub(super) fn verdict(&self) -> Verdict {
        match &self.proof {
            Some(Proof::SshdDown(why)) => Verdict::SshdDown(why.clone()),
            Some(Proof::Ok) if self.padded && !self.whole && self.late => Verdict::PaddingLost,
            // Its connection was closed in between: that loses no packets.
            Some(Proof::Ok) => Verdict::Answered,
            None if self.received.is_empty() => Verdict::Silent,
            None => {
                let text = String::from_utf8_lossy(&self.received);
                let line = text.lines().next().unwrap_or_default();
                Verdict::Other(line.chars().take(80).collect())
            }
        }
    }

    /// The lines that have come to their end. A banner of sshd may be before the proof, where the
    /// probe's first bytes came late.
    fn lines(&self) -> impl Iterator<Item = String> {
        let whole = self.received.split_inclusive(|byte| *byte == b'\n');
        whole
            .filter(|line| line.ends_with(b"\n"))
            .map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
    }

    fn find_proof(&self) -> Option<Proof> {
        let start = format!("vmagent-proof {} ", self.nonce);
        let rest = self
            .lines()
            .find_map(|line| line.strip_prefix(&start).map(str::to_owned))?;
        match rest.split_once(' ') {
            Some(("ok", _)) => Some(Proof::Ok),
            Some((_, why)) => Some(Proof::SshdDown(why.to_owned())),
            None => Some(Proof::SshdDown(rest)),
        }
    }
}

impl Verdict {
    /// The fault that it is, if it is one. `target` is what was dialled, `sshd` where it is
    /// expected in this guest.
    pub(super) fn fault(self, target: &str, sshd: &str) -> Result<(), Fault> {
        let not_reachable = |detail: &str| Fault::NotReachable {
            target: target.to_owned(),
            detail: detail.to_owned(),
            refused: false,
        };
        match self {
            Self::Answered => Ok(()),
            Self::SshdDown(detail) => Err(Fault::SshdDown {
                address: sshd.to_owned(),
                detail,
            }),
            Self::PaddingLost => Err(Fault::PathMtu {
                target: target.to_owned(),
            }),
            Self::Other(banner) => Err(Fault::WrongGuest {
                target: target.to_owned(),
                banner,
            }),
            Self::Silent => Err(not_reachable("the connection was closed without a word")),
        }
    }
}
