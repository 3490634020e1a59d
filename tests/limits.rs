//! How much the bridge and the tunnel take on, and what those are told who do not get in.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::limits::SOON;
use harness::load::{Echo, call};
use harness::process;
use harness::scene::{PORT, Scene};
use harness::service::Service;
use harness::usage::Usage;
use harness::wait;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// An agent whose bridge is ready, with these lines in its section.
fn start(scene: &Scene, bridge: &[&str]) -> Agent {
    let config: Vec<_> = bridge.iter().map(|line| ("bridge", *line)).collect();
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config).unwrap();
    scene.add_bridge(&agent).unwrap();
    agent
        .wait_for("ready bridge", SOON, |status| {
            status["bridge"]["state"] == "ready"
        })
        .unwrap();
    agent
}

/// A scene whose sshd counts unfinished logins for each address, as the documentation recommends,
/// and has these lines.
fn scene_with(sshd: &str) -> Scene {
    let mut scene = Scene::new().unwrap();
    let more = format!("UsePAM no\nMaxStartups 300:30:600\nPerSourceMaxStartups 100\n{sshd}");
    scene.sshd.configure("UsePAM no", &more).unwrap();
    scene.sshd.stop();
    scene.sshd.start().unwrap();
    scene
}

fn dial(agent: &Agent) -> UnixStream {
    let stream = UnixStream::connect(agent.bridge()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// A connection that has got through to sshd.
fn greeted(agent: &Agent) -> UnixStream {
    let mut stream = dial(agent);
    let mut banner = [0; 8];
    stream.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    stream
}

/// All that is said on a connection.
fn heard(mut stream: UnixStream) -> String {
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// How often each reason is among the refusals of a part, of one origin.
fn refusals(status: &Value, part: &str, origin: &str) -> BTreeMap<String, u64> {
    let list = status[part]["refusals"].as_array().unwrap();
    list.iter()
        .filter(|entry| entry["origin"] == origin)
        .map(|entry| {
            let reason = entry["reason"].as_str().unwrap().to_owned();
            (reason, entry["count"].as_u64().unwrap())
        })
        .collect()
}

/// Clients say their version before or after they have been told, or never read that they should
/// not: whatever they do, what they are told reaches them.
#[test]
fn who_is_over_the_bound_is_told_why_and_counted() {
    let scene = Scene::new().unwrap();
    let agent = start(&scene, &["max_connections = 2"]);
    let held = [greeted(&agent), greeted(&agent)];
    let told = "vmagent: too many connections: 2 are open ([bridge] max_connections)";
    for _ in 0..20 {
        let mut ssh = scene.ssh("ssh");
        ssh.args(["-v", "-o", "LogLevel=DEBUG1", "bridge", "true"]);
        let output = scene.namespace.output(&ssh, b"", SOON).unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(told), "{said}");
    }
    for _ in 0..100 {
        let mut late = dial(&agent);
        let mut ready = [PollFd::new(late.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(10_000_u16)).unwrap();
        // Told, and its sending side closed: whoever can't write now never reads.
        late.write_all(b"SSH-2.0-late\r\n").unwrap();
        late.write_all(&[0; 1024]).unwrap();
        assert_eq!(heard(late), format!("{told}\r\n"));
    }
    let status = agent.status().unwrap();
    assert_eq!(status["bridge"]["refused"], 120);
    let counted = refusals(&status, "bridge", "unix");
    assert_eq!(counted, [("too-many-open".to_owned(), 120)].into());
    assert_eq!(status["health"], "ok");
    let words = agent.ask(&[]).unwrap();
    let words = String::from_utf8_lossy(&words.stdout);
    assert!(words.contains("refused 120 of unix"), "{words}");
    let log = agent.log();
    assert_eq!(log.matches("refused a connection").count(), 1, "{log}");
    drop(held);
    agent
        .wait_for("room", SOON, |status| status["bridge"]["open"] == 0)
        .unwrap();
    assert_eq!(scene.login("bridge", "echo inside").unwrap(), "inside\n");
}

/// A server in sshd's place that greets, and holds every connection until the other side leaves.
struct Holder {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl Holder {
    fn start(scene: &Scene) -> Self {
        let listener = scene.namespace.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        // Not joined: it ends with the program.
        thread::spawn(move || hold(&listener, &count));
        Self { address, taken }
    }

    /// The line that leads the bridge here.
    fn line(&self) -> String {
        format!("sshd = \"{}\"", self.address)
    }
}

fn hold(listener: &TcpListener, count: &AtomicUsize) {
    let held = Arc::new(Mutex::new(Vec::<TcpStream>::new()));
    let swept = Arc::downgrade(&held);
    thread::spawn(move || {
        // Now and then, those are let go whose other side has left.
        while let Some(held) = swept.upgrade() {
            held.lock()
                .unwrap()
                .retain(|stream| !matches!(stream.peek(&mut [0]), Ok(0)));
            drop(held);
            thread::sleep(Duration::from_millis(100));
        }
    });
    while let Ok((mut stream, _)) = listener.accept() {
        count.fetch_add(1, Relaxed);
        let _ = stream.write_all(b"SSH-2.0-holder\r\n");
        let _ = stream.set_nonblocking(true);
        held.lock().unwrap().push(stream);
    }
}

#[test]
fn five_thousand_connections_are_open_at_once_where_that_is_asked_for() {
    const MANY: usize = 5000;
    let mut command = std::process::Command::new("prlimit");
    command.arg(format!("--pid={}", std::process::id()));
    process::run(command.arg("--nofile=20000:")).unwrap();
    let scene = Scene::new().unwrap();
    let holder = Holder::start(&scene);
    let lines = [
        &holder.line(),
        "max_connections = 5000",
        "max_rate = 1000000",
    ];
    let agent = start(&scene, &lines);
    let before = Usage::of(agent.id()).unwrap();
    let begun = Instant::now();
    let held: Vec<_> = (0..MANY).map(|_| greeted(&agent)).collect();
    let took = begun.elapsed();
    let with = Usage::of(agent.id()).unwrap();
    println!(
        "{MANY} in {took:?}: {} descriptors, {} KiB more",
        with.descriptors,
        with.resident - before.resident
    );
    let one_more = heard(dial(&agent));
    assert!(one_more.starts_with("vmagent: too many"), "{one_more}");
    let status = agent.status().unwrap();
    assert_eq!(status["bridge"]["open"], MANY);
    drop(held);
    agent
        .wait_for("end of them", SOON, |status| status["bridge"]["open"] == 0)
        .unwrap();
}

/// What an Ansible run with many forks does.
#[test]
fn many_logins_at_once_get_in() {
    const MANY: usize = 24;
    let scene = scene_with("");
    let agent = start(&scene, &[]);
    scene.login("bridge", "true").unwrap();
    let begun = Instant::now();
    let login = || {
        let mut ssh = scene.ssh("ssh");
        ssh.args(["-o", "ControlMaster=no", "bridge", "echo inside"]);
        let output = scene.namespace.output(&ssh, b"", SOON).unwrap();
        process::succeeded(&ssh, &output)
    };
    thread::scope(|scope| {
        let logins: Vec<_> = (0..MANY).map(|_| scope.spawn(login)).collect();
        for login in logins {
            assert_eq!(login.join().unwrap().unwrap(), "inside\n");
        }
    });
    println!("{MANY} logins in {:?}", begun.elapsed());
    assert_eq!(agent.status().unwrap()["bridge"]["refused"], 0);
}

#[test]
fn a_flood_is_slowed_down_and_passes() {
    /// What the rate lets through at once, and then each second.
    const AT_ONCE: usize = 5 * 100;
    let scene = Scene::new().unwrap();
    let holder = Holder::start(&scene);
    let agent = start(&scene, &[&holder.line()]);
    // The same without the bridge shows what the machine itself needs.
    let alone = Instant::now();
    let direct = |_| {
        let mut stream = scene.namespace.connect(holder.address).unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        stream
    };
    drop((0..300).map(direct).collect::<Vec<_>>());
    let alone = alone.elapsed();
    let seen_before = holder.taken.load(Relaxed);
    let burst = Instant::now();
    drop((0..300).map(|_| greeted(&agent)).collect::<Vec<_>>());
    println!(
        "a burst of 300 took {:?}, and {alone:?} without the bridge",
        burst.elapsed()
    );
    // No turn is waited for: that would be seconds. (A dial that the kernel drops costs five.)
    assert!(burst.elapsed() < 8 * SECOND + 4 * alone, "it was held up");
    // Thousands a second, from whoever does not even wait for an answer.
    let (begun, mut flood) = (Instant::now(), 0);
    let refused = |status: &Value| {
        refusals(status, "bridge", "unix")
            .get("too-fast")
            .copied()
            .unwrap_or_default()
    };
    // On a busy machine it is no flood at first.
    let enough = || refused(&agent.status().unwrap()) > 0 || begun.elapsed() > SOON;
    while begun.elapsed() < 2 * SECOND || !enough() {
        for _ in 0..100 {
            drop(dial(&agent));
        }
        flood += 100;
    }
    let lasted = begun.elapsed();
    let status = agent
        .wait_for("end of the flood", SOON, |status| {
            status["bridge"]["open"] == 0
        })
        .unwrap();
    let taken = holder.taken.load(Relaxed) - seen_before;
    println!(
        "of {flood} in {lasted:.1?} {} were refused; sshd has seen {taken} in all",
        refused(&status)
    );
    assert!(refused(&status) > 0, "{status:#}");
    // The checks of sshd too, and what came through between two looks at the clock.
    let passes = AT_ONCE + 100 * (burst.elapsed().as_secs() as usize + 1) + 20;
    assert!(taken < passes, "{taken} of at most {passes}");
    let log = agent.log();
    assert_eq!(log.matches("refused a connection").count(), 1);
    // Who comes now waits for a turn, at most.
    let after = Instant::now();
    let next = wait::until("a place for the next", SOON, || {
        let said = heard_start(&agent);
        let told = "vmagent: too many new connections of unix: over 100 a second";
        assert!(said == "SSH-2.0-" || told.starts_with(&said), "{said}");
        (said == "SSH-2.0-").then_some(())
    });
    println!("the next got in after {:?}", after.elapsed());
    next.unwrap();
}

fn heard_start(agent: &Agent) -> String {
    let mut start = [0; 8];
    dial(agent).read_exact(&mut start).unwrap();
    String::from_utf8_lossy(&start).into_owned()
}

#[test]
fn who_says_nothing_is_closed_by_sshd_and_blocks_nobody() {
    const MANY: usize = 50;
    // So long that all of them are there before the first is closed, on a busy machine too.
    let scene = scene_with("LoginGraceTime 10");
    let agent = start(&scene, &["max_connections = 60"]);
    let begun = Instant::now();
    let silent: Vec<_> = (0..MANY).map(|_| greeted(&agent)).collect();
    let open = agent.status().unwrap()["bridge"]["open"].clone();
    assert_eq!(open, MANY);
    assert_eq!(scene.login("bridge", "echo inside").unwrap(), "inside\n");
    println!("a login beside {MANY} silent ones: {:?}", begun.elapsed());
    // They hear the end, and are gone.
    silent.into_iter().for_each(|stream| drop(heard(stream)));
    println!("all of them are closed after {:?}", begun.elapsed());
    let status = agent
        .wait_for("end of the silent ones", SOON, |status| {
            status["bridge"]["open"] == 0
        })
        .unwrap();
    assert_eq!(status["bridge"]["refused"], 0);
}

/// sshd's own bound on logins under way is for all of its clients together, unless it is told to
/// count each address; and each origin has one of its own.
#[test]
fn silence_at_the_public_port_does_not_keep_the_host_out() {
    let scene = scene_with("");
    let agent = scene.up().unwrap();
    scene.add_bridge(&agent).unwrap();
    let public = ([127, 0, 0, 1], PORT).into();
    let silent: Vec<_> = (0..120)
        .map(|_| scene.namespace.connect(public).unwrap())
        .collect();
    agent
        .wait_for("all of them", SOON, |status| {
            status["tunnel"]["accepted"].as_u64() >= Some(120)
        })
        .unwrap();
    for _ in 0..10 {
        assert_eq!(scene.login("bridge", "echo inside").unwrap(), "inside\n");
    }
    drop(silent);
}

#[test]
fn one_user_of_the_tunnel_leaves_room_for_the_others() {
    const OWN: usize = 768;
    let service = Service::new().unwrap();
    let echo = Echo::serve(&service.listener).unwrap();
    let users: Vec<_> = (0..OWN)
        .map(|_| {
            let mut user = service.dial().unwrap();
            call(&mut user).unwrap();
            user
        })
        .collect();
    for _ in 0..5 {
        assert!(call(&mut service.dial().unwrap()).is_err());
    }
    let counted = |status: &Value| status["tunnel"]["refused"] == 5;
    let status = service.agent.wait_for("refusals", SOON, counted).unwrap();
    let expected = [("too-many-of-origin".to_owned(), 5)].into();
    assert_eq!(refusals(&status, "tunnel", "127.0.0.1"), expected);
    assert_eq!(status["tunnel"]["open"], json!(OWN));
    assert_eq!(status["tunnel"]["state"], "up");
    // Another user, and the host.
    let another = service.scene.namespace.enter(|| {
        let mut command = std::process::Command::new("socat");
        command.args(["-u", "/dev/null", "TCP:127.0.0.1:8080,bind=127.0.0.9"]);
        process::run(&mut command)
    });
    another.unwrap();
    let accepted = |status: &Value| {
        let origins = status["tunnel"]["origins"].as_array().unwrap();
        origins.iter().any(|origin| origin["origin"] == "127.0.0.9")
    };
    service.agent.wait_for("another", SOON, accepted).unwrap();
    drop(greeted(&service.agent));
    drop(users);
    service.wait_closed(SOON).unwrap();
    call(&mut service.dial().unwrap()).unwrap();
    drop(echo);
}
