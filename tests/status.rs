//! `vmagent status` says it in words and in numbers, and ends as it promises.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::agent::{Agent, binary};
use harness::scene::Scene;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn all_is_well_in_words_and_in_json() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let waited = agent.ask(&["--wait", "10"]).unwrap();
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
