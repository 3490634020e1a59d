//! Connections through a forward that are closed in one direction.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::limits::SOON;
use harness::scene::{OPTIONS, PORT, Scene};

/// Longer than any linger of the agent, and than its keepalive of such a connection takes.
const WORK: Duration = Duration::from_secs(75);

/// A scene with a forward from the proxy's 127.0.0.1:8080 to this listener of the guest.
fn forwarding(origins: &str) -> (Scene, Agent, TcpListener) {
    let scene = Scene::new().unwrap();
    let options = format!("{OPTIONS},permitlisten=\"127.0.0.1:8080\"");
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(&options, &public).unwrap();
    let listener = scene.namespace.listen(service(80)).unwrap();
    let more = format!(
        "    forwards:\n      - {{bind: 127.0.0.1, port: 8080, to: '127.0.0.1:80'{origins}}}\n"
    );
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = scene.document_with("0.0.0.0", PORT, &host_key, &scene.key, &more);
    let agent = scene.agent(&document.unwrap()).unwrap();
    agent
        .wait_for("forward", SOON, |status| {
            status["tunnel"]["forwards"][0]["granted"] == true
        })
        .unwrap();
    (scene, agent, listener)
}

fn service(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A user's connection and the service's end of it, after a byte in each direction.
fn connect(scene: &Scene, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut user = scene.namespace.connect(service(8080)).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    for end in [&user, &served] {
        end.set_read_timeout(Some(WORK + SOON)).unwrap();
    }
    user.write_all(b"?").unwrap();
    served.read_exact(&mut [0]).unwrap();
    served.write_all(b"!").unwrap();
    user.read_exact(&mut [0]).unwrap();
    (user, served)
}

/// The first end closes its direction; the other one answers after [`WORK`].
fn answers_late(mut asks: TcpStream, mut answers: TcpStream) {
    asks.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answers.read(&mut [0]).unwrap(), 0);
    thread::sleep(WORK);
    answers.write_all(b"late").unwrap();
    drop(answers);
    let mut answer = String::new();
    asks.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "late");
}

#[test]
fn a_half_closed_connection_lives_until_its_answer_and_a_left_one_ends() {
    let (scene, agent, listener) = forwarding("");
    let (user, served) = connect(&scene, &listener);
    let (other_user, other_served) = connect(&scene, &listener);
    // The service closes its socket, and this user neither reads nor closes.
    let (idle_user, left) = connect(&scene, &listener);
    drop(left);
    let open = |count: u64| move |status: &serde_json::Value| status["tunnel"]["open"] == count;
    thread::scope(|scope| {
        scope.spawn(|| answers_late(user, served));
        scope.spawn(|| answers_late(other_served, other_user));
        let start = Instant::now();
        agent
            .wait_for("end of the left one", SOON, open(2))
            .unwrap();
        println!(
            "a connection whose service has left ends after {:?}",
            start.elapsed()
        );
    });
    agent.wait_for("end of all", SOON, open(0)).unwrap();
    drop(idle_user);
}

/// The addresses from which a forward's service sees its users, by default and with `origins`.
#[test]
fn users_of_a_forward_come_from_one_address_unless_the_document_keeps_them_apart() {
    for (origins, one) in [
        ("", true),
        (", origins: one", true),
        (", origins: apart", false),
    ] {
        let (scene, _agent, listener) = forwarding(origins);
        let _user = scene.namespace.connect(service(8080)).unwrap();
        let (_served, peer) = listener.accept().unwrap();
        let seen = peer.ip();
        assert!(seen.is_loopback(), "{seen}");
        assert_eq!(seen == service(80).ip(), one, "{origins:?}: {seen}");
    }
}
