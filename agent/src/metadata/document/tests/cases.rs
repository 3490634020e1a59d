//! Documents as people write them: each is taken, or refused with the sentence that helps.
//!
//! They are written as changes to one good document, in YAML, as a person types them.

use super::*;

/// The document that all others are changed from.
const GOOD: &str = "version: 1
tunnel:
  proxies:
    - host: proxy.example.org
      user: rev
      host_keys:
        - KEY
  bind: 0.0.0.0
  port: 12345
  private_key: |
    PRIVATE
";

/// With the line that has `from` in it replaced.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    filled(&GOOD.replace(from, to))
}

fn filled(text: &str) -> String {
    let private = fixtures::private(1);
    text.replace("KEY", &fixtures::public(2))
        .replace("PRIVATE", &private.trim().replace('\n', "\n    "))
}

/// `FAULT | ADVICE`, as a person reads it.
fn said(text: &str) -> String {
    let fault = own(text).unwrap_err();
    format!("{fault} | {}", fault.advice())
}

#[test]
fn what_has_one_meaning_is_taken() {
    let whole = good(own(&filled(GOOD)));
    let same = [
        ("port: 12345", "port: \"12345\""),
        ("port: 12345", "port: 12345.0"),
        ("port: 12345", "port: 12_345"),
        ("port: 12345", "port: 0x3039"),
        ("version: 1", "version: \"1\""),
        ("version: 1", "version: 1.0"),
        ("version: 1", "---\nversion: 1"),
        ("version: 1", "# x\n\u{feff}version: 1"),
        ("bind: 0.0.0.0", "bind: \"0.0.0.0 \""),
        ("bind: 0.0.0.0", "bind: 0.0.0.0\n  when: Auto"),
        ("private_key: |", "private_key: >"),
        ("private_key: |", "private_key: /home/rev/.ssh/id"),
        ("- KEY", "- |\n          KEY"),
    ];
    for (from, to) in same {
        assert_eq!(good(own(&changed(from, to))), whole, "{to}");
    }
    for ends in ["\r\n", "\r"] {
        let text = filled(GOOD).replace('\n', ends);
        assert_eq!(good(own(&text)), whole, "{ends:?}");
    }
    let tunnel = |from: &str, to: &str| good(own(&changed(from, to))).tunnel.unwrap();
    assert_eq!(tunnel("port: 12345", "port: 1e4").forward.port, 10000);
    assert_eq!(tunnel("0.0.0.0", "\"[::]\"").forward.bind, "::");
    assert_eq!(tunnel("0.0.0.0", "\"*\"").forward.bind, "*");
    assert_eq!(
        tunnel("proxy.example.org", "\"[2001:db8::1]\"").proxies[0].host,
        "2001:db8::1"
    );
    assert_eq!(tunnel("user: rev", "user: no").proxies[0].user, "no");
    assert_eq!(
        tunnel("user: rev", "user: \"1000\"").proxies[0].user,
        "1000"
    );
    assert_eq!(
        tunnel("port: 12345", "port: 12345\n  when: Always").when,
        When::Always
    );
    let forward =
        "port: 12345\n  forwards:\n    - {bind: 127.0.0.1, port: \"8080\", to: 127.0.0.1:80}";
    assert_eq!(
        tunnel("port: 12345", forward).forwards[0].to.to_string(),
        "127.0.0.1:80"
    );
    let elsewhere = forward.replace("127.0.0.1:80", "169.254.169.254:80");
    let to = tunnel("port: 12345", &elsewhere).forwards[0].to;
    assert_eq!(to.to_string(), "169.254.169.254:80");
    let authority = "- \"@cert-authority *.example.org KEY\"";
    let lines = tunnel("- KEY", authority).proxies[0].host_keys.lines();
    assert!(lines.unwrap()[0].starts_with("@cert-authority ssh-ed25519 "));
    assert_eq!(good(own("vmagent: \"{\\\"version\\\": 1}\"")).tunnel, None);
    let hashed = "- \"|1|c2FsdA==|aGFzaA== KEY\"";
    assert_eq!(
        tunnel("- KEY", hashed).proxies[0].host_keys,
        whole.tunnel.unwrap().proxies[0].host_keys
    );
}

#[test]
fn what_has_not_is_refused_with_what_to_write() {
    let host = "host: proxy.example.org";
    let alone = "expected a host name or an address alone";
    let to = |to: &str| {
        format!("port: 12345\n  forwards:\n    - {{bind: 127.0.0.1, port: 8080, to: {to}}}")
    };
    let cases = [
        (host, "host: proxy.example.org:2222".to_owned(), format!("tunnel.proxies[0].host: found a port, {alone} | Write `host: proxy.example.org` and `port: 2222`, each as a key of its own.")),
        (host, "host: ssh://proxy.example.org".to_owned(), format!("tunnel.proxies[0].host: found a URL, {alone} | Write `host: proxy.example.org`.")),
        (host, "host: rev@proxy.example.org".to_owned(), format!("tunnel.proxies[0].host: found an account, {alone} | Write `host: proxy.example.org` and `user: rev`, each as a key of its own.")),
        (host, "host: [2001:db8::1]".to_owned(), "tunnel.proxies[0].host: found a list, expected a host name or an address | Put the value in quotes: without them, YAML reads brackets as a list.".to_owned()),
        ("bind: 0.0.0.0", "bind: \"0.0.0.0:12345\"".to_owned(), "tunnel.bind: found a port behind the address, expected the address alone | Write `bind: 0.0.0.0` and `port: 12345`, each as a key of its own.".to_owned()),
        ("bind: 0.0.0.0", "bind: ".to_owned(), "tunnel.bind: empty, expected the address on the proxy, such as \"0.0.0.0\" or \"localhost\" | Write a value for bind. One that begins with #, & or ! needs quotes.".to_owned()),
        ("port: 12345", "port: 022".to_owned(), "tunnel.port: found \"022\", expected 0 to 65535 | Write the number without the leading zero: YAML 1.1 tools read it as octal, YAML 1.2 tools as decimal.".to_owned()),
        ("port: 12345", "port: 3:25:45".to_owned(), "tunnel.port: found \"3:25:45\", expected 0 to 65535 | Write the number in decimal digits: YAML 1.1 tools read digits with colons as a number in base 60.".to_owned()),
        ("user: rev", "user: 1000".to_owned(), "tunnel.proxies[0].user: found 1000, a number, expected the name of an account | Write the account's name. One that is made of digits needs quotes.".to_owned()),
        ("user: rev", "user: false".to_owned(), "tunnel.proxies[0].user: found false, expected the name of an account | Put the value in quotes if it is meant as text. YAML reads true and false as truth values, and YAML 1.1 also yes, no, on and off.".to_owned()),
        ("- KEY", "- \"# comment\"".to_owned(), "tunnel.proxies[0].host_keys: found no host key, only comments or blank lines; expected at least one key | Add what `ssh-keyscan HOST` prints, compared with the proxy's own files in /etc/ssh; without a host key the proxy is never trusted.".to_owned()),
        ("port: 12345", to("\"localhost:80\""), "tunnel.forwards[0].to: found a name, expected an address with a port | Write `to: \"127.0.0.1:80\"`, or \"[::1]:80\" for a service that listens on IPv6 only.".to_owned()),
        ("port: 12345", to("80"), "tunnel.forwards[0].to: found a port alone, expected an address with a port | Write `to: \"127.0.0.1:80\"`.".to_owned()),
        ("port: 12345", to("\"80\""), "tunnel.forwards[0].to: found a port alone, expected an address with a port | Write `to: \"127.0.0.1:80\"`.".to_owned()),
        ("port: 12345", to("127.0.0.1"), "tunnel.forwards[0].to: found an address without a port | Write `to: \"127.0.0.1:PORT\"`.".to_owned()),
        ("port: 12345", "port: 12345\n  when: off".to_owned(), "tunnel.when: found \"off\", expected auto, always or never | Write `when: never` to switch the tunnel off.".to_owned()),
        ("port: 12345", "port: 12345\n  when: true".to_owned(), "tunnel.when: found true, expected auto, always or never | Write `when: always`, or `when: auto` to hold the tunnel only where the guest may be behind NAT.".to_owned()),
        ("private_key: |\n    PRIVATE", "private_key: /home/rev/.ssh/id".to_owned(), "tunnel.private_key: found the path of a file, expected the private key itself | Write `private_key: |`, and below it, indented, the content of that file: the document goes to a machine that may not have the file.".to_owned()),
    ];
    for (from, to, expected) in cases {
        assert_eq!(said(&changed(from, &to)), expected);
    }
    let begin = "Write a mapping with the keys version and tunnel: begin with `version: 1`, without a dash.";
    for (text, found) in [("- version: 1", "a list"), ("hello", "\"hello\"")] {
        let expected = format!("found {found}, expected a mapping of keys to values | {begin}");
        assert_eq!(said(text), expected);
    }
}

#[test]
fn a_line_that_needs_quotes_is_named() {
    for (from, to, first, line) in [
        ("bind: 0.0.0.0", "bind: *", '*', 8),
        ("bind: 0.0.0.0", "bind: *all", '*', 8),
        ("bind: 0.0.0.0", "bind: ::", ':', 8),
        ("bind: 0.0.0.0", "bind: :::", ':', 8),
        ("- KEY", "- @cert-authority KEY", '@', 7),
        ("- KEY", "- [proxy.example.org]:2222 KEY", '[', 7),
        ("- KEY", "- *.example.org KEY", '*', 7),
        ("- KEY", "- |1|c2FsdA==|aGFzaA== KEY", '|', 7),
        ("user: rev", "user: `whoami`", '`', 5),
        ("user: rev", "user: %rev", '%', 5),
        ("user: rev", "user: {{ user }}", '{', 5),
    ] {
        let fault = own(&changed(from, to)).unwrap_err();
        let said = format!("{fault} | {}", fault.advice());
        let expected = format!("it is neither JSON nor YAML: line {line} can't be read (");
        assert!(said.starts_with(&expected), "{to}: {said}");
        let expected = format!(
            "| Put the value in quotes: one that begins with `{first}` has another meaning in YAML."
        );
        assert!(said.ends_with(&expected), "{to}: {said}");
    }
    let fault = own(&changed("bind: 0.0.0.0", "comment: a: b\n  bind: 0.0.0.0")).unwrap_err();
    assert!(fault.advice().contains("a colon and a blank"), "{fault:?}");
    let fault = own(&changed("  bind: 0.0.0.0", "\tbind: 0.0.0.0")).unwrap_err();
    assert!(
        fault.to_string().contains("line 8 can't be read ("),
        "{fault}"
    );
    assert_eq!(
        fault.advice(),
        "YAML allows no tabs for indentation: replace the tab with spaces."
    );
    // A tag or an anchor in front of nothing is no error of YAML.
    for to in ["user: !rev", "user: &rev", "user: #rev"] {
        let fault = own(&changed("user: rev", to)).unwrap_err();
        assert!(
            fault
                .advice()
                .contains("begins with #, & or ! needs quotes"),
            "{to}: {fault:?}"
        );
    }
}
