//! Whatever the bridge is given in place of a socket, a path or an sshd: it says what is wrong and
//! what to do, stays alive, and mends as soon as that does.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use harness::agent::Agent;
use harness::failure::Result;
use harness::limits::SOON;
use harness::scene::Scene;
use serde_json::Value;

/// An agent in a folder of its own, so that there can be others.
fn start(
    scene: &Scene,
    name: &str,
    config: &[(&str, &str)],
    given: Option<OwnedFd>,
) -> Result<Agent> {
    let dir = scene.agent_dir().join(name);
    fs::create_dir(&dir)?;
    let config = [&[("tunnel", "when = \"never\"")], config].concat();
    match given {
        Some(given) => Agent::start_inheriting(&scene.namespace, &dir, &config, given),
        None => Agent::start(&scene.namespace, &dir, &config),
    }
}

/// Waits for a fault of the bridge, and checks that it says all this.
fn fault(agent: &Agent, state: &str, code: &str, words: &[&str]) -> Value {
    let told = |status: &Value| {
        status["bridge"]["state"] == state && status["bridge"]["fault"]["code"] == code
    };
    let status = agent.wait_for(&format!("{state} {code}"), SOON, told);
    let status = status.unwrap();
    let text = |key: &str| status["bridge"]["fault"][key].as_str().unwrap().to_owned();
    let said = format!("{}\n{}", text("message"), text("advice"));
    println!("{said}\n");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said:?}");
    }
    // What a person sees says the same, wrapped as it may be.
    let plain = agent.ask(&[]).unwrap().stdout;
    let plain = String::from_utf8_lossy(&plain)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(plain.contains(&text("advice")), "{plain}");
    status
}

/// The bridge leads to sshd.
fn serves(agent: &Agent, path: &Path) {
    let ready = |status: &Value| status["bridge"]["state"] == "ready";
    agent.wait_for("ready bridge", SOON, ready).unwrap();
    let mut banner = [0; 4];
    let mut caller = UnixStream::connect(path).unwrap();
    caller.set_read_timeout(Some(SOON)).unwrap();
    caller.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");
}

#[test]
fn what_is_handed_over_and_is_no_listening_stream_socket_is_named_and_done_without() {
    let scene = Scene::new().unwrap();
    let dir = scene.agent_dir();
    let tcp = scene
        .namespace
        .listen(([127, 0, 0, 1], 2022).into())
        .unwrap();
    let connected = scene
        .namespace
        .connect(([127, 0, 0, 1], 2022).into())
        .unwrap();
    let (stream, _other) = UnixStream::pair().unwrap();
    let (read, _write) = std::io::pipe().unwrap();
    let file = fs::File::create(dir.join("given")).unwrap();
    let unbound = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    );
    let packets = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
    );
    let cases: [(&str, OwnedFd, &str); 9] = [
        (
            "datagram",
            UnixDatagram::unbound().unwrap().into(),
            "a socket that is no stream",
        ),
        ("packets", packets.unwrap().0, "a socket that is no stream"),
        ("connected", stream.into(), "a socket that does not listen"),
        ("unbound", unbound.unwrap(), "a socket that does not listen"),
        ("tcp", tcp.into(), "a socket of another family"),
        (
            "tcp-connected",
            connected.into(),
            "a socket of another family",
        ),
        (
            "udp",
            scene
                .namespace
                .enter(|| UdpSocket::bind("127.0.0.1:0"))
                .unwrap()
                .into(),
            "a socket of another family",
        ),
        ("pipe", read.into(), "a descriptor that is no socket"),
        ("file", file.into(), "a descriptor that is no socket"),
    ];
    for (name, given, found) in cases {
        let mut agent = start(&scene, name, &[], Some(given)).unwrap();
        serves(&agent, &agent.bridge());
        let words = [
            found,
            "expected a listening vsock or Unix stream socket",
            "systemctl cat vmagent.socket",
        ];
        let status = fault(&agent, "ready", "inherited-wrong-socket", &words);
        assert_eq!(status["health"], "ok");
        agent.alive().unwrap();
    }
    let path = dir.join("inherited.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let agent = start(&scene, "right", &[], Some(listener.into())).unwrap();
    serves(&agent, &path);
    assert_eq!(agent.status().unwrap()["bridge"]["fault"], Value::Null);
    assert!(!agent.bridge().exists());
}

#[test]
fn descriptors_that_are_promised_and_not_there_do_no_harm() {
    let scene = Scene::new().unwrap();
    for count in ["7", "-1", "many", "99999999999999999999"] {
        let dir = scene.agent_dir().join(count);
        fs::create_dir(&dir).unwrap();
        let agent = Agent::start_by(&scene.namespace, &dir, &[], |agent| {
            let promise = "LISTEN_PID=$$ LISTEN_FDS=$0 exec \"$@\"";
            let mut shell = Command::new("sh");
            shell.args(["-c", promise, count]);
            shell.arg(agent.get_program()).args(agent.get_args());
            shell
        });
        let agent = agent.unwrap();
        serves(&agent, &agent.bridge());
    }
}

/// A service on a Unix socket that greets with these words, and then waits for the caller to leave.
fn other(path: &Path, greeting: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    // Ends with the test's process: nothing is left of it but the file, in the test's own folder.
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(greeting.as_bytes());
            let _ = stream.read(&mut [0]);
        }
    });
}

#[test]
fn what_is_in_the_way_at_the_path_is_named_and_done_without_until_it_goes() {
    let scene = Scene::new().unwrap();
    let dir = scene.agent_dir();
    let at = |name: &str| format!("listen = \"unix:{}\"", dir.join(name).display());
    let run = |name: &str, path: &str| start(&scene, name, &[("bridge", &at(path))], None).unwrap();

    fs::write(dir.join("plain.sock"), "mine").unwrap();
    let agent = run("plain", "plain.sock");
    let words = [
        "a file that is not a socket is in the way",
        "[bridge] listen",
    ];
    fault(&agent, "waiting", "bind-failed", &words);
    assert_eq!(fs::read_to_string(dir.join("plain.sock")).unwrap(), "mine");
    fs::remove_file(dir.join("plain.sock")).unwrap();
    serves(&agent, &dir.join("plain.sock"));

    fs::create_dir(dir.join("folder.sock")).unwrap();
    let agent = run("folder", "folder.sock");
    fault(&agent, "waiting", "bind-failed", &words);
    assert!(dir.join("folder.sock").is_dir());

    let agent = run("missing", "later/bridge.sock");
    let words = ["No such file or directory", "[bridge] listen"];
    fault(&agent, "waiting", "bind-failed", &words);
    fs::create_dir(dir.join("later")).unwrap();
    serves(&agent, &dir.join("later/bridge.sock"));

    // What a process that was killed leaves behind.
    drop(UnixListener::bind(dir.join("dead.sock")).unwrap());
    let agent = run("dead", "dead.sock");
    serves(&agent, &dir.join("dead.sock"));
    assert_eq!(agent.status().unwrap()["bridge"]["fault"], Value::Null);

    let long = "x".repeat(120);
    let agent = run("long", &long);
    fault(
        &agent,
        "waiting",
        "bind-failed",
        &["107 bytes", "[bridge] listen"],
    );

    for (name, greeting, words) in [
        (
            "mail",
            "220 mail.example.org ESMTP\r\n",
            "it is no SSH server: it says \"220 mail",
        ),
        ("silent", "", "it says nothing"),
    ] {
        let path = dir.join(name).with_extension("sock");
        other(&path, greeting);
        let agent = run(name, &format!("{name}.sock"));
        fault(
            &agent,
            "waiting",
            "port-taken",
            &[words, "stop the other program"],
        );
        UnixStream::connect(&path).unwrap();
    }
    let path = dir.join("ssh.sock");
    other(&path, "SSH-2.0-other\r\n");
    let agent = run("ssh", "ssh.sock");
    let words = ["leads to an SSH server", "It may stay", "stop it"];
    let status = fault(&agent, "foreign", "port-served", &words);
    assert_eq!(status["health"], "ok");
}

#[test]
fn a_folder_that_it_may_not_write_to_is_named() {
    let scene = Scene::new().unwrap();
    let closed = scene.agent_dir().join("closed");
    fs::create_dir(&closed).unwrap();
    let listen = format!("listen = \"unix:{}/bridge.sock\"", closed.display());
    let mode = |mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o555);
    let config = [("bridge", listen.as_str())];
    // Root, and yet subject to the modes of files.
    let agent = Agent::start_by(&scene.namespace, &scene.agent_dir(), &config, |agent| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", "-dac_override,-dac_read_search", "--"]);
        setpriv.arg(agent.get_program()).args(agent.get_args());
        setpriv
    });
    let agent = agent.unwrap();
    let words = [
        "may not listen on unix:",
        "write to the directory of [bridge] listen",
    ];
    fault(&agent, "waiting", "bind-denied", &words);
    mode(0o755);
    serves(&agent, &closed.join("bridge.sock"));
}

/// A TCP service that greets with these words and, if `closes`, leaves.
fn speaks(listener: TcpListener, greeting: &'static str, closes: bool) {
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(greeting.as_bytes());
            if !closes {
                thread::spawn(move || stream.read(&mut [0; 64]));
            }
        }
    });
}

#[test]
fn an_sshd_that_is_none_is_shown_as_what_it_is_and_its_callers_are_told() {
    let scene = Scene::new().unwrap();
    let listen = |port: u16| {
        scene
            .namespace
            .listen(([127, 0, 0, 1], port).into())
            .unwrap()
    };
    speaks(listen(2001), "220 mail.example.org ESMTP\r\n", false);
    speaks(listen(2002), "HTTP/1.1 400 Bad Request\r\n\r\n", true);
    speaks(listen(2003), "", true);
    speaks(listen(2004), "", false);
    let endless: &'static str = Box::leak("x".repeat(1000).into_boxed_str());
    speaks(listen(2005), endless, false);
    let _udp = scene
        .namespace
        .enter(|| UdpSocket::bind("127.0.0.1:2006"))
        .unwrap();
    let agents: Vec<_> = [
        (
            "127.0.0.1:2001",
            "not-ssh",
            "is no SSH server: it begins with \"220 mail.example.org",
            "ss -ltnp",
        ),
        (
            "127.0.0.1:2002",
            "sshd-no-banner",
            "closes the connection before its SSH banner, saying \"HTTP/1.1 400",
            "journalctl -u ssh",
        ),
        (
            "127.0.0.1:2003",
            "sshd-no-banner",
            "closes the connection before its SSH banner",
            "MaxStartups",
        ),
        (
            "127.0.0.1:2004",
            "sshd-silent",
            "has taken the connection and said nothing for 6 s",
            "systemctl status ssh",
        ),
        (
            "127.0.0.1:2005",
            "not-ssh",
            "is no SSH server: it begins with \"xxx",
            "ss -ltnp",
        ),
        (
            "127.0.0.1:2006",
            "sshd-down",
            "nobody listens on 127.0.0.1:2006",
            "systemctl status ssh",
        ),
        // Nobody's address, and one of another network to which there is no way.
        (
            "192.0.2.1:22",
            "sshd-down",
            "can't connect to 192.0.2.1:22",
            "[bridge] sshd",
        ),
        (
            "[2001:db8::1]:22",
            "sshd-down",
            "can't connect to [2001:db8::1]:22",
            "[bridge] sshd",
        ),
        ("0.0.0.0:2006", "sshd-down", "0.0.0.0:2006", "[bridge] sshd"),
    ]
    .into_iter()
    .enumerate()
    .map(|(index, (address, code, message, advice))| {
        let line = format!("sshd = \"{address}\"");
        let agent = start(&scene, &index.to_string(), &[("bridge", &line)], None).unwrap();
        (agent, code, [message, advice])
    })
    .collect();
    for (mut agent, code, words) in agents {
        let status = fault(&agent, "waiting", code, &words);
        assert_eq!(status["sshd"]["fault"]["code"], code);
        assert_eq!(status["health"], "degraded");
        agent.alive().unwrap();
    }
}
