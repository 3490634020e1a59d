use proptest::prelude::*;

use super::*;
use crate::config::HttpUrl;

fn listen(text: &str) -> Listen {
    salvage(text).config.listen
}

#[test]
fn what_was_switched_off_is_not_switched_on_by_a_slip() {
    for text in [
        "[bridge]\nlisten = \"off\"\nmax_rate = \"many\"",
        "[bridge]\nlisten = off",
        "[bridge]\nlisten = 'off",
        "[bridge]\nlisten = \"Off\"",
        "[bridge]\nlisten = \"of\"",
        "[bridge]\nlisten = false",
        "[bridge]\nlisten = 0",
        "[bridge]\nlisten = []",
        "[bridge]\nlisten = \"\"",
        "[bridge]\nlissen = \"off\"",
        "[bridge]\nListen = \"none\" # nobody",
        "[brigde]\nlisten = \"off\"",
        "[bridge\nlisten = \"off\"",
        "[metadata]\ncache = \"off\"\n[bridge\nlisten = \"off\"\n[tunnel]\nwhen = \"auto\"",
        "listen = \"off\"",
        "[tunnel]\nlisten = \"off\"",
        "[bridge]\nlisten = \"off\"\n[bridge]\nmax_rate = 1",
        "[bridge]\nmax_rate = 1\n[bridge]\nlisten = \"off\"",
        "[bridge]\nlisten: off",
        "[bridge]\nlisten off",
        "[bridge]\nlisten == \"off\"",
        "[bridge]\nlisten = \"off\";",
        "[bridge]\nlisten = \u{201c}off\u{201d}",
        "[bridge]\nlisten =\n\"off\"",
        "bridge.listen = off",
        "bridge = { listen = \"off\", max_rate = 5 x }",
        "[bridge]\nlisten = off, max_rate = 5",
        "[bridge]\nlisten = \"offf\"",
        "[bridge]\nlisten = \"disabled\"",
        "[bridge]\nlisten = true",
        "[[bridge]]\nlisten = \"off\"",
        "[bridge]\nlisten = \"off\" # caf\u{fffd}\nmax_rate = \"many\"",
        "[bridge]\nlisten = \"\u{fffd}off\"",
        "[brid\u{fffd}ge]\nlisten = \"off\"",
        "\u{fffd}\u{fffd}[\0b\0r\0i\0d\0g\0e\0]\0\n\0l\0i\0s\0t\0e\0n\0=\0o\0f\0f\0",
    ] {
        assert_eq!(listen(text), Listen::Off, "{text}");
        assert_eq!(salvage(text).problems.is_empty(), keys::parse(text).is_ok());
    }
}

#[test]
fn a_slip_that_forbids_nothing_costs_no_way_in() {
    for text in [
        "[bridge]\nlisten = \"vosck:22\"",
        "[bridge]\nlisten = 22",
        "[bridge]\nlisten = [\"vsock:22\"]",
        "[bridge]\nlisten = vsock",
        "[bridge]\nlisten: unix:/run/bridge.sock",
        "[bridge]\n# listen = off\nmax_rate = many",
        "[bridge]\nlisten = \"vsock:22\" # not off\nmax_rate = many",
        "[tunnel]\nwhen = off # and listen = off",
        "[bridge]\nmax_rate = \"off\"",
        "[metadata]\ncache = \"off",
        "[tunnel]\nwhen = off",
        "[report]\nguest_attributes = \"off\"",
        "nonsense = 1",
        "nonsense",
        "\u{feff}\u{0}",
        "[[[[",
        "\"\"\"",
        "x = [",
    ] {
        assert_eq!(listen(text), Listen::Vsock(22), "{text}");
        assert_eq!(salvage(text).config.allow_cids, [2], "{text}");
        assert!(!salvage(text).problems.is_empty(), "{text}");
    }
}

#[test]
fn valid_keys_count_beside_broken_ones() {
    let salvaged = salvage(
        "[bridge]
         allow_cids = [3]
         max_connections = 7
         max_connections_per_origin = 9
         max_rate = many
         shd = \"127.0.0.1:2222\"
         [status]
         socket = \"/run/other.sock\"
         [report]
         guest_attributes = \"always\"",
    );
    let expected = Config {
        allow_cids: vec![3],
        max_connections: 7,
        max_connections_per_origin: Some(7),
        when: Some(When::Never),
        status_socket: "/run/other.sock".into(),
        cache: Cache::Off,
        report_url: ReportUrl::Off,
        guest_attributes: GuestAttributes::Never,
        ..Config::default()
    };
    assert_eq!(salvaged.config, expected);
    let [syntax, unknown, disagreement] = &salvaged.problems[..] else {
        panic!("{:?}", salvaged.problems);
    };
    assert!(syntax.starts_with("line 5, column "), "{syntax}");
    assert!(unknown.starts_with("[bridge] shd is unknown; did you mean \"sshd\"?"));
    assert!(disagreement.starts_with("[bridge] max_connections_per_origin: found 9"));
}

/// A line that may be `when = "never"` switches the tunnel off.
#[test]
fn a_problem_beside_the_tunnel_is_off() {
    for (text, when) in [
        ("[tunnel]\nwhen = \"nevr\"", Some(When::Never)),
        ("[tunnel]\nwen = \"never\"", Some(When::Never)),
        ("[tunel]\nwhen = \"never\"", Some(When::Never)),
        ("[tunnel]\nwhen = never", Some(When::Never)),
        (
            "[bridge]\nfuture = 1\n[tunnel]\nwhen = \"auto\"",
            Some(When::Auto),
        ),
        ("[bridge]\nfuture = 1", None),
        ("[bridge]\nfuture = 1\nwhen = \"no\"", Some(When::Never)),
    ] {
        assert_eq!(salvage(text).config.when, when, "{text}");
    }
}

#[test]
fn a_problem_beside_the_cache_or_the_reports_is_off() {
    let fixed = || ReportUrl::Fixed(HttpUrl::parse("http://example.org/").unwrap());
    for (text, cache, report) in [
        (
            "[metadata]\ncahce = \"off\"",
            Cache::Off,
            ReportUrl::Document,
        ),
        ("[metdata]\ncache = \"off\"", Cache::Off, ReportUrl::Off),
        ("[metadata]\ncache = off", Cache::Off, ReportUrl::Off),
        (
            "[metadata]\ncache = \"\u{fffd}\"",
            Cache::Off,
            ReportUrl::Off,
        ),
        (
            "[report]\nurl = \"http//x\"",
            Cache::Runtime,
            ReportUrl::Off,
        ),
        (
            "[report]\nurll = \"http://x\"",
            Cache::Runtime,
            ReportUrl::Off,
        ),
        (
            "[report]\nurl = \"http://example.org/\"\nfuture = 1",
            Cache::Runtime,
            fixed(),
        ),
        ("[bridge]\nfuture = 1", Cache::Runtime, ReportUrl::Document),
        ("# \u{fffd}", Cache::Runtime, ReportUrl::Document),
    ] {
        let config = salvage(text).config;
        assert_eq!((config.cache, config.report_url), (cache, report), "{text}");
    }
}

#[test]
fn no_other_key_may_be_listen_or_when() {
    let keys = "allow_cids sshd host_keys origins max_connections max_connections_per_origin \
                max_rate sources url document_url file cache guest_attributes socket user bridge \
                metadata tunnel report status";
    for key in keys.split_whitespace() {
        assert!(!LISTEN.is(key) && !WHEN.is(key), "{key}");
    }
}

#[test]
fn no_problem_repeats_a_line_that_may_have_a_token() {
    let text = "[report]\nurl = https://example.org/?token=hunter2\n";
    let problems = salvage(text).problems;
    assert_eq!(problems.len(), 1);
    assert!(!problems[0].contains("hunter2"), "{problems:?}");
}

proptest! {
    #[test]
    fn any_text_comes_to_an_end(text in "[\\[\\]a-c=\"'\n# ]{0,200}") {
        let salvaged = salvage(&text);
        prop_assert_eq!(salvaged.problems.is_empty(), keys::parse(&text).is_ok());
    }

    #[test]
    fn a_line_that_switches_the_bridge_off_counts_however_it_is_written(
        before in "(\\[bridge\\]\n|bridge\\.|\\[x\n|max_rate = 7\n|\")?",
        key in "(listen|lisen|Listen|listten|lsiten|listen_on)",
        between in "[ =:\"']{1,4}",
        value in "(off|Off|no|none|never|disabled|false|0|o f f|offf)?",
        after in "(\"|'|;|,|\\}| \\}| # vsock:22|\nmax_rate = 7|\u{fffd}|\u{201d})?",
    ) {
        let text = format!("{before}{key}{between}{value}{after}");
        prop_assert_eq!(listen(&text), Listen::Off);
    }

    #[test]
    fn a_socket_is_never_off(
        before in "(\\[bridge\\]\n|bridge\\.|\\[x\n|max_rate = 7\n)?",
        between in "( = |=| == |: | )[\"']?",
        value in "(vsock:22|vsock|22|unix:/run/x|/run/x|vosck|VSOCK:2222)",
        after in "(\"|'|;|,| # off|\nmax_rate = many|\u{201d})?",
    ) {
        let text = format!("{before}listen{between}{value}{after}");
        prop_assert!(listen(&text) != Listen::Off);
    }

    #[test]
    fn what_is_good_is_read_as_it_stands(rate in 1..1_000_000_u32, off in any::<bool>()) {
        let listen = if off { "off" } else { "vsock:2222" };
        let text = format!("[bridge]\nmax_rate = {rate}\nlisten = \"{listen}\"");
        prop_assert_eq!(salvage(&text).config, keys::parse(&text).unwrap());
    }
}
