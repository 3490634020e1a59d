//! A broken configuration closes no way in, opens none that was closed, and shows in the status.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::agent::{Agent, binary};
use harness::limits::SOON;
use harness::scene::Scene;
use serde_json::Value;

/// An agent with a good configuration, apart from these lines of `[bridge]`.
fn start(scene: &Scene, lines: &str, places: &[(&str, &str)]) -> Agent {
    let config = [("bridge", lines)];
    Agent::start_with(&scene.namespace, &scene.agent_dir(), &config, places).unwrap()
}

/// The exit status and the messages of `check-config` for the agent's file.
fn check(scene: &Scene) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(["check-config", "--config"]);
    let output = command
        .arg(scene.agent_dir().join("config.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// The message of the configuration's fault, which the log has once.
fn fault(agent: &Agent, status: &Value) -> String {
    assert_eq!(status["health"], "degraded", "{status:#}");
    let fault = &status["config"]["fault"];
    assert_eq!(fault["code"], "config-invalid", "{status:#}");
    let message = fault["message"].as_str().unwrap().to_owned();
    let log = agent.log();
    assert_eq!(log.matches("config-invalid").count(), 1, "{log}");
    let plain = String::from_utf8(agent.ask(&[]).unwrap().stdout).unwrap();
    assert!(plain.contains("config-invalid"), "{plain}");
    message
}

#[test]
fn without_a_good_one_the_bridge_runs_and_the_tunnel_is_off() {
    for (lines, found, accepted) in [
        (
            "lisen = \"vsock\"",
            "lisen is unknown",
            "did you mean \"listen\"?",
        ),
        (
            "allow_cids = [\"host\"]",
            "allow_cids: found \"host\"",
            "a context ID",
        ),
        (
            "max_rate = \"many\"",
            "max_rate: found \"many\"",
            "1 to 1000000",
        ),
        ("max_rate =", ", column 11: ", ""),
    ] {
        let scene = Scene::new().unwrap();
        let document = scene.document().unwrap();
        harness::agent::write_document(&scene.agent_dir(), &document).unwrap();
        let agent = start(&scene, lines, &[]);
        scene.add_bridge(&agent).unwrap();
        assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
        let decided = |status: &Value| status["nat"]["decision"] == "never";
        let status = agent.wait_for("a decision", SOON, decided).unwrap();
        assert_eq!(status["tunnel"]["state"], "off", "{status:#}");
        assert_eq!(status["config"]["state"], "partial", "{status:#}");
        let message = fault(&agent, &status);
        let file = scene.agent_dir().join("config.toml").display().to_string();
        for part in [&file, found, accepted, "the tunnel is off"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        let (code, said) = check(&scene);
        assert_eq!(code, Some(78));
        assert!(said.contains(&file) && said.contains(found), "{said}");
    }
}

#[test]
fn a_slip_does_not_open_the_bridge_that_was_switched_off() {
    for lines in [
        "listen = \"off\"\nmax_rate = \"many\"",
        "listen = off",
        "lissen = \"off\"",
        "listen: off",
        "listen == \"off\"",
        "listen = \u{201c}off\u{201d}",
        "listen = \"offf\"",
    ] {
        let scene = Scene::new().unwrap();
        let agent = start(&scene, lines, &[]);
        let off = |status: &Value| status["bridge"]["state"] == "off";
        let status = agent.wait_for("no bridge", SOON, off).unwrap();
        fault(&agent, &status);
        assert!(!agent.bridge().exists(), "{lines}");
    }
}

/// An editor with another encoding writes a byte that is not UTF-8, here into a comment.
#[test]
fn a_byte_that_is_no_text_does_not_open_the_bridge() {
    let scene = Scene::new().unwrap();
    let dir = scene.agent_dir();
    let off = [("bridge", "listen = \"off\"")];
    let latin1 = |command| {
        let file = dir.join("config.toml");
        let text = fs::read(&file).unwrap();
        fs::write(&file, [&text[..], b"# caf\xe9\n"].concat()).unwrap();
        command
    };
    let agent = Agent::start_by(&scene.namespace, &dir, &off, latin1).unwrap();
    let off = |status: &Value| status["bridge"]["state"] == "off";
    let status = agent.wait_for("no bridge", SOON, off).unwrap();
    assert!(fault(&agent, &status).contains("not UTF-8"));
    assert!(check(&scene).1.contains("not UTF-8"));
}

/// A slip in `[report]` does not make the document's service the receiver.
#[test]
fn a_slip_does_not_report_to_the_documents_url() {
    for (slip, reports) in [
        (("bridge", "future = 1"), 1),
        (("report", "urll = \"http://127.0.0.1:1/\""), 0),
    ] {
        let scene = Scene::new().unwrap();
        let document = scene.document().unwrap();
        let document = format!("{document}  report: {{url: 'http://127.0.0.1:2/'}}\n");
        harness::agent::write_document(&scene.agent_dir(), &document).unwrap();
        let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[slip]).unwrap();
        let decided = |status: &Value| status["nat"]["decision"] == "never";
        let status = agent.wait_for("a decision", SOON, decided).unwrap();
        let found = status["reports"].as_array().unwrap().len();
        assert_eq!(found, reports, "{status:#}");
    }
}

#[test]
fn what_the_file_switches_off_is_off_beside_the_last_good_one() {
    let scene = Scene::new().unwrap();
    let run = tempfile::tempdir().unwrap();
    let places = [("RUNTIME_DIRECTORY", run.path().to_str().unwrap())];
    drop(start(&scene, "max_rate = 7", &places));
    let config = [
        ("bridge", "listen = \"off\""),
        ("bridge", "max_rate = many"),
    ];
    let agent = Agent::start_with(&scene.namespace, &scene.agent_dir(), &config, &places).unwrap();
    let off = |status: &Value| status["bridge"]["state"] == "off";
    let status = agent.wait_for("no bridge", SOON, off).unwrap();
    assert_eq!(status["config"]["state"], "last-good");
    assert!(fault(&agent, &status).contains("without what this file switches off"));
}

#[test]
fn the_last_good_one_stays_with_its_tunnel() {
    let scene = Scene::new().unwrap();
    let document = scene.document().unwrap();
    harness::agent::write_document(&scene.agent_dir(), &document).unwrap();
    let key = scene.key.public().unwrap();
    scene.proxy.authorize("", &key).unwrap();
    let run = tempfile::tempdir().unwrap();
    let places = [("RUNTIME_DIRECTORY", run.path().to_str().unwrap())];
    let agent = start(&scene, "max_rate = 7", &places);
    let status = agent.tunnel("up", SOON).unwrap();
    assert_eq!(status["config"]["state"], "good");
    assert_eq!(status["config"]["fault"], Value::Null);
    drop(agent);

    let agent = start(&scene, "max_rate = \"many\"", &places);
    let status = agent.tunnel("up", SOON).unwrap();
    assert_eq!(status["config"]["state"], "last-good");
    assert!(fault(&agent, &status).contains("the last good configuration is in force"));
    drop(agent);

    let agent = start(&scene, "max_rate = 7", &places);
    let status = agent.tunnel("up", SOON).unwrap();
    assert_eq!(status["config"]["state"], "good");
    assert!(kept(run.path()).contains("max_rate = 7"));
}

fn kept(place: &Path) -> String {
    fs::read_to_string(place.join("config.toml")).unwrap()
}
