//! From a tree to a [`Document`], key by key.

use std::sync::Arc;

use russh::keys::ssh_key::Certificate;
use serde_json::Value;

use super::DocumentFault;
use super::cursor::Cursor;
use super::fields::Fields;
use super::place;
use super::{Document, Login, Proxy, RemoteForward, ServiceForward, TunnelSpec, When};
use crate::config::HttpUrl;
use crate::metadata::host_keys::{self, HostKeys};
use crate::metadata::key;
use crate::origin::Origins;

/// The keys of `tunnel`.
const TUNNEL: [&str; 7] = [
    "when",
    "proxies",
    "bind",
    "port",
    "forwards",
    "private_key",
    "certificate",
];

/// The description of `host` and `public_host` in a fault.
const HOST: &str = "a host name or an address";

/// Reads the whole of it. Two forwards may ask for the same place.
///
/// # Errors
/// A wrong value.
pub(in crate::metadata) fn document(value: &Value) -> Result<Document, DocumentFault> {
    let mut warnings = Vec::new();
    let mut fields = Cursor::root(value).mapping()?;
    let version = fields.optional("version");
    match &version {
        Some(version) => drop(version.number(1..=1)?),
        None => warnings.push("version: missing, taken as 1".to_owned()),
    }
    let at = fields.optional("tunnel");
    // A key that the tunnel has as well is one that this version does not know.
    let mut absent = TUNNEL.to_vec();
    absent.retain(|key| value["tunnel"][*key].is_null());
    fields.without(&absent, "tunnel")?;
    let tunnel = match at {
        Some(at) => Some(Arc::new(tunnel(at.mapping()?, &mut warnings)?)),
        // A document with a version alone asks for no tunnel. Without a version it is a mistake.
        None if version.is_some() => {
            if fields.has("tunnel") {
                empty_tunnel(&fields, &mut warnings)?;
            }
            None
        }
        None => {
            return Err(fields.missing(
                "tunnel",
                "a mapping with proxies, bind, port and private_key",
            ));
        }
    };
    let report_url = report_url(&mut fields, &mut warnings)?;
    fields.finish(&mut warnings)?;
    Ok(Document {
        tunnel,
        report_url,
        warnings,
    })
}

/// `report: {url: ..}`.
fn report_url(
    fields: &mut Fields<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<HttpUrl>, DocumentFault> {
    let Some(at) = fields.optional("report") else {
        return Ok(None);
    };
    let mut report = at.mapping()?;
    let expected = "an http:// or https:// URL";
    let at = report.required("url", expected)?;
    let url = HttpUrl::parse(at.text(expected)?);
    let url = url.map_err(|problem| at.fault(problem, &format!("Write {expected} there.")))?;
    report.finish(warnings)?;
    Ok(Some(url))
}

/// `tunnel: null` alone asks for none. A `tunnel` without any value may be a template's empty variable.
/// Beside another `tunnel` or an unknown key, an empty one has lost what belongs inside.
fn empty_tunnel(fields: &Fields<'_>, warnings: &mut Vec<String>) -> Result<(), DocumentFault> {
    let problem = match fields.stranger() {
        Some(stranger) => format!("found nothing in it, and the unknown key {stranger} beside it"),
        None if fields.repeats("tunnel") => {
            "found nothing in it, and another tunnel before it".to_owned()
        }
        None if fields.is_bare("tunnel") => "found no value, expected a mapping".to_owned(),
        None => {
            warnings.push("tunnel: empty, taken as no tunnel".to_owned());
            return Ok(());
        }
    };
    let advice = "Indent what belongs to tunnel; where no tunnel is wanted, leave that key out.";
    Err(DocumentFault::value("tunnel", problem, advice))
}

fn tunnel(mut fields: Fields<'_>, warnings: &mut Vec<String>) -> Result<TunnelSpec, DocumentFault> {
    let when = fields
        .optional("when")
        .map_or(Ok(When::Auto), |at| when(&at))?;
    // Keys that may be left out: without a look for them inside the lists, one that was indented
    // too deep would be missed.
    let mut absent = TUNNEL.to_vec();
    absent.retain(|key| fields.lacks(key));
    let list = fields.required("proxies", "a list of proxies")?;
    let proxies = proxies(&list, &absent, warnings)?;
    let forward = remote_forward(&mut fields, 0)?;
    let mut forwards = Vec::new();
    if let Some(at) = fields.optional("forwards") {
        for item in at.list("forwards")? {
            forwards.push(service_forward(item.mapping()?, &absent, warnings)?);
        }
    }
    let login = login(&mut fields)?;
    fields.finish(warnings)?;
    Ok(TunnelSpec {
        when,
        proxies,
        forward,
        forwards,
        login,
    })
}

fn when(at: &Cursor<'_>) -> Result<When, DocumentFault> {
    let words = [
        ("auto", When::Auto),
        ("always", When::Always),
        ("never", When::Never),
    ];
    at.word_of(&words, |found| {
        let advice = match found {
            "off" | "no" | "false" => "Write `when: never` to switch the tunnel off.",
            "on" | "yes" | "true" => {
                "Write `when: always`, or `when: auto` to hold the tunnel only where the guest may \
                 be behind NAT."
            }
            _ => return None,
        };
        Some(advice.to_owned())
    })
}

fn proxies(
    at: &Cursor<'_>,
    absent: &[&str],
    warnings: &mut Vec<String>,
) -> Result<Vec<Proxy>, DocumentFault> {
    let items = at.list("proxies")?;
    if items.is_empty() {
        let advice = "Add a proxy with host, user and host_keys.";
        return Err(at.fault("found an empty list, expected at least one proxy", advice));
    }
    let mut proxies = Vec::new();
    for item in items {
        let mut fields = item.mapping()?;
        let host = fields.required("host", HOST)?;
        let public_host = fields.optional("public_host");
        let port = fields.optional("port");
        let user = fields.required("user", "the account on the proxy")?;
        let keys = fields.required("host_keys", "the host keys of the proxy")?;
        proxies.push(Proxy {
            host: host.place(HOST, |text| place::host(text, "host"))?,
            public_host: public_host
                .map(|at| at.place(HOST, |text| place::host(text, "public_host")))
                .transpose()?,
            port: port.map_or(Ok(22), |at| at.number(1..=u16::MAX))?,
            user: user.account()?,
            host_keys: host_keys(&keys)?,
        });
        fields.without(absent, "tunnel")?;
        fields.finish(warnings)?;
    }
    Ok(proxies)
}

fn host_keys(at: &Cursor<'_>) -> Result<HostKeys, DocumentFault> {
    let items = if at.is_list() {
        &at.list("host keys")?[..]
    } else {
        std::slice::from_ref(at)
    };
    let mut pins = Vec::new();
    for item in items {
        let text = item.text("a host key line, such as \"ssh-ed25519 AAAA...\"")?;
        for (index, line) in text.lines().enumerate() {
            let pin = host_keys::pin(line);
            pins.extend(pin.map_err(|fault| {
                let advice = fault.advice();
                if text.trim().contains('\n') {
                    let problem = format_args!("line {}: {fault}", index + 1);
                    return item.fault(problem, &advice);
                }
                item.fault(&fault, &advice)
            })?);
        }
    }
    HostKeys::new(pins).ok_or_else(|| {
        let problem = match items.is_empty() {
            true => "found no host key, expected at least one",
            false => "found no host key, only comments or blank lines; expected at least one key",
        };
        let advice = "Add what `ssh-keyscan HOST` prints, compared with the proxy's own files in /etc/ssh; \
                      without a host key the proxy is never trusted.";
        at.fault(problem, advice)
    })
}

fn remote_forward(fields: &mut Fields<'_>, least: u16) -> Result<RemoteForward, DocumentFault> {
    let expected = "the address on the proxy, such as \"0.0.0.0\" or \"localhost\"";
    let bind = fields
        .required("bind", expected)?
        .place(expected, place::bind)?;
    let port = fields.required("port", "the port on the proxy")?;
    Ok(RemoteForward {
        bind,
        port: port.number(least..=u16::MAX)?,
    })
}

fn service_forward(
    mut fields: Fields<'_>,
    absent: &[&str],
    warnings: &mut Vec<String>,
) -> Result<ServiceForward, DocumentFault> {
    let at = remote_forward(&mut fields, 1)?;
    let expected = "an address with a port, such as \"127.0.0.1:80\"";
    let to = fields.required("to", expected)?;
    // YAML reads a port alone as a number.
    let to = match to.number(1..=u16::MAX) {
        Ok(port) => to.place_of(&port.to_string(), place::service)?,
        Err(_) => to.place(expected, place::service)?,
    };
    let origins = fields.optional("origins").map_or(Ok(Origins::One), |at| {
        at.word_of(&[("apart", Origins::Apart), ("one", Origins::One)], |_| {
            None
        })
    })?;
    fields.without(absent, "tunnel")?;
    fields.finish(warnings)?;
    Ok(ServiceForward { at, to, origins })
}

fn login(fields: &mut Fields<'_>) -> Result<Login, DocumentFault> {
    let expected = "a private key in OpenSSH or PEM format";
    let at = fields.required("private_key", expected)?;
    let key =
        key::private(at.text(expected)?).map_err(|fault| at.fault(&fault, &fault.advice()))?;
    let certificate: Option<Certificate> = match fields.optional("certificate") {
        Some(at) => {
            let line = at.text("an OpenSSH user certificate")?;
            let read = key::certificate(line, &key);
            Some(read.map_err(|fault| at.fault(&fault, &fault.advice()))?)
        }
        None => None,
    };
    Ok(Login {
        key: Arc::new(key),
        certificate,
    })
}
