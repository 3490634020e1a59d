//! One answer of the agent, in the forms in which it is printed.

use std::io::{self, Write};
use std::time::SystemTime;

use serde_json::Value;

use super::goal::Goal;
use super::{Exit, Form, Look};
use crate::cli::Alias;
use crate::status::model::Status;
use crate::status::render::{printable, render};

/// One answer of the agent.
pub(super) struct Answer {
    /// The line as received, with its end.
    pub(super) line: Vec<u8>,
    /// A newer agent's answer may have fields that are unknown here.
    pub(super) json: Value,
}

impl Answer {
    pub(super) fn exit(&self, goal: Goal) -> Exit {
        if goal.is_met(&self.json) {
            Exit::Ok
        } else {
            Exit::NotOk
        }
    }

    pub(super) fn print(&self, look: &Look, out: &mut impl Write) -> io::Result<()> {
        match (&look.form, look.watch) {
            (Form::KnownHosts(alias), _) => {
                out.write_all(self.known_hosts(alias.as_ref()).as_bytes())?;
            }
            (Form::SshConfig(alias), _) => {
                out.write_all(self.ssh_config(alias.as_ref()).as_bytes())?;
            }
            (Form::Json, true) => out.write_all(&self.line)?,
            (Form::Json, false) => writeln!(out, "{}", self.pretty()?)?,
            (Form::Words, _) => {
                if look.watch && look.redraws {
                    // Move the cursor home, and clear the screen below it.
                    out.write_all(b"\x1b[H\x1b[2J")?;
                }
                out.write_all(self.words(look.colour).as_bytes())?;
                if look.watch && !look.redraws {
                    out.write_all(b"\n")?;
                }
            }
        }
        out.flush()
    }

    /// In the documented order of fields, unless that would drop unknown fields.
    fn pretty(&self) -> serde_json::Result<String> {
        let known = serde_json::from_value::<Status>(self.json.clone()).ok();
        let lossless =
            |status: &Status| serde_json::to_value(status).is_ok_and(|again| again == self.json);
        match known.filter(lossless) {
            Some(status) => serde_json::to_string_pretty(&status),
            None => serde_json::to_string_pretty(&self.json),
        }
    }

    /// The lines for `known_hosts`: none where no way in works, or while sshd has no keys. With an
    /// alias there is one line for each key, since ssh looks up all ways in under that alias.
    fn known_hosts(&self, alias: Option<&Alias>) -> String {
        let Some(alias) = alias else {
            let lines = self.ways().flat_map(|way| texts(way, "known_hosts"));
            return lines.map(|line| format!("{}\n", printable(line))).collect();
        };
        let keys = texts(&self.json, "host_keys");
        let line = |key| format!("{alias} {}\n", printable(key));
        keys.map(line).collect()
    }

    /// A stanza for each way in. The last stanza, the tunnel's if the tunnel is up, has the plain
    /// alias as well.
    fn ssh_config(&self, alias: Option<&Alias>) -> String {
        let host_name = self.json.get("host_name").and_then(Value::as_str);
        let alias = alias.cloned().unwrap_or_else(|| Alias::of(host_name));
        let ways: Vec<_> = self.ways().collect();
        let mut text = String::new();
        for (index, way) in ways.iter().enumerate() {
            let plain = if index + 1 == ways.len() {
                format!("{alias} ")
            } else {
                String::new()
            };
            let via = way.get("via").and_then(Value::as_str).unwrap_or("other");
            text += &format!("Host {plain}{alias}-{}\n", printable(via));
            for option in texts(way, "ssh_config") {
                text += &format!("    {}\n", printable(option));
            }
            text += &format!("    HostKeyAlias {alias}\n");
        }
        text
    }

    fn ways(&self) -> impl Iterator<Item = &Value> {
        let ways = self.json.get("ways_in").and_then(Value::as_array);
        ways.into_iter().flatten()
    }

    fn words(&self, colour: bool) -> String {
        match serde_json::from_value::<Status>(self.json.clone()) {
            Ok(status) => render(&status, SystemTime::now(), colour),
            Err(_) => {
                let word = |name| self.json.get(name).and_then(Value::as_str).unwrap_or("?");
                format!(
                    "{}: the agent is of another version, {}; --json prints all it says\n",
                    printable(word("health")),
                    printable(word("version")),
                )
            }
        }
    }
}

/// The texts in a list.
fn texts<'a>(value: &'a Value, list: &str) -> impl Iterator<Item = &'a str> {
    let list = value.get(list).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}
