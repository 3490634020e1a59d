//! User-data, in all the forms that carriers make of it.
//!
//! ```text
//!  body ──> gzip, base64, `\n` escapes taken off, again and again ──┬─> a script, a template, ..: absent
//!                                                                   ├─> MIME message ───┐ each part
//!                                                                   ├─> archive ────────┤ like a body
//!                                                                   └─> JSON or YAML <──┘
//! ```
//!
//! User-data is for others first, so all that is not for us is [`Reading::Absent`], whatever
//! words stand in it. Of several parts with our key the last one counts, as for cloud-init; a
//! fault names the part. Pure, and bounded: in how deep things nest, and in what they unpack to.

mod encoding;
mod mime;

use serde_json::Value;

use super::document::{Carrier, tree};
use super::reading::{LIMIT, Reading, Secret, SourceFault};
use encoding::{base64, inflate, is_gzip, unescaped};
use mime::{Message, is_message};

/// How many encodings and parts may be around one another.
const DEPTH: usize = 10;

/// How cloud-init tells what is not a cloud-config: a script, a list of addresses, a template.
const FOR_OTHERS: [&str; 7] = [
    "#!",
    "#include",
    "#cloud-boothook",
    "#cloud-config-jsonp",
    "#part-handler",
    "#upstart-job",
    "## template:",
];

/// The first line by which cloud-init recognises a cloud-config.
const CONFIG: &str = "#cloud-config";

/// How it tells a list of parts in YAML.
const ARCHIVE: &str = "#cloud-config-archive";

/// Types of parts that may hold a cloud-config; what is in them says the rest.
const CONFIGS: [&str; 18] = [
    "text/cloud-config",
    "text/cloud-config-archive",
    "text/plain",
    "text/yaml",
    "text/x-yaml",
    "application/yaml",
    "application/x-yaml",
    "application/json",
    "application/octet-stream",
    "application/gzip",
    "application/x-gzip",
    "application/gzipped",
    "application/x-compress",
    "application/x-compressed",
    "application/gunzip",
    "application/x-gunzip",
    "application/gzip-compressed",
    "application/x-gzip-compressed",
];

/// The types of message parts that hold a cloud-config only if their first line says so. Many
/// programs give these types to any text, and cloud-init checks the first line as well.
const BY_FIRST_LINE: [&str; 2] = ["text/x-shellscript", "text/x-not-multipart"];

/// Reads the user-data `body` that was found at `place`.
#[must_use]
pub fn read(place: &str, body: &[u8]) -> Reading {
    let mut decoder = Decoder { left: LIMIT };
    decoder
        .body(place, body, 0)
        .unwrap_or_else(SourceFault::into)
}

struct Decoder {
    /// How many bytes may still be unpacked, for all of it together.
    left: usize,
}

/// What a text turned out to be.
enum Kind {
    ForOthers,
    Archive,
    Message,
    Config,
}

/// An error is of what can't be decoded: whether it was for us nobody knows.
type Decoded = Result<Reading, SourceFault>;

impl Decoder {
    fn body(&mut self, place: &str, body: &[u8], depth: usize) -> Decoded {
        if depth > DEPTH {
            let problem = format!("it nests deeper than {DEPTH} levels");
            return Err(undecodable(place, problem));
        }
        let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
        if is_gzip(body) {
            let inner = inflate(place, body, &mut self.left)?;
            return self.body(place, &inner, depth + 1);
        }
        if let Some(inner) = base64(body) {
            return self.body(place, &inner, depth + 1);
        }
        if let Some(inner) = unescaped(body) {
            // One line of JSON or YAML has escapes of its own.
            let whole = Reading::of(place, body, Carrier::Shared);
            if matches!(
                whole,
                Reading::Found(_) | Reading::Empty(_) | Reading::Silent { .. }
            ) {
                return Ok(whole);
            }
            let reading = self.body(place, &inner, depth + 1)?;
            return Ok(match reading {
                Reading::Absent => whole,
                Reading::Found(_)
                | Reading::Empty(_)
                | Reading::Silent { .. }
                | Reading::Failed(_) => reading,
            });
        }
        match kind(body) {
            Kind::ForOthers => Ok(Reading::Absent),
            Kind::Archive => self.archive(place, body, depth),
            Kind::Message => self.message(place, &Message::parse(body), depth),
            Kind::Config => Ok(Reading::of(place, body, Carrier::Shared)),
        }
    }

    /// `#cloud-config-archive`: a list of texts, or of mappings with `content` and a `type`.
    fn archive(&mut self, place: &str, body: &[u8], depth: usize) -> Decoded {
        let parsed = match tree(body) {
            Ok(parsed) => parsed,
            // Says whether it matters to us.
            Err(_) => return Ok(Reading::of(place, body, Carrier::Shared)),
        };
        let Value::Array(items) = &parsed.0 else {
            return Ok(Reading::Absent);
        };
        last(items, |number, item| {
            let text = |key: &str| item.get(key).and_then(Value::as_str);
            let (kind, file) = (text("type"), text("filename"));
            let content = item.as_str().or_else(|| text("content"));
            match content {
                Some(content) if kind.is_none_or(|kind| is_of(kind, &CONFIGS)) => {
                    self.body(&part(place, number, file), content.as_bytes(), depth + 1)
                }
                Some(_) | None => Ok(Reading::Absent),
            }
        })
    }

    fn message(&mut self, place: &str, message: &Message<'_>, depth: usize) -> Decoded {
        if depth > DEPTH {
            let problem = format!("its parts nest deeper than {DEPTH} levels");
            return Err(undecodable(place, problem));
        }
        if let Some(parts) = message.parts(place)? {
            return last(&parts, |number, inner| {
                let place = part(place, number, inner.file());
                self.message(&place, inner, depth + 1)
            });
        }
        let kind = message.kind();
        let by_first_line = is_of(kind, &BY_FIRST_LINE);
        if !by_first_line && !is_of(kind, &CONFIGS) {
            return Ok(Reading::Absent);
        }
        match message.content(place) {
            Ok(content) if by_first_line && !says_config(&content) => Ok(Reading::Absent),
            Ok(content) => self.body(place, &content, depth + 1),
            Err(_) if by_first_line => Ok(Reading::Absent),
            Err(fault) => Err(fault),
        }
    }
}

/// The reading of the last part that has one. That a part can't be decoded matters where no
/// other is for us.
fn last<T>(parts: &[T], mut read: impl FnMut(usize, &T) -> Decoded) -> Decoded {
    let mut broken = None;
    for (index, part) in parts.iter().enumerate().rev() {
        match read(index + 1, part) {
            Ok(Reading::Absent) => {}
            Ok(reading) => return Ok(reading),
            Err(fault) => broken = broken.or(Some(fault)),
        }
    }
    broken.map_or(Ok(Reading::Absent), Err)
}

fn kind(text: &[u8]) -> Kind {
    let text = text.trim_ascii_start();
    let begins = |mark: &str| begins(text, mark);
    if FOR_OTHERS.into_iter().any(begins) {
        Kind::ForOthers
    } else if begins(ARCHIVE) {
        Kind::Archive
    } else if is_message(text) {
        Kind::Message
    } else {
        Kind::Config
    }
}

/// Whether the first line marks a cloud-config, or an archive of them.
fn says_config(text: &[u8]) -> bool {
    begins(text.trim_ascii_start(), CONFIG) && !matches!(kind(text), Kind::ForOthers)
}

fn begins(text: &[u8], mark: &str) -> bool {
    let start = text.get(..mark.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(mark.as_bytes()))
}

fn is_of(kind: &str, known: &[&str]) -> bool {
    known
        .iter()
        .any(|known| known.eq_ignore_ascii_case(kind.trim()))
}

/// How a fault names a part.
fn part(place: &str, number: usize, file: Option<&str>) -> String {
    match file {
        Some(file) => {
            let short: String = file.chars().take(40).collect();
            format!("{place}, part {number} ({})", short.escape_debug())
        }
        None => format!("{place}, part {number}"),
    }
}

fn undecodable(place: &str, problem: impl Into<String>) -> SourceFault {
    SourceFault::Undecodable {
        place: place.to_owned(),
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests;
