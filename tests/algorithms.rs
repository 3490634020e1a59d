//! Proxies that accept one cipher, MAC, kind of host key or kind of user key only.

use std::time::Duration;

use harness::agent::Agent;
use harness::openssh::{Sshd, TUNNEL_USER, make_key, sign};
use harness::scene::{OPTIONS, PORT, Scene};

const SOON: Duration = Duration::from_secs(10);

/// A scene whose proxy has these lines, and lets the guest's key in.
fn scene(lines: &str) -> Scene {
    let scene = Scene::with_proxy(&format!("{lines}\n{}", Sshd::proxy_config())).unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    scene
}

/// The tunnel comes up, and transfers bytes during several key exchanges.
fn carries(scene: &Scene, document: &str, what: &str) {
    let agent = scene.agent(document).unwrap();
    agent
        .tunnel("up", 3 * SOON)
        .map_err(|failure| failure.during(what))
        .unwrap();
    let size = scene.login("tunnel", "head -c 1M /dev/zero").unwrap().len();
    assert_eq!(size, 1 << 20, "{what}");
}

/// The fault in the status for a proxy that has no algorithm in common with the agent.
fn refused(agent: &Agent) -> String {
    let status = agent.tunnel_fault("kex-failed", SOON).unwrap();
    let message = status["tunnel"]["fault"]["message"].as_str().unwrap();
    println!("{message}");
    message.to_owned()
}

#[test]
fn a_proxy_that_has_one_cipher_is_connected_to() {
    for cipher in [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
    ] {
        let scene = scene(&format!("Ciphers {cipher}\nRekeyLimit 64K"));
        carries(&scene, &scene.document().unwrap(), cipher);
    }
}

#[test]
fn a_proxy_that_has_one_mac_is_connected_to() {
    for (cipher, mac) in [
        ("aes256-ctr", "hmac-sha2-512-etm@openssh.com"),
        ("aes256-ctr", "hmac-sha2-256-etm@openssh.com"),
        ("aes256-ctr", "hmac-sha2-512"),
        ("aes256-ctr", "hmac-sha2-256"),
        ("aes256-ctr", "hmac-sha1-etm@openssh.com"),
        ("aes256-ctr", "hmac-sha1"),
        // A cipher with authentication needs no MAC.
        ("aes256-gcm@openssh.com", "umac-128-etm@openssh.com"),
    ] {
        let scene = scene(&format!("Ciphers {cipher}\nMACs {mac}\nRekeyLimit 64K"));
        carries(&scene, &scene.document().unwrap(), mac);
    }
}

#[test]
fn a_proxy_without_a_cipher_or_mac_that_the_agent_has_is_named_with_what_it_has() {
    for (lines, said) in [
        (
            "Ciphers aes128-cbc",
            "its Ciphers are aes128-cbc; this agent has ",
        ),
        (
            "Ciphers aes128-ctr\nMACs umac-128-etm@openssh.com",
            "its MACs are umac-128-etm@openssh.com; this agent has hmac-sha2-512-etm@openssh.com",
        ),
        (
            "HostKeyAlgorithms rsa-sha2-512",
            "its HostKeyAlgorithms are rsa-sha2-512; the pinned host_keys ask for ssh-ed25519",
        ),
    ] {
        let scene = scene(lines);
        let agent = scene.agent(&scene.document().unwrap()).unwrap();
        let message = refused(&agent);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_proxy_that_shows_one_kind_of_host_key_is_connected_to() {
    let dir = tempfile::tempdir().unwrap();
    for (algorithm, kind, bits) in [
        ("ssh-ed25519", "ed25519", None),
        ("ecdsa-sha2-nistp256", "ecdsa", None),
        ("ecdsa-sha2-nistp384", "ecdsa", Some("384")),
        ("ecdsa-sha2-nistp521", "ecdsa", Some("521")),
        ("rsa-sha2-256", "rsa", None),
        ("rsa-sha2-512", "rsa", None),
    ] {
        let own = bits.map(|bits| {
            let path = dir.path().join(bits);
            harness::openssh::make_key_of(&path, kind, bits).unwrap()
        });
        let line = own
            .iter()
            .map(|key| format!("HostKey {}\n", key.path.display()));
        let line: String = line.collect();
        let scene = scene(&format!(
            "{line}HostKeyAlgorithms {algorithm}\nRekeyLimit 64K"
        ));
        let public = match &own {
            Some(key) => key.public().unwrap(),
            None => scene.proxy.host_key(kind).unwrap(),
        };
        let document = scene.document_with("0.0.0.0", PORT, &public, &scene.key, "");
        carries(&scene, &document.unwrap(), algorithm);
    }
}

#[test]
fn a_proxy_that_accepts_one_signature_algorithm_lets_a_key_or_certificate_of_it_in() {
    for (algorithm, kind, bits) in [
        ("ssh-ed25519", "ed25519", None),
        ("ecdsa-sha2-nistp256", "ecdsa", Some("256")),
        ("ecdsa-sha2-nistp384", "ecdsa", Some("384")),
        ("ecdsa-sha2-nistp521", "ecdsa", Some("521")),
        ("rsa-sha2-512", "rsa", None),
        // The agent offers SHA-512 first.
        ("rsa-sha2-256", "rsa", None),
    ] {
        for certified in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let accepted = if certified {
                format!("{algorithm}-cert-v01@openssh.com")
            } else {
                algorithm.to_owned()
            };
            let line =
                format!("Match User {TUNNEL_USER}\nPubkeyAcceptedAlgorithms {accepted}\nMatch all");
            let scene = scene(&line);
            let path = dir.path().join("key");
            let key = match bits {
                Some(bits) => harness::openssh::make_key_of(&path, kind, bits),
                None => make_key(&path, kind),
            };
            let key = key.unwrap();
            let more = if certified {
                let ca = make_key(&dir.path().join("ca"), "ed25519").unwrap();
                let options = format!("cert-authority,{OPTIONS}");
                scene
                    .proxy
                    .authorize(&options, &ca.public().unwrap())
                    .unwrap();
                let certificate = sign(&ca, &key, &["-n", TUNNEL_USER]).unwrap();
                format!("    certificate: '{certificate}'\n")
            } else {
                scene
                    .proxy
                    .authorize(OPTIONS, &key.public().unwrap())
                    .unwrap();
                String::new()
            };
            let host_key = scene.proxy.host_key("ed25519").unwrap();
            let document = scene.document_with("0.0.0.0", PORT, &host_key, &key, &more);
            carries(&scene, &document.unwrap(), &accepted);
        }
    }
}
