//! Whatever is written to the file of the document: the fault names the file and the key, and
//! the tunnel that was up stays up.

use std::fs;
use std::io::{PipeReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::agent::{Agent, binary};
use harness::limits::SOON;
use harness::scene::{PORT, Scene};
use serde_json::Value;

/// Puts these bytes there in one step.
fn write(scene: &Scene, bytes: &[u8]) {
    let path = scene.agent_dir().join("tunnel.yaml");
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes).unwrap();
    allow(&fresh, 0o600);
    fs::rename(&fresh, &path).unwrap();
}

/// Sets the mode of a file.
fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The exit status and the messages of `check-config --document ARGUMENT` with this standard input.
fn checked(argument: &str, stdin: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(["check-config", "--document", argument]);
    let output = command.stdin(stdin).output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(words).unwrap())
}

/// A pipe with these bytes, which a thread writes in pieces.
fn pipe(bytes: &[u8]) -> PipeReader {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let bytes = bytes.to_vec();
    // A reader that stops early breaks the pipe; the checks compare its messages.
    std::thread::spawn(move || {
        bytes
            .chunks(100)
            .try_for_each(|part| writer.write_all(part))
    });
    reader
}

/// Waits for the fault with that code, and checks that nothing else has changed.
fn only_fault(agent: &Agent, code: &str, said: &str) {
    let told = |status: &Value| {
        let fault = &status["metadata"]["fault"];
        let message = fault["message"].as_str().unwrap_or_default();
        fault["code"] == code && message.contains("tunnel.yaml") && message.contains(said)
    };
    let status = agent
        .wait_for(&format!("{code}: {said}"), SOON, told)
        .unwrap();
    assert_eq!(status["metadata"]["state"], "failed", "{status:#}");
    assert_eq!(status["metadata"]["source"], "file", "{status:#}");
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
}

/// Documents that would ask for no tunnel, or for another one, if an unknown key were passed over;
/// and what is said of each.
fn less_than_was_meant(good: &str) -> [(String, &'static str); 7] {
    let flat = |deep: &str| good.replace(&format!("\n{deep}"), "\n");
    let (head, body) = good.split_once("  tunnel:\n").unwrap();
    let at = format!("port: {PORT}\n");
    let twice = format!("{at}    forwards: [{{bind: '*', port: {PORT}, to: '127.0.0.1:80'}}]\n");
    [
        (good.replace("tunnel:", "Tunnel:"), "Tunnel: unknown key"),
        (good.replace("tunnel:", "tunels:"), "tunels: unknown key"),
        (
            good.replace("vmagent:", "vm-agent:"),
            "vm-agent: unknown key",
        ),
        (flat("  "), "tunnel: found beside vmagent"),
        (
            format!(
                "{head}  tunnel:\n{}",
                body.replace("\n    ", "\n  ").replacen("    ", "  ", 1)
            ),
            "bind: a key of tunnel",
        ),
        (good.replace("when:", "whan:"), "tunnel.whan: unknown key"),
        (
            good.replace(&at, &twice),
            "tunnel.forwards[0]: asks for port 12345 on \"*\", which tunnel asks for already",
        ),
    ]
}

#[test]
fn a_document_that_can_not_be_read_costs_nothing_but_a_fault() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let good = scene.document().unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let pins = |list: &str| good.replace(&format!("['{host_key}']"), list);
    let public = scene.person.public().unwrap();
    let key = &good[good.find("      -----BEGIN").unwrap()..];
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*a{},", level - 1).repeat(9);
        bomb += &format!("a{level}: &a{level} [{before}]\n");
    }
    let cases: [(&str, &str, Vec<u8>); 10] = [
        (
            "document-invalid",
            "found 7, expected a mapping",
            b"7\n".to_vec(),
        ),
        ("document-invalid", "found a list", b"[1, 2]\n".to_vec()),
        ("document-invalid", "found \"words\"", b"words\n".to_vec()),
        (
            "document-invalid",
            "neither JSON nor YAML",
            format!("vmagent: {}", "[".repeat(100_000)).into(),
        ),
        ("document-invalid", "its aliases expanded", bomb.into()),
        (
            "metadata-not-text",
            "binary",
            [good.as_bytes(), &[0xff]].concat(),
        ),
        (
            "metadata-too-large",
            "1048576",
            [good.as_bytes(), &vec![b'\n'; 2 << 20]].concat(),
        ),
        (
            "document-invalid",
            "tunnel.private_key: found a public key",
            good.replace(key, &format!("      {public}\n")).into(),
        ),
        (
            "document-invalid",
            "tunnel.proxies[0].host_keys[1]: found no key",
            pins(&format!("['{host_key}', nonsense, '{host_key}']")).into(),
        ),
        (
            "document-invalid",
            "tunnel.proxies[0].host_keys: line 2: found no key",
            pins(&format!("\"{host_key}\\nnonsense\\n{host_key}\"")).into(),
        ),
    ];
    for (code, said, bytes) in cases {
        write(&scene, &bytes);
        only_fault(&agent, code, said);
    }
    for (text, said) in less_than_was_meant(&good) {
        write(&scene, text.as_bytes());
        only_fault(&agent, "document-invalid", said);
        let path = scene.agent_dir().join("tunnel.yaml");
        let mut command = Command::new(binary());
        command.args(["check-config", "--document"]).arg(path);
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains(said), "check-config says otherwise: {words}");
        assert_eq!(output.status.code(), Some(78), "{words}");
    }
    // Of two keys of one name the last counts, as for cloud-init: this is the same tunnel.
    let port = format!("port: {PORT}");
    write(
        &scene,
        good.replace(&port, &format!("port: 1\n    {port}"))
            .as_bytes(),
    );
    let warned = |status: &Value| {
        let warning = status["metadata"]["warnings"][0].as_str();
        warning.is_some_and(|said| said.contains("tunnel.port: written more than once"))
    };
    let status = agent.wait_for("a warning", SOON, warned).unwrap();
    assert_eq!(status["metadata"]["state"], "found", "{status:#}");
    assert_eq!(status["tunnel"]["state"], "up");
    assert_eq!(
        scene.proxy.log().matches("Accepted publickey").count(),
        1,
        "the session was lost"
    );
}

#[test]
fn a_document_in_a_pipe_is_checked_without_a_file() {
    let scene = Scene::new().unwrap();
    let good = scene.document().unwrap();
    let wrong = good.replace(&format!("port: {PORT}"), "port: 3:25:45");
    let large = format!("{good}{}", "#\n".repeat(1 << 19));
    for argument in ["-", "/dev/fd/0", "/dev/stdin", "/proc/self/fd/0"] {
        let place = if argument == "-" {
            "standard input"
        } else {
            argument
        };
        let (status, words) = checked(argument, pipe(good.as_bytes()));
        assert_eq!(status, Some(0), "{words}");
        assert!(words.contains("the document is good"), "{words}");
        assert!(!words.contains("warning"), "{words}");
        for (text, said) in [
            (
                &wrong[..],
                "tunnel.port: found \"3:25:45\", expected 0 to 65535\nWrite the number",
            ),
            ("", "there is nothing in it"),
            (&large, "it is larger than 1048576 bytes"),
        ] {
            let (status, words) = checked(argument, pipe(text.as_bytes()));
            assert_eq!(status, Some(78), "{words}");
            assert!(words.contains(&format!("{place}: {said}")), "{words}");
        }
    }
    let (status, words) = checked("/dev/fd/99", Stdio::null());
    assert!(
        words.contains("/dev/fd/99: there is no such file"),
        "{words}"
    );
    assert_eq!(status, Some(78));
    let (status, words) = checked("-", fs::File::open("/").unwrap());
    assert!(
        words.contains("standard input: can't be read: Is a directory"),
        "{words}"
    );
    assert_eq!(status, Some(78));
}

#[test]
fn a_document_that_others_may_read_is_used_with_a_warning() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let path = scene.agent_dir().join("tunnel.yaml");
    allow(&path, 0o644);
    let expected = format!(
        "{path}: mode 0644 lets other users read the file with the private key; run `chmod 600 {path}`",
        path = path.display()
    );
    let warned = |status: &Value| status["metadata"]["warnings"][0] == expected;
    let status = agent.wait_for("a warning", SOON, warned).unwrap();
    assert_eq!(status["metadata"]["state"], "found", "{status:#}");
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
    let (code, words) = checked(path.to_str().unwrap(), Stdio::null());
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains(&format!("warning: {expected}")), "{words}");
    allow(&path, 0o600);
    let none = |status: &Value| {
        status["metadata"]["warnings"]
            .as_array()
            .is_some_and(Vec::is_empty)
    };
    agent.wait_for("no warning", SOON, none).unwrap();
    let logins = scene.proxy.log().matches("Accepted publickey").count();
    assert_eq!(logins, 1, "the session was lost");
    assert!(
        agent.log().contains(&expected),
        "the journal has no warning"
    );
}
