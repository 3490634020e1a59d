//! `vmagent status` says it in words and in numbers, and ends as it promises.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use harness::agent::{Agent, binary};
use harness::limits::SOON;
use harness::scene::{OPTIONS, PORT, Scene};
use serde_json::Value;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn all_is_well_in_words_and_in_json() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let waited = agent.ask(&["--wait", "60"]).unwrap();
    assert_eq!(waited.status.code(), Some(0));
    let plain = agent.ask(&[]).unwrap();
    assert_eq!(plain.status.code(), Some(0));
    let words = text(&plain.stdout);
    assert!(words.contains("ssh -p 12345 root@127.0.0.1"), "{words}");
    assert!(
        !words.contains('\u{1b}'),
        "colour on something that is no terminal"
    );
    let json: Value = serde_json::from_slice(&agent.ask(&["--json"]).unwrap().stdout).unwrap();
    for (pointer, expected) in [
        ("/schema", Value::from(1)),
        ("/health", "ok".into()),
        ("/bridge/state", "ready".into()),
        ("/tunnel/state", "up".into()),
        ("/metadata/state", "found".into()),
        ("/metadata/source", "file".into()),
        ("/sshd/state", "ready".into()),
    ] {
        assert_eq!(
            json.pointer(pointer),
            Some(&expected),
            "{pointer} of {json:#}"
        );
    }
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let scene = Scene::new().unwrap();
    let agent = scene.agent(&scene.document().unwrap()).unwrap();
    agent.tunnel_fault("auth-rejected", SOON).unwrap();
    let plain = agent.ask(&[]).unwrap();
    assert_eq!(plain.status.code(), Some(1));
    // Folded at the width of a terminal, so by words.
    let words = text(&plain.stdout)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(words.contains("rejected the login of nobody"), "{words}");
    assert!(words.contains("authorized_keys"), "{words}");
    assert_eq!(agent.ask(&["--wait", "1"]).unwrap().status.code(), Some(1));
}

#[test]
fn it_says_when_the_agent_is_not_there_or_may_not_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("status.sock");
    let ask = || {
        let mut command = Command::new(binary());
        command.args(["status", "--socket"]).arg(&socket);
        command
    };
    let output = ask().output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(
        ask().arg("--nonsense").output().unwrap().status.code(),
        Some(2)
    );
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The program may lie where only root may go; so it is taken along.
    let program = dir.path().join("vmagent");
    std::fs::copy(binary(), &program).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(&program);
    let output = command
        .args(["status", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
}

/// Whether this says that all is well, and there is no tunnel.
fn is_well_without_a_tunnel(status: &Value) -> bool {
    status["health"] == "ok" && status["tunnel"]["state"] == "off"
}

#[test]
fn from_a_document_to_the_tunnel_nothing_says_that_all_is_well() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene
        .proxy
        .authorize("restrict,port-forwarding", &public)
        .unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = |port| {
        scene
            .document_with("0.0.0.0", port, &host_key, &scene.key, "")
            .unwrap()
    };
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[]).unwrap();
    agent
        .wait_for("rest", SOON, is_well_without_a_tunnel)
        .unwrap();
    let mut watch = agent.watch().unwrap();
    watch.until("any status", SOON, |_| true).unwrap();
    // The first document, and then others in its place.
    for port in [PORT, PORT + 1, PORT + 2] {
        agent.write_document(&document(port)).unwrap();
        let (mut seen, mut noticed) = (Vec::new(), port > PORT);
        loop {
            let status = watch.until("news", SOON, |_| true).unwrap();
            let tunnel = &status["tunnel"];
            let state = tunnel["state"].as_str().unwrap().to_owned();
            let there = state == "up" && tunnel["port"] == port;
            seen.push((status["health"].clone(), state));
            let quiet = is_well_without_a_tunnel(&status);
            if status["metadata"]["state"] == "absent" {
                // The file has been noticed, and is not read yet.
                noticed |= !quiet;
                assert!(quiet || status["health"] == "starting", "{status:#}");
            } else {
                assert!(noticed && !quiet, "{seen:?} {status:#}");
                let replaced = port > PORT && tunnel["state"] == "off";
                assert!(!replaced, "{seen:?} {status:#}");
            }
            if there && status["health"] == "ok" {
                break;
            }
        }
        // Before it is up, it is not well.
        let up = seen
            .iter()
            .position(|(_, state)| state == "opening")
            .unwrap();
        let early = seen[up..]
            .iter()
            .filter(|(health, state)| health == "ok" && state != "up");
        assert_eq!(early.count(), 0, "{seen:?}");
    }
    // Taken back, it closes in peace.
    std::fs::remove_file(scene.agent_dir().join("tunnel.yaml")).unwrap();
    watch.until("rest", SOON, is_well_without_a_tunnel).unwrap();
}

#[test]
fn a_way_in_is_waited_for_from_before_its_document() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[]).unwrap();
    let bridge = agent
        .ask(&["--wait-for", "bridge", "--wait", "10"])
        .unwrap();
    assert_eq!(bridge.status.code(), Some(0));
    let any = agent.ask(&["--wait-for", "any"]).unwrap();
    assert_eq!(any.status.code(), Some(0));
    // All is well without a tunnel, but that is not what is asked.
    assert_eq!(agent.ask(&["--wait", "10"]).unwrap().status.code(), Some(0));
    let ask = |limit| agent.ask(&["--json", "--wait-for", "tunnel", "--wait", limit]);
    assert_eq!(ask("0").unwrap().status.code(), Some(1));
    agent.write_document(&scene.document().unwrap()).unwrap();
    let waited = ask("20").unwrap();
    assert_eq!(waited.status.code(), Some(0), "{}", text(&waited.stdout));
    let status: Value = serde_json::from_slice(&waited.stdout).unwrap();
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
    // It is up, whatever else is wrong.
    agent.write_document("vmagent: {version: 2}\n").unwrap();
    let lost = |status: &Value| status["health"] == "degraded";
    agent.wait_for("degraded health", SOON, lost).unwrap();
    assert_eq!(ask("0").unwrap().status.code(), Some(0));
    assert_eq!(agent.ask(&[]).unwrap().status.code(), Some(1));
    let wrong = agent.ask(&["--wait-for", "nothing"]).unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_service_that_takes_no_connection_shows_and_one_that_does_clears_it() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    let options = "restrict,port-forwarding";
    scene.proxy.authorize(options, &public).unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let more = "    forwards:\n      - {bind: 127.0.0.1, port: 8080, to: '127.0.0.1:8081'}\n";
    let document = scene
        .document_with("0.0.0.0", PORT, &host_key, &scene.key, more)
        .unwrap();
    let agent = scene.agent(&document).unwrap();
    let granted = |status: &Value| {
        status["tunnel"]["state"] == "up" && status["tunnel"]["forwards"][0]["granted"] == true
    };
    agent.wait_for("both forwards", SOON, granted).unwrap();
    let proxy = ([127, 0, 0, 1], 8080).into();
    for count in 1..=2 {
        drop(scene.namespace.connect(proxy).unwrap());
        let refused = |status: &Value| status["tunnel"]["forwards"][0]["refused"] == count;
        let status = agent.wait_for("a refusal", SOON, refused).unwrap();
        let forward = &status["tunnel"]["forwards"][0];
        assert_eq!(forward["refusal"]["code"], "service-refused", "{forward:#}");
        assert_eq!(forward["refusal"]["count"], count, "{forward:#}");
        assert_eq!(forward["fault"], Value::Null, "the forward itself is well");
        assert_eq!(status["health"], "ok", "{status:#}");
    }
    let words = agent.ask(&[]).unwrap().stdout;
    let words = text(&words).split_whitespace().collect::<Vec<_>>();
    let words = words.join(" ");
    assert!(
        words.contains("service 127.0.0.1:8081, the service behind port 8080"),
        "{words}"
    );
    let service = scene
        .namespace
        .listen(([127, 0, 0, 1], 8081).into())
        .unwrap();
    let _client = scene.namespace.connect(proxy).unwrap();
    service.accept().unwrap();
    let cleared = |status: &Value| status["tunnel"]["forwards"][0]["refusal"] == Value::Null;
    let status = agent.wait_for("the cure", SOON, cleared).unwrap();
    assert_eq!(status["tunnel"]["forwards"][0]["refused"], 2);
}

#[test]
fn watching_shows_each_change() {
    let mut scene = Scene::new().unwrap();
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[]).unwrap();
    agent
        .wait_for("ok", SOON, |status| status["health"] == "ok")
        .unwrap();
    let mut child = Command::new(binary())
        .args(["status", "--json", "--watch", "--socket"])
        .arg(scene.agent_dir().join("status.sock"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let mut generation = next()["generation"].as_u64().unwrap();
    scene.sshd.stop();
    // A connection makes the agent look at once.
    drop(std::os::unix::net::UnixStream::connect(agent.bridge()).unwrap());
    loop {
        let status = next();
        assert!(status["generation"].as_u64().unwrap() > generation);
        generation = status["generation"].as_u64().unwrap();
        if status["health"] == "degraded" {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
