//! What to write instead of a line that YAML can't read.
//!
//! The scanner names the place where it gave up, in its own terms. The mistake stands in that line
//! or the next one, and most are one of few: a tab, or a value that has to be in quotes.

/// The characters with which no plain scalar may begin (YAML 1.2.2, 7.3.3), those aside that a
/// value of a document rightly begins with.
const INDICATORS: &str = "*&!%@`[]{}|>,";

/// The advice for a mistake at `line` (from 1), and the line that it is about. Repeats nothing of
/// the text but the one character with which a value begins.
pub(super) fn hint(text: &str, line: usize) -> Option<(usize, String)> {
    let lines = || {
        text.lines()
            .enumerate()
            .skip(line.saturating_sub(1))
            .take(2)
    };
    let tab = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        line[..indent].contains('\t')
    };
    if let Some((index, _)) = lines().find(|(_, line)| tab(line)) {
        let advice = "YAML allows no tabs for indentation: replace the tab with spaces.";
        return Some((index + 1, advice.to_owned()));
    }
    // The scanner may be at the beginning of the line after it, but no further.
    let line = text.lines().nth(line.checked_sub(1)?)?;
    let number = 1 + lines().next()?.0;
    let value = value(line);
    let first = value.chars().next()?;
    let advice = if begins_wrongly(value, first) {
        format!(
            "Put the value in quotes: one that begins with `{first}` has another meaning in YAML."
        )
    } else if value.contains(": ") && !value.starts_with(['"', '\'']) {
        "Put the value in quotes: one with a colon and a blank in it has another meaning in YAML."
            .to_owned()
    } else {
        return None;
    };
    Some((number, advice))
}

fn begins_wrongly(value: &str, first: char) -> bool {
    match first {
        ':' => true,
        // A block of text, with nothing but its indicators in that line (YAML 1.2.2, 8.1.1).
        '|' | '>' => {
            let rest =
                value[1..].trim_start_matches(|c: char| c.is_ascii_digit() || "+-".contains(c));
            !rest.is_empty() && !rest.trim_start().starts_with('#')
        }
        // A list or a mapping in one line ends with its bracket.
        '[' => !value.ends_with([']', ',', '[']),
        '{' => value.starts_with("{{") || !value.ends_with(['}', ',', '{']),
        first => INDICATORS.contains(first),
    }
}

/// What stands behind the dashes and the key of a line.
fn value(line: &str) -> &str {
    let mut rest = line.trim();
    while let Some(item) = rest.strip_prefix("- ") {
        rest = item.trim_start();
    }
    let key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '"' | '\'');
    match rest.split_once(": ") {
        Some((name, value)) if !name.is_empty() && name.chars().all(key) => value.trim_start(),
        Some(_) | None => rest,
    }
}
