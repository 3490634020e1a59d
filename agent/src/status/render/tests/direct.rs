//! A VM that is reached by its own address, and one whose certificate ends.

use super::*;
use crate::status::model::Certificate;

/// Gives the VM a public address, and takes its vsock away.
fn reached_directly(board: &Board) {
    board.nat().update(|nat| {
        nat.verdict = NatVerdict::OneToOne;
        nat.rule = "ec2 names 198.51.100.7, which is mapped to 10.0.0.5 on eth0".to_owned();
        nat.decision = TunnelDecision::NotNeeded;
        nat.address = Some("198.51.100.7".to_owned());
    });
    board.bridge().update(|bridge| {
        bridge.state = BridgeState::Waiting;
        bridge.cid = None;
        bridge.fault = fault(
            "vsock-unavailable",
            "no vsock in this kernel: Address family not supported by protocol (os error 97)",
            "Give the VM a vsock device, or set [bridge] listen = \"off\".",
            3 * 3600,
            4,
        );
    });
}

#[test]
fn a_public_address_is_the_way_in() {
    let board = quiet();
    reached_directly(&board);
    assert_reads(&board, include_str!("../golden/direct.txt"));
}

#[test]
fn a_public_address_without_sshd_behind_it_is_none() {
    let board = quiet();
    reached_directly(&board);
    board.sshd().update(|sshd| {
        sshd.state = SshdState::Waiting;
        sshd.fault = fault("sshd-down", "nobody listens there", "Start it.", 30, 9);
    });
    let text = rendered(&board);
    assert!(
        text.starts_with("degraded: this VM can't be reached\n"),
        "{text}"
    );
    assert!(text.contains("Ways in\n  none\n"), "{text}");
}

/// Gives the tunnel a certificate that ends in 3 days.
fn ending(tunnel: &mut Tunnel) {
    tunnel.certificate = Some(Certificate {
        key_id: "vm-12345".to_owned(),
        valid_after: Some(ago(27 * 86_400)),
        valid_before: Some(Timestamp(now() + Duration::from_secs(3 * 86_400))),
        warning: fault(
            "certificate-expiring",
            "the certificate \"vm-12345\" expires at 2026-02-03T10:00:00Z",
            "Sign the key again (ssh-keygen -s CA -I NAME -n USER -V SPAN KEY.pub) and put the new \
             certificate into the tunnel document. The metadata is read again before a login with \
             an expired one.",
            3 * 86_400,
            1,
        ),
    });
}

#[test]
fn a_certificate_that_ends_is_worth_knowing() {
    let board = quiet();
    board.tunnel().update(tunnel_up);
    board.tunnel().update(ending);
    assert_reads(&board, include_str!("../golden/certificate.txt"));
    // A tunnel that waits for the same reason has said it.
    board.tunnel().update(|tunnel| {
        tunnel.state = TunnelState::Waiting;
        tunnel.fault = tunnel
            .certificate
            .as_ref()
            .and_then(|certificate| certificate.warning.clone());
    });
    let text = rendered(&board);
    assert_eq!(text.matches("certificate-expiring").count(), 1, "{text}");
    assert!(!text.contains("Worth knowing"), "{text}");
}
