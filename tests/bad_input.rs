//! What people and services get wrong is named in place, and nothing is lost over it.

use std::io::{Read, Write};
use std::process::{Command, Output};

use harness::agent::{Agent, binary};
use harness::limits::{ROUND, SOON};
use harness::metadata::Metadata;
use harness::netns::Namespace;
use harness::openssh::make_key;
use harness::process;
use harness::scene::{PORT, Scene};
use harness::wait;
use serde_json::Value;

const OVER_HTTP: &[(&str, &str)] = &[("metadata", "sources = [\"openstack\", \"ec2\"]")];

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fault(status: &Value) -> (String, String) {
    let fault = &status["metadata"]["fault"];
    let text = |key: &str| fault[key].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"))
}

#[test]
fn a_wrong_document_is_named_and_the_last_good_one_stays() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let good = scene.document().unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let locked = scene.agent_dir().join("locked");
    make_key(&locked, "ed25519").unwrap();
    let mut lock = Command::new("ssh-keygen");
    process::run(
        lock.args(["-q", "-p", "-N", "secret", "-P", "", "-f"])
            .arg(&locked),
    )
    .unwrap();
    let encrypted = make_key(&locked, "ed25519").unwrap();
    let encrypted = scene
        .document_with("0.0.0.0", PORT, &host_key, &encrypted, "")
        .unwrap();
    let middle = scene
        .key
        .private()
        .unwrap()
        .lines()
        .nth(2)
        .unwrap()
        .to_owned();
    let proxies = good.lines().find(|line| line.contains("{host:")).unwrap();
    let cases = [
        (
            good.replace("port: 2222", "port: 0"),
            "tunnel.proxies[0].port",
            "1 to 65535",
        ),
        (
            good.replace("port: 12345", "port: 65536"),
            "tunnel.port",
            "0 to 65535",
        ),
        (
            good.replace("port: 12345", "port: many"),
            "tunnel.port",
            "many",
        ),
        (
            good.replace("when: always", "when: sometimes"),
            "tunnel.when",
            "sometimes",
        ),
        (good.replace(proxies, "      []"), "tunnel.proxies", ""),
        (
            good.replace(&format!("['{host_key}']"), "[nonsense]"),
            "host_keys[0]",
            "",
        ),
        (
            good.replace(&format!(", host_keys: ['{host_key}']"), ""),
            "host_keys",
            "",
        ),
        (good.replace(&middle, "AAAA"), "tunnel.private_key", ""),
        (encrypted, "tunnel.private_key", "encrypted"),
        (good.replace("version: 1", "version: 2"), "version", "2"),
        ("vmagent: [".to_owned(), "", "YAML"),
    ];
    for (document, path, problem) in cases {
        agent.write_document(&document).unwrap();
        let told = |status: &Value| {
            let (code, message) = fault(status);
            code == "document-invalid" && message.contains(path) && message.contains(problem)
        };
        let status = agent
            .wait_for(&format!("fault at {path:?}"), SOON, told)
            .unwrap();
        assert_eq!(status["metadata"]["state"], "failed");
        assert_eq!(
            status["metadata"]["source"], "file",
            "the last good one stays"
        );
        assert_eq!(status["tunnel"]["state"], "up");
        assert!(!agent.log().contains(&middle), "the log repeats the key");
        let file = scene.agent_dir().join("tunnel.yaml");
        let mut check = Command::new(binary());
        check
            .args(["check-config", "--config"])
            .arg(scene.agent_dir().join("config.toml"));
        let output = check.arg("--document").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert!(stderr(&output).contains(path), "{}", stderr(&output));
    }
    agent.write_document(&good).unwrap();
    let found = |status: &Value| status["metadata"]["state"] == "found";
    let status = agent.wait_for("good metadata", SOON, found).unwrap();
    assert_eq!(status["tunnel"]["state"], "up");
    assert_eq!(
        scene.proxy.log().matches("Accepted publickey").count(),
        1,
        "the session was lost"
    );
}

#[test]
fn an_unknown_key_is_a_warning() {
    let scene = Scene::new().unwrap();
    let document = scene.document().unwrap() + "    prot: 1\n";
    let agent = scene.agent(&document).unwrap();
    let warned = |status: &Value| {
        !status["metadata"]["warnings"]
            .as_array()
            .unwrap()
            .is_empty()
    };
    let status = agent.wait_for("warning", SOON, warned).unwrap();
    let warning = status["metadata"]["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("tunnel.prot") && warning.contains("port"),
        "{warning}"
    );
    assert_eq!(status["metadata"]["state"], "found");
}

/// A service that sends `head`, and then `chunk` for as long as anybody listens.
fn floods(namespace: &Namespace, head: &'static str, chunk: &'static [u8], chunks: usize) {
    let listener = namespace.listen(([169, 254, 169, 254], 80).into()).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(head.as_bytes());
                let _ = (0..chunks).try_for_each(|_| stream.write_all(chunk));
            });
        }
    });
}

#[test]
fn an_answer_without_end_or_sense_is_cut_and_named() {
    const ZEROS: &[u8] = &[0; 1 << 20];
    const LETTERS: &[u8] = &[b'a'; 1 << 20];
    let cases: [(&str, &[u8], usize, &str); 4] = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n",
            LETTERS,
            100,
            "metadata-too-large",
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\n",
            LETTERS,
            usize::MAX,
            "metadata-too-large",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            &ZEROS[..1000],
            1,
            "metadata-not-text",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            b"vmagent: ",
            1,
            "",
        ),
    ];
    for (head, chunk, chunks, code) in cases {
        let scene = Scene::new().unwrap();
        floods(&scene.namespace, head, chunk, chunks);
        let agent = Agent::start(&scene.namespace, &scene.agent_dir(), OVER_HTTP).unwrap();
        let decided = |status: &Value| status["metadata"]["state"] != "looking";
        let status = agent.wait_for("answer", ROUND, decided).unwrap();
        if code.is_empty() {
            // JSON is asked for there, and this is not any.
            assert_ne!(status["metadata"]["state"], "found");
        } else {
            assert_eq!(fault(&status).0, code, "{status:#}");
        }
        assert_eq!(status["bridge"]["fault"], Value::Null);
    }
}

#[test]
fn a_service_that_fails_keeps_the_document_and_one_that_has_none_takes_it_back() {
    let scene = Scene::new().unwrap();
    let service = Metadata::start(&scene.namespace).unwrap();
    service.ec2("i-1", &scene.document().unwrap());
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), OVER_HTTP).unwrap();
    let source = |name: &'static str| move |status: &Value| status["metadata"]["source"] == name;
    agent
        .wait_for("document by IMDSv2", SOON, source("ec2"))
        .unwrap();
    let named = |status: &Value| status["instance_id"] == "i-1";
    agent.wait_for("instance id", SOON, named).unwrap();
    agent.tunnel_fault("auth-rejected", SOON).unwrap();
    drop(service);
    agent.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    let failed = |status: &Value| status["metadata"]["state"] == "failed";
    let status = agent.wait_for("failed service", SOON, failed).unwrap();
    assert_eq!(status["metadata"]["source"], "ec2");
    assert_ne!(status["tunnel"]["state"], "off");
    // The service does not find the machine, as nova while its database is down.
    let empty = Metadata::start(&scene.namespace).unwrap();
    agent.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    let silent = |status: &Value| {
        let said = status["metadata"]["fault"]["message"].to_string();
        said.contains("/latest/user-data answered with the HTTP status 404")
    };
    let status = agent.wait_for("404 for everything", SOON, silent).unwrap();
    assert_eq!(status["metadata"]["source"], "ec2");
    empty.page("/latest/meta-data/instance-id", "i-1");
    agent.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    agent.tunnel("off", SOON).unwrap();
}

#[test]
fn a_service_that_nobody_vouches_for_is_not_believed() {
    let scene = Scene::new().unwrap();
    let dir = scene.agent_dir();
    let mut make = Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
    ]);
    make.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"]);
    make.arg(dir.join("tls.key"))
        .arg("-out")
        .arg(dir.join("tls.crt"));
    process::run(&mut make).unwrap();
    let mut serve = Command::new("openssl");
    serve.args(["s_server", "-WWW", "-accept", "127.0.0.1:8443", "-key"]);
    serve
        .arg(dir.join("tls.key"))
        .arg("-cert")
        .arg(dir.join("tls.crt"));
    serve.current_dir(&dir);
    let _server = scene.namespace.spawn(&dir, "openssl", &serve).unwrap();
    let listening = || scene.namespace.connect(([127, 0, 0, 1], 8443).into()).ok();
    wait::until("TLS server", SOON, listening).unwrap();
    let config = [
        ("metadata", "sources = [\"openstack\"]"),
        ("metadata", "url = \"https://127.0.0.1:8443\""),
    ];
    let agent = Agent::start(&scene.namespace, &dir, &config).unwrap();
    let failed = |status: &Value| status["metadata"]["state"] == "failed";
    let status = agent.wait_for("failed service", SOON, failed).unwrap();
    assert!(fault(&status).1.contains("ertificate"), "{status:#}");
}
