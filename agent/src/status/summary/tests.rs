use super::*;
use crate::status::board::Board;
use crate::status::model::{Fault, Forward, ForwardState, Timestamp};

mod ways;

/// A machine on which all is well and nothing is asked of the tunnel.
fn well() -> Status {
    let mut status = Board::new("127.0.0.1:22").subscribe().borrow().clone();
    status.bridge.state = BridgeState::Ready;
    status.bridge.listen = Some("vsock:22".to_owned());
    status.bridge.cid = Some(42);
    status.metadata.state = MetadataState::Absent;
    status
}

fn fault(code: &str) -> Option<Fault> {
    Some(Fault {
        code: code.to_owned(),
        message: String::new(),
        advice: String::new(),
        since: Timestamp::now(),
        count: 1,
    })
}

fn after(change: impl FnOnce(&mut Status)) -> Health {
    let mut status = well();
    change(&mut status);
    health(&status)
}

#[test]
fn what_should_be_up_and_is_not_degrades() {
    assert_eq!(health(&well()), Health::Ok);
    assert_eq!(after(|s| s.tunnel.state = TunnelState::Up), Health::Ok);
    for state in [TunnelState::Waiting, TunnelState::PortHeld] {
        assert_eq!(after(|s| s.tunnel.state = state), Health::Degraded);
    }
    for state in [TunnelState::Opening, TunnelState::Proving] {
        assert_eq!(after(|s| s.tunnel.state = state), Health::Starting);
        let again = after(|s| {
            s.tunnel.state = state;
            s.tunnel.fault = fault("dial-failed");
        });
        assert_eq!(again, Health::Degraded);
    }
    for state in [BridgeState::Foreign, BridgeState::Off] {
        assert_eq!(after(|s| s.bridge.state = state), Health::Ok);
    }
    assert_eq!(
        after(|s| s.metadata.state = MetadataState::Looking),
        Health::Starting
    );
}

#[test]
fn a_forward_that_is_refused_degrades_a_tunnel_that_is_up() {
    let with = |fault: Option<Fault>| {
        after(|s| {
            s.tunnel.state = TunnelState::Up;
            s.tunnel.forwards.push(Forward {
                bind: "127.0.0.1".to_owned(),
                port: 8080,
                to: "127.0.0.1:80".to_owned(),
                state: ForwardState::Denied,
                granted: fault.is_none(),
                fault,
                refused: 0,
                refusal: None,
            });
        })
    };
    assert_eq!(with(None), Health::Ok);
    assert_eq!(with(fault("forward-denied")), Health::Degraded);
}

#[test]
fn a_missing_metadata_service_counts_once_a_document_was_found() {
    for (code, source, expected) in [
        ("metadata-unreachable", None, Health::Ok),
        ("metadata-http", None, Health::Ok),
        ("document-invalid", None, Health::Degraded),
        ("metadata-unreachable", Some("ec2"), Health::Degraded),
    ] {
        let health = after(|s| {
            s.metadata.state = MetadataState::Failed;
            s.metadata.fault = fault(code);
            s.metadata.source = source.map(str::to_owned);
        });
        assert_eq!(health, expected, "{code} {source:?}");
    }
}

#[test]
fn without_vsock_the_tunnel_is_enough() {
    for (code, tunnel, expected) in [
        ("vsock-unavailable", TunnelState::Up, Health::Ok),
        ("vsock-unavailable", TunnelState::Off, Health::Degraded),
        ("vsock-unavailable", TunnelState::Waiting, Health::Degraded),
        ("sshd-down", TunnelState::Up, Health::Degraded),
    ] {
        let health = after(|s| {
            s.bridge.state = BridgeState::Waiting;
            s.bridge.fault = fault(code);
            s.tunnel.state = tunnel;
        });
        assert_eq!(health, expected, "{code} {tunnel:?}");
    }
}

#[test]
fn a_document_on_its_way_to_the_tunnel_is_starting() {
    // Found, and not decided upon; then decided, and not taken up; then taken up.
    assert_eq!(after(|s| s.metadata.stirred = true), Health::Starting);
    assert_eq!(after(|s| s.metadata.revision = 1), Health::Starting);
    for decision in [TunnelDecision::Always, TunnelDecision::Needed] {
        let decided = |s: &mut Status| {
            s.metadata.revision = 1;
            s.nat.revision = 1;
            s.nat.decision = decision;
        };
        assert_eq!(after(decided), Health::Starting);
        let handed_over = after(|s| {
            decided(s);
            s.nat.wanted = 1;
        });
        assert_eq!(handed_over, Health::Starting);
        // Whatever the tunnel of the document before does meanwhile.
        for (state, taken, expected) in [
            (TunnelState::Up, 0, Health::Starting),
            (TunnelState::Closing, 1, Health::Starting),
            (TunnelState::Off, 1, Health::Starting),
            (TunnelState::Opening, 1, Health::Starting),
            (TunnelState::Up, 1, Health::Ok),
        ] {
            let health = after(|s| {
                decided(s);
                s.nat.wanted = 1;
                s.tunnel.wanted = taken;
                s.tunnel.state = state;
            });
            assert_eq!(health, expected, "{state:?}, {taken}");
        }
    }
    // A tunnel that is kept for a while is wanted as well; one that is not may close in peace.
    for (kept, expected) in [(true, Health::Starting), (false, Health::Ok)] {
        let health = after(|s| {
            s.nat.decision = TunnelDecision::NotNeeded;
            s.nat.held_until = kept.then(Timestamp::now);
            s.tunnel.state = TunnelState::Closing;
        });
        assert_eq!(health, expected);
    }
}

#[test]
fn without_vsock_a_public_address_is_enough() {
    for (verdict, banner, fault_of_sshd, expected) in [
        (NatVerdict::Direct, true, None, Health::Ok),
        (NatVerdict::OneToOne, true, None, Health::Ok),
        (NatVerdict::Nat, true, None, Health::Degraded),
        (NatVerdict::Unknown, true, None, Health::Degraded),
        (NatVerdict::Direct, false, None, Health::Starting),
        (
            NatVerdict::Direct,
            false,
            Some("sshd-down"),
            Health::Degraded,
        ),
    ] {
        for decision in [
            TunnelDecision::NotAsked,
            TunnelDecision::NotNeeded,
            TunnelDecision::Never,
        ] {
            let health = after(|s| {
                s.bridge.state = BridgeState::Waiting;
                s.bridge.fault = fault("vsock-unavailable");
                s.nat.verdict = verdict;
                s.nat.decision = decision;
                if banner {
                    s.sshd.state = SshdState::Ready;
                }
                s.sshd.fault = fault_of_sshd.and_then(fault);
            });
            assert_eq!(
                health, expected,
                "{verdict:?} {decision:?} {fault_of_sshd:?}"
            );
        }
    }
    // Before all is known it is not given up.
    let early = after(|s| {
        s.bridge.state = BridgeState::Waiting;
        s.bridge.fault = fault("vsock-unavailable");
        s.metadata.state = MetadataState::Looking;
    });
    assert_eq!(early, Health::Starting);
}
