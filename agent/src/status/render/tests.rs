use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::status::board::Board;
use crate::status::model::{
    Forward, ForwardState, MetadataState, NatVerdict, OriginCount, RefusalCount, RefusalReason,
    Report, ReportState, Sshd, Tunnel, TunnelDecision,
};

mod direct;

/// The moment at which everything is rendered.
fn now() -> SystemTime {
    humantime::parse_rfc3339("2026-01-31T10:00:00Z").unwrap()
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp(now() - Duration::from_secs(seconds))
}

fn fault(code: &str, message: &str, advice: &str, seconds: u64, count: u64) -> Option<Fault> {
    Some(Fault {
        code: code.to_owned(),
        message: message.to_owned(),
        advice: advice.to_owned(),
        since: ago(seconds),
        count,
    })
}

/// A board on which everything is as new.
fn board() -> Board {
    let board = Board::new("127.0.0.1:22");
    board.bridge().update(|bridge| {
        bridge.since = ago(3);
        bridge.listen = Some("vsock:22".to_owned());
    });
    board.tunnel().update(|tunnel| tunnel.since = ago(3));
    board
}

/// A board on which nothing is wrong, and nothing asks for a tunnel.
fn quiet() -> Board {
    let board = board();
    board.bridge().update(|bridge| {
        bridge.state = BridgeState::Ready;
        bridge.since = ago(3 * 3600);
        bridge.cid = Some(42);
    });
    board.sshd().update(ready);
    board.metadata().update(|m| m.state = MetadataState::Absent);
    board.nat().update(|nat| {
        nat.verdict = NatVerdict::Nat;
        nat.rule = "only private addresses on the interfaces with a default route".to_owned();
    });
    board
}

fn ready(sshd: &mut Sshd) {
    sshd.state = SshdState::Ready;
    sshd.banner = Some("SSH-2.0-OpenSSH_10.0p2 Debian-7".to_owned());
    sshd.latency_ms = Some(0.42);
}

fn tunnel_up(tunnel: &mut Tunnel) {
    tunnel.state = TunnelState::Up;
    tunnel.since = ago(2 * 3600);
    tunnel.proxy = Some("proxy.example.org:22".to_owned());
    tunnel.bind = Some("0.0.0.0".to_owned());
    tunnel.port = Some(12345);
    tunnel.proven = true;
    tunnel.round_trip_ms = Some(1.42);
    tunnel.last_probe_at = Some(ago(20));
}

fn rendered(board: &Board) -> String {
    let mut status = board.subscribe().borrow().clone();
    status.version = "0.1.0".to_owned();
    render(&status, now(), false)
}

fn assert_reads(board: &Board, expected: &str) {
    let text = rendered(board);
    assert_eq!(text, expected, "\n{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn all_is_up() {
    let board = quiet();
    board.tunnel().update(tunnel_up);
    board.tunnel().update(|tunnel| {
        tunnel.open = 1;
        tunnel.accepted = 3;
        tunnel.forwards = vec![Forward {
            bind: "127.0.0.1".to_owned(),
            port: 12346,
            to: "127.0.0.1:80".to_owned(),
            state: ForwardState::Up,
            granted: true,
            fault: None,
            refused: 0,
            refusal: None,
        }];
        tunnel.origins = vec![OriginCount {
            origin: "198.51.100.7".to_owned(),
            seen_as: "127.201.16.3".to_owned(),
            accepted: 3,
        }];
    });
    board.bridge().update(|bridge| {
        bridge.accepted = 12;
        bridge.refused = 2;
        bridge.origins = vec![OriginCount {
            origin: "cid 2".to_owned(),
            seen_as: "127.1.0.2".to_owned(),
            accepted: 12,
        }];
    });
    board.metadata().update(|metadata| {
        metadata.state = MetadataState::Found;
        metadata.source = Some("openstack".to_owned());
        metadata.fetched_at = Some(ago(7200));
    });
    board
        .instance_id()
        .update(|id| *id = Some("i-0abc".to_owned()));
    board.restart_pending().update(|pending| *pending = true);
    board
        .host_keys()
        .update(|keys| keys.push("ssh-ed25519 AAAA".to_owned()));
    assert_reads(&board, include_str!("golden/all-up.txt"));
}

#[test]
fn the_tunnel_waits() {
    let board = quiet();
    board.tunnel().update(|tunnel| {
        tunnel.state = TunnelState::Waiting;
        tunnel.since = ago(14);
        tunnel.proxy = Some("proxy.example.org:22".to_owned());
        tunnel.attempt = 3;
        tunnel.next_attempt_at = Some(Timestamp(now() + Duration::from_secs(4)));
        tunnel.fault = fault(
            "host-key-mismatch",
            "proxy.example.org:22 showed the host key \
             SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU, which the metadata does not have",
            "Compare it with ssh-keyscan on a machine that you trust. If the proxy has a new \
             key, put it into host_keys of the tunnel document.",
            14,
            3,
        );
    });
    board.metadata().update(|metadata| {
        metadata.state = MetadataState::Found;
        metadata.source = Some("file".to_owned());
        metadata.fetched_at = Some(ago(15));
        metadata.warnings = vec!["tunnel.prot is unknown; did you mean \"port\"?".to_owned()];
    });
    assert_reads(&board, include_str!("golden/tunnel-waits.txt"));
}

/// Whoever is told about this VM did not listen.
fn unheard() -> Report {
    Report {
        to: ReportTarget::Url,
        url: "https://example.org/vms".to_owned(),
        state: ReportState::Failed,
        delivered_at: None,
        next_attempt_at: Some(Timestamp(now() + Duration::from_secs(40))),
        fault: fault(
            "report-failed",
            "https://example.org/vms answered a report with the HTTP status 503",
            "Look at the receiver's log; it is told again later.",
            50,
            2,
        ),
    }
}

#[test]
fn the_network_needs_no_tunnel_any_more_and_nobody_wants_to_know() {
    let board = quiet();
    board.tunnel().update(tunnel_up);
    board.nat().update(|nat| {
        nat.verdict = NatVerdict::OneToOne;
        nat.rule = "ec2 names 198.51.100.7, which is mapped to 10.0.0.5 on eth0".to_owned();
        nat.decision = TunnelDecision::NotNeeded;
        nat.held_until = Some(Timestamp(now() + Duration::from_secs(45)));
    });
    let attributes = Report {
        to: ReportTarget::GuestAttributes,
        ..unheard()
    };
    board
        .reports()
        .update(|reports| *reports = vec![attributes, unheard()]);
    board.metadata().update(|metadata| {
        metadata.state = MetadataState::Failed;
        metadata.source = Some("ec2".to_owned());
        metadata.fetched_at = Some(ago(7200));
        metadata.kept = true;
    });
    assert_reads(&board, include_str!("golden/not-needed.txt"));
}

#[test]
fn why_there_is_no_tunnel() {
    for (decision, words) in [
        (TunnelDecision::NotAsked, "off: nothing asks for it"),
        (TunnelDecision::Never, "off: it is not to be held"),
        (TunnelDecision::NotNeeded, "off: not needed"),
        (TunnelDecision::Needed, "off: it is about to be opened"),
    ] {
        let board = quiet();
        board.nat().update(|nat| nat.decision = decision);
        let text = rendered(&board);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn another_program_has_the_port() {
    let board = quiet();
    board.bridge().update(|bridge| {
        bridge.state = BridgeState::Foreign;
        bridge.since = ago(600);
        bridge.cid = None;
        bridge.fault = fault(
            "port-taken-unproven",
            "another program listens on vsock:22; where it leads can't be tried from here: No \
             such device (os error 19)",
            "If it is systemd's sshd-vsock.socket, systemctl enable vmagent.socket, then systemctl \
             restart vmagent takes the port over.",
            600,
            2,
        );
    });
    assert_reads(&board, include_str!("golden/foreign.txt"));
}

#[test]
fn nothing_is_asked_for() {
    let board = quiet();
    board.bridge().update(|bridge| {
        bridge.state = BridgeState::Off;
        bridge.listen = None;
        bridge.cid = None;
    });
    assert_reads(&board, include_str!("golden/nothing.txt"));
}

#[test]
fn sshd_is_down() {
    let board = quiet();
    let down = fault(
        "sshd-down",
        "nobody listens on 127.0.0.1:22: connection refused",
        "Start it: systemctl start ssh (or sshd); see systemctl status ssh. If it listens \
         elsewhere, set [bridge] sshd in /etc/vmagent/config.toml.",
        300,
        151,
    );
    board.sshd().update(|sshd| {
        sshd.state = SshdState::Waiting;
        sshd.fault.clone_from(&down);
    });
    board.bridge().update(|bridge| {
        bridge.state = BridgeState::Waiting;
        bridge.since = ago(300);
        bridge.fault.clone_from(&down);
        bridge.open = 1;
    });
    assert_reads(&board, include_str!("golden/sshd-down.txt"));
}

#[test]
fn some_were_turned_away_lately() {
    let board = quiet();
    let refusal = |origin: &str, reason, count, seconds| RefusalCount {
        origin: origin.to_owned(),
        reason,
        count,
        last_at: ago(seconds),
    };
    board.tunnel().update(|tunnel| {
        tunnel_up(tunnel);
        tunnel.refused = 9;
        let reason = RefusalReason::TooManyOfOrigin;
        tunnel.refusals = vec![refusal("203.0.113.9", reason, 9, 59)];
    });
    board.bridge().update(|bridge| {
        bridge.refused = 217;
        bridge.refusals = vec![
            refusal("cid 3", RefusalReason::SshdDown, 1, 601),
            refusal("cid 5", RefusalReason::CidNotAllowed, 2, 300),
            refusal("cid 2", RefusalReason::TooFast, 214, 20),
        ];
    });
    assert_reads(&board, include_str!("golden/refusals.txt"));
}

#[test]
fn it_starts() {
    assert_reads(&board(), include_str!("golden/starting.txt"));
}

#[test]
fn colour_changes_no_letter() {
    let status = quiet().subscribe().borrow().clone();
    let plain = render(&status, now(), false);
    let coloured = render(&status, now(), true);
    assert!(coloured.starts_with("\x1b[1;32mok\x1b[0m: "));
    let stripped: String = coloured
        .split("\x1b[")
        .enumerate()
        .map(|(i, text)| match text.split_once('m') {
            Some((_, rest)) if i > 0 => rest,
            _ => text,
        })
        .collect();
    assert_eq!(stripped, plain);
}

proptest! {
    #[test]
    fn nothing_from_outside_reaches_the_terminal_as_it_is(hostile in "\\PC{0,20}[\\x00-\\x1f\\x7f\u{9b}\u{202e}]\\PC{0,60}") {
        let board = quiet();
        board.sshd().update(|sshd| sshd.banner = Some(hostile.clone()));
        board.tunnel().update(|tunnel| {
            tunnel_up(tunnel);
            tunnel.proxy = Some(hostile.clone());
            tunnel.fault = fault(&hostile, &hostile, &hostile, 1, 1);
        });
        board.metadata().update(|metadata| metadata.warnings = vec![hostile.clone()]);
        board.instance_id().update(|id| *id = Some(hostile.clone()));
        let text = rendered(&board);
        let acts = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        prop_assert!(!text.contains(acts));
    }

    #[test]
    fn printable_text_is_left_alone(text in "[a-zA-Z0-9 äöü.:%@/-]*") {
        prop_assert_eq!(&printable(&text), &text);
    }
}
