//! Words on paper: 80 columns, perhaps in colour, and nothing that a terminal would act on.

use std::borrow::Cow;
use std::time::Duration;

use crate::status::model::Health;

/// The columns of a plain console.
const WIDTH: usize = 80;
/// Where the text of a labelled line begins, behind its margin of two.
const LABEL: usize = 12;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[1;32m";
const YELLOW: &str = "\x1b[1;33m";
const PLAIN: &str = "\x1b[0m";

/// What is written so far.
#[derive(Debug)]
pub(super) struct Paper {
    colour: bool,
    text: String,
    title: String,
}

impl Paper {
    pub(super) fn new(colour: bool) -> Self {
        Self {
            colour,
            text: String::new(),
            title: String::new(),
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn headline(&mut self, health: Health, word: &str, sentence: &str) {
        let style = match health {
            Health::Ok => GREEN,
            Health::Starting => YELLOW,
            Health::Degraded => RED,
        };
        self.styled(style, word);
        self.text.push_str(&format!(": {sentence}\n"));
    }

    /// Begins a section, unless it is the one that we are in.
    pub(super) fn title(&mut self, title: &str) {
        if self.title != title {
            self.text.push('\n');
            self.styled(BOLD, title);
            self.text.push('\n');
            title.clone_into(&mut self.title);
        }
    }

    /// A label, and text that is never broken: it may be copied to be typed.
    pub(super) fn line(&mut self, label: &str, text: &str) {
        let text = printable(text);
        self.text
            .push_str(&format!("  {}{text}\n", printable(label)));
    }

    /// A label, and text that is broken between words.
    pub(super) fn wrapped(&mut self, label: &str, text: &str) {
        let text = printable(text);
        let mut label = format!("  {label}");
        for line in wrap(&text, WIDTH - LABEL) {
            self.text.push_str(&format!("{label}{line}\n"));
            label = " ".repeat(LABEL);
        }
    }

    /// Text of less weight, where wrapped text goes.
    pub(super) fn dim(&mut self, text: &str) {
        self.text.push_str(&" ".repeat(LABEL));
        self.styled(DIM, &printable(text));
        self.text.push('\n');
    }

    /// The last line.
    pub(super) fn footer(&mut self, text: &str) {
        self.text.push('\n');
        self.styled(DIM, &printable(text));
        self.text.push('\n');
    }

    fn styled(&mut self, style: &str, text: &str) {
        if self.colour {
            self.text.push_str(&format!("{style}{text}{PLAIN}"));
        } else {
            self.text.push_str(text);
        }
    }
}

/// Breaks `text` between words into lines of at most `width` characters; a longer word has a
/// line of its own. There is always a line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
    }
    lines
}

/// A length of time in words, with the precision that people use.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `text` without anything that a terminal would act on: control and invisible formatting
/// characters are written out.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if acts(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Control characters, and those that reorder or hide what stands around them.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}'
        )
}
