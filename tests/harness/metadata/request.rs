//! What a client of the stand-in asks for.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

/// What a client asks for.
#[derive(Default)]
pub(super) struct Request {
    line: String,
    /// In lower case.
    headers: Vec<String>,
}

impl Request {
    /// Reads one without a body, of at most 64 KiB.
    pub(super) fn read(stream: &TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(stream.take(64 << 10));
        let mut request = Self::default();
        reader.read_line(&mut request.line)?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                return Ok(request);
            }
            request.headers.push(line.trim().to_lowercase());
        }
    }

    /// Whether it has this header line, in lower case.
    pub(super) fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|line| line == header)
    }

    /// `METHOD target`.
    pub(super) fn shown(&self) -> String {
        let (shown, _) = self.line.rsplit_once(' ').unwrap_or_default();
        shown.to_owned()
    }

    pub(super) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// With its query, but for what makes it wait.
    pub(super) fn path(&self) -> String {
        let target = self.line.split(' ').nth(1).unwrap_or_default();
        let Some((path, query)) = target.split_once('?') else {
            return target.to_owned();
        };
        let waits = |pair: &&str| {
            let key = pair.split('=').next().unwrap_or_default();
            ["wait_for_change", "last_etag", "timeout_sec"].contains(&key)
        };
        let rest: Vec<_> = query.split('&').filter(|pair| !waits(pair)).collect();
        match rest.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{}", rest.join("&")),
        }
    }

    /// The value of a header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers.iter().filter_map(|line| line.split_once(':'));
        let mut values = values.filter(|(found, _)| *found == name);
        values.next().map(|(_, value)| value.trim())
    }

    /// The version that it knows, and for how many seconds it waits for another.
    pub(super) fn waits(&self) -> Option<(String, u64)> {
        let target = self.line.split(' ').nth(1)?;
        let value = |key: &str| {
            let mut pairs = target
                .split(['?', '&'])
                .filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(found, _)| *found == key)
                .map(|(_, value)| value)
        };
        value("wait_for_change")?;
        let seconds = value("timeout_sec").and_then(|seconds| seconds.parse().ok());
        Some((value("last_etag")?.to_owned(), seconds.unwrap_or(60)))
    }
}
