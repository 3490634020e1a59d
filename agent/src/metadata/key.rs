//! The key to log in with, as it comes out of the things that carry it.
//!
//! Carriers eat newlines: templates write them as `\n`, forms join lines with spaces, editors
//! indent, others wrap the whole in base64. So the armour is taken off and put on again before
//! a key is decoded; every copy on the way is wiped.

mod short;

use russh::keys::decode_secret_key;
use russh::keys::ssh_key::encoding::base64::{Base64, Encoding};
use russh::keys::ssh_key::{Algorithm, Certificate, PrivateKey, certificate::CertType};
use thiserror::Error;
use zeroize::Zeroizing;

/// The longest certificate that is looked at, in bytes; real ones have one to three thousand.
/// Also bounds how deep certificates can be nested in one another.
const CERTIFICATE_LIMIT: usize = 16 << 10;

/// Why a key or a certificate can't be used. Never repeats any of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// It needs a passphrase.
    #[error("is encrypted; the agent has nobody to ask for a passphrase")]
    Encrypted,
    /// It is the public half.
    #[error("found a public key, expected the private one")]
    Public,
    /// It is in PuTTY's format.
    #[error("found a key in PuTTY's format, expected OpenSSH or PEM")]
    Putty,
    /// The value is the path of a key file, not a key.
    #[error("found the path of a file, expected the private key itself")]
    Path,
    /// It starts but does not end.
    #[error("has no END line: the rest of it is cut off")]
    CutOff,
    /// It is nothing that looks like a key.
    #[error("found no private key, expected one in OpenSSH or PEM format")]
    NotAKey,
    /// It looks like a key and can't be decoded.
    #[error("can't be decoded: {0}")]
    Undecodable(String),
    /// It is of a kind that no proxy takes, or that needs a token.
    #[error("found a key of the kind {0}, expected Ed25519, ECDSA or RSA")]
    Unsupported(String),
    /// The certificate can't be decoded.
    #[error("can't be decoded: {0}")]
    BadCertificate(String),
    /// The certificate is one for hosts.
    #[error("found a host certificate, expected one for users")]
    HostCertificate,
    /// The certificate belongs to another key.
    #[error("does not belong to private_key")]
    ForeignCertificate,
}

impl KeyFault {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Encrypted => "Take the passphrase off with `ssh-keygen -p -N '' -f KEY`, or make a \
                                key for this guest alone with `ssh-keygen -t ed25519 -N ''`."
                .to_owned(),
            Self::Putty => "Convert it with `puttygen KEY.ppk -O private-openssh`.".to_owned(),
            Self::Path => "Write `private_key: |`, and below it, indented, the content of that \
                           file: the document goes to a machine that may not have the file."
                .to_owned(),
            Self::Public => "Put the file without .pub there.".to_owned(),
            Self::CutOff | Self::NotAKey | Self::Undecodable(_) | Self::Unsupported(_) => {
                "Put the whole file there that `ssh-keygen -t ed25519 -N '' -f KEY` writes.".to_owned()
            }
            Self::BadCertificate(_) | Self::HostCertificate | Self::ForeignCertificate => {
                "Sign this key's public half with `ssh-keygen -s CA -I NAME -n USER KEY.pub` and put \
                 KEY-cert.pub there."
                    .to_owned()
            }
        }
    }
}

/// Reads a private key.
///
/// # Errors
/// See [`KeyFault`].
pub fn private(text: &str) -> Result<PrivateKey, KeyFault> {
    let text = text.trim().trim_start_matches('\u{feff}');
    let armoured = match rearmour(text)? {
        Some(armoured) => armoured,
        None => unwrap_base64(text)?,
    };
    let key = match decode_secret_key(&armoured, None) {
        Ok(key) => key,
        Err(russh::keys::Error::KeyIsEncrypted) => return Err(KeyFault::Encrypted),
        Err(error) => {
            short::decode(&armoured).ok_or_else(|| KeyFault::Undecodable(error.to_string()))?
        }
    };
    let kind = key.algorithm();
    if matches!(
        kind,
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. }
    ) {
        return Ok(key);
    }
    Err(KeyFault::Unsupported(kind.to_string()))
}

/// Reads the certificate for `key`. Whether it is valid at this time is for the proxy to say.
///
/// # Errors
/// See [`KeyFault`].
pub fn certificate(line: &str, key: &PrivateKey) -> Result<Certificate, KeyFault> {
    let line = line.trim();
    if line.len() > CERTIFICATE_LIMIT {
        let problem = format!("it is longer than {CERTIFICATE_LIMIT} bytes");
        return Err(KeyFault::BadCertificate(problem));
    }
    let certificate = Certificate::from_openssh(line)
        .map_err(|error| KeyFault::BadCertificate(error.to_string()))?;
    if certificate.cert_type() != CertType::User {
        return Err(KeyFault::HostCertificate);
    }
    if certificate.public_key() != key.public_key().key_data() {
        return Err(KeyFault::ForeignCertificate);
    }
    Ok(certificate)
}

type Secret = Zeroizing<String>;

/// The first private key in `text` with its armour as decoders want it, or none.
fn rearmour(text: &str) -> Result<Option<Secret>, KeyFault> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, after) = after.split_once("-----").ok_or(KeyFault::CutOff)?;
        rest = after;
        // `openssl ecparam -genkey` writes the parameters of the curve before the key.
        if !label.ends_with("PRIVATE KEY") {
            continue;
        }
        let (body, _) = after.split_once("-----END ").ok_or(KeyFault::CutOff)?;
        if label.starts_with("ENCRYPTED") || body.contains(",ENCRYPTED") {
            return Err(KeyFault::Encrypted);
        }
        return Ok(Some(armour(label, body)));
    }
    Ok(None)
}

fn armour(label: &str, body: &str) -> Secret {
    let mut text = Zeroizing::new(String::with_capacity(body.len() * 2 + 128));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    // Escapes may have been escaped again on the way: `\n`, `\\n`, `\r\n`.
    let mut escaped = false;
    for c in body.chars() {
        match c {
            '\\' => escaped = true,
            'n' | 'r' | 't' if escaped => escaped = false,
            c if c.is_whitespace() => escaped = false,
            c => {
                escaped = false;
                text.push(c);
            }
        }
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// A key wrapped in base64, with its armour or without.
fn unwrap_base64(text: &str) -> Result<Secret, KeyFault> {
    if text.starts_with("PuTTY-User-Key-File-") {
        return Err(KeyFault::Putty);
    }
    if ["ssh-", "ecdsa-", "sk-"]
        .iter()
        .any(|kind| text.starts_with(kind))
    {
        return Err(KeyFault::Public);
    }
    if text.starts_with(['/', '~', '.']) && text.len() < 256 && !text.contains(char::is_whitespace)
    {
        return Err(KeyFault::Path);
    }
    let mut joined = Zeroizing::new(String::with_capacity(text.len() + 3));
    joined.extend(text.chars().filter(|c| !c.is_whitespace() && *c != '='));
    while !joined.len().is_multiple_of(4) {
        joined.push('=');
    }
    let mut bytes = Zeroizing::new(vec![0; joined.len() / 4 * 3]);
    let decoded = Base64::decode(joined.as_bytes(), &mut bytes).map_err(|_| KeyFault::NotAKey)?;
    if decoded.starts_with(b"openssh-key-v1\0") {
        return Ok(armour("OPENSSH PRIVATE KEY", &joined));
    }
    let text = std::str::from_utf8(decoded).map_err(|_| KeyFault::NotAKey)?;
    rearmour(text)?.ok_or(KeyFault::NotAKey)
}

#[cfg(test)]
mod tests;
