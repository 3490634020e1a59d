//! The tunnel comes up by every kind of key and pin, leads here, and says so truthfully.

use std::process::Command;
use std::time::Duration;

use harness::openssh::{Sshd, TUNNEL_USER, make_key};
use harness::process;
use harness::scene::{OPTIONS, PORT, Scene};
use harness::ssh::Key;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

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
    assert!(ways.contains(&json!({"via": "tunnel", "command": "ssh -p 12345 root@127.0.0.1"})));
}

#[test]
fn every_kind_of_key_logs_in() {
    let scene = Scene::new().unwrap();
    for kind in ["ed25519", "ecdsa", "rsa"] {
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
        sign(&ca, &key, &["-n", TUNNEL_USER]);
        let certificate =
            std::fs::read_to_string(key.path.with_file_name(format!("key_{kind}-cert.pub")));
        let more = format!("    certificate: '{}'\n", certificate.unwrap().trim());
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
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, certificate + &before).unwrap();
    let pin = format!("@cert-authority * {}", ca.public().unwrap());
    for (signer, name, accepted) in [
        (&ca, "127.0.0.1", true),
        (&ca, "elsewhere.example.org", false),
        (&stranger, "127.0.0.1", false),
    ] {
        scene.proxy.stop();
        sign(signer, &host, &["-h", "-n", name]);
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

fn sign(ca: &Key, key: &Key, options: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-s"])
        .arg(&ca.path)
        .args(["-I", "vmagent-test"])
        .args(options);
    process::run(command.arg(key.path.with_extension("pub"))).unwrap();
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
fn another_service_is_forwarded_and_a_refused_one_takes_nothing_down() {
    let scene = Scene::new().unwrap();
    let options = format!("{OPTIONS},permitlisten=\"127.0.0.1:8080\"");
    scene
        .proxy
        .authorize(&options, &scene.key.public().unwrap())
        .unwrap();
    let more = "    forwards:\n      - {bind: 127.0.0.1, port: 8080, to: '127.0.0.1:80'}\n      \
                - {bind: 127.0.0.1, port: 8081, to: '127.0.0.1:80'}\n";
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = scene
        .document_with("0.0.0.0", PORT, &host_key, &scene.key, more)
        .unwrap();
    let service = scene.namespace.listen(([127, 0, 0, 1], 80).into()).unwrap();
    let agent = scene.agent(&document).unwrap();
    let status = agent.tunnel("up", SOON).unwrap();
    let granted = |index: usize| status["tunnel"]["forwards"][index]["granted"].clone();
    assert_eq!(
        (granted(0), granted(1)),
        (json!(true), json!(false)),
        "{status:#}"
    );
    assert_eq!(
        status["tunnel"]["forwards"][1]["fault"]["code"],
        "port-held"
    );
    let mut user = scene
        .namespace
        .connect(([127, 0, 0, 1], 8080).into())
        .unwrap();
    let (mut server, _) = service.accept().unwrap();
    use std::io::{Read, Write};
    user.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    server.read_exact(&mut heard).unwrap();
    server.write_all(b"pong").unwrap();
    user.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"pong");
}

#[test]
fn a_held_port_is_taken_once_it_is_free_without_another_login() {
    let scene = Scene::new().unwrap();
    scene
        .proxy
        .authorize(OPTIONS, &scene.key.public().unwrap())
        .unwrap();
    let squatter = scene.namespace.listen(([0, 0, 0, 0], PORT).into()).unwrap();
    let agent = scene.agent(&scene.document().unwrap()).unwrap();
    let status = agent.tunnel("port-held", SOON).unwrap();
    assert_eq!(status["tunnel"]["fault"]["code"], "port-held");
    drop(squatter);
    agent.tunnel("up", SOON).unwrap();
    assert_eq!(scene.proxy.log().matches("Accepted publickey").count(), 1);
}

#[test]
fn the_port_is_given_back_at_once_when_the_agent_stops() {
    let scene = Scene::new().unwrap();
    let mut agent = scene.up().unwrap();
    agent.signal(Signal::SIGTERM).unwrap();
    assert!(
        agent.ends(Duration::from_secs(5)).unwrap().success(),
        "{}",
        agent.log()
    );
    assert!(
        scene
            .namespace
            .connect(([127, 0, 0, 1], PORT).into())
            .is_err()
    );
}

#[test]
fn a_document_without_a_tunnel_gives_the_port_back() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    agent.write_document("vmagent: {version: 1}").unwrap();
    let status = agent.tunnel("off", Duration::from_secs(5)).unwrap();
    assert_eq!(status["tunnel"]["fault"], json!(null));
    assert!(
        scene
            .namespace
            .connect(([127, 0, 0, 1], PORT).into())
            .is_err()
    );
}

#[test]
fn a_public_bind_that_the_proxy_keeps_to_itself_is_not_called_up() {
    // Loopback is not the only address of this proxy, and the guest dials the other one.
    let refusing = Sshd::proxy_config().replace("GatewayPorts clientspecified", "GatewayPorts no");
    let config = format!("ListenAddress 169.254.169.254:2222\n{refusing}");
    let mut scene = Scene::with_proxy(&config).unwrap();
    scene
        .proxy
        .authorize(OPTIONS, &scene.key.public().unwrap())
        .unwrap();
    let document = scene
        .document()
        .unwrap()
        .replace("host: 127.0.0.1", "host: 169.254.169.254");
    let agent = scene.agent(&document).unwrap();
    let status = agent.tunnel_fault("not-reachable", SOON).unwrap();
    assert_ne!(status["tunnel"]["state"], "up");
    assert_eq!(status["health"], "degraded");
    scene.proxy.stop();
    let path = scene.proxy.dir().join("sshd_config");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        config.replace("GatewayPorts no", "GatewayPorts clientspecified"),
    )
    .unwrap();
    scene.proxy.start().unwrap();
    // The session that there is has the old configuration, and is given up in the end.
    agent.tunnel("up", Duration::from_secs(40)).unwrap();
}

#[test]
fn a_proxy_that_falls_silent_is_noticed_and_come_back_to() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let sessions = scene.proxy.sessions().unwrap();
    let frozen = Frozen::new(&sessions);
    // Fault: the session's processes stop. It is noticed in 15 s; on a busy machine a little later.
    agent
        .tunnel_fault("keepalive-lost", Duration::from_secs(18))
        .unwrap();
    // The old session still holds the port; a new one asks for it until it is free.
    agent.tunnel("port-held", SOON).unwrap();
    // Cure: they go on, and find the connection gone.
    drop(frozen);
    agent.tunnel("up", SOON).unwrap();
}

/// Processes that are stopped until this is dropped.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn new(processes: &[Pid]) -> Self {
        assert!(!processes.is_empty());
        for process in processes {
            kill(*process, Signal::SIGSTOP).unwrap();
        }
        Self(processes.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            let _ = kill(*process, Signal::SIGCONT);
        }
    }
}
