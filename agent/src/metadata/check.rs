//! `vmagent check-config --document`: what a person wants to know of a document.

use std::path::Path;
use std::time::SystemTime;

use russh::keys::HashAlg;
use russh::keys::ssh_key::Certificate;

use super::content::{Content, read_bounded};
use super::document::{Carrier, Document, Parsed, RemoteForward, Validity, parse};
use crate::explain::Explain;

/// Reads the document in the file at `path` for a person who wants to know whether it is good.
///
/// # Errors
/// A file that can't be read, or what is wrong with it, with the advice.
pub fn document(path: &Path) -> Result<String, String> {
    let bytes = match read_bounded(path).map_err(|fault| fault.to_string())? {
        Content::Bytes(bytes) => bytes,
        Content::Missing => return Err("there is no such file".to_owned()),
        Content::Denied => return Err("permission denied".to_owned()),
    };
    let parsed = parse(&bytes, Carrier::Own);
    match parsed.map_err(|fault| format!("{fault}\n{}", fault.advice()))? {
        Parsed::Document(document) => summary(&document, SystemTime::now()),
        Parsed::Empty | Parsed::Missing => Err("there is nothing in it".to_owned()),
    }
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
