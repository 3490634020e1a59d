//! Each command ends with its documented exit status, whatever its output is connected to.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::agent::{Agent, binary};
use harness::limits::SOON;
use harness::netns::Namespace;
use harness::process;
use harness::scene::Scene;
use serde_json::Value;

/// A file on which each write fails with ENOSPC (full(4)).
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A pipe whose reader has closed it.
fn closed() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Runs `vmagent` with these arguments and this standard output.
fn run(arguments: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .stdout(stdout)
        .stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

fn check(arguments: &[&str], exit: i32) {
    let output = run(arguments, closed());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
    assert_eq!(said, "", "{arguments:?}");
    let output = run(arguments, full().into());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{arguments:?}: {said}");
    let expected = "vmagent: can't write to the standard output: No space left on device";
    assert!(said.starts_with(expected), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
}

#[test]
fn a_closed_pipe_changes_no_exit_status_and_a_full_disk_has_its_own() {
    for arguments in [
        &["--version"][..],
        &["--help"],
        &["status", "--help"],
        &["check-config"],
    ] {
        check(arguments, 0);
    }
    let scene = Scene::new().unwrap();
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[]).unwrap();
    let well = |status: &Value| status["health"] == "ok";
    agent.wait_for("health ok", SOON, well).unwrap();
    let socket = scene.agent_dir().join("status.sock");
    let ask = |options: &[&str], exit| {
        let socket = ["status", "--socket", socket.to_str().unwrap()];
        check(&[&socket, options].concat(), exit);
    };
    ask(&[], 0);
    ask(&["--json"], 0);
    ask(&["--wait", "18446744073709551615"], 0);
    agent.write_document("vmagent: {version: 2}\n").unwrap();
    let degraded = |status: &Value| status["health"] == "degraded";
    agent.wait_for("degraded health", SOON, degraded).unwrap();
    ask(&[], 1);
    ask(&["--watch"], 1);
    ask(&["--json", "--watch"], 1);
}

#[test]
fn an_error_that_can_t_be_printed_still_gives_the_exit_status() {
    let missing = ["--config", "/nonexistent/config.toml"];
    for (arguments, exit) in [
        (&["check-config", missing[0], missing[1]][..], 78),
        (&["status", "--socket", "/nonexistent/status.sock"], 3),
        (&["status", "--nonsense"], 2),
    ] {
        for stderr in [full().into(), closed()] {
            let mut command = Command::new(binary());
            let status = command.args(arguments).stderr(stderr).status().unwrap();
            assert_eq!(status.code(), Some(exit), "{arguments:?}");
        }
    }
}

#[test]
fn waiting_ends_at_once_where_asking_is_not_allowed() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The program may be in a directory of root's, so the test copies it.
    let program = dir.path().join("vmagent");
    fs::copy(binary(), &program).unwrap();
    let namespace = Namespace::new().unwrap();
    let ask = |socket: &Path| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
            .arg(&program)
            .args(["status", "--wait", "86400", "--socket"])
            .arg(socket);
        Namespace::output(&namespace, &command, b"", SOON).unwrap()
    };
    // Access to the socket itself is denied, then to its directory.
    let socket = dir.path().join("status.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    let inner = dir.path().join("closed");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
    for socket in [socket, inner.join("status.sock")] {
        let output = ask(&socket);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
    }
}

/// The output on a terminal of this type in two seconds without a change of the status.
fn on_a_terminal(agent: &Agent, socket: &Path, term: &str) -> String {
    agent.status().unwrap();
    let command = format!(
        "{} status --watch --wait-for tunnel --wait 2 --socket {}",
        binary().display(),
        socket.display()
    );
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--command", &command, "/dev/null"])
        .env("TERM", term)
        .stdin(Stdio::null());
    process::run(&mut script).unwrap()
}

#[test]
fn a_terminal_without_escape_sequences_gets_none() {
    let scene = Scene::new().unwrap();
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[]).unwrap();
    let well = |status: &Value| status["health"] == "ok";
    agent.wait_for("health ok", SOON, well).unwrap();
    let socket = scene.agent_dir().join("status.sock");
    let redrawn = on_a_terminal(&agent, &socket, "xterm");
    assert!(redrawn.contains("\u{1b}[H\u{1b}[2J"), "{redrawn}");
    for term in ["dumb", ""] {
        let plain = on_a_terminal(&agent, &socket, term);
        assert!(plain.starts_with("ok: "), "{plain}");
        assert!(!plain.contains('\u{1b}'), "{term:?}: {plain}");
    }
}

/// A copy of this machine's /etc with cloud-init's configuration in it.
fn etc(dir: &Path) {
    process::run(Command::new("cp").args(["-a", "/etc/."]).arg(dir)).unwrap();
    let cloud = dir.join("cloud/cloud.cfg.d");
    fs::create_dir_all(&cloud).unwrap();
    let text = "users:\n   - default\nsystem_info:\n   distro: debian\n   default_user:\n     name: debian-12\n";
    fs::write(dir.join("cloud/cloud.cfg"), text).unwrap();
}

#[test]
fn commands_name_the_images_default_user_once_it_exists_and_the_configured_one_before_it() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene
        .proxy
        .authorize("restrict,port-forwarding", &public)
        .unwrap();
    let dir = scene.agent_dir();
    let etc = dir.join("etc");
    fs::create_dir(&etc).unwrap();
    self::etc(&etc);
    let start = |config: &[(&str, &str)]| {
        harness::agent::write_document(&dir, &scene.document().unwrap()).unwrap();
        let wrap = |command: Command| {
            let mut wrapped = Command::new("unshare");
            let script = r#"mount --bind "$0" /etc && exec "$@""#;
            wrapped
                .args(["--mount", "--propagation", "private", "sh", "-c", script])
                .arg(&etc)
                .arg(command.get_program())
                .args(command.get_args());
            wrapped
        };
        let agent = Agent::start_by(&scene.namespace, &dir, config, wrap).unwrap();
        agent.tunnel("up", SOON).unwrap();
        agent
    };
    let command = |status: &Value| {
        let ways = status["ways_in"].as_array().unwrap();
        ways[0]["command"].as_str().unwrap().to_owned()
    };
    let agent = start(&[]);
    let status = agent.status().unwrap();
    assert_eq!(status["login"]["source"], "default", "{status:#}");
    assert_eq!(command(&status), "ssh -p 12345 root@127.0.0.1");
    // useradd, as cloud-init runs it, adds this account.
    let passwd = etc.join("passwd");
    let accounts = fs::read_to_string(&passwd).unwrap();
    let line = "debian-12:x:1000:1000:Debian:/home/debian:/bin/bash\n";
    fs::write(etc.join("passwd+"), format!("{accounts}{line}")).unwrap();
    fs::rename(etc.join("passwd+"), &passwd).unwrap();
    let found = |status: &Value| status["login"]["source"] == "cloud-init";
    let status = agent.wait_for("the default user", SOON, found).unwrap();
    assert_eq!(command(&status), "ssh -p 12345 debian-12@127.0.0.1");
    drop(agent);
    let agent = start(&[("status", "user = \"ops\"")]);
    let status = agent.status().unwrap();
    assert_eq!(status["login"]["source"], "configuration", "{status:#}");
    assert_eq!(command(&status), "ssh -p 12345 ops@127.0.0.1");
}

#[test]
fn check_config_lists_each_proxy_and_each_forward() {
    let scene = Scene::new().unwrap();
    let more = "    forwards:\n      - {bind: 127.0.0.1, port: 8080, to: '127.0.0.1:80'}\n      \
                - {bind: '', port: 5432, to: '[::1]:5432'}\n";
    let document = scene
        .document_of(&[&scene.proxy, &scene.proxy], more)
        .unwrap();
    let document = document.replacen("port: 2222", "port: 22, public_host: gate.example.org", 1);
    let file = scene.agent_dir().join("tunnel.yaml");
    fs::write(&file, document).unwrap();
    let mut command = Command::new(binary());
    let output = process::run(command.args(["check-config", "--document"]).arg(&file)).unwrap();
    for line in [
        "it asks for \"0.0.0.0\", port 12345, on 127.0.0.1:22 or 127.0.0.1:2222\n",
        "users reach the proxy 127.0.0.1:22 as gate.example.org\n",
        "it forwards \"127.0.0.1\", port 8080, to 127.0.0.1:80\n",
        "it forwards \"\", port 5432, to [::1]:5432\n",
    ] {
        assert!(output.contains(line), "{output}");
    }
}
