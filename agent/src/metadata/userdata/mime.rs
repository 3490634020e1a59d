//! MIME messages, as far as user-data is made of them: RFC 2045 and 2046.

use super::encoding::{decode_base64, decode_quoted};
use super::{Secret, SourceFault, undecodable};

/// How far the header of a message is searched for what makes it one, as cloud-init does.
const HEAD: usize = 4096;

/// A header and what follows it. Names are in lower case, values unfolded.
pub(super) struct Message<'a> {
    headers: Vec<(String, String)>,
    body: &'a [u8],
}

/// Whether a text begins with the header of a MIME message.
pub(super) fn is_message(text: &[u8]) -> bool {
    let head = Message::parse(&text[..text.len().min(HEAD)]);
    ["mime-version", "content-type"]
        .iter()
        .any(|name| head.header(name).is_some())
}

impl<'a> Message<'a> {
    /// Takes the header off. Where there is none, all of it is body.
    pub(super) fn parse(text: &'a [u8]) -> Self {
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut rest = text;
        while let Some((line, after)) = next_line(rest) {
            let content = line.trim_ascii_end();
            if content.is_empty() {
                rest = after;
                break;
            }
            let folded = content.starts_with(b" ") || content.starts_with(b"\t");
            match (headers.last_mut(), header(content)) {
                (Some((_, value)), _) if folded => {
                    value.push(' ');
                    value.push_str(String::from_utf8_lossy(content).trim());
                }
                (_, Some(header)) if !folded => headers.push(header),
                // The line that mail programs put before a message in a file.
                (None, None) if content.starts_with(b"From ") => {}
                _ => break,
            }
            rest = after;
        }
        Self {
            headers,
            body: rest,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The content type, without parameters. A part with no type, or an invalid one, is text/plain
    /// (RFC 2045 section 5.2).
    pub(super) fn kind(&self) -> &str {
        let value = self.header("content-type").unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim();
        match kind.split_once('/') {
            Some((first, second)) if !first.is_empty() && !second.contains('/') => kind,
            Some(_) | None => "text/plain",
        }
    }

    /// The name of the file that it was.
    pub(super) fn file(&self) -> Option<&str> {
        let named = |header, name| self.header(header).and_then(|value| parameter(value, name));
        named("content-disposition", "filename").or_else(|| named("content-type", "name"))
    }

    /// The messages that it is made of; none if it is not.
    pub(super) fn parts(&self, place: &str) -> Result<Option<Vec<Message<'a>>>, SourceFault> {
        let value = self.header("content-type").unwrap_or_default();
        let start = value.get(.."multipart/".len()).unwrap_or_default();
        if !start.eq_ignore_ascii_case("multipart/") {
            return Ok(None);
        }
        let boundary = parameter(value, "boundary").filter(|boundary| !boundary.is_empty());
        let Some(boundary) = boundary else {
            return Err(undecodable(place, "a multipart message without a boundary"));
        };
        Ok(Some(split(self.body, boundary.as_bytes())))
    }

    /// What is in it, its transfer encoding taken off.
    pub(super) fn content(&self, place: &str) -> Result<Secret, SourceFault> {
        let encoding = self.header("content-transfer-encoding").unwrap_or_default();
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "7bit" | "8bit" | "binary" => Ok(Secret::new(self.body.to_vec())),
            "quoted-printable" => Ok(decode_quoted(self.body)),
            "base64" => decode_base64(self.body)
                .ok_or_else(|| undecodable(place, "it says that it is base64, and is not")),
            _ => Err(undecodable(
                place,
                "its transfer encoding is not 7bit, 8bit, base64 or quoted-printable",
            )),
        }
    }
}

fn next_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let end = text.iter().position(|byte| *byte == b'\n');
    Some(text.split_at(end.map_or(text.len(), |end| end + 1)))
}

fn header(line: &[u8]) -> Option<(String, String)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!name.is_empty() && name.chars().all(token))
        .then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// A parameter of a header's value, its quotes taken off.
fn parameter<'v>(value: &'v str, name: &str) -> Option<&'v str> {
    let mut quoted = false;
    let mut parameters = value.split(|c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    parameters.find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        key.trim()
            .eq_ignore_ascii_case(name)
            .then_some(bare.unwrap_or(value))
    })
}

/// The messages between the lines that begin with `--` and the boundary. The last one ends with
/// the text where its closing line is cut off.
fn split<'a>(text: &'a [u8], boundary: &[u8]) -> Vec<Message<'a>> {
    let mut parts = Vec::new();
    let mut start = None;
    let mut at = 0;
    while let Some((line, rest)) = next_line(&text[at..]) {
        let next = text.len() - rest.len();
        let mark = line
            .strip_prefix(b"--")
            .and_then(|line| line.strip_prefix(boundary))
            .map(<[u8]>::trim_ascii_end);
        let closing = mark == Some(b"--");
        if closing || mark == Some(b"") {
            // Without the line break before the boundary, which belongs to it.
            parts.extend(start.map(|start| Message::parse(chomped(&text[start..at]))));
            start = Some(next);
        }
        if closing {
            return parts;
        }
        at = next;
    }
    parts.extend(start.map(|start| Message::parse(&text[start..])));
    parts
}

fn chomped(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}
