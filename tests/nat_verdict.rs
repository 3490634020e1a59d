//! With `when: auto` the network decides: a tunnel is up as soon as it is needed, and one that
//! was up goes only when it has long been needed no more.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use harness::agent::{self, Agent};
use harness::limits::SOON;
use harness::netns::Namespace;
use harness::pid1::without_vsock;
use harness::process;
use harness::scene::{OPTIONS, Scene};
use serde_json::Value;

/// The longest from a change of the network to up: news wait 1 s for the rest of their burst and 2 s
/// for their distance from the last ones (news/pace.rs), and the login takes a moment.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a tunnel without connections is kept, as documented.
const QUIET: Duration = Duration::from_secs(60);

/// Between two looks at the network, which move that on while a connection is open.
const LOOK: Duration = Duration::from_secs(30);

/// A private address of the guest's, and a public one.
const PRIVATE: &str = "10.99.7.1/24";
const PUBLIC: &str = "203.0.113.7/24";

/// A scene on a cable to somewhere, with a default route through it: the device is `far7`.
struct Wired {
    scene: Scene,
    _elsewhere: std::sync::Arc<Namespace>,
}

impl Wired {
    fn new() -> Self {
        let scene = Scene::new().unwrap();
        let elsewhere = Namespace::new().unwrap();
        scene.namespace.connect_to(&elsewhere, 7).unwrap();
        let public = scene.key.public().unwrap();
        scene.proxy.authorize(OPTIONS, &public).unwrap();
        let wired = Self {
            scene,
            _elsewhere: elsewhere,
        };
        wired.ip("route add default dev far7 metric 100");
        wired
    }

    fn ip(&self, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(arguments.split(' '));
        let run = move || process::run(&mut command);
        self.scene.namespace.enter(run).unwrap();
    }

    /// Gives the device this address in place of that one. The default route goes with the last
    /// address, so the new one comes first.
    fn renumber(&self, from: &str, to: &str) -> Instant {
        self.ip(&format!("address add {to} dev far7"));
        self.ip(&format!("address del {from} dev far7"));
        Instant::now()
    }

    /// An agent that obeys the verdict.
    fn agent(&self) -> Agent {
        let dir = self.scene.agent_dir();
        agent::write_document(&dir, &self.scene.document().unwrap()).unwrap();
        Agent::start(
            &self.scene.namespace,
            &dir,
            &[("tunnel", "when = \"auto\"")],
        )
        .unwrap()
    }
}

fn verdict(agent: &Agent, wanted: &str, decision: &str) -> Value {
    let what = format!("verdict {wanted}, {decision}");
    let status = agent.wait_for(&what, SOON, |status| {
        status["nat"]["verdict"] == wanted && status["nat"]["decision"] == decision
    });
    status.unwrap()
}

/// Waits until the tunnel is up after a change of the network that was made just now.
fn up_in_time(agent: &Agent, change: &str) {
    let changed = agent.stopwatch();
    agent.tunnel("up", SOON).unwrap();
    let took = changed.elapsed();
    println!("{change}: up after {took:.1?}");
    assert!(took <= LIMIT, "{change}: {took:?}");
}

/// Until when a live tunnel is kept.
fn held_until(status: &Value) -> Option<SystemTime> {
    let text = status["nat"]["held_until"].as_str()?;
    Some(humantime::parse_rfc3339(text).unwrap())
}

#[test]
fn a_tunnel_is_up_as_soon_as_it_is_needed_and_outlives_the_need_while_it_is_used() {
    let wired = Wired::new();
    wired.renumber(PRIVATE, PUBLIC);
    let agent = wired.agent();
    // Nothing is put up for a guest that can be reached.
    let status = verdict(&agent, "direct", "not-needed");
    assert_eq!(status["tunnel"]["state"], "off");
    let inputs = &status["nat"]["inputs"];
    let expected = serde_json::json!([{"interface": "far7", "address": "203.0.113.7"}]);
    assert_eq!(inputs["interfaces"], expected, "{inputs:#}");
    assert_eq!(
        status["nat"]["rule"],
        "far7 has the global address 203.0.113.7"
    );
    let text = agent.ask(&[]).unwrap().stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("off: not needed"), "{text}");

    // Fault: the address is taken away. Cure: the tunnel.
    wired.renumber(PUBLIC, PRIVATE);
    up_in_time(&agent, "needed");
    verdict(&agent, "nat", "needed");

    // It is needed no more, but somebody is logged in through it.
    let session = wired
        .scene
        .namespace
        .connect(([127, 0, 0, 1], harness::scene::PORT).into());
    let session = session.unwrap();
    let open = |status: &Value| status["tunnel"]["open"] == 1;
    agent.wait_for("open connection", SOON, open).unwrap();
    let changed = wired.renumber(PRIVATE, PUBLIC);
    let first = held_until(&verdict(&agent, "direct", "not-needed")).expect("it is kept");
    let moved = |status: &Value| held_until(status).is_some_and(|then| then > first + LOOK / 2);
    let status = agent.wait_for("later end", LOOK + SOON, moved).unwrap();
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");

    // Once nobody is, a quiet minute ends it.
    let last = held_until(&status).unwrap();
    drop(session);
    let status = agent.tunnel("off", QUIET + LOOK + SOON).unwrap();
    println!("not needed: off after {:.1?}", changed.elapsed());
    assert_eq!(held_until(&status), None, "{status:#}");
    let now = SystemTime::now() + Duration::from_secs(1);
    assert!(now >= last, "before the moment that it named");
    assert!(changed.elapsed() >= QUIET + LOOK / 2);
}

/// A guest with a public address and nothing of ours that leads to it is well, and says how it is
/// reached; behind NAT it is not.
fn reached_directly(bridge: &str) {
    let wired = Wired::new();
    let config = [("tunnel", "when = \"auto\""), ("bridge", bridge)];
    let dir = wired.scene.agent_dir();
    let agent = Agent::start(&wired.scene.namespace, &dir, &config).unwrap();
    let alone = |status: &Value| {
        let unavailable = status["bridge"]["fault"]["code"] == "vsock-unavailable";
        unavailable || status["bridge"]["state"] == "off"
    };
    let behind = verdict(&agent, "nat", "not-asked");
    assert_eq!(behind["nat"]["address"], Value::Null);
    let status = agent.wait_for("no bridge", SOON, alone).unwrap();
    let expected = match status["bridge"]["state"].as_str() {
        Some("off") => "ok",
        _ => "degraded",
    };
    let rest = |status: &Value| status["health"] == expected;
    agent.wait_for(expected, SOON, rest).unwrap();
    // The public address comes; then a document that needs no tunnel there.
    wired.renumber(PRIVATE, PUBLIC);
    for decision in ["not-asked", "not-needed"] {
        verdict(&agent, "direct", decision);
        let well = |status: &Value| status["health"] == "ok";
        let status = agent.wait_for("ok", SOON, well).unwrap();
        assert_eq!(status["nat"]["address"], "203.0.113.7", "{status:#}");
        assert_eq!(status["tunnel"]["state"], "off", "{status:#}");
        let output = agent.ask(&["--wait", "10"]).unwrap();
        assert_eq!(output.status.code(), Some(0));
        let words = String::from_utf8(output.stdout).unwrap();
        assert!(
            words.contains("network   ssh root@203.0.113.7\n"),
            "{words}"
        );
        assert!(!words.contains("What is wrong"), "{words}");
        agent
            .write_document(&wired.scene.document().unwrap())
            .unwrap();
    }
}

#[test]
fn a_public_address_is_enough_where_the_bridge_is_off() {
    reached_directly("listen = \"off\"");
}

#[test]
fn a_public_address_is_enough_where_there_is_no_vsock() {
    // What is started in there has no AF_VSOCK, and neither has what that starts.
    without_vsock(|| reached_directly("listen = \"vsock:22\""))
        .join()
        .unwrap();
}

#[test]
fn of_two_default_routes_the_better_one_counts_and_a_change_is_news() {
    let wired = Wired::new();
    let (scene, elsewhere) = (&wired.scene, Namespace::new().unwrap());
    scene.namespace.connect_to(&elsewhere, 8).unwrap();
    wired.ip("address add 203.0.113.8/24 dev far8");
    wired.ip("route add default dev far8 metric 50");
    let agent = wired.agent();
    let status = verdict(&agent, "direct", "not-needed");
    let routes = &status["nat"]["inputs"]["default_routes"];
    assert_eq!(routes[0]["interface"], "far8", "{routes:#}");
    assert_eq!(routes[1]["interface"], "far7", "{routes:#}");
    // The other device becomes the way out, which the public address is not on.
    wired.ip("route del default dev far8 metric 50");
    wired.ip("route add default dev far8 metric 600");
    up_in_time(&agent, "another way out");
    let status = verdict(&agent, "nat", "needed");
    let routes = &status["nat"]["inputs"]["default_routes"];
    assert_eq!(routes[0]["interface"], "far7", "{routes:#}");
}

#[test]
fn a_guest_without_any_network_keeps_trying() {
    // Nothing is known: what can't be ruled out is held.
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let dir = scene.agent_dir();
    agent::write_document(&dir, &scene.document().unwrap()).unwrap();
    let auto = [("tunnel", "when = \"auto\"")];
    let agent = Agent::start(&scene.namespace, &dir, &auto).unwrap();
    let status = agent.tunnel("up", SOON).unwrap();
    assert_eq!(status["nat"]["verdict"], "unknown", "{status:#}");
    assert_eq!(status["nat"]["rule"], "there is no default route");
}
