use proptest::prelude::*;

use super::*;

/// The advice for a value that is refused.
fn advice<T: std::fmt::Debug>(read: Result<T, Slip>) -> String {
    read.unwrap_err().advice
}

#[test]
fn a_host_that_has_one_meaning_is_taken() {
    for (text, expected) in [
        ("proxy.example.org", "proxy.example.org"),
        ("proxy.example.org.", "proxy.example.org."),
        (" proxy ", "proxy"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("[fe80::1%25eth0]", "fe80::1%eth0"),
        ("my_host", "my_host"),
        ("prüfstand.example.org", "prüfstand.example.org"),
    ] {
        assert_eq!(host(text, "host").as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_belongs_to_another_key_is_named_with_that_key() {
    for (text, expected) in [
        ("proxy:2222", "`host: proxy` and `port: 2222`, each"),
        (
            "[2001:db8::1]:2222",
            "`host: \"2001:db8::1\"` and `port: 2222`, each",
        ),
        ("ssh://proxy", "Write `host: proxy`."),
        ("ssh://proxy/", "Write `host: proxy`."),
        ("proxy/", "Write `host: proxy`."),
        ("rev@proxy", "`host: proxy` and `user: rev`, each"),
        (
            "ssh://rev@proxy:2222/",
            "`host: proxy` and `port: 2222` and `user: rev`, each",
        ),
        (
            "ssh://rev@[2001:db8::1]:2222",
            "`host: \"2001:db8::1\"` and `port: 2222` and `user: rev`",
        ),
        (
            "rev:hunter2@proxy:22",
            "`host: proxy` and `port: 22` and `user: rev`",
        ),
        ("https://proxy/x?token=hunter2", "Write `host: proxy`."),
        ("proxy:", "Write `host: proxy`."),
        (
            "proxy.example.org.:2222",
            "`host: proxy.example.org.` and `port: 2222`",
        ),
    ] {
        let slip = host(text, "host").unwrap_err();
        assert!(slip.advice.contains(expected), "{text}: {slip:?}");
        assert!(!format!("{slip:?}").contains("hunter2"), "{slip:?}");
    }
    assert!(advice(host("p:1", "public_host")).contains("`public_host: p` and"));
}

#[test]
fn what_is_no_host_is_refused() {
    for text in [
        "",
        " ",
        "a b",
        "*",
        "a,b",
        "${proxy}",
        "{{ proxy }}",
        "/etc/hosts",
        "-",
        ".",
        "a:b:c",
        "[proxy]",
        "[2001:db8::1",
        "[::1]x",
        "::1%",
        "user@",
        "ssh://",
        ":22",
        "1.2.3.4/24x y",
        &"x".repeat(64),
    ] {
        assert!(host(text, "host").is_err(), "{text}");
    }
}

#[test]
fn a_bind_that_has_one_meaning_is_taken() {
    for (text, expected) in [
        ("", ""),
        ("*", "*"),
        ("0.0.0.0", "0.0.0.0"),
        ("0.0.0.0 ", "0.0.0.0"),
        ("::", "::"),
        ("[::]", "::"),
        ("[::1]", "::1"),
        ("localhost", "localhost"),
        ("LOCALHOST", "LOCALHOST"),
        ("web1.vm", "web1.vm"),
    ] {
        assert_eq!(bind(text).as_deref(), Ok(expected), "{text:?}");
    }
}

#[test]
fn a_port_or_anything_else_in_a_bind_is_refused() {
    for (text, expected) in [
        ("0.0.0.0:12345", "`bind: 0.0.0.0` and `port: 12345`"),
        ("[::]:12345", "`bind: \"::\"` and `port: 12345`"),
        ("*:12345", "`bind: \"*\"` and `port: 12345`"),
        (":12345", "`bind: \"\"` and `port: 12345`"),
        ("localhost:", "`bind: localhost` and `port: PORT`"),
        (" ", "Write \"0.0.0.0\""),
        ("a b", "Write \"0.0.0.0\""),
        ("rev@0.0.0.0", "Write \"0.0.0.0\""),
        ("0.0.0.0/0", "Write \"0.0.0.0\""),
        ("tcp://0.0.0.0:1", "Write \"0.0.0.0\""),
        ("[::", "Write \"0.0.0.0\""),
        ("*.example.org", "Write \"0.0.0.0\""),
    ] {
        let said = advice(bind(text));
        assert!(said.contains(expected), "{text:?}: {said}");
    }
}

#[test]
fn a_service_needs_an_address_and_a_port() {
    for text in [
        "127.0.0.1:80",
        " 127.0.0.1:80 ",
        "[::1]:80",
        "169.254.169.254:80",
        "[fe80::1%2]:80",
    ] {
        assert!(service(text).is_ok(), "{text}");
    }
    for (text, expected) in [
        ("80", "Write `to: \"127.0.0.1:80\"`."),
        ("127.0.0.1", "Write `to: \"127.0.0.1:PORT\"`."),
        ("127.0.0.1:0", "Write `to: \"127.0.0.1:PORT\"`."),
        ("::1", "Write `to: \"[::1]:PORT\"`."),
        ("[::1]", "Write `to: \"[::1]:PORT\"`."),
        (
            "localhost:80",
            "Write `to: \"127.0.0.1:80\"`, or \"[::1]:80\"",
        ),
        ("web:80", "Write `to: \"127.0.0.1:80\"`."),
        ("http://127.0.0.2:8080/x", "Write `to: \"127.0.0.2:8080\"`."),
        ("/run/web.sock", "Write `to: \"127.0.0.1:PORT\"`."),
        ("", "Write `to: \"127.0.0.1:PORT\"`."),
    ] {
        assert_eq!(
            advice(service(text)).replace(" for a service that listens on IPv6 only.", ""),
            expected,
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_breaks_it(text: String) {
        let _ = (host(&text, "host"), bind(&text), service(&text));
    }

    #[test]
    fn what_is_taken_is_taken_again_as_it_is(text in "[\\[\\]a-f0-9.:%*@/ ]{0,20}") {
        if let Ok(taken) = host(&text, "host") {
            prop_assert_eq!(host(&taken, "host"), Ok(taken));
        }
        if let Ok(taken) = bind(&text) {
            prop_assert_eq!(bind(&taken), Ok(taken));
        }
    }

    #[test]
    fn the_advice_for_a_host_can_be_followed(name in "[a-z]{1,9}(\\.[a-z]{1,9}){0,2}", port in 1..=u16::MAX, user in "[a-z]{1,8}") {
        let slip = host(&format!("ssh://{user}@{name}:{port}/"), "host").unwrap_err();
        let expected = format!("Write `host: {name}` and `port: {port}` and `user: {user}`, each as a key of its own.");
        prop_assert_eq!(slip.advice, expected);
    }
}
