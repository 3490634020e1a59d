//! Nothing is sent to a proxy that does not prove who it is, and a rejected key is looked up again.

use harness::limits::SOON;
use harness::openssh::make_key;
use harness::scene::{OPTIONS, PORT, Scene};
use serde_json::json;

#[test]
fn no_login_is_tried_at_a_proxy_with_a_wrong_host_key_and_the_right_pin_mends_it() {
    let scene = Scene::new().unwrap();
    scene
        .proxy
        .authorize(OPTIONS, &scene.key.public().unwrap())
        .unwrap();
    let stranger = make_key(&scene.agent_dir().join("stranger"), "ed25519").unwrap();
    let wrong = scene
        .document_with("0.0.0.0", PORT, &stranger.public().unwrap(), &scene.key, "")
        .unwrap();
    let agent = scene.agent(&wrong).unwrap();
    let status = agent.tunnel_fault("host-key-mismatch", SOON).unwrap();
    let message = status["tunnel"]["fault"]["message"].as_str().unwrap();
    assert!(
        message.contains(&scene.proxy.fingerprint("ed25519").unwrap()),
        "{message}"
    );
    agent.write_document(&scene.document().unwrap()).unwrap();
    agent.tunnel("up", SOON).unwrap();
    // Of all the connections, one only got as far as to say who it is.
    let log = scene.proxy.log();
    assert_eq!(log.matches("Accepted publickey").count(), 1, "{log}");
    for attempt in [
        "Failed publickey",
        "Invalid user",
        "Connection closed by authenticating user",
    ] {
        assert!(!log.contains(attempt), "{log}");
    }
}

#[test]
fn what_is_secret_is_nowhere_to_be_seen() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let private = scene.key.private().unwrap();
    // The lines in the middle of the file are nothing but key.
    let secrets: Vec<&str> = private
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let process = |file: &str| {
        let bytes = std::fs::read(format!("/proc/{}/{file}", agent.id())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let seen = [
        ("the log", agent.log()),
        ("the status", agent.status().unwrap().to_string()),
        ("the environment", process("environ")),
        ("the command line", process("cmdline")),
    ];
    for (place, text) in seen {
        for secret in &secrets {
            assert!(!text.contains(secret), "{place} shows the private key");
        }
    }
    // No core dump either.
    let limits = process("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[test]
fn a_proxy_that_is_not_pinned_at_all_is_a_fault_of_the_document() {
    let scene = Scene::new().unwrap();
    let document = scene.document().unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = document.replace(&format!("['{host_key}']"), "[]");
    let agent = scene.agent(&document).unwrap();
    let failed = |status: &serde_json::Value| status["metadata"]["state"] == "failed";
    let status = agent.wait_for("failed metadata", SOON, failed).unwrap();
    let message = status["metadata"]["fault"]["message"].as_str().unwrap();
    assert!(message.contains("tunnel.proxies[0].host_keys"), "{message}");
    assert_eq!(status["tunnel"]["state"], json!("off"));
}
