//! Whole numbers as people write them: with or without quotes, and as other tools print them.

use serde_json::Value;

/// The fault of a value that is no whole number from 0 to 65535, with advice for a known mistake.
pub(super) struct NotANumber(pub(super) Option<String>);

/// Reads a whole number that has one meaning only.
///
/// Accepted: `12345`, `"12345"`, `12345.0`, `1e4`, `0x3039`, and `12_345` as YAML 1.1 has it.
/// Refused: a text that YAML 1.1 and 1.2 read as two different numbers, such as `022`.
pub(super) fn whole(value: &Value) -> Result<u16, NotANumber> {
    let number = match value {
        Value::Number(number) => number.as_f64().and_then(integral),
        Value::String(text) => return written(text.trim()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.ok_or(NotANumber(None))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked before"
)]
fn integral(number: f64) -> Option<u16> {
    let fits = (0.0..=f64::from(u16::MAX)).contains(&number) && number.fract() == 0.0;
    fits.then_some(number as u16)
}

fn written(text: &str) -> Result<u16, NotANumber> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let groups = !text.starts_with('_') && !text.ends_with('_');
    if !digits(&plain) || !groups {
        let base60 = text.contains(':') && text.split(':').all(digits);
        let advice = base60.then_some(
            "Write the number in decimal digits: YAML 1.1 tools read digits with colons as a \
             number in base 60.",
        );
        return Err(NotANumber(advice.map(str::to_owned)));
    }
    if plain.len() > 1 && plain.starts_with('0') {
        let advice = "Write the number without the leading zero: YAML 1.1 tools read it as octal, \
                      YAML 1.2 tools as decimal.";
        return Err(NotANumber(Some(advice.to_owned())));
    }
    plain.parse().map_err(|_| NotANumber(None))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_taken_where_it_has_one_meaning() {
        for (value, expected) in [
            (json!(0), 0),
            (json!(65535), 65535),
            (json!("12345"), 12345),
            (json!(" 12345 "), 12345),
            (json!("12_345"), 12345),
            (json!(12345.0), 12345),
            (json!(1e4), 10000),
            (json!("0"), 0),
        ] {
            assert_eq!(whole(&value).ok(), Some(expected), "{value}");
        }
        for (value, advice) in [
            (json!("022"), "octal"),
            (json!("00"), "octal"),
            (json!("3:25:45"), "base 60"),
            (json!("22:22"), "base 60"),
            (json!("65536"), ""),
            (json!(65536), ""),
            (json!(-1), ""),
            (json!(1.5), ""),
            (json!("1.0"), ""),
            (json!("-1"), ""),
            (json!("_1"), ""),
            (json!("1_"), ""),
            (json!("_"), ""),
            (json!(""), ""),
            (json!("１"), ""),
            (json!(true), ""),
            (json!([1]), ""),
            (json!(null), ""),
        ] {
            let said = whole(&value).err().unwrap().0.unwrap_or_default();
            assert_eq!(said.is_empty(), advice.is_empty(), "{value}: {said}");
            assert!(said.contains(advice), "{value}: {said}");
        }
    }

    proptest! {
        #[test]
        fn quotes_do_not_change_a_number(number: u32) {
            let (bare, quoted) = (whole(&json!(number)), whole(&json!(number.to_string())));
            prop_assert_eq!(bare.is_ok(), u16::try_from(number).is_ok());
            prop_assert_eq!(bare.ok(), quoted.ok());
        }
    }
}
