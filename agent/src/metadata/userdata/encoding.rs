//! What carriers put around a text, and how it comes off again.

use std::io::Read;

use flate2::bufread::GzDecoder;
use russh::keys::ssh_key::encoding::base64::{Base64Unpadded, Encoding};
use zeroize::Zeroizing;

use super::{Secret, SourceFault, undecodable};
use crate::metadata::reading::append;

/// The shortest text that is taken for base64, in bytes: no word of people's, and less than a
/// document has.
const SHORTEST: usize = 24;

/// How a member of a gzip file begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&GZIP)
}

/// Unpacks all members of a gzip file into at most `left` bytes.
pub(super) fn inflate(
    place: &str,
    mut packed: &[u8],
    left: &mut usize,
) -> Result<Secret, SourceFault> {
    let mut bytes = Secret::default();
    let mut chunk = Zeroizing::new([0; 8 << 10]);
    loop {
        let mut member = GzDecoder::new(packed);
        loop {
            match member.read(&mut chunk[..]) {
                Ok(0) => break,
                Ok(count) if append(&mut bytes, &chunk[..count], *left) => {}
                Ok(_) => {
                    *left = 0;
                    let place = format!("{place}, unpacked,");
                    return Err(SourceFault::TooLarge { place });
                }
                Err(error) => {
                    let problem = format!("it is compressed, and can't be unpacked: {error}");
                    return Err(undecodable(place, problem));
                }
            }
        }
        packed = member.into_inner();
        // What stands behind is another member, or filled up as on a disk.
        if packed.iter().all(|byte| *byte == 0) {
            *left -= bytes.len();
            return Ok(bytes);
        }
    }
}

/// The content of a text that is base64 from its beginning to its end, and not just a word.
pub(super) fn base64(text: &[u8]) -> Option<Secret> {
    let alphabet = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || byte.is_ascii_whitespace()
            || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
    };
    if text.len() < SHORTEST || !text.iter().all(alphabet) {
        return None;
    }
    let bytes = decode_base64(text)?;
    let is_text = || std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains('\0'));
    (is_gzip(&bytes) || is_text()).then_some(bytes)
}

/// The content of base64 of either alphabet (RFC 4648), broken into lines or not.
pub(super) fn decode_base64(text: &[u8]) -> Option<Secret> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    plain.extend(text.iter().filter(|b| !b.is_ascii_whitespace()).map(|b| {
        char::from(match b {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
    }));
    let plain = plain.trim_end_matches('=');
    let mut bytes = Secret::new(vec![0; plain.len() / 4 * 3 + 3]);
    let length = Base64Unpadded::decode(plain, &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

/// The content of quoted-printable text (RFC 2045 6.7). What is no escape stays as it is.
pub(super) fn decode_quoted(text: &[u8]) -> Secret {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Secret::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'=', [b'\n', more @ ..] | [b'\r', b'\n', more @ ..]) => rest = more,
            (b'=', _) => match (digit(after.first()), digit(after.get(1))) {
                (Some(high), Some(low)) => {
                    bytes.push((high << 4 | low) as u8);
                    rest = after.get(2..).unwrap_or_default();
                }
                _ => bytes.push(b'='),
            },
            _ => bytes.push(*first),
        }
    }
    bytes
}

/// A text in one line whose line breaks were written as `\n`, with line breaks; the same for a
/// JSON string.
pub(super) fn unescaped(text: &[u8]) -> Option<Secret> {
    let text = text.trim_ascii();
    if !text.windows(2).any(|pair| pair == b"\\n") || text.contains(&b'\n') {
        return None;
    }
    if let Ok(inner) = serde_json::from_slice::<String>(text) {
        return Some(Secret::new(inner.into_bytes()));
    }
    let mut bytes = Secret::new(Vec::with_capacity(text.len()));
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        let next = rest.as_slice().first();
        let meant = match (byte, next) {
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b't')) => b'\t',
            (b'\\', Some(b'"')) => b'"',
            (b'\\', Some(b'\\')) => b'\\',
            _ => {
                bytes.push(byte);
                continue;
            }
        };
        rest.next();
        bytes.push(meant);
    }
    Some(bytes)
}
