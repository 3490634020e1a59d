//! Every key of the configuration, and how all of them are read.

use std::fmt;

use toml::{Table, Value};

use super::values::{
    absolute, account, cache, cid, guest_attributes, kind, list, listen, number, origins, source,
    sshd, string, unknown, when,
};
use super::{Config, HttpUrl, Listen, ReportUrl, SourceName};
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
        HttpUrl::parse(string(value)?).map(|url| config.report_url = ReportUrl::Fixed(url))
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

/// Something that is wrong in a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    section: String,
    text: String,
}

impl Problem {
    /// Whether the problem is in the section `name`.
    pub(super) fn is_in(&self, name: &str) -> bool {
        self.section == name
    }

    /// Whether the problem is in the section `name`, or in an unknown section that may be meant for
    /// it.
    pub(super) fn may_be_in(&self, name: &str) -> bool {
        let known = KEYS.iter().any(|(section, ..)| *section == self.section);
        self.is_in(name) || !known
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads the whole configuration, and fails with the first problem.
pub(super) fn parse(text: &str) -> Result<Config, String> {
    let table: Table = text.parse().map_err(|e| syntax(text, &e))?;
    let (config, problems) = read(&table);
    match problems.first() {
        Some(problem) => Err(problem.to_string()),
        None => Ok(config),
    }
}

/// The line, column and cause of a TOML syntax error, without the text of the line: it may have a
/// token in it.
pub(super) fn syntax(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(text.len(), |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {}", error.message().trim())
}

/// Sets every valid value. Returns the problems of the other keys, by section and key.
pub(super) fn read(table: &Table) -> (Config, Vec<Problem>) {
    let mut config = Config::default();
    let mut problems = Vec::new();
    for (section, value) in table {
        let mut wrong = |text| {
            problems.push(Problem {
                section: section.clone(),
                text,
            });
        };
        let keys: Vec<_> = KEYS.iter().filter(|(name, ..)| name == section).collect();
        if keys.is_empty() {
            let mut sections = KEYS.map(|(name, ..)| name).to_vec();
            sections.dedup();
            wrong(unknown(&format!("[{section}]"), section, &sections));
            continue;
        }
        let Value::Table(entries) = value else {
            wrong(format!(
                "{section}: found {}, expected a section [{section}]",
                kind(value)
            ));
            continue;
        };
        for (key, value) in entries {
            let place = format!("[{section}] {key}");
            let Some((.., set)) = keys.iter().find(|(_, name, _)| name == key) else {
                let names: Vec<_> = keys.iter().map(|(_, name, _)| *name).collect();
                wrong(unknown(&place, key, &names));
                continue;
            };
            if let Err(problem) = set(&mut config, value) {
                wrong(format!("{place}: {problem}"));
            }
        }
    }
    problems.extend(disagreement(&config));
    (config, problems)
}

/// Problems that involve more than one key.
fn disagreement(config: &Config) -> Option<Problem> {
    if let (Listen::Unix(own), Some(Address::Unix(sshd))) = (&config.listen, &config.sshd)
        && own == sshd
    {
        return Some(Problem {
            section: "bridge".to_owned(),
            text: format!(
                "[bridge] sshd: found \"unix:{}\", on which the bridge itself listens",
                sshd.display()
            ),
        });
    }
    let (all, own) = (config.max_connections, config.max_connections_per_origin);
    if let Some(own) = own.filter(|own| *own > all) {
        return Some(Problem {
            section: "bridge".to_owned(),
            text: format!(
                "[bridge] max_connections_per_origin: found {own}, expected no more than \
                 max_connections, {all}"
            ),
        });
    }
    let sources = config.sources.as_deref().unwrap_or_default();
    let alone = sources.contains(&SourceName::Url) && config.document_url.is_none();
    alone.then(|| Problem {
        section: "metadata".to_owned(),
        text: "[metadata] sources: found \"url\", expected document_url beside it".to_owned(),
    })
}
