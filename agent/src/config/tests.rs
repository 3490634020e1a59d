use std::net::SocketAddr;

use proptest::prelude::*;

use super::keys::parse;
use super::*;
use crate::origin::Origins;

#[test]
fn nothing_is_a_whole_configuration() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("[bridge]\n[status]\n").unwrap(), Config::default());
}

#[test]
fn sshd_is_searched_for_or_fixed() {
    for (text, expected) in [
        ("auto", None),
        (
            "[::1]:22",
            Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 22)).into()),
        ),
        ("unix:/run/s", Some(Address::Unix("/run/s".into()))),
    ] {
        let config = parse(&format!("[bridge]\nsshd = \"{text}\"\n"));
        assert_eq!(config.unwrap().sshd, expected, "{text}");
    }
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        [bridge]
        listen = "unix:/run/bridge.sock"
        allow_cids = [1, 2]
        sshd = "127.0.0.1:2222"
        host_keys = "/run/keys"
        max_connections = 5000
        max_connections_per_origin = 4000
        origins = "one"
        max_rate = 1000
        [metadata]
        sources = ["ec2", "file"]
        url = "http://127.0.0.1:8080/"
        document_url = "http://[fe80::1%25eth0]/vm.yaml?id=7"
        file = "/run/tunnel.yaml"
        cache = "state"
        [tunnel]
        when = "always"
        [report]
        url = "http://example.org/vms?token=1"
        guest_attributes = "never"
        [status]
        socket = "/run/status.sock"
        user = "debian"
        "#,
    );
    let expected = Config {
        listen: Listen::Unix("/run/bridge.sock".into()),
        allow_cids: vec![1, 2],
        sshd: Some(SocketAddr::from(([127, 0, 0, 1], 2222)).into()),
        host_keys: "/run/keys".into(),
        max_connections: 5000,
        max_connections_per_origin: Some(4000),
        origins: Origins::One,
        max_rate: 1000,
        sources: Some(vec![SourceName::Ec2, SourceName::File]),
        url: HttpUrl::parse("http://127.0.0.1:8080/").unwrap(),
        document_url: Some(HttpUrl::parse("http://[fe80::1%eth0]/vm.yaml?id=7").unwrap()),
        file: "/run/tunnel.yaml".into(),
        cache: Cache::State,
        when: Some(When::Always),
        report_url: ReportUrl::Fixed(HttpUrl::parse("http://example.org/vms?token=1").unwrap()),
        guest_attributes: GuestAttributes::Never,
        user: Some("debian".to_owned()),
        status_socket: "/run/status.sock".into(),
    };
    assert_eq!(config.unwrap(), expected);
}

#[test]
fn an_error_names_place_finding_and_what_is_accepted() {
    for (text, expected) in [
        (
            "[bridge]\nlisten = 22",
            "[bridge] listen: found 22, expected a string",
        ),
        (
            "[bridge]\nlisten = \"tcp:22\"",
            "[bridge] listen: found \"tcp:22\", expected \"vsock:PORT\", \"unix:/path\" or \"off\"",
        ),
        (
            "[bridge]\nlisten = \"vsock:4294967295\"",
            "[bridge] listen: found the vsock port \"4294967295\", expected 0 to 4294967294",
        ),
        (
            "[bridge]\nlissen = \"off\"",
            "[bridge] lissen is unknown; did you mean \"listen\"? \
             (accepted: listen, allow_cids, sshd, host_keys, origins, max_connections, \
             max_connections_per_origin, max_rate)",
        ),
        (
            "[brigde]",
            "[brigde] is unknown; did you mean \"bridge\"? \
             (accepted: bridge, metadata, tunnel, report, status)",
        ),
        (
            "[metadata]\nsources = [\"ec3\"]",
            "[metadata] sources: \"ec3\" is unknown; did you mean \"ec2\"? \
             (accepted: credential, file, cloud-init, config-drive, nocloud, url, openstack, ec2, mmds, gce, azure, hetzner, \
             digitalocean)",
        ),
        (
            "[bridge]\nallow_cids = [-1]",
            "[bridge] allow_cids: found -1, expected a context ID from 0 to 4294967295",
        ),
        (
            "[bridge]\nmax_connections = 0",
            "[bridge] max_connections: found 0, expected 1 to 16000",
        ),
        (
            "[bridge]\nmax_connections = 65536",
            "[bridge] max_connections: found 65536, expected 1 to 16000",
        ),
        (
            "[bridge]\nmax_connections_per_origin = \"many\"",
            "[bridge] max_connections_per_origin: found \"many\", expected 1 to 16000",
        ),
        (
            "[bridge]\nmax_connections_per_origin = 1025",
            "[bridge] max_connections_per_origin: found 1025, expected no more than \
             max_connections, 1024",
        ),
        (
            "[bridge]\nmax_rate = -1",
            "[bridge] max_rate: found -1, expected 1 to 1000000",
        ),
        ("tunnel = 1", "tunnel: found 1, expected a section [tunnel]"),
        (
            "[tunnel]\nwhen = \"sometimes\"",
            "[tunnel] when: found \"sometimes\", expected \"auto\", \"always\" or \"never\"",
        ),
        (
            "[metadata]\ncache = \"disk\"",
            "[metadata] cache: found \"disk\", expected \"runtime\", \"state\" or \"off\"",
        ),
        (
            "[report]\nurl = \"ssh://host\"",
            "[report] url: found \"ssh://host\", expected \"http://HOST[:PORT]\"",
        ),
        (
            "[report]\nguest_attributes = true",
            "[report] guest_attributes: found true, expected a string",
        ),
        (
            "[metadata]\nurl = \"ftp://host\"",
            "[metadata] url: found \"ftp://host\", expected \"http://HOST[:PORT]\"",
        ),
        (
            "[metadata]\nsources = [\"url\"]",
            "[metadata] sources: found \"url\", expected document_url beside it",
        ),
        (
            "[bridge]\nsshd = \"127.0.0.1:0\"",
            "[bridge] sshd: found \"127.0.0.1:0\", expected \"auto\", an address with a port: \
             \"127.0.0.1:22\", or \"unix:/path\"",
        ),
        (
            "[bridge]\nlisten = \"unix:/run/a\"\nsshd = \"unix:/run/a\"",
            "[bridge] sshd: found \"unix:/run/a\", on which the bridge itself listens",
        ),
        (
            "[status]\nsocket = \"status.sock\"",
            "[status] socket: found \"status.sock\", expected an absolute path",
        ),
        (
            "[status]\nuser = \"-oX\"",
            "[status] user: found \"-oX\", expected the name of an account: letters, digits, \
             \".\", \"_\" and \"-\"",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn no_error_repeats_a_token() {
    for text in [
        "[report]\nurl = \"https:///vms?token=hunter2\"",
        "[report]\nurl = \"ftp://h/vms?token=hunter2\"",
        "[report]\nurl = \"http://u:hunter2@h/\"",
        "[report]\nurl = \"http://h/vms?token=hunter2",
        "[report]\nurl = http://h/vms?token=hunter2",
        "[report]\nurl = 'http://h' # hunter2 \u{7f}",
        "[report]\nurl : \"http://h/vms?token=hunter2\"",
        "[report\nurl = \"http://h/vms?token=hunter2\"",
        "[report]\nurl = \"http://h/?token=hunter2\"\nurl = \"http://h/?token=hunter2\"",
        "[report]\nurll = \"http://h/vms?token=hunter2\"",
        "[report]\nguest_attributes = \"http://h/vms?token=hunter2\"",
        "[metadata]\ndocument_url = \"http:h?token=hunter2\"",
        "[metadata]\nfile = \"http://h/vms?token=hunter2\"",
        "[metadata]\nsources = \"http://h/vms?token=hunter2\"",
        "[metadata]\nsources = [\"http://h/vms?token=hunter2\"]",
        "[bridge]\nlisten = \"http://h/vms?token=hunter2\"",
        "[bridge]\nlisten = \"vsock:22?hunter2\"",
        "[bridge]\nsshd = \"http://h/vms?token=hunter2\"",
        "[bridge]\nmax_rate = \"http://h/vms?token=hunter2\"",
        "report = \"http://h/vms?token=hunter2\"",
    ] {
        let problem = parse(text).unwrap_err();
        assert!(!problem.contains("hunter2"), "{text}: {problem}");
        assert!(problem.len() > 20, "{text}: {problem}");
    }
}

#[test]
fn a_text_that_is_no_toml_is_refused_with_the_place() {
    let problem = parse("[report]\n\nurl = http://h\n").unwrap_err();
    assert!(problem.starts_with("line 3, column "), "{problem}");
}

#[test]
fn a_named_file_must_exist_and_its_error_names_it() {
    let path = Path::new("/nonexistent/vmagent.toml");
    let error = Config::load(Some(path)).unwrap_err().to_string();
    assert!(
        error.starts_with("/nonexistent/vmagent.toml: can't be read: "),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".*") {
        let _ = parse(&text);
    }
}
