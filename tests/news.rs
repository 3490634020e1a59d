//! What happens to the network is acted on at once, not when the next attempt is due.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use harness::limits::{PROGRAM, SOON};
use harness::netns::Namespace;
use harness::openssh::{Sshd, TUNNEL_USER};
use harness::process;
use harness::scene::{OPTIONS, Scene};
use harness::wait;

/// The longest from the cure to up.
const LIMIT: Duration = Duration::from_secs(3);

/// An address of the proxy, and two of the guest's, on one device.
const PROXY: &str = "10.99.0.1";
const FIRST: &str = "10.99.0.2";
const SECOND: &str = "10.99.0.3";

fn ip(namespace: &Arc<Namespace>, arguments: &str) {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    namespace.enter(move || process::run(&mut command)).unwrap();
}

/// A scene whose proxy has an address that comes and goes, and the document for it.
fn scene() -> (Scene, String) {
    // A session from an address that is gone is a ghost to the proxy until it misses two of these.
    let proxy = Sshd::proxy_config().replace("ClientAliveInterval 15", "ClientAliveInterval 1");
    let config = format!("ListenAddress 0.0.0.0:2223\n{proxy}");
    let scene = Scene::with_proxy(&config).unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let document = scene.document().unwrap();
    let document = document.replace(
        "host: 127.0.0.1, port: 2222",
        &format!("host: {PROXY}, port: 2223"),
    );
    assert!(document.contains(PROXY));
    (scene, document)
}

#[test]
fn a_network_that_comes_late_is_used_at_once() {
    let (scene, document) = scene();
    let agent = scene.agent(&document).unwrap();
    // Fault: there is no way to the proxy, for so long that attempts have become rare.
    agent
        .wait_for("sixth attempt", SOON, |status| {
            status["tunnel"]["attempt"].as_u64() >= Some(7)
                && status["tunnel"]["state"] == "waiting"
        })
        .unwrap();
    // Cure: an address, and with it the proxy.
    ip(&scene.namespace, &format!("address add {PROXY}/32 dev lo"));
    let cured = agent.stopwatch();
    agent.tunnel("up", SOON).unwrap();
    let took = cured.elapsed();
    println!("a network that comes late: {took:.1?}");
    assert!(took <= LIMIT, "{took:?}");
}

#[test]
fn a_session_from_an_address_that_is_gone_is_opened_anew() {
    let (scene, document) = scene();
    let from =
        |address: &str| format!("route replace local {PROXY} dev lo table local src {address}");
    for address in [PROXY, FIRST] {
        ip(
            &scene.namespace,
            &format!("address add {address}/32 dev lo"),
        );
    }
    ip(&scene.namespace, &from(FIRST));
    let agent = scene.agent(&document).unwrap();
    agent.tunnel("up", SOON).unwrap();
    // Fault and cure in one: the guest is renumbered.
    // In one go: a second burst would be news after a longer distance.
    let add = format!("address add {SECOND}/32 dev lo");
    let delete = format!("address del {FIRST}/32 dev lo");
    let changes = [add, from(SECOND), delete].join("\n");
    let mut batch = Command::new("ip");
    batch.args(["-batch", "-"]);
    let output = scene.namespace.output(&batch, changes.as_bytes(), PROGRAM);
    process::succeeded(&batch, &output.unwrap()).unwrap();
    let cured = agent.stopwatch();
    agent.tunnel_fault("address-gone", SOON).unwrap();
    let noticed = cured.elapsed();
    let logged_in = format!("Accepted publickey for {TUNNEL_USER} from {SECOND}");
    let again = || scene.proxy.log().contains(&logged_in).then_some(());
    wait::until("login from the new address", SOON, again).unwrap();
    let logged_in = cured.elapsed();
    println!("renumbered: noticed after {noticed:.1?}, logged in after {logged_in:.1?}");
    assert!(logged_in <= 2 * LIMIT, "{logged_in:?}");
    assert!(noticed <= LIMIT, "{noticed:?}");
    // The rest is up to the proxy, which has a dead session on the port.
    agent.tunnel("up", SOON).unwrap();
    println!("renumbered: up after {:.1?}", cured.elapsed());
}
