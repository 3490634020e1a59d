//! Documents carried as text inside JSON or YAML, and in other encodings.

use super::*;

/// The text as a value of JSON.
fn string(text: &str) -> String {
    Value::from(text).to_string()
}

#[test]
fn a_document_in_one_line_as_text_is_the_same_document() {
    let bare = fixtures::json(12345).to_string();
    assert!(!bare.contains('\n'));
    let keyed = good(own(&fixtures::yaml(12345)));
    let inside = json!({"vmagent": fixtures::json(12345)}).to_string();
    for text in [
        json!({"vmagent": bare}).to_string(),
        json!({"vmagent": string(&bare)}).to_string(),
        json!({"vmagent": inside}).to_string(),
        format!("#cloud-config\nvmagent: '{}'\n", bare.replace('\'', "''")),
        format!("vmagent: {}\n", string(&bare)),
        string(&inside),
        string(&string(&inside)),
    ] {
        assert_eq!(good(own(&text)), keyed, "{text}");
        assert_eq!(good(shared(&text)), keyed, "{text}");
    }
    // An empty variable of a template.
    for text in ["vmagent: ''", "vmagent: ' '", "{\"vmagent\": \"\"}"] {
        assert_eq!(shared(text), Ok(Parsed::Empty), "{text}");
    }
}

#[test]
fn a_text_that_is_no_document_is_refused_with_what_to_write() {
    for (text, said) in [
        (
            "vmagent: words",
            "vmagent: found \"words\", expected a mapping",
        ),
        (
            "vmagent: host:port",
            "vmagent: found \"host:port\", expected a mapping",
        ),
        (
            "vmagent: '[1]'",
            "vmagent: found \"[1]\", expected a mapping",
        ),
        (
            "vmagent: '{\"version\": 1'",
            "vmagent: it is neither JSON nor YAML: EOF",
        ),
        ("vmagent: 7", "vmagent: found 7, expected a mapping"),
    ] {
        let fault = shared(text).unwrap_err();
        assert!(fault.to_string().starts_with(said), "{text}: {fault}");
    }
    let fault = own("words").unwrap_err();
    assert!(
        fault.advice().contains("begin with `version: 1`"),
        "{fault:?}"
    );
    for text in ["\"words\"", "\"a: b\"", "\"\\\"{}\\\"\"", "\"{\""] {
        assert_eq!(shared(text), Ok(Parsed::Missing), "{text}");
    }
}

#[test]
fn prose_in_a_text_of_others_is_no_document() {
    for text in [
        "hosts:\nvmagent: see the wiki",
        "Welcome\nvmagent: see: the wiki: [",
        "vmagent: 7",
        "vmagent: [a]",
    ] {
        assert_eq!(shared(&string(text)), Ok(Parsed::Missing), "{text}");
    }
    let broken = json!({"vmagent": {"version": 1, "tunnel": {"proxies": 7}}}).to_string();
    for text in [
        &broken,
        "vmagent: {tunnel: [",
        "vmagent:\n  a: [",
        "vmagent: '{\"a\": 1'",
    ] {
        assert!(shared(&string(text)).is_err(), "{text}");
    }
}

#[test]
fn texts_in_texts_end() {
    let mut text = fixtures::json(1).to_string();
    for _ in 0..8 {
        text = string(&text);
    }
    assert!(own(&text).is_err());
    assert_eq!(shared(&text), Ok(Parsed::Missing));
    let mut text = String::new();
    for level in 0..1000 {
        text += &format!("{}|\n", " ".repeat(level));
    }
    assert!(own(&text).is_err());
}

#[test]
fn utf_16_is_read_where_it_says_so() {
    let keyed = good(own(&fixtures::yaml(12345)));
    let text = format!("\u{feff}{}", fixtures::yaml(12345).replace('\n', "\r\n"));
    let units = || text.encode_utf16();
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    for bytes in [&little, &big] {
        assert_eq!(good(parse(bytes, Carrier::Own)), keyed);
        for broken in [&bytes[2..], &bytes[..bytes.len() - 1]] {
            assert_eq!(parse(broken, Carrier::Own), Err(DocumentFault::NotText));
        }
    }
    assert_eq!(
        parse(&[0xff, 0xfe, 0, 0xd8], Carrier::Own),
        Err(DocumentFault::NotText)
    );
    assert!(DocumentFault::NotText.advice().contains("iconv -f UTF-16"));
}

#[test]
fn empty_documents_around_the_one_do_not_count() {
    let good_one = good(own(&fixtures::yaml(1)));
    let text = fixtures::yaml(1);
    for text in [
        format!("---\n{text}---\n"),
        format!("{text}...\n"),
        format!("{text}---\n# the end\n"),
        format!("# x\n---\n---\n{text}...\n---\n...\n"),
    ] {
        assert_eq!(good(own(&text)), good_one, "{text}");
    }
    let fault = own("version: 1\n---\nfoo: bar\n").unwrap_err();
    assert!(
        fault
            .to_string()
            .starts_with("a second document begins at line 2"),
        "{fault}"
    );
    assert!(
        fault
            .advice()
            .starts_with("Take out line 2 and what follows"),
        "{fault:?}"
    );
}

#[test]
fn user_data_may_carry_the_document_as_text() {
    use crate::metadata::reading::Reading;
    let expected = Reading::Found(fixtures::document(1));
    let bare = fixtures::json(1).to_string();
    let keyed = json!({"vmagent": bare}).to_string();
    let quoted = bare.replace('\'', "''");
    for text in [
        format!("#cloud-config\nvmagent: '{quoted}'\n"),
        format!("#cloud-config-archive\n- {}\n", string(&keyed)),
        keyed.clone(),
        string(&keyed),
    ] {
        let read = crate::metadata::userdata::read("user-data", text.as_bytes());
        assert_eq!(read, expected, "{text}");
    }
}
