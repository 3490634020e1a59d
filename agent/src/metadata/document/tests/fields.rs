//! The optional keys that other parts of the agent use.

use super::*;
use crate::origin::Origins;

#[test]
fn the_name_that_users_dial_may_differ_from_the_host() {
    let mut document = fixtures::json(1);
    let named = |document: &Value| {
        let tunnel = good(own(&document.to_string())).tunnel.unwrap();
        tunnel.proxies[0].public_host.clone()
    };
    assert_eq!(named(&document), None);
    document["tunnel"]["proxies"][0]["public_host"] = json!("gate.example.org");
    assert_eq!(named(&document).as_deref(), Some("gate.example.org"));
    document["tunnel"]["proxies"][0]["public_host"] = json!("a b");
    let fault = own(&document.to_string()).unwrap_err().to_string();
    let expected = "tunnel.proxies[0].public_host: found \"a b\", expected a host name";
    assert!(fault.starts_with(expected), "{fault}");
}

#[test]
fn a_document_may_name_the_receiver_of_reports_with_or_without_a_tunnel() {
    let url = "http://example.org/vms?token=1";
    let mut document = fixtures::json(1);
    document["report"] = json!({"url": url});
    for text in [
        document.to_string(),
        json!({"version": 1, "report": {"url": url}}).to_string(),
    ] {
        let read = good(own(&text));
        assert_eq!(read.report_url.unwrap().as_str(), url);
        assert_eq!(read.warnings, [""; 0]);
    }
    for (report, expected) in [
        (json!({"url": "ftp://h"}), "report.url: found "),
        (json!({"url": 7}), "report.url: found 7, expected an http"),
        (json!({}), "report.url: missing, expected an http"),
        (
            json!("http://h"),
            "report: found \"http://h\", expected a mapping",
        ),
    ] {
        document["report"] = report;
        let fault = own(&document.to_string()).unwrap_err().to_string();
        assert!(fault.starts_with(expected), "{fault}");
    }
}

#[test]
fn a_forward_shows_its_service_one_origin_unless_it_says_apart() {
    let origins = |word: Value| {
        let at = json!({"bind": "", "port": 2, "to": "127.0.0.1:80", "origins": word});
        own(&with("/tunnel/forwards", json!([at])))
    };
    for (word, expected) in [
        (Value::Null, Origins::One),
        (json!("one"), Origins::One),
        (json!("apart"), Origins::Apart),
    ] {
        let tunnel = good(origins(word)).tunnel.unwrap();
        assert_eq!(tunnel.forwards[0].origins, expected);
    }
    let fault = origins(json!("both")).unwrap_err().to_string();
    let expected = "tunnel.forwards[0].origins: found \"both\", expected apart or one";
    assert_eq!(fault, expected);
}

#[test]
fn no_complaint_repeats_a_password_or_a_token() {
    let url = "ftp://u:hunter2@h/?token=hunter2";
    for pointer in [
        "/version",
        "/tunnel",
        "/tunnel/when",
        "/tunnel/bind",
        "/tunnel/port",
        "/tunnel/forwards",
        "/tunnel/private_key",
        "/report",
    ] {
        let fault = own(&with(pointer, json!(url))).unwrap_err();
        assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
    }
    let mut document = fixtures::json(1);
    for host in [url, "u:hunter2@a b", "u:hunter2@h"] {
        document["tunnel"]["proxies"][0]["host"] = json!(host);
        let fault = own(&document.to_string()).unwrap_err();
        assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
    }
    for url in [url, "https:///vms?token=hunter2", "http:h?token=hunter2"] {
        let text = json!({"version": 1, "report": {"url": url}}).to_string();
        let fault = own(&text).unwrap_err();
        assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
    }
}

#[test]
fn a_word_of_others_is_no_slip_of_an_optional_key() {
    for (place, word) in [
        ("", "repo"),
        ("", "reports_to"),
        ("/tunnel/proxies/0", "public_port"),
        ("/tunnel/proxies/0", "public"),
        ("/tunnel/forwards/0", "original"),
    ] {
        let mut document = fixtures::json(1);
        document["tunnel"]["forwards"] = json!([{"bind": "", "port": 80, "to": "127.0.0.1:80"}]);
        document.pointer_mut(place).unwrap()[word] = json!(7);
        let warnings = good(own(&document.to_string())).warnings;
        assert_eq!(warnings.len(), 1, "{word}: {warnings:?}");
        assert!(warnings[0].contains("unknown key"), "{warnings:?}");
    }
    // One wrong letter.
    for (place, word) in [("", "reprot"), ("/tunnel/proxies/0", "public-hos")] {
        let mut document = fixtures::json(1);
        document.pointer_mut(place).unwrap()[word] = json!(7);
        assert!(own(&document.to_string()).is_err(), "{word}");
    }
}
