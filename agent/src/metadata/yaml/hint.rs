//! Advice for a line that YAML can't parse.
//!
//! The scanner reports the line where it stopped, in its own terms. Most mistakes are one of two: a
//! tab in that line or the next one, or a value in that line that needs quotes.

/// The characters with which no plain scalar may begin (YAML 1.2.2, 7.3.3), except those with which
/// a valid value of a document begins.
const INDICATORS: &str = "*&!%@`[]{}|>,";

/// The advice for a mistake at `line` (from 1), and the line that the advice is about. Of the text,
/// the advice repeats only the first character of a value.
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
        // A block scalar, with only its indicators in that line (YAML 1.2.2, 8.1.1).
        '|' | '>' => {
            let rest =
                value[1..].trim_start_matches(|c: char| c.is_ascii_digit() || "+-".contains(c));
            !rest.is_empty() && !rest.trim_start().starts_with('#')
        }
        // A flow sequence or mapping in one line ends with its bracket.
        '[' => !value.ends_with([']', ',', '[']),
        '{' => value.starts_with("{{") || !value.ends_with(['}', ',', '{']),
        first => INDICATORS.contains(first),
    }
}

/// The value of a line, after its dashes and its key.
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
