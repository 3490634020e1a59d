use super::exchange::Step;
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_public_forward_is_dialled_over_the_families_that_sshd_listens_on() {
    let (v4, v6) = (ip("192.0.2.1"), ip("2001:db8::1"));
    let nat64 = ip("64:ff9b::c000:201");
    let both = [v6, v4];
    for (bind, peer, others, expected) in [
        ("0.0.0.0", v4, &both[..0], vec![v4]),
        ("0.0.0.0", v6, &both, vec![v4, v6]),
        ("0.0.0.0", nat64, &[nat64], vec![nat64]),
        ("::", v6, &both[..0], vec![v6]),
        ("::", v4, &both, vec![v6, v4]),
        ("*", v4, &both[..0], vec![v4]),
        ("", v6, &both[..0], vec![v6]),
        ("198.51.100.7", v4, &both[..0], vec![ip("198.51.100.7")]),
        ("2001:db8::7", v4, &both[..0], vec![ip("2001:db8::7")]),
    ] {
        assert_eq!(
            reach(bind, peer, others),
            Reach::Everybody(expected),
            "{bind:?} {peer}"
        );
    }
    for bind in ["127.0.0.1", "127.64.0.9", "::1", "localhost", "web1.vm"] {
        assert_eq!(reach(bind, v4, &[]), Reach::Proxy, "{bind:?}");
    }
}

#[test]
fn from_inside_the_proxy_a_bind_is_dialled_as_it_is_where_it_is_an_address() {
    for (bind, expected) in [
        ("0.0.0.0", "127.0.0.1"),
        ("*", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("::", "::1"),
        ("10.0.0.7", "10.0.0.7"),
        ("127.64.0.9", "127.64.0.9"),
        ("::1", "::1"),
        ("web1.vm", "web1.vm"),
    ] {
        assert_eq!(inside(bind), expected, "{bind:?}");
    }
}

#[test]
fn only_the_greeting_of_a_probe_of_this_session_opens_it_also_when_it_is_late() {
    let desk = Desk::default();
    assert_eq!(desk.expected(), None);
    let nonces: Vec<_> = (0..12).map(Nonce::test).collect();
    for nonce in &nonces {
        desk.begin(*nonce);
        desk.sent();
        assert!(desk.expected().unwrap().soon);
        desk.end();
        assert!(!desk.expected().unwrap().soon);
    }
    let expected = desk.expected().unwrap();
    let latest = nonces[11];
    assert_eq!(expected.find(latest.greeting().as_bytes()), Some(latest));
    for other in ["", "SSH-2.0-OpenSSH_10.0\r\n", &nonces[0].greeting()] {
        assert_eq!(expected.find(other.as_bytes()), None, "{other:?}");
    }
    desk.arrived(latest);
    let expected = desk.expected().unwrap();
    assert_eq!(expected.find(latest.greeting().as_bytes()), None);
    // A probe that never had a connection has no nonce on its way.
    let quiet = Desk::default();
    quiet.begin(latest);
    quiet.end();
    assert_eq!(quiet.expected(), None);
}

fn talk_to(padded: bool, said: &[&[u8]]) -> (Vec<Step>, Verdict) {
    let mut exchange = Exchange::new(Nonce::test(7), padded);
    let steps = said.iter().map(|bytes| exchange.take(bytes)).collect();
    exchange.late();
    (steps, exchange.verdict())
}

#[test]
fn an_exchange_proves_small_packets_and_then_full_ones() {
    let nonce = Nonce::test(7);
    let proof = nonce.proof(&Ok(format!("SSH-2.0-{}", "x".repeat(247))));
    let whole = nonce.whole();
    let (steps, verdict) = talk_to(false, &[proof.as_bytes()]);
    assert_eq!((steps, verdict), (vec![Step::Done], Verdict::Answered));
    let (steps, verdict) = talk_to(true, &[proof.as_bytes()]);
    assert!(matches!(&steps[..], [Step::Send(padding)] if padding.len() == PADDING));
    assert_eq!(verdict, Verdict::PaddingLost);
    let (first, second) = whole.split_at(1000);
    let (steps, verdict) = talk_to(true, &[proof.as_bytes(), first, second]);
    assert_eq!(steps[1..], [Step::Read, Step::Done]);
    assert_eq!(verdict, Verdict::Answered);
}

#[test]
fn a_connection_that_is_closed_after_the_proof_has_lost_no_packets() {
    let nonce = Nonce::test(7);
    let mut exchange = Exchange::new(nonce, true);
    exchange.take(nonce.proof(&Ok("SSH-2.0-x".to_owned())).as_bytes());
    assert_eq!(exchange.verdict(), Verdict::Answered);
}

#[test]
fn other_answers_are_told_apart() {
    let down = Nonce::test(7).proof(&Err("nobody listens".to_owned()));
    let late = format!(
        "SSH-2.0-OpenSSH_10.0\r\n{}",
        Nonce::test(7).proof(&Ok("SSH-2.0-x".to_owned()))
    );
    let endless = vec![b'x'; 100_000];
    let stranger = Nonce::test(8).proof(&Ok("SSH-2.0-x".to_owned()));
    for (said, expected) in [
        (
            down.as_bytes(),
            Verdict::SshdDown("nobody listens".to_owned()),
        ),
        (late.as_bytes(), Verdict::Answered),
        (b"", Verdict::Silent),
        (
            b"SSH-2.0-other\r\n",
            Verdict::Other("SSH-2.0-other".to_owned()),
        ),
        (&endless, Verdict::Other("x".repeat(80))),
        (
            stranger.as_bytes(),
            Verdict::Other(stranger.trim_end().to_owned()),
        ),
    ] {
        assert_eq!(talk_to(false, &[said]).1, expected);
    }
}

fn code(probe: &Probe) -> (&'static str, &'static str) {
    use crate::explain::Explain;
    match probe {
        Probe::Answered | Probe::Carried => ("answered", ""),
        Probe::Untried(fault) => ("untried", fault.code()),
        Probe::Partial(fault) => ("partial", fault.code()),
        Probe::Failed(fault) => ("failed", fault.code()),
    }
}

#[test]
fn both_ways_together_say_how_much_is_known() {
    let target = || "port 1 on 0.0.0.0".to_owned();
    let text = String::new;
    let dropped = || {
        Doubt::Other(Fault::NotReachable {
            target: text(),
            detail: text(),
            refused: false,
        })
    };
    let stranger = || {
        Doubt::Other(Fault::WrongGuest {
            target: text(),
            banner: text(),
        })
    };
    let no_sshd = Doubt::Other(Fault::SshdDown {
        address: text(),
        detail: text(),
    });
    let refused = || Doubt::Refused(text());
    let no_way = || Doubt::NoWay(text());
    for (outside, inside, expected) in [
        (None, Met::Answered, ("answered", "")),
        (None, Met::Forbidden, ("untried", "unproven")),
        (None, Met::Doubt(refused()), ("failed", "not-reachable")),
        (None, Met::Doubt(stranger()), ("failed", "wrong-guest")),
        // GatewayPorts no, or a firewall that refuses this guest.
        (Some(refused()), Met::Answered, ("failed", "not-reachable")),
        (Some(refused()), Met::Forbidden, ("failed", "not-reachable")),
        (
            Some(refused()),
            Met::Doubt(refused()),
            ("failed", "not-reachable"),
        ),
        // A firewall that drops, with and without permitopen.
        (Some(dropped()), Met::Answered, ("partial", "not-reachable")),
        (Some(dropped()), Met::Forbidden, ("untried", "unproven")),
        (
            Some(dropped()),
            Met::Doubt(refused()),
            ("failed", "not-reachable"),
        ),
        (
            Some(dropped()),
            Met::Doubt(dropped()),
            ("failed", "not-reachable"),
        ),
        // A guest without that family.
        (Some(no_way()), Met::Answered, ("untried", "unproven")),
        (Some(no_way()), Met::Forbidden, ("untried", "unproven")),
        (
            Some(no_way()),
            Met::Doubt(refused()),
            ("failed", "not-reachable"),
        ),
        // A middlebox that answers everything, and another guest.
        (Some(stranger()), Met::Answered, ("failed", "wrong-guest")),
        (Some(stranger()), Met::Forbidden, ("failed", "wrong-guest")),
        (
            Some(stranger()),
            Met::Doubt(stranger()),
            ("failed", "wrong-guest"),
        ),
        (
            Some(refused()),
            Met::Doubt(no_sshd),
            ("failed", "sshd-down"),
        ),
    ] {
        let shown = format!("{outside:?} {inside:?}");
        assert_eq!(
            code(&judge(target(), outside, inside, false)),
            expected,
            "{shown}"
        );
    }
    let private = judge(target(), Some(no_way()), Met::Answered, true);
    assert_eq!(private, Probe::Answered);
}
