use proptest::prelude::*;

use super::*;

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

/// The tunnel is off wherever the file may have switched it off.
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
    ] {
        assert_eq!(salvage(text).config.when, when, "{text}");
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
    fn what_is_good_is_read_as_it_stands(rate in 1..1_000_000_u32, off in any::<bool>()) {
        let listen = if off { "off" } else { "vsock:2222" };
        let text = format!("[bridge]\nmax_rate = {rate}\nlisten = \"{listen}\"");
        prop_assert_eq!(salvage(&text).config, keys::parse(&text).unwrap());
    }
}
