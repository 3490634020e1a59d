//! Every key of the configuration, and how all of them are read.

use toml::{Table, Value};

use super::values::{
    absolute, account, cache, cid, guest_attributes, kind, list, listen, number, origins, source,
    sshd, string, unknown, when,
};
use super::{Config, HttpUrl, Listen, SourceName};
use crate::sshd::Address;

/// The most that `[bridge] max_connections` may be: with two descriptors for each, this is half of
/// what the unit gives the agent.
const MAX_CONNECTIONS: u16 = 16_000;

type Setter = fn(&mut Config, &Value) -> Result<(), String>;

/// Every key there is: its section, its name, and how its value is taken.
const KEYS: [(&str, &str, Setter); 18] = [
    ("bridge", "listen", |config, value| {
        listen(string(value)?).map(|listen| config.listen = listen)
    }),
    ("bridge", "allow_cids", |config, value| {
        list(value, cid).map(|cids| config.allow_cids = cids)
    }),
    ("bridge", "sshd", |config, value| {
        sshd(string(value)?).map(|address| config.sshd = address)
    }),
    ("bridge", "host_keys", |config, value| {
        absolute(string(value)?).map(|directory| config.host_keys = directory)
    }),
    ("bridge", "origins", |config, value| {
        origins(string(value)?).map(|origins| config.origins = origins)
    }),
    ("bridge", "max_connections", |config, value| {
        number(value, MAX_CONNECTIONS).map(|most| config.max_connections = most)
    }),
    ("bridge", "max_connections_per_origin", |config, value| {
        number(value, MAX_CONNECTIONS).map(|most| config.max_connections_per_origin = Some(most))
    }),
    ("bridge", "max_rate", |config, value| {
        number(value, 1_000_000).map(|rate| config.max_rate = rate)
    }),
    ("metadata", "sources", |config, value| {
        list(value, source).map(|sources| config.sources = Some(sources))
    }),
    ("metadata", "url", |config, value| {
        HttpUrl::parse(string(value)?).map(|url| config.url = url)
    }),
    ("metadata", "document_url", |config, value| {
        HttpUrl::parse(string(value)?).map(|url| config.document_url = Some(url))
    }),
    ("metadata", "file", |config, value| {
        absolute(string(value)?).map(|file| config.file = file)
    }),
    ("metadata", "cache", |config, value| {
        cache(string(value)?).map(|cache| config.cache = cache)
    }),
    ("tunnel", "when", |config, value| {
        when(string(value)?).map(|when| config.when = Some(when))
    }),
    ("report", "url", |config, value| {
        HttpUrl::parse(string(value)?).map(|url| config.report_url = Some(url))
    }),
    ("report", "guest_attributes", |config, value| {
        guest_attributes(string(value)?).map(|choice| config.guest_attributes = choice)
    }),
    ("status", "socket", |config, value| {
        absolute(string(value)?).map(|socket| config.status_socket = socket)
    }),
    ("status", "user", |config, value| {
        account(string(value)?).map(|user| config.user = Some(user))
    }),
];

/// Reads the whole configuration.
pub(super) fn parse(text: &str) -> Result<Config, String> {
    let table: Table = text.parse().map_err(|error| mistake(text, &error))?;
    let mut config = Config::default();
    for (section, value) in &table {
        let keys: Vec<_> = KEYS.iter().filter(|(name, ..)| name == section).collect();
        if keys.is_empty() {
            let mut sections = KEYS.map(|(name, ..)| name).to_vec();
            sections.dedup();
            return Err(unknown(&format!("[{section}]"), section, &sections));
        }
        let Value::Table(entries) = value else {
            return Err(format!(
                "{section}: found {}, expected a section [{section}]",
                kind(value)
            ));
        };
        for (key, value) in entries {
            let place = format!("[{section}] {key}");
            let Some((.., set)) = keys.iter().find(|(_, name, _)| name == key) else {
                let names: Vec<_> = keys.iter().map(|(_, name, _)| *name).collect();
                return Err(unknown(&place, key, &names));
            };
            set(&mut config, value).map_err(|problem| format!("{place}: {problem}"))?;
        }
    }
    agrees(&config)?;
    Ok(config)
}

/// What is no TOML, with its place. The library's own words repeat the line, which may have a token
/// in it.
fn mistake(text: &str, error: &toml::de::Error) -> String {
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return format!("it is no TOML: {}", error.message());
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!(
        "it is no TOML at line {line} column {column}: {}",
        error.message()
    )
}

/// Checks what no key can tell by itself.
fn agrees(config: &Config) -> Result<(), String> {
    if let (Listen::Unix(own), Some(Address::Unix(sshd))) = (&config.listen, &config.sshd)
        && own == sshd
    {
        return Err(format!(
            "[bridge] sshd: found \"unix:{}\", on which the bridge itself listens",
            sshd.display()
        ));
    }
    let (all, own) = (config.max_connections, config.max_connections_per_origin);
    if let Some(own) = own.filter(|own| *own > all) {
        return Err(format!(
            "[bridge] max_connections_per_origin: found {own}, expected no more than \
             max_connections, {all}"
        ));
    }
    let sources = config.sources.as_deref().unwrap_or_default();
    if sources.contains(&SourceName::Url) && config.document_url.is_none() {
        return Err(
            "[metadata] sources: found \"url\", expected document_url beside it".to_owned(),
        );
    }
    Ok(())
}
