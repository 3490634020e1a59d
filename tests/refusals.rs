//! What a proxy refuses is told apart by its code in the first attempt, and asked for again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use harness::agent::Agent;
use harness::limits::SOON;
use harness::openssh::Sshd;
use harness::scene::{OPTIONS, PORT, Scene};
use harness::watch::Outage;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// What needs a person is asked for again after 8 s at most in the first two minutes
/// (`Timing::slow_young`); and the login.
const CURED: Duration = Duration::from_secs(11);

/// An address of the proxy that is not loopback: a guest dials it, and its users do.
const OUTSIDE: &str = "169.254.169.254";

/// Starts an agent that the proxy refuses something; it says what by `code` in its first attempt.
/// Once `cure` has been done, it comes up by itself.
fn refused(
    scene: &mut Scene,
    document: &str,
    code: &str,
    (fault, cured): (&str, &str),
    cure: impl FnOnce(&mut Scene, &Agent),
) -> Agent {
    let agent = scene.agent(document).unwrap();
    let mut outage = Outage::begin(&agent, fault).unwrap();
    let first = outage.shows(SOON, &[code]).unwrap();
    let fault = &first["tunnel"]["fault"];
    assert_eq!(fault["count"], 1, "{fault:#}");
    assert_ne!(fault["advice"].as_str().unwrap_or_default(), "");
    let degraded = |status: &Value| status["health"] == "degraded";
    agent.wait_for("degraded health", SOON, degraded).unwrap();
    let attempts = scene.proxy.log().matches("Connection from").count();
    assert!(attempts <= 1, "{}", scene.proxy.log());
    cure(scene, &agent);
    let status = outage.cured(cured, CURED).unwrap();
    assert_eq!(status["tunnel"]["fault"], json!(null));
    agent
}

/// The key may do what `options` say, and later what it should.
fn refused_by_options(options: &str, code: &str, fault: &str) {
    let mut scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(options, &public).unwrap();
    let document = scene.document().unwrap();
    let words = (fault, "authorized_keys corrected");
    refused(&mut scene, &document, code, words, |scene, _| {
        scene.proxy.revoke_all().unwrap();
        scene.proxy.authorize(OPTIONS, &public).unwrap();
    });
}

#[test]
fn a_port_that_permitlisten_does_not_name_is_forward_denied() {
    let options = OPTIONS.replace(
        "permitlisten=\"0.0.0.0:12345\"",
        "permitlisten=\"0.0.0.0:1\"",
    );
    refused_by_options(
        &options,
        "forward-denied",
        "permitlisten names another port",
    );
}

#[test]
fn a_key_that_may_not_forward_is_forwarding_disabled() {
    let fault = "restrict without port-forwarding";
    refused_by_options("restrict", "forwarding-disabled", fault);
}

#[test]
fn a_proxy_that_forwards_nothing_is_forwarding_disabled() {
    let config = Sshd::proxy_config().replace("AllowTcpForwarding yes", "AllowTcpForwarding no");
    let mut scene = Scene::with_proxy(&config).unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let document = scene.document().unwrap();
    let words = ("AllowTcpForwarding no", "yes, and sshd restarted");
    refused(
        &mut scene,
        &document,
        "forwarding-disabled",
        words,
        |scene, _| {
            let (no, yes) = ("AllowTcpForwarding no", "AllowTcpForwarding yes");
            scene.proxy.configure(no, yes).unwrap();
            scene.proxy.stop();
            scene.proxy.start().unwrap();
        },
    );
}

#[test]
fn a_proxy_that_is_full_is_no_banner() {
    let config = format!("MaxStartups 2:100:2\n{}", Sshd::proxy_config());
    let scene = Scene::with_proxy(&config).unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let idle = |_| {
        let mut stream = scene.namespace.connect(scene.proxy.address).unwrap();
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"SSH-");
        stream
    };
    // Those who have their banner and do not log in.
    let idlers: Vec<TcpStream> = (0..2).map(idle).collect();
    let document = scene.document().unwrap();
    let agent = scene.agent(&document).unwrap();
    let mut outage = Outage::begin(&agent, "MaxStartups are there").unwrap();
    let status = outage.shows(SOON, &["no-banner"]).unwrap();
    assert_eq!(status["tunnel"]["fault"]["count"], 1, "{status:#}");
    let again = |status: &Value| status["tunnel"]["fault"]["count"].as_u64() >= Some(3);
    let status = agent.wait_for("third attempt", SOON, again).unwrap();
    assert_eq!(status["tunnel"]["fault"]["code"], "no-banner", "{status:#}");
    drop(idlers);
    // The proxy answers and fails, so the next attempt is up to 30 s away (`Timing::retry_cap`).
    outage.cured("they left", 33 * SECOND).unwrap();
}

/// A proxy that keeps public binds to itself, which the guest dials at [`OUTSIDE`].
fn that_keeps_binds_to_itself() -> (Scene, String) {
    let refusing = Sshd::proxy_config().replace("GatewayPorts clientspecified", "GatewayPorts no");
    let scene = Scene::with_proxy(&format!("ListenAddress {OUTSIDE}:2222\n{refusing}")).unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let host = format!("host: {OUTSIDE}");
    let document = scene.document().unwrap().replace("host: 127.0.0.1", &host);
    (scene, document)
}

fn allow_public_binds(proxy: &Sshd) {
    let (no, yes) = ("GatewayPorts no", "GatewayPorts clientspecified");
    proxy.configure(no, yes).unwrap();
}

#[test]
fn a_public_bind_that_the_proxy_keeps_to_itself_is_not_reachable() {
    let (mut scene, document) = that_keeps_binds_to_itself();
    let words = ("GatewayPorts no", "clientspecified, and sshd restarted");
    refused(
        &mut scene,
        &document,
        "not-reachable",
        words,
        |scene, agent| {
            allow_public_binds(&scene.proxy);
            // The session that there is lives on with the old configuration: by itself, the agent logs
            // in again at growing distances.
            scene.proxy.stop();
            scene.proxy.start().unwrap();
            agent.signal(Signal::SIGHUP).unwrap();
        },
    );
}

/// A machine that answers in this guest's place, until it is dropped.
struct Stranger {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    fn new(listener: TcpListener) -> Self {
        let accepting = listener.try_clone().unwrap();
        let thread = thread::spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                // Who probes it may leave at once.
                let _ = stream.write_all(b"SSH-2.0-Stranger\r\n");
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.set_read_timeout(Some(SECOND));
                let _ = stream.read(&mut [0; 64]);
            }
        });
        Self {
            listener,
            thread: Some(thread),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let both = nix::sys::socket::Shutdown::Both;
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn another_machine_on_our_port_is_the_wrong_guest() {
    let (mut scene, document) = that_keeps_binds_to_itself();
    let address = format!("{OUTSIDE}:{PORT}").parse().unwrap();
    let stranger = Stranger::new(scene.namespace.listen(address).unwrap());
    let words = ("another machine answers on our port", "it left");
    refused(&mut scene, &document, "wrong-guest", words, |scene, _| {
        drop(stranger);
        allow_public_binds(&scene.proxy);
        scene.proxy.crash().unwrap();
        scene.proxy.start().unwrap();
    });
}

/// A document with a forward of each of these loopback ports to port 80 of the guest.
fn with_forwards(scene: &Scene, ports: &[u16]) -> String {
    let forward =
        |port: &u16| format!("      - {{bind: 127.0.0.1, port: {port}, to: '127.0.0.1:80'}}\n");
    let more = ports.iter().map(forward).collect::<String>();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let more = format!("    forwards:\n{more}");
    scene
        .document_with("0.0.0.0", PORT, &host_key, &scene.key, &more)
        .unwrap()
}

/// Bytes go both ways between a user of a port of the proxy and the guest's service.
fn is_served(scene: &Scene, port: u16, service: &TcpListener) {
    let mut user = scene
        .namespace
        .connect(([127, 0, 0, 1], port).into())
        .unwrap();
    user.set_read_timeout(Some(SOON)).unwrap();
    let (mut server, _) = service.accept().unwrap();
    user.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    server.read_exact(&mut heard).unwrap();
    server.write_all(b"pong").unwrap();
    user.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"pong");
}

#[test]
fn forwards_that_are_refused_take_no_other_down_and_come_up_by_themselves() {
    let scene = Scene::new().unwrap();
    let allowed = [8080, 8082].map(|port| format!(",permitlisten=\"127.0.0.1:{port}\""));
    // Who may connect there can tell a port that somebody has from one that it may not have.
    let seen = [8081, 8082].map(|port| format!(",permitopen=\"127.0.0.1:{port}\""));
    let options = format!("{OPTIONS}{}{}", allowed.concat(), seen.concat());
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(&options, &public).unwrap();
    let service = scene.namespace.listen(([127, 0, 0, 1], 80).into()).unwrap();
    let squatter = scene
        .namespace
        .listen(([127, 0, 0, 1], 8082).into())
        .unwrap();
    let agent = scene
        .agent(&with_forwards(&scene, &[8080, 8081, 8082]))
        .unwrap();
    let states = |status: &Value| {
        let forwards = status["tunnel"]["forwards"].as_array().unwrap();
        forwards
            .iter()
            .map(|forward| forward["state"].clone())
            .collect::<Vec<_>>()
    };
    let decided = |status: &Value| {
        status["tunnel"]["state"] == "up" && states(status) == ["up", "denied", "port-held"]
    };
    let status = agent
        .wait_for("up, denied and port-held", SOON, decided)
        .unwrap();
    let forwards = &status["tunnel"]["forwards"];
    assert_eq!(forwards[0]["fault"], json!(null));
    assert_eq!(forwards[1]["fault"]["code"], "forward-denied");
    assert_eq!(forwards[2]["fault"]["code"], "port-held");
    assert_eq!(scene.login("tunnel", "echo inside").unwrap(), "inside\n");
    is_served(&scene, 8080, &service);
    drop(squatter);
    let freed = std::time::Instant::now();
    let up = |status: &Value| {
        assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
        states(status) == ["up", "denied", "up"]
    };
    agent.wait_for("third forward", 6 * SECOND, up).unwrap();
    let took = freed.elapsed().as_secs_f64();
    println!("port of a second forward taken | freed | up in {took:.2} s of 6");
    is_served(&scene, 8082, &service);
    assert_eq!(scene.proxy.log().matches("Accepted publickey").count(), 1);
}
