//! `vmagent check-config --document`: what a person wants to know of a document.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

use russh::keys::HashAlg;
use russh::keys::ssh_key::Certificate;

use super::access::exposed;
use super::content::read_to_end;
use super::document::{Carrier, Document, Parsed, RemoteForward, Validity, parse};
use super::reading::{LIMIT, Secret};
use crate::explain::Explain;

/// The path that stands for standard input.
const STDIN: &str = "-";

/// The name of the document at `path` in messages.
#[must_use]
pub fn place(path: &Path) -> String {
    if path == Path::new(STDIN) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Reads the document at `path` for `vmagent check-config`: a file, a pipe such as `/dev/fd/3` or
/// bash's `<(command)`, or standard input for `-`.
///
/// # Errors
/// A file that can't be read, or what is wrong with it, with the advice.
pub fn document(path: &Path) -> Result<String, String> {
    let bytes = read(path).map_err(|error| {
        let kind = error.kind();
        if matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory) {
            "there is no such file".to_owned()
        } else if kind == ErrorKind::PermissionDenied {
            "permission denied".to_owned()
        } else {
            format!("can't be read: {error}")
        }
    })?;
    let bytes = bytes.ok_or_else(|| format!("it is larger than {LIMIT} bytes"))?;
    let parsed = parse(&bytes, Carrier::Own);
    let summary = match parsed.map_err(|fault| format!("{fault}\n{}", fault.advice()))? {
        Parsed::Document(document) => summary(&document, SystemTime::now())?,
        Parsed::Empty | Parsed::Null | Parsed::Missing => {
            return Err("there is nothing in it".to_owned());
        }
    };
    Ok(match exposed(path) {
        Some(warning) => format!("{summary}\nwarning: {warning}"),
        None => summary,
    })
}

fn read(path: &Path) -> io::Result<Option<Secret>> {
    if path == Path::new(STDIN) {
        return read_to_end(&mut io::stdin().lock());
    }
    read_to_end(&mut File::open(path)?)
}

fn summary(document: &Document, now: SystemTime) -> Result<String, String> {
    let mut lines = vec!["the document is good".to_owned()];
    if let Some(tunnel) = &document.tunnel {
        let RemoteForward { bind, port } = &tunnel.forward;
        let proxies: Vec<_> = tunnel.proxies.iter().map(ToString::to_string).collect();
        let key = tunnel.login.key.fingerprint(HashAlg::Sha256);
        lines.push(format!(
            "it asks for \"{bind}\", port {port}, on {}",
            proxies.join(" or ")
        ));
        for proxy in &tunnel.proxies {
            if let Some(public) = &proxy.public_host {
                lines.push(format!("users reach the proxy {proxy} as {public}"));
            }
        }
        for forward in &tunnel.forwards {
            let RemoteForward { bind, port } = &forward.at;
            lines.push(format!(
                "it forwards \"{bind}\", port {port}, to {}",
                forward.to
            ));
        }
        lines.push(format!("with the key {key}"));
        if let Some(certificate) = &tunnel.login.certificate {
            lines.push(validity(certificate));
        }
        match tunnel.login.lapse(now) {
            // As the proxy will say: nothing that is written in the document makes it log in.
            Some(lapse) if lapse.is_over() => {
                let advice = lapse.advice();
                return Err(format!("tunnel.certificate: {lapse}\n{advice}"));
            }
            Some(lapse) => lines.push(format!("warning: {lapse}")),
            None => {}
        }
    } else {
        lines.push("it asks for no tunnel".to_owned());
    }
    lines.extend(
        document
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}")),
    );
    Ok(lines.join("\n"))
}

fn validity(certificate: &Certificate) -> String {
    let until = Validity::of(certificate).until;
    let until = until.map_or_else(
        || "for ever".to_owned(),
        |until| format!("until {}", humantime::format_rfc3339_seconds(until)),
    );
    format!(
        "with the certificate {:?}, valid {until}",
        certificate.key_id()
    )
}
