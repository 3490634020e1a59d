//! The tunnel comes up by every kind of key and pin, leads here, and says so truthfully.

use std::fs;

use harness::limits::SOON;
use harness::openssh::{TUNNEL_USER, make_key, sign};
use harness::scene::{OPTIONS, PORT, Scene};
use harness::ssh::Key;
use nix::sys::signal::Signal;
use serde_json::json;

/// An ECDSA key with a scalar of 31 bytes.
const SHORT: &str = include_str!("../agent/src/metadata/key/fixtures/p256.short.openssh");
const SHORT_PUBLIC: &str = include_str!("../agent/src/metadata/key/fixtures/p256.short.pub");

#[test]
fn it_comes_up_proven_and_a_login_goes_through_it() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let tunnel = agent.status().unwrap()["tunnel"].clone();
    assert_eq!(tunnel["proven"], true);
    assert_eq!(tunnel["proxy"], "127.0.0.1:2222");
    assert_eq!(
        (&tunnel["bind"], &tunnel["port"]),
        (&json!("0.0.0.0"), &json!(PORT))
    );
    assert_eq!(
        (&tunnel["attempt"], &tunnel["fault"]),
        (&json!(0), &json!(null))
    );
    assert_eq!(scene.login("tunnel", "echo inside").unwrap(), "inside\n");
    let ended = |status: &serde_json::Value| status["tunnel"]["open"] == 0;
    let status = agent.wait_for("end of the login", SOON, ended).unwrap();
    assert_eq!(status["tunnel"]["accepted"], 1, "the probe does not count");
    assert_eq!(status["health"], "ok", "{status:#}");
    let ways = status["ways_in"].as_array().unwrap();
    let command = json!("ssh -p 12345 root@127.0.0.1");
    assert!(
        ways.iter()
            .any(|way| way["via"] == "tunnel" && way["command"] == command)
    );
}

#[test]
fn every_kind_of_key_logs_in() {
    let scene = Scene::new().unwrap();
    // One ECDSA key in 512 is shorter than the others.
    let short = scene.agent_dir().join("key_short");
    fs::write(&short, SHORT).unwrap();
    fs::write(short.with_extension("pub"), SHORT_PUBLIC).unwrap();
    for kind in ["ed25519", "ecdsa", "short", "rsa"] {
        let key = make_key(&scene.agent_dir().join(format!("key_{kind}")), kind).unwrap();
        scene
            .proxy
            .authorize(OPTIONS, &key.public().unwrap())
            .unwrap();
        let host_key = scene.proxy.host_key("ed25519").unwrap();
        let document = scene
            .document_with("0.0.0.0", PORT, &host_key, &key, "")
            .unwrap();
        let agent = scene.agent(&document).unwrap();
        agent.tunnel("up", SOON).unwrap();
    }
}

#[test]
fn a_user_certificate_logs_in() {
    let scene = Scene::new().unwrap();
    let ca = make_key(&scene.agent_dir().join("ca"), "ed25519").unwrap();
    scene
        .proxy
        .authorize(&format!("cert-authority,{OPTIONS}"), &ca.public().unwrap())
        .unwrap();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = make_key(&scene.agent_dir().join(format!("key_{kind}")), kind).unwrap();
        let certificate = sign(&ca, &key, &["-n", TUNNEL_USER]).unwrap();
        let more = format!("    certificate: '{certificate}'\n");
        let host_key = scene.proxy.host_key("ed25519").unwrap();
        let document = scene
            .document_with("0.0.0.0", PORT, &host_key, &key, &more)
            .unwrap();
        let agent = scene.agent(&document).unwrap();
        agent.tunnel("up", SOON).unwrap();
    }
}

#[test]
fn every_kind_of_pin_is_accepted() {
    let scene = Scene::new().unwrap();
    scene
        .proxy
        .authorize(OPTIONS, &scene.key.public().unwrap())
        .unwrap();
    let mut pins = Vec::new();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let line = scene.proxy.host_key(kind).unwrap();
        pins.push(format!("proxy.example.org,127.0.0.1 {line}"));
        pins.push(line);
        // The proxy shows its ed25519 key first, whichever of them is pinned.
        pins.push(scene.proxy.fingerprint(kind).unwrap());
    }
    for pin in pins {
        let document = scene
            .document_with("0.0.0.0", PORT, &pin, &scene.key, "")
            .unwrap();
        let agent = scene.agent(&document).unwrap();
        agent
            .tunnel("up", SOON)
            .map_err(|failure| failure.during(pin))
            .unwrap();
    }
}

#[test]
fn a_host_certificate_by_a_pinned_authority_is_accepted_and_no_other() {
    let mut scene = Scene::new().unwrap();
    scene
        .proxy
        .authorize(OPTIONS, &scene.key.public().unwrap())
        .unwrap();
    let ca = make_key(&scene.agent_dir().join("ca"), "ed25519").unwrap();
    let stranger = make_key(&scene.agent_dir().join("stranger"), "ed25519").unwrap();
    let host = Key {
        path: scene.proxy.dir().join("host_ed25519"),
    };
    let certificate = format!("HostCertificate {}-cert.pub\n", host.path.display());
    let config = scene.proxy.dir().join("sshd_config");
    let before = fs::read_to_string(&config).unwrap();
    fs::write(&config, certificate + &before).unwrap();
    let pin = format!("@cert-authority * {}", ca.public().unwrap());
    for (signer, name, accepted) in [
        (&ca, "127.0.0.1", true),
        (&ca, "elsewhere.example.org", false),
        (&stranger, "127.0.0.1", false),
    ] {
        scene.proxy.stop();
        sign(signer, &host, &["-h", "-n", name]).unwrap();
        scene.proxy.start().unwrap();
        let document = scene
            .document_with("0.0.0.0", PORT, &pin, &scene.key, "")
            .unwrap();
        let agent = scene.agent(&document).unwrap();
        if accepted {
            agent.tunnel("up", SOON).unwrap();
        } else {
            agent.tunnel_fault("host-key-mismatch", SOON).unwrap();
        }
    }
}

#[test]
fn a_loopback_bind_is_proven_from_inside_the_proxy_or_said_to_be_unproven() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = scene
        .document_with("127.0.0.1", PORT, &host_key, &scene.key, "")
        .unwrap();
    let listen = "restrict,port-forwarding,permitlisten=\"127.0.0.1:12345\"";
    for (open, proven) in [("127.0.0.1:12345", true), ("127.0.0.1:1", false)] {
        scene.proxy.revoke_all().unwrap();
        scene
            .proxy
            .authorize(&format!("{listen},permitopen=\"{open}\""), &public)
            .unwrap();
        let agent = scene.agent(&document).unwrap();
        let status = agent.tunnel("up", SOON).unwrap();
        assert_eq!(status["tunnel"]["proven"], proven);
        assert_eq!(
            status["ways_in"][1]["command"]
                .as_str()
                .or(status["ways_in"][0]["command"].as_str()),
            Some("ssh -J 127.0.0.1:2222 -p 12345 root@127.0.0.1")
        );
        assert_eq!(scene.login("tunnel", "echo inside").unwrap(), "inside\n");
    }
}

#[test]
fn a_port_that_the_proxy_chooses_is_reported() {
    let scene = Scene::new().unwrap();
    scene
        .proxy
        .authorize("restrict,port-forwarding", &scene.key.public().unwrap())
        .unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = scene
        .document_with("0.0.0.0", 0, &host_key, &scene.key, "")
        .unwrap();
    let agent = scene.agent(&document).unwrap();
    let status = agent.tunnel("up", SOON).unwrap();
    let port = status["tunnel"]["port"].as_u64().unwrap();
    scene
        .client
        .add(
            "chosen",
            &["HostName 127.0.0.1".into(), format!("Port {port}")],
        )
        .unwrap();
    assert_eq!(scene.login("chosen", "echo inside").unwrap(), "inside\n");
}

#[test]
fn the_port_is_given_back_at_once_when_the_agent_stops() {
    let scene = Scene::new().unwrap();
    let mut agent = scene.up().unwrap();
    agent.signal(Signal::SIGTERM).unwrap();
    assert!(agent.ends(SOON).unwrap().success(), "{}", agent.log());
    assert!(
        scene
            .namespace
            .connect(([127, 0, 0, 1], PORT).into())
            .is_err()
    );
}
