//! YAML into the same tree that JSON gives, within fixed bounds.
//!
//! A cloud-config is written by others and read by a rescue agent, so nothing in it may cost
//! more than its size allows: nesting, nodes, and what aliases expand to are all counted. Tags
//! are looked past, as cloud-config may hold any (`!!binary`, `!vault`), except `!!str`.

mod hint;

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Number, Value};

use super::tree::{Tree, insert, insert_bare};

/// How deep sequences and mappings may nest.
const DEPTH: usize = 64;

/// What all nodes may weigh, aliases expanded: [`NODE`] for each one plus the bytes of its text.
const BUDGET: usize = 4 << 20;

/// What a node weighs beside its text; about what one costs in memory.
const NODE: usize = 64;

/// Why a text is not exactly one YAML document.
#[derive(Debug)]
pub(super) enum Mistake {
    /// A second document begins at this line.
    Second(usize),
    /// The text is not YAML, or exceeds a limit.
    Syntax {
        /// The mistake and its line, without any of the text: a private key may be near it.
        problem: String,
        /// The advice, where the mistake is known.
        advice: Option<String>,
    },
}

impl From<String> for Mistake {
    fn from(problem: String) -> Self {
        let advice = None;
        Self::Syntax { problem, advice }
    }
}

/// Composes the one document in `text`. An empty text is null. An empty document before or after it
/// is ignored, such as the one after a final `---`.
///
/// # Errors
/// See [`Mistake`].
pub(super) fn compose(text: &str) -> Result<Tree, Mistake> {
    let mut composer = Composer {
        text,
        events: Parser::new_from_str(text),
        line: 0,
        is_written: false,
        anchors: HashMap::new(),
        budget: BUDGET,
    };
    let mut document = Tree(Value::Null);
    let mut begin = 0;
    loop {
        let event = composer.next()?;
        if event == Event::StreamEnd {
            return Ok(document);
        }
        if let Event::DocumentStart(..) = event {
            begin = composer.line;
        }
        if !event.is_node() {
            continue;
        }
        let next = Tree(composer.node(event, 0)?);
        if next.0.is_null() {
            continue;
        }
        if !document.0.is_null() {
            return Err(Mistake::Second(begin));
        }
        document = next;
    }
}

struct Composer<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    /// The line of the last event, from 1.
    line: usize,
    /// Whether the last event has any text.
    is_written: bool,
    anchors: HashMap<usize, Tree>,
    budget: usize,
}

impl<'a> Composer<'a> {
    fn next(&mut self) -> Result<Event<'a>, Mistake> {
        match self.events.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                self.is_written = span.start.index() < span.end.index();
                Ok(event)
            }
            Some(Err(error)) => Err(mistake(
                self.text,
                error.marker().line(),
                &error.kind().to_string(),
            )),
            None => Err("it ends in the middle".to_owned().into()),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Value, Mistake> {
        if depth > DEPTH {
            return Err(format!("it nests deeper than {DEPTH} levels").into());
        }
        if let Event::Alias(id) = event {
            let Some(Tree(value)) = self.anchors.get(&id) else {
                return Err("an alias stands inside its own anchor".to_owned().into());
            };
            let value = value.clone();
            self.spend(weight(&value))?;
            return Ok(value);
        }
        let anchor = event.anchor_id().unwrap_or(0);
        let value = if let Event::Scalar(text, style, _, tag) = event {
            self.spend(NODE + text.len())?;
            scalar(text.into_owned(), style, tag.as_deref())
        } else if let Event::SequenceStart(..) = event {
            self.sequence(depth)?
        } else if let Event::MappingStart(..) = event {
            self.mapping(depth)?
        } else {
            return Err("a node is missing".to_owned().into());
        };
        if anchor != 0 {
            self.spend(weight(&value))?;
            self.anchors.insert(anchor, Tree(value.clone()));
        }
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Mistake> {
        self.spend(NODE)?;
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Array(items));
            }
            items.push(self.node(event, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Mistake> {
        self.spend(NODE)?;
        let mut entries = Map::new();
        let mut merged = Vec::new();
        loop {
            let event = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let line = self.line;
            let key = self.node(event, depth + 1)?;
            let value = self.next()?;
            // The parser returns `~` for a scalar that is not there.
            let written = matches!(value, Event::Scalar(..)) && self.is_written;
            let value = self.node(value, depth + 1)?;
            match name(key).map_err(|problem| mistake(self.text, line, &problem))? {
                key if key == "<<" => merged.push(value),
                key if value.is_null() && !written => insert_bare(&mut entries, key),
                key => insert(&mut entries, key, value),
            }
        }
        merged
            .into_iter()
            .try_for_each(|from| merge(&mut entries, from))?;
        Ok(Value::Object(entries))
    }

    fn spend(&mut self, weight: usize) -> Result<(), String> {
        self.budget = self
            .budget
            .checked_sub(weight)
            .ok_or("it is larger than a document may be, its aliases expanded")?;
        Ok(())
    }
}

/// `<<: *defaults`: what is not written here is taken from there.
fn merge(entries: &mut Map<String, Value>, from: Value) -> Result<(), String> {
    match from {
        Value::Object(defaults) => {
            for (key, value) in defaults {
                entries.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(sources) => sources
            .into_iter()
            .try_for_each(|from| merge(entries, from)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err("\"<<\" stands before something that is not a mapping".to_owned())
        }
    }
}

fn name(key: Value) -> Result<String, String> {
    match key {
        Value::String(text) => Ok(text),
        Value::Null => Ok("null".to_owned()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Array(_) | Value::Object(_) => {
            Err("a key is a sequence or a mapping, not a name".to_owned())
        }
    }
}

fn weight(value: &Value) -> usize {
    NODE + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(entries) => entries.iter().map(|(key, v)| key.len() + weight(v)).sum(),
    }
}

/// A plain scalar by the core schema of YAML 1.2; anything quoted, in a block or tagged is text.
fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    if style != ScalarStyle::Plain || tag.is_some() {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(&text).map_or(Value::String(text), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Number::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Number::from);
    }
    // Octal in YAML 1.1, decimal in 1.2: the text stays a string, which a key for a number refuses.
    if digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit()) && digits.starts_with('0') {
        return None;
    }
    // Keeps `inf`, `nan`, `.5e` and host names such as `1e100.net` out of the float parser.
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    if let Ok(whole) = plain.parse::<i64>() {
        return Some(Number::from(whole));
    }
    plain.parse::<f64>().ok().and_then(Number::from_f64)
}

fn mistake(text: &str, line: usize, problem: &str) -> Mistake {
    match hint::hint(text, line) {
        Some((line, advice)) => Mistake::Syntax {
            problem: format!("line {line} can't be read ({problem})"),
            advice: Some(advice),
        },
        None => format!("{problem} at line {line}").into(),
    }
}

#[cfg(test)]
mod tests;
