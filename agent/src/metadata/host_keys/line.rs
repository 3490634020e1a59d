//! Host keys as people write them: one line each.

use russh::keys::ssh_key::PublicKey;
use thiserror::Error;

use super::Pin;

/// The longest line that is looked at, in bytes; that of an RSA key of 16384 bits has 2800.
const LINE_LIMIT: usize = 16 << 10;

/// Why a line is not a pin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PinFault {
    /// It takes trust away, which a list of what is trusted can't express.
    #[error("a @revoked line takes trust away; only what is listed here is trusted at all")]
    Revoked,
    /// It has a marker that is not known.
    #[error("found the marker {0:?}, expected @cert-authority or none")]
    Marker(String),
    /// A fingerprint that is not SHA-256.
    #[error("found a fingerprint that is not SHA256:..., expected 43 characters after SHA256:")]
    Fingerprint,
    /// A private key.
    #[error("found a private key, expected the public one")]
    Private,
    /// A certificate.
    #[error(
        "found a certificate, expected the key that signs: @cert-authority ssh-ed25519 AAAA..."
    )]
    Certificate,
    /// Anything else.
    #[error(
        "found no key, expected \"ssh-ed25519 AAAA...\", \"SHA256:...\" or \"@cert-authority ...\""
    )]
    NotAKey,
    /// A line that starts like a key.
    #[error("the {kind} key can't be decoded: {problem}")]
    Undecodable {
        /// The kind it says it is.
        kind: &'static str,
        /// What is wrong with the rest.
        problem: String,
    },
}

impl PinFault {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Revoked => "Take the line out, and the revoked key with it.",
            Self::Fingerprint => {
                "Print it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`."
            }
            Self::Private => "Take it out at once; copy the line from the .pub file instead.",
            Self::Marker(_) | Self::Certificate | Self::NotAKey | Self::Undecodable { .. } => {
                "Copy the whole line from /etc/ssh/ssh_host_ed25519_key.pub on the proxy."
            }
        }
        .to_owned()
    }
}

/// Kinds of keys that a host can have, as the lines of `known_hosts` name them.
const KINDS: [&str; 5] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

/// Reads one line: of a `.pub` file, of `known_hosts`, or of `ssh-keygen -l`. None for a comment.
///
/// Names of hosts in front of a key, hashed or not, say nothing here: the line already stands
/// under the proxy that it is for.
///
/// # Errors
/// See [`PinFault`].
pub fn pin(line: &str) -> Result<Option<Pin>, PinFault> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.contains("PRIVATE KEY") {
        return Err(PinFault::Private);
    }
    if line.len() > LINE_LIMIT {
        return Err(PinFault::NotAKey);
    }
    let mut words = line.split_ascii_whitespace().peekable();
    let marker = words.next_if(|word| word.starts_with('@'));
    let authority = match marker {
        None => false,
        Some("@cert-authority") => true,
        Some("@revoked") => return Err(PinFault::Revoked),
        Some(other) => return Err(PinFault::Marker(other.chars().take(20).collect())),
    };
    let words: Vec<_> = words.collect();
    // The kind is the first word, or the second when hosts stand before it.
    for (index, word) in words.iter().take(2).enumerate() {
        if word.starts_with("SHA256:") && !authority {
            // As `ssh-keygen -l` prints it: "256 SHA256:... comment (ED25519)".
            let pinned = word.trim_end_matches('=').parse();
            return pinned
                .map(|pin| Some(Pin::Fingerprint(pin)))
                .map_err(|_| PinFault::Fingerprint);
        }
        if word.starts_with("SHA512:") || word.starts_with("MD5:") {
            return Err(PinFault::Fingerprint);
        }
        if word.contains("-cert-v01@") {
            return Err(PinFault::Certificate);
        }
        if let Some(kind) = KINDS.iter().find(|kind| *kind == word) {
            let blob = words.get(index + 1).copied().unwrap_or_default();
            let key = PublicKey::from_openssh(&format!("{kind} {blob}")).map_err(|error| {
                let problem = error.to_string();
                PinFault::Undecodable { kind, problem }
            })?;
            return Ok(Some(if authority {
                Pin::Authority(key)
            } else {
                Pin::Key(key)
            }));
        }
    }
    Err(PinFault::NotAKey)
}
