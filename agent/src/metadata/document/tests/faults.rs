//! What is said of documents that are wrong.

use super::*;

#[test]
fn a_wrong_value_is_named_with_what_was_found_and_what_is_expected() {
    let proxy = |key: &str, value: Value| {
        let mut proxy = fixtures::json(1)["tunnel"]["proxies"][0].clone();
        proxy[key] = value;
        with("/tunnel/proxies", json!([proxy]))
    };
    let cases = [
        (with("/version", json!(2)), "version: found 2, expected 1"),
        (
            with("/version", json!("2")),
            "version: found \"2\", expected 1",
        ),
        (
            with("/tunnel/port", json!(70000)),
            "tunnel.port: found 70000, expected 0 to 65535",
        ),
        (
            with("/tunnel/port", json!(-1)),
            "tunnel.port: found -1, expected 0 to 65535",
        ),
        (
            with("/tunnel/port", json!(1.5)),
            "tunnel.port: found 1.5, expected 0 to 65535",
        ),
        (
            with("/tunnel/port", json!("ssh")),
            "tunnel.port: found \"ssh\", expected 0 to 65535",
        ),
        (
            with("/tunnel/port", Value::Null),
            "tunnel.port: missing, expected the port on the proxy",
        ),
        (
            proxy("port", json!(0)),
            "tunnel.proxies[0].port: found 0, expected 1 to 65535",
        ),
        (
            proxy("port", json!(70000)),
            "tunnel.proxies[0].port: found 70000, expected 1 to 65535",
        ),
        (
            proxy("host", json!("")),
            "tunnel.proxies[0].host: found \"\", expected a host name",
        ),
        (
            proxy("host", json!("a b")),
            "tunnel.proxies[0].host: found \"a b\", expected a host name",
        ),
        (proxy("user", Value::Null), "tunnel.proxies[0].user: empty"),
        (
            proxy("host_keys", json!([])),
            "tunnel.proxies[0].host_keys: found no host key",
        ),
        (
            proxy("host_keys", json!(["# x"])),
            "tunnel.proxies[0].host_keys: found no host key",
        ),
        (
            proxy("host_keys", json!([fixtures::public(1), "x"])),
            "tunnel.proxies[0].host_keys[1]: found no key",
        ),
        (
            proxy(
                "host_keys",
                json!(format!("{0}\nx\n{0}", fixtures::public(1))),
            ),
            "tunnel.proxies[0].host_keys: line 2: found no key",
        ),
        (
            proxy("host_keys", json!(7)),
            "tunnel.proxies[0].host_keys: found 7, expected a host key line",
        ),
        (
            with("/tunnel/proxies", json!([])),
            "tunnel.proxies: found an empty list, expected at least",
        ),
        (
            with("/tunnel/proxies", json!({})),
            "tunnel.proxies: found a mapping, expected a list",
        ),
        (
            with("/tunnel/proxies", json!(["p"])),
            "tunnel.proxies[0]: found \"p\", expected a mapping",
        ),
        (
            with("/tunnel/when", json!("sometimes")),
            "tunnel.when: found \"sometimes\", expected auto, always",
        ),
        (
            with("/tunnel/when", json!(true)),
            "tunnel.when: found true, expected auto, always or never",
        ),
        (
            with("/tunnel/bind", json!(0)),
            "tunnel.bind: found 0, expected the address on the proxy",
        ),
        (
            with("/tunnel", json!("x")),
            "tunnel: found \"x\", expected a mapping",
        ),
        (
            with(
                "/tunnel/forwards",
                json!([{"bind": "", "port": 0, "to": "127.0.0.1:80"}]),
            ),
            "tunnel.forwards[0].port: found 0, expected 1 to 65535",
        ),
        (
            with(
                "/tunnel/forwards",
                json!([{"bind": "", "port": 1, "to": "web:80"}]),
            ),
            "tunnel.forwards[0].to: found a name, expected an address with a port",
        ),
        (
            with(
                "/tunnel/private_key",
                json!(include_str!("../../key/fixtures/encrypted.openssh")),
            ),
            "tunnel.private_key: is encrypted; the agent has nobody to ask for a passphrase",
        ),
        (
            with("/tunnel/private_key", Value::Null),
            "tunnel.private_key: missing, expected a private key",
        ),
        (
            with("/tunnel/private_key", json!(["x"])),
            "tunnel.private_key: found a list, expected",
        ),
        (
            with("/tunnel/certificate", json!("x")),
            "tunnel.certificate: can't be decoded",
        ),
        (
            "[1, 2]".to_owned(),
            "found a list, expected a mapping of keys to values",
        ),
        (
            "words".to_owned(),
            "found \"words\", expected a mapping of keys to values",
        ),
        (
            "tunel: {}".to_owned(),
            "tunnel: missing, expected a mapping",
        ),
    ];
    for (text, expected) in cases {
        let fault = own(&text).unwrap_err();
        assert!(
            fault.to_string().starts_with(expected),
            "{fault}\n{expected}"
        );
        assert_eq!(fault.code(), "document-invalid");
        assert!(fault.advice().len() > 10, "{fault:?}");
    }
}

#[test]
fn a_key_that_is_there_twice_is_a_warning_and_the_last_one_counts() {
    let text = fixtures::yaml(1).replace("    port: 1\n", "    port: 7\n    port: 1\n");
    let mut doubled = fixtures::json(1).to_string();
    doubled = doubled.replace("\"port\":1,", "\"port\":7,\"port\":1,");
    for text in [text, doubled] {
        let document = good(own(&text));
        let expected = "tunnel.port: written more than once; the last one counts";
        assert_eq!(document.warnings, [expected]);
        assert_eq!(document.tunnel.unwrap().forward.port, 1);
    }
    // Of others' keys nothing is said.
    let text = format!("users: []\nusers: []\n{}", fixtures::yaml(1));
    assert_eq!(good(shared(&text)).warnings, [""; 0]);
}

#[test]
fn no_complaint_repeats_what_could_be_secret() {
    let key = fixtures::private(1);
    let secrets: Vec<_> = key.lines().filter(|line| line.len() > 60).collect();
    let places = [
        "/version",
        "/tunnel",
        "/tunnel/when",
        "/tunnel/proxies",
        "/tunnel/bind",
        "/tunnel/port",
        "/tunnel/forwards",
        "/tunnel/certificate",
        "/nonsense",
    ];
    let mut texts: Vec<_> = places.iter().map(|place| with(place, json!(key))).collect();
    texts.push(with(
        "/tunnel/private_key",
        json!(format!("{key}x").replace("-----END", "----")),
    ));
    texts.push(with("/tunnel/private_key", json!({ key.clone(): 1 })));
    texts.push(with(
        "/tunnel/proxies",
        json!([{"host": "h", "user": "u", "host_keys": [key]}]),
    ));
    texts.push(with(
        "/tunnel/proxies",
        json!([{"host": key, "user": "u", "host_keys": []}]),
    ));
    texts.push(fixtures::yaml(1).replace("    private_key: |\n", "    private_key:\n"));
    texts.push(format!("vmagent:\n  tunnel: {key}"));
    texts.push(format!("vmagent: \"{key}"));
    for text in texts {
        let parsed = own(&text);
        let said = match &parsed {
            Ok(Parsed::Document(document)) => format!("{document:?}"),
            Ok(other) => format!("{other:?}"),
            Err(fault) => format!("{fault} {fault:?} {}", fault.advice()),
        };
        for secret in &secrets {
            assert!(!said.contains(&secret[..20]), "{said}");
        }
    }
    assert!(!format!("{:?}", fixtures::document(1)).contains("PRIVATE"));
    assert!(
        !own("vmagent: [\n")
            .unwrap_err()
            .to_string()
            .contains("vmagent")
    );
}
