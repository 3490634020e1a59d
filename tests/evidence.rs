//! A probe is evidence, not a verdict: where it can't be made, or fails though users come in, the
//! tunnel stays up, says so, and cuts nobody.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use harness::agent::{self, Agent};
use harness::fault::Rules;
use harness::hosts::Hosts;
use harness::limits::{PROGRAM, SOON};
use harness::netns::Namespace;
use harness::openssh::Sshd;
use harness::scene::{OPTIONS, PORT, Scene};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const NAME: &str = "proxy.test";
/// Addresses of the proxy; the guest, in the same namespace, has them as well.
const V4: &str = "10.99.0.1";
const V6: &str = "fd00:99::1";
/// The address of a user.
const USER: &str = "10.99.0.9";
fn ip(namespace: &Arc<Namespace>, arguments: &str) {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    namespace.run(&command, PROGRAM).unwrap();
}

/// A proxy that listens on `listen` and is known by a name with both addresses.
struct World {
    scene: Scene,
    agent: Agent,
    _hosts: Hosts,
}

impl World {
    /// With this added to the proxy's configuration, `options` in the key's line, and this bind.
    fn new(config: &str, listen: &str, options: &str, bind: &str) -> Self {
        let config = format!("ListenAddress {listen}\n{config}");
        // The addresses have to be there before sshd binds them.
        let scene = Scene::with_addresses(&[V4, V6, USER], &config).unwrap();
        let public = scene.key.public().unwrap();
        scene.proxy.authorize(options, &public).unwrap();
        let lines = |address: &str| {
            [
                format!("HostName {address}"),
                format!("Port {PORT}"),
                "HostKeyAlias guest".to_owned(),
            ]
        };
        let mut user = lines(V4).to_vec();
        user.push(format!("BindAddress {USER}"));
        scene.client.add("user", &user).unwrap();
        scene.client.add("user6", &lines(V6)).unwrap();
        let hosts = Hosts::new(&scene.agent_dir(), &[(V6, NAME), (V4, NAME)]).unwrap();
        let document = scene.document().unwrap();
        let document = document
            .replace(
                "host: 127.0.0.1, port: 2222",
                &format!("host: {NAME}, port: 2223"),
            )
            .replace("bind: '0.0.0.0'", &format!("bind: '{bind}'"));
        assert!(document.contains(NAME));
        let dir = scene.agent_dir();
        agent::write_document(&dir, &document).unwrap();
        let wrap = |command| hosts.wrap(&command);
        let agent = Agent::start_by(&scene.namespace, &dir, &[], wrap).unwrap();
        Self {
            scene,
            agent,
            _hosts: hosts,
        }
    }

    /// A user who has heard sshd's banner, from [`USER`].
    fn user(&self) -> TcpStream {
        let target: SocketAddr = format!("{V4}:{PORT}").parse().unwrap();
        let from: SocketAddr = format!("{USER}:0").parse().unwrap();
        let mut stream = self.scene.namespace.connect_from(from, target).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"SSH-");
        stream
    }

    fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.agent.wait_for(what, SOON, condition).unwrap()
    }

    fn granted(&self) {
        self.wait("granted forward", |status| {
            let state = &status["tunnel"]["state"];
            state == "proving" || state == "up"
        });
    }

    fn logins(&self) -> usize {
        self.scene.proxy.log().matches("Accepted publickey").count()
    }
}

fn proven(status: &Value) -> bool {
    status["tunnel"]["proven"] == true
}

/// Up, for a reason without proof; whether a fault is shown as well.
fn unproven(fault: bool) -> impl Fn(&Value) -> bool {
    move |status| {
        let tunnel = &status["tunnel"];
        tunnel["state"] == "up"
            && tunnel["proven"] == false
            && !tunnel["unproven"].is_null()
            && tunnel["fault"].is_null() != fault
    }
}

/// Whether the connection is open: nothing has come, and no end.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut said = [0; 4096];
    let mut reader = stream;
    loop {
        match reader.read(&mut said) {
            Ok(0) => return false,
            // The rest of sshd's first words.
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_forward_of_one_family_is_proven_over_a_session_of_the_other() {
    for (listen, bind, way) in [
        (format!("[{V6}]:2223"), "0.0.0.0", "user"),
        (format!("{V4}:2223"), "::", "user6"),
    ] {
        let options = OPTIONS.replace(
            "0.0.0.0:12345",
            if bind == "::" {
                "[::]:12345"
            } else {
                "0.0.0.0:12345"
            },
        );
        let world = World::new(&Sshd::proxy_config(), &listen, &options, bind);
        let status = world.wait("proof", proven);
        assert_eq!(status["tunnel"]["fault"], json!(null));
        assert_eq!(world.scene.login(way, "echo in").unwrap(), "in\n");
        assert_eq!(world.logins(), 1, "{}", world.scene.proxy.log());
    }
}

/// A firewall in front of the port that refuses this guest's own address, and admits users.
#[test]
fn users_behind_a_firewall_that_refuses_this_guest_are_not_cut_and_prove_the_tunnel() {
    let world = World::new(
        &Sshd::proxy_config(),
        &format!("{V4}:2223"),
        OPTIONS,
        "0.0.0.0",
    );
    world.wait("proof", proven);
    let early = world.user();
    let rule = format!("ip saddr {V4} tcp dport {PORT} reject with tcp reset");
    let _firewall = Rules::new(&world.scene.namespace, &[rule]).unwrap();
    // A person asks, and so a probe is made now.
    world.agent.signal(Signal::SIGHUP).unwrap();
    let status = world.wait("lost proof", unproven(true));
    assert_eq!(status["tunnel"]["fault"]["code"], "not-reachable");
    assert!(is_open(&early), "a user was cut");
    assert_eq!(world.scene.login("user", "echo in").unwrap(), "in\n");
    let status = world.wait("proof by a user", proven);
    assert_eq!(status["tunnel"]["fault"], json!(null), "{status:#}");
    assert_eq!(status["health"], "ok", "{status:#}");
    assert!(is_open(&early), "a user was cut");
    assert_eq!(world.logins(), 1, "{}", world.scene.proxy.log());
}

/// The same from the beginning, so that the tunnel was never proven.
#[test]
fn a_tunnel_that_can_not_be_proven_is_up_and_serves() {
    for (rule, config, options, fault) in [
        // A firewall that refuses, and one that drops where the key may connect to its port.
        ("reject with tcp reset", Sshd::proxy_config(), OPTIONS, true),
        ("drop", Sshd::proxy_config(), OPTIONS, true),
        // A firewall that drops, where the proxy forwards nothing for the guest.
        ("drop", remote_only(), OPTIONS, false),
    ] {
        let namespace_rule = format!("ip saddr {V4} tcp dport {PORT} {rule}");
        let world = World::new(&config, &format!("{V4}:2223"), options, "0.0.0.0");
        let _firewall = Rules::new(&world.scene.namespace, &[namespace_rule]).unwrap();
        world.granted();
        let early = world.user();
        world.agent.signal(Signal::SIGHUP).unwrap();
        let status = world.wait("tunnel without proof", unproven(fault));
        assert_eq!(
            status["health"],
            if fault { "degraded" } else { "ok" },
            "{status:#}"
        );
        assert!(is_open(&early), "a user was cut");
        assert_eq!(world.scene.login("user", "echo in").unwrap(), "in\n");
        world.wait("proof by a user", proven);
        assert_eq!(world.logins(), 1, "{}", world.scene.proxy.log());
    }
}

fn remote_only() -> String {
    Sshd::proxy_config().replace("AllowTcpForwarding yes", "AllowTcpForwarding remote")
}

/// An address in a network behind the proxy, which this guest has no way to.
#[test]
fn a_bind_that_only_the_proxy_can_reach_is_proven_from_inside() {
    const PRIVATE: &str = "10.77.0.7";
    let scene = Scene::new().unwrap();
    let proxy = scene.another_proxy(3).unwrap();
    ip(
        proxy.namespace(),
        &format!("address add {PRIVATE}/32 dev lo"),
    );
    let options = OPTIONS
        .replace("0.0.0.0:12345", &format!("{PRIVATE}:12345"))
        .replace("127.0.0.1:12345", &format!("{PRIVATE}:12345"));
    proxy
        .authorize(&options, &scene.key.public().unwrap())
        .unwrap();
    let document = scene.document_of(&[&proxy], "").unwrap();
    let document = document.replace("bind: '0.0.0.0'", &format!("bind: '{PRIVATE}'"));
    let agent = scene.agent(&document).unwrap();
    let status = agent.wait_for("proof", SOON, proven).unwrap();
    assert_eq!(status["tunnel"]["fault"], json!(null));
    let logins = proxy.log().matches("Accepted publickey").count();
    assert_eq!(logins, 1, "{}", proxy.log());
}
