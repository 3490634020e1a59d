use super::*;
use crate::config::HttpUrl;
use crate::status::model::{MetadataState, TunnelDecision, TunnelState};

fn whole(change: impl FnOnce(&Board)) -> Option<serde_json::Value> {
    let board = Board::new("127.0.0.1:22");
    board.metadata().update(|m| m.state = MetadataState::Found);
    board
        .nat()
        .update(|nat| nat.decision = TunnelDecision::Always);
    board
        .host_keys()
        .update(|keys| *keys = vec!["ssh-ed25519 AAAA".to_owned()]);
    board
        .instance_id()
        .update(|id| *id = Some("i-1".to_owned()));
    change(&board);
    let status = board.subscribe().borrow().clone();
    let message = Message::of(ReportTarget::Url, &status)?;
    Some(serde_json::to_value(message).unwrap())
}

#[test]
fn a_report_says_who_by_which_keys_and_on_which_port() {
    let report = whole(|board| {
        board.tunnel().update(|tunnel| {
            tunnel.state = TunnelState::Up;
            tunnel.proxy = Some("proxy.example.org:22".to_owned());
            tunnel.bind = Some("0.0.0.0".to_owned());
            tunnel.port = Some(40_001);
            tunnel.proven = true;
            tunnel.public_host = Some("gate.example.org".to_owned());
            tunnel.key = Some("SHA256:abc".to_owned());
        });
        board
            .host_name()
            .update(|name| *name = Some("web1".to_owned()));
    });
    let expected = serde_json::json!({
        "schema": 1,
        "instance_id": "i-1",
        "host_name": "web1",
        "user": "root",
        "host_keys": ["ssh-ed25519 AAAA"],
        "tunnel": {
            "state": "up", "key": "SHA256:abc", "proxy": "proxy.example.org:22",
            "public_host": "gate.example.org", "bind": "0.0.0.0", "port": 40_001,
            "proven": true,
        },
    });
    assert_eq!(report, Some(expected));
}

#[test]
fn only_what_may_last_is_told() {
    for (state, told) in [
        (TunnelState::Up, Some("up")),
        (TunnelState::Waiting, Some("down")),
        (TunnelState::PortHeld, Some("down")),
        (TunnelState::Opening, None),
        (TunnelState::Proving, None),
        (TunnelState::Closing, None),
        // It is wanted, and about to be opened.
        (TunnelState::Off, None),
    ] {
        let report = whole(|board| board.tunnel().update(|tunnel| tunnel.state = state));
        let said = report.map(|report| report["tunnel"]["state"].as_str().unwrap().to_owned());
        assert_eq!(said.as_deref(), told, "{state:?}");
    }
    let off = |decision| {
        let report = whole(|board| board.nat().update(|nat| nat.decision = decision));
        report.is_some_and(|report| report["tunnel"]["state"] == "off")
    };
    assert!(off(TunnelDecision::NotAsked) && off(TunnelDecision::NotNeeded));
    let looking = |board: &Board| {
        board
            .metadata()
            .update(|m| m.state = MetadataState::Looking);
        board
            .tunnel()
            .update(|tunnel| tunnel.state = TunnelState::Up);
    };
    assert_eq!(whole(looking), None);
}

#[test]
fn guest_attributes_wait_for_a_key() {
    let board = Board::new("127.0.0.1:22");
    let message = |board: &Board| {
        let status = board.subscribe().borrow().clone();
        Message::of(ReportTarget::GuestAttributes, &status)
    };
    assert_eq!(message(&board), None);
    board
        .host_keys()
        .update(|keys| *keys = vec!["ssh-ed25519 AAAA".to_owned()]);
    assert!(message(&board).is_some());
}

#[test]
fn nobody_is_told_unless_asked_for() {
    let board = Board::new("127.0.0.1:22");
    let told = |config: &Config| reporters(config, &board).len();
    let mut config = Config {
        guest_attributes: GuestAttributes::Never,
        ..Config::default()
    };
    assert_eq!(told(&config), 0);
    config.guest_attributes = GuestAttributes::Always;
    config.report_url = ReportUrl::Fixed(HttpUrl::parse("http://example.org/").unwrap());
    assert_eq!(told(&config), 2);
    let shown = board.subscribe().borrow().reports.clone();
    assert_eq!(shown[1].url, "http://example.org/");
    assert!(
        shown
            .iter()
            .all(|report| report.state == ReportState::Pending)
    );
}
