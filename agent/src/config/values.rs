//! How each kind of value is read. An error says what was found and what is expected.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Value;

use super::{Cache, GuestAttributes, Listen, SourceName, shown};
use crate::identity::is_account;
use crate::metadata::document::When;
use crate::origin::Origins;
use crate::sshd::Address;

pub(super) fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    match text.split_once(':') {
        Some(("vsock", port)) => match port.parse() {
            Ok(port) if port != u32::MAX => Ok(Listen::Vsock(port)),
            _ => Err(format!(
                "found the vsock port \"{}\", expected 0 to 4294967294",
                shown(port)
            )),
        },
        Some(("unix", path)) => Ok(Listen::Unix(absolute(path)?)),
        _ => Err(format!(
            "found \"{}\", expected \"vsock:PORT\", \"unix:/path\" or \"off\"",
            shown(text)
        )),
    }
}

pub(super) fn cid(value: &Value) -> Result<u32, String> {
    let expected = "expected a context ID from 0 to 4294967295";
    let number = value
        .as_integer()
        .and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("found {}, {expected}", kind(value)))
}

pub(super) fn number<T>(value: &Value, most: T) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    value
        .as_integer()
        .filter(|number| *number > 0)
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("found {}, expected 1 to {most}", kind(value)))
}

/// The address of sshd; `None` lets the agent search for it.
pub(super) fn sshd(text: &str) -> Result<Option<Address>, String> {
    if text == "auto" {
        return Ok(None);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute(path).map(|path| Some(Address::Unix(path)));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(Some(address.into())),
        _ => Err(format!(
            "found \"{}\", expected \"auto\", an address with a port: \"127.0.0.1:22\", or \
             \"unix:/path\"",
            shown(text)
        )),
    }
}

pub(super) fn source(value: &Value) -> Result<SourceName, String> {
    let text = string(value)?;
    let names = SourceName::ALL.map(SourceName::as_str);
    match SourceName::ALL
        .into_iter()
        .find(|name| name.as_str() == text)
    {
        Some(name) => Ok(name),
        None => Err(unknown(&format!("\"{}\"", shown(text)), text, &names)),
    }
}

/// One of a few words.
fn choice<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(word, _)| *word == text);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<_> = known
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let (last, others) = words.split_last().unzip();
        let others: &[String] = others.unwrap_or_default();
        let last = last.map_or("", String::as_str);
        let (found, others) = (shown(text), others.join(", "));
        format!("found \"{found}\", expected {others} or {last}")
    })
}

pub(super) fn guest_attributes(text: &str) -> Result<GuestAttributes, String> {
    let known = [
        ("auto", GuestAttributes::Auto),
        ("always", GuestAttributes::Always),
        ("never", GuestAttributes::Never),
    ];
    choice(text, &known)
}

pub(super) fn cache(text: &str) -> Result<Cache, String> {
    let known = [
        ("runtime", Cache::Runtime),
        ("state", Cache::State),
        ("off", Cache::Off),
    ];
    choice(text, &known)
}

pub(super) fn origins(text: &str) -> Result<Origins, String> {
    choice(text, &[("apart", Origins::Apart), ("one", Origins::One)])
}

pub(super) fn when(text: &str) -> Result<When, String> {
    let known = [
        ("auto", When::Auto),
        ("always", When::Always),
        ("never", When::Never),
    ];
    choice(text, &known)
}

pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') {
        return Ok(path);
    }
    Err(format!(
        "found \"{}\", expected an absolute path",
        shown(text)
    ))
}

pub(super) fn account(text: &str) -> Result<String, String> {
    if is_account(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "found \"{}\", expected the name of an account: letters, digits, \".\", \"_\" and \"-\"",
        shown(text)
    ))
}

pub(super) fn string(value: &Value) -> Result<&str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("found {}, expected a string", kind(value)))
}

pub(super) fn list<T>(
    value: &Value,
    item: fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let items = value
        .as_array()
        .ok_or_else(|| format!("found {}, expected a list", kind(value)))?;
    items.iter().map(item).collect()
}

pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Table(_) => "a section".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("\"{}\"", shown(text)),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => time.to_string(),
    }
}

pub(super) fn unknown(place: &str, found: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .min_by_key(|name| strsim::levenshtein(found, name))
        .filter(|name| is_near(found, name));
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
    format!("{place} is unknown{hint} (accepted: {})", known.join(", "))
}

/// Whether `found` is likely a misspelling of `name`.
pub(super) fn is_near(found: &str, name: &str) -> bool {
    strsim::levenshtein(found, name) <= name.len().div_ceil(2)
}
