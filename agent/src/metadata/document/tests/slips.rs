//! Keys that are misspelt or in the wrong place: a document never asks for less than its author
//! wrote.

use super::*;

/// A document without indentation below `tunnel`, and with this key in place of `tunnel`.
fn flat(tunnel: &str) -> String {
    let document = fixtures::yaml(1);
    let (_, body) = document.split_once("  tunnel:\n").unwrap();
    let body: String = body
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
        .collect();
    format!("version: 1\n{tunnel}\n{body}")
}

/// Checks that the document is refused, for the key at `path`, with words of the advice.
fn refused(text: &str, path: &str, advice: &str) {
    for parsed in [own(text), shared(text)] {
        let Err(fault) = parsed else {
            panic!("{parsed:?}\n{text}");
        };
        assert_eq!(fault.code(), "document-invalid");
        let said = fault.to_string();
        assert!(said.starts_with(&format!("{path}: ")), "{said}\n{text}");
        assert!(fault.advice().contains(advice), "{fault:?}\n{text}");
    }
}

#[test]
fn a_document_that_lost_its_indentation_is_refused() {
    let keyed = fixtures::yaml(1);
    // All of it, up to our key.
    let unindented: String = keyed
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)))
        .collect();
    assert!(unindented.starts_with("vmagent:\nversion: 1\ntunnel:\n"));
    refused(
        &unindented,
        "tunnel",
        "Indent it, so that it stands inside vmagent.",
    );
    // The tunnel's own keys one level up, beside an empty tunnel.
    for tunnel in ["tunnel:", "tunnel: ~", "tunnel: {}"] {
        refused(&flat(tunnel), "bind", "Move bind into tunnel");
    }
    // The same below our key, and beside it.
    let below = format!(
        "vmagent:\n  {}",
        flat("tunnel:").trim().replace('\n', "\n  ")
    );
    refused(&below, "bind", "Move bind into tunnel");
    let (_, body) = keyed.split_once("  tunnel:\n").unwrap();
    let body = body.replace("\n    ", "\n");
    let beside = format!("vmagent:\n  version: 1\n  tunnel:\n{}", body.trim_start());
    refused(&beside, "tunnel", "Indent what belongs to tunnel");
    let beside = format!(
        "vmagent:\n  version: 1\ntunnel:\n{}",
        &keyed.split_once("  tunnel:\n").unwrap().1
    );
    refused(&beside, "tunnel", "inside vmagent");
}

#[test]
fn each_key_of_the_tunnel_one_level_up_is_refused() {
    for key in [
        "when",
        "proxies",
        "bind",
        "port",
        "forwards",
        "private_key",
        "certificate",
    ] {
        let mut document = fixtures::json(1);
        let tunnel = document["tunnel"].as_object_mut().unwrap();
        let value = tunnel.remove(key).unwrap_or(json!("x"));
        document[key] = value;
        refused(
            &json!({ "vmagent": document }).to_string(),
            key,
            "into tunnel",
        );
    }
}

#[test]
fn a_key_that_the_tunnel_has_as_well_is_a_warning_one_level_up() {
    let mut document = fixtures::json(1);
    document["tunnel"]["when"] = json!("always");
    for key in ["when", "proxies", "bind", "port", "private_key"] {
        let mut document = document.clone();
        document[key] = json!("x");
        let text = document.to_string();
        let read = good(own(&text));
        assert_eq!(good(shared(&text)), read);
        assert!(read.tunnel.is_some());
        let expected = format!("{key}: unknown key; accepted: version, tunnel, report");
        assert_eq!(read.warnings, [expected]);
    }
}

#[test]
fn keys_of_other_programs_beside_our_key_are_theirs() {
    for beside in [
        "tunnel: {vpn: true}",
        "tunnel:",
        "proxies: [http://proxy.example.org:3128]",
        "private_key: x",
        "proxies: []\ntunnel: wg0",
    ] {
        for ours in ["vmagent: {version: 1}", "vmagent:"] {
            let text = format!("#cloud-config\n{ours}\n{beside}\n");
            let alone = shared(&format!("#cloud-config\n{ours}\n"));
            assert_eq!(shared(&text), alone, "{text}");
            assert!(own(&text).is_err(), "{text}");
        }
    }
    refused(
        "vmagent: {version: 1}\nproxies: []\nprivate_key: x\n",
        "proxies",
        "inside vmagent",
    );
}

#[test]
fn another_word_is_no_slip_of_version() {
    for word in ["revision", "session", "Session", "mission", "verbose"] {
        let mut document = fixtures::json(1);
        document.as_object_mut().unwrap().remove("version");
        document[word] = json!(12);
        let warnings = good(own(&document.to_string())).warnings;
        assert_eq!(
            warnings,
            [
                "version: missing, taken as 1".to_owned(),
                format!("{word}: unknown key; accepted: version, tunnel, report"),
            ]
        );
        document["version"] = json!(1);
        let warnings = good(own(&document.to_string())).warnings;
        assert!(!warnings[0].contains("did you mean"), "{warnings:?}");
    }
}

#[test]
fn a_key_of_the_tunnel_one_level_down_is_refused_where_the_tunnel_lacks_it() {
    for key in ["when", "forwards", "certificate"] {
        let mut document = fixtures::json(1);
        document["tunnel"]["proxies"][0][key] = json!("always");
        let path = format!("tunnel.proxies[0].{key}");
        refused(&document.to_string(), &path, "into tunnel");
    }
    let mut document = fixtures::json(1);
    let forward = json!({"bind": "", "port": 2, "to": "127.0.0.1:80", "certificate": "x"});
    document["tunnel"]["forwards"] = json!([forward]);
    refused(
        &document.to_string(),
        "tunnel.forwards[0].certificate",
        "into tunnel",
    );
    let mut document = fixtures::json(1);
    document["tunnel"]["when"] = json!("always");
    document["tunnel"]["proxies"][0]["when"] = json!("always");
    let warnings = good(own(&document.to_string())).warnings;
    assert!(
        warnings[0].starts_with("tunnel.proxies[0].when: unknown key"),
        "{warnings:?}"
    );
}

#[test]
fn an_unknown_key_near_one_that_is_missing_is_refused() {
    let tunnel = fixtures::json(1)["tunnel"].clone();
    for slip in ["Tunnel", "TUNNEL", "tunels", "tunnels", "tunne", "tun nel"] {
        let text = json!({"version": 1, slip: tunnel}).to_string();
        refused(&text, slip, &format!("Rename {slip} to tunnel."));
        assert!(
            own(&json!({"version": 1, slip: null}).to_string()).is_err(),
            "{slip}"
        );
    }
    for (slip, meant) in [
        ("Version", "version"),
        ("verison", "version"),
        ("vers", "version"),
    ] {
        let text = json!({slip: 1, "tunnel": tunnel}).to_string();
        refused(&text, slip, &format!("to {meant}."));
    }
    for (slip, meant) in [
        ("whan", "when"),
        ("When", "when"),
        ("forward", "forwards"),
        ("Forwards", "forwards"),
        ("certifcate", "certificate"),
        ("cert", "certificate"),
    ] {
        let path = format!("tunnel.{slip}");
        let text = with(&format!("/tunnel/{slip}"), json!("always"));
        refused(&text, &path, &format!("Rename {path} to {meant}."));
    }
    let mut document = fixtures::json(1);
    document["tunnel"]["proxies"][0]["Port"] = json!(2222);
    refused(&document.to_string(), "tunnel.proxies[0].Port", "to port.");
    // One that is there without a value is missing as well.
    let mut document = fixtures::json(1);
    document["tunnel"]["when"] = json!(null);
    document["tunnel"]["When"] = json!("never");
    refused(&document.to_string(), "tunnel.When", "to when.");
}

#[test]
fn a_required_key_that_is_misspelt_is_named() {
    let advice = |text: &str| own(text).unwrap_err().advice();
    assert_eq!(advice("tunel: {}"), "Rename tunel to tunnel.");
    for slip in ["proxys", "proxy", "Proxies"] {
        let slipped = fixtures::yaml(1).replace("proxies:", &format!("{slip}:"));
        assert_eq!(
            advice(&slipped),
            format!("Rename tunnel.{slip} to proxies.")
        );
    }
    for slip in ["private-key", "privateKey", "privat_key"] {
        let slipped = fixtures::yaml(1).replace("private_key:", &format!("{slip}:"));
        assert_eq!(
            advice(&slipped),
            format!("Rename tunnel.{slip} to private_key.")
        );
    }
}

#[test]
fn our_own_key_misspelt_around_a_document_is_refused() {
    let good = fixtures::yaml(1);
    for slip in ["vm-agent", "vm_agent", "VMagent", "vmagents", "vmagnet"] {
        let text = good.replace("vmagent:", &format!("{slip}:"));
        refused(&text, slip, &format!("Rename {slip} to vmagent."));
        let text = text.replace("  tunnel:", "  Tunnel:");
        refused(&text, slip, "vmagent.");
    }
    // Another program's value under such a name is no document.
    for text in [
        "agent: {tunnel: {vpn: true}}",
        "vm-agent: {version: 1}",
        "tunnels: {private_key: x}",
    ] {
        assert_eq!(shared(text), Ok(Parsed::Missing), "{text}");
    }
}

#[test]
fn an_unknown_key_is_a_warning_with_its_path() {
    let text = with("/tunnel/prot", json!(1));
    let expected = "tunnel.prot: unknown key; did you mean port?";
    assert_eq!(good(own(&text)).warnings, [expected]);
    let text = fixtures::yaml(1).replace("        user:", "        colour: red\n        user:");
    let expected =
        "tunnel.proxies[0].colour: unknown key; accepted: host, public_host, port, user, host_keys";
    assert_eq!(good(own(&text)).warnings, [expected]);
    let text = with("/version", Value::Null);
    assert_eq!(good(own(&text)).warnings, ["version: missing, taken as 1"]);
    let text = with("/comment", json!("of a newer version"));
    let expected = "comment: unknown key; accepted: version, tunnel, report";
    assert_eq!(good(own(&text)).warnings, [expected]);
}

#[test]
fn no_tunnel_is_asked_for_in_two_ways() {
    let document = good(own("version: 1"));
    assert_eq!((document.tunnel, document.warnings), (None, vec![]));
    for text in [
        "version: 1\ntunnel: ~\n",
        "{\"version\": 1, \"tunnel\": null}",
    ] {
        let document = good(own(text));
        assert_eq!(document.tunnel, None, "{text}");
        assert_eq!(
            document.warnings,
            ["tunnel: empty, taken as no tunnel"],
            "{text}"
        );
    }
    let document = good(own("version: 1\ncomment: none\n"));
    assert_eq!(document.tunnel, None);
    // It says more than that: something was lost on the way.
    for (text, path) in [
        ("version: 1\ntunnel:\n", "tunnel: found no value"),
        ("version: 1\ntunnel: # null\n", "tunnel: found no value"),
        (
            "version: 1\ntunnel:\ncomment: none\n",
            "tunnel: found nothing in it",
        ),
        (
            "version: 1\ntunnel: {}\ntunnel:\n",
            "tunnel: found nothing in it",
        ),
        (
            "vmagent: {version: 1}\nvmagent:\n",
            "vmagent: written more than once",
        ),
    ] {
        let fault = own(text).unwrap_err();
        assert!(fault.to_string().starts_with(path), "{fault}");
    }
}

#[test]
fn the_same_port_asked_for_twice_is_refused_with_both_places() {
    let forwards = |list: Value| own(&with("/tunnel/forwards", list));
    let at = |bind: &str, port: u16| json!({"bind": bind, "port": port, "to": "127.0.0.1:80"});
    let fault = forwards(json!([at("0.0.0.0", 12345)])).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "tunnel.forwards[0]: asks for port 12345 on \"0.0.0.0\", which tunnel asks for already \
         (bind \"0.0.0.0\")"
    );
    let fault = forwards(json!([at("", 80), at("127.0.0.1", 81), at("*", 80)])).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "tunnel.forwards[2]: asks for port 80 on \"*\", which tunnel.forwards[0] asks for already \
         (bind \"\")"
    );
    assert!(
        forwards(json!([
            at("0.0.0.0", 80),
            at("::", 80),
            at("web1.vm", 12345)
        ]))
        .is_ok()
    );
}

proptest! {
    /// A key far from all others stays a warning on every level: newer versions add keys.
    #[test]
    fn a_strange_key_costs_no_document(key in "x_[a-z]{3,12}", place in 0..3_usize) {
        let mut document = fixtures::json(1);
        let pointer = ["", "/tunnel", "/tunnel/proxies/0"][place];
        document.pointer_mut(pointer).unwrap()[&key] = json!({"a": 1});
        let read = good(own(&document.to_string()));
        prop_assert_eq!(read.warnings.len(), 1);
    }
}
