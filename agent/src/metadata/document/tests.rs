use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::explain::Explain;
use crate::metadata::fixtures;

mod carried;
mod cases;
mod faults;
mod fields;
mod slips;

fn own(text: &str) -> Result<Parsed, DocumentFault> {
    parse(text.as_bytes(), Carrier::Own)
}

fn shared(text: &str) -> Result<Parsed, DocumentFault> {
    parse(text.as_bytes(), Carrier::Shared)
}

fn good(parsed: Result<Parsed, DocumentFault>) -> Document {
    match parsed {
        Ok(Parsed::Document(document)) => document,
        other => panic!("{other:?}"),
    }
}

/// The document of the fixtures with the value at `pointer` replaced, or taken out if null.
fn with(pointer: &str, value: Value) -> String {
    let mut document = fixtures::json(12345);
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    let entries = parent.as_object_mut().unwrap();
    if value.is_null() {
        entries.remove(key);
    } else {
        entries.insert(key.to_owned(), value);
    }
    document.to_string()
}

#[test]
fn the_example_of_the_design_is_read() {
    let private_key = fixtures::private(1).replace('\n', "\n      ");
    let host_key = fixtures::public(2);
    let text = format!(
        "#cloud-config
packages: [curl]
vmagent:
  version: 1
  tunnel:
    when: always
    proxies:
      - host: proxy.example.org
        port: 2222
        user: rev-tunnel-user
        host_keys: [\"{host_key}\"]
      - {{host: \"2001:db8::1\", user: u, host_keys: \"@cert-authority {host_key}\"}}
    bind: '*'
    port: 0
    forwards:
      - {{bind: 127.0.0.1, port: 12346, to: \"127.0.0.1:80\"}}
      - {{bind: '', port: 1, to: \"[::1]:80\"}}
    private_key: |
      {private_key}
"
    );
    let document = good(shared(&text));
    assert_eq!(document.warnings, [""; 0]);
    let tunnel = document.tunnel.unwrap();
    assert_eq!(tunnel.when, When::Always);
    let proxies: Vec<_> = tunnel.proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["proxy.example.org:2222", "[2001:db8::1]:22"]);
    assert_eq!(tunnel.forward.bind, "*");
    assert_eq!(tunnel.forward.port, 0);
    assert_eq!(tunnel.forwards[0].to.to_string(), "127.0.0.1:80");
    assert_eq!(tunnel.forwards[1].at.bind, "");
    assert_eq!(tunnel.login.key.key_data(), fixtures::key(1).key_data());
    // A file of our own may have other keys around ours just as well.
    assert!(matches!(own(&text), Ok(Parsed::Document(_))));
}

#[test]
fn every_shape_yields_the_same_document() {
    let keyed = good(own(&fixtures::yaml(12345)));
    let bare = fixtures::json(12345);
    let shapes = [
        bare.to_string(),
        json!({ "vmagent": bare }).to_string(),
        json!({ "vmagent": { "vmagent": bare } }).to_string(),
        json!({ "vmagent": fixtures::yaml(12345) }).to_string(),
        format!("\u{feff}{}", fixtures::yaml(12345)),
        fixtures::yaml(12345).replace('\n', "\r\n"),
        serde_json::to_string_pretty(&bare).unwrap(),
    ];
    for shape in shapes {
        assert_eq!(good(own(&shape)), keyed, "{shape}");
        assert_eq!(good(shared(&shape)), keyed, "{shape}");
    }
}

#[test]
fn nothing_and_nothing_for_us_are_two_facts() {
    for text in [
        "",
        "# later\n",
        "{}",
        "vmagent:\n",
        "vmagent: {}",
        "# null\n---\n",
        "vmagent: # null\n",
        "vmagent: &a\nother: null\n",
    ] {
        assert_eq!(own(text), Ok(Parsed::Empty), "{text}");
    }
    for text in [
        "null",
        "--- ~ # none\n",
        "vmagent: null",
        "{\"vmagent\": null}",
    ] {
        assert_eq!(own(text), Ok(Parsed::Null), "{text}");
    }
    // The `null` of another key is not ours.
    for text in [
        "vmagent:\nruncmd:\n- cd ~ && make\n",
        "vmagent:\nlocale: null\n",
        "locale: null\nvmagent:\n",
    ] {
        assert_eq!(shared(text), Ok(Parsed::Empty), "{text}");
    }
    for text in ["vmagent:\n", "#cloud-config\nvmagent: {}\n"] {
        assert_eq!(shared(text), Ok(Parsed::Empty), "{text}");
    }
    for text in [
        "",
        "{}",
        "[]",
        "#cloud-config\nusers: []\n",
        "#!/bin/sh\necho 'a: b: c'\n",
        "{\"tunnel\": {\"vpn\": true}}",
        "a: [1\n",
        "words",
    ] {
        assert_eq!(shared(text), Ok(Parsed::Missing), "{text}");
    }
}

#[test]
fn text_that_can_not_be_parsed_is_only_a_fault_if_it_is_for_us() {
    let broken = "#cloud-config\nvmagent: {tunnel: [\n";
    assert!(matches!(shared(broken), Err(DocumentFault::Syntax { .. })));
    assert!(matches!(
        shared("{\"a\": 1, \n \"vmagent\": {]"),
        Err(DocumentFault::Syntax { .. })
    ));
    assert!(matches!(own("a: [1\n"), Err(DocumentFault::Syntax { .. })));
    for carrier in [Carrier::Own, Carrier::Shared] {
        let binary = parse(&[0x7f, b'E', b'L', b'F', 0xff, 0], carrier).unwrap_err();
        assert_eq!(binary, DocumentFault::NotText);
        assert_eq!(binary.code(), "metadata-not-text");
        assert_eq!(parse(b"vmagent\0", carrier), Err(DocumentFault::NotText));
    }
}

#[test]
fn a_person_can_have_a_file_checked() {
    let directory = fixtures::Directory::new();
    directory.write("good", fixtures::yaml(12345));
    directory.write("bad", with("/tunnel/port", json!(70000)));
    let good = crate::metadata::check::document(&directory.path().join("good")).unwrap();
    assert!(
        good.contains("\"0.0.0.0\", port 12345, on proxy.example.org:22"),
        "{good}"
    );
    let bad = crate::metadata::check::document(&directory.path().join("bad")).unwrap_err();
    assert!(bad.starts_with("tunnel.port: found 70000"), "{bad}");
    assert!(crate::metadata::check::document(&directory.path().join("none")).is_err());
    assert!(crate::metadata::check::document(directory.path()).is_err());
    let path = directory.path().join("good");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warned = crate::metadata::check::document(&path).unwrap();
    assert_eq!(
        warned,
        format!(
            "{good}\nwarning: {path}: mode 0644 lets other users read the file with the private key; \
             run `chmod 600 {path}`",
            path = path.display()
        )
    );
}

#[test]
fn what_the_fuzzer_begins_with_is_found_alike_by_all() {
    let mut found = 0;
    for bytes in fixtures::corpus("document") {
        let (own, shared) = (parse(&bytes, Carrier::Own), parse(&bytes, Carrier::Shared));
        if matches!(shared, Ok(Parsed::Document(_))) {
            assert_eq!(own, shared);
            found += 1;
        }
    }
    assert!(found > 5, "{found}");
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes: Vec<u8>) {
        let _ = parse(&bytes, Carrier::Own);
        let _ = parse(&bytes, Carrier::Shared);
    }

    #[test]
    fn no_damage_breaks_it(at: prop::sample::Index, with in "[ -~\n]{0,3}") {
        let mut text = fixtures::yaml(12345);
        let at = at.index(text.len());
        text.replace_range(at..at, &with);
        let _ = own(&text);
    }

    #[test]
    fn a_port_is_taken_exactly_within_its_range(port in -10_i64..70_000) {
        let parsed = own(&with("/tunnel/port", json!(port)));
        prop_assert_eq!(parsed.is_ok(), (0..=65535).contains(&port));
    }
}
