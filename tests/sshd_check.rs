//! The agent's check of sshd does not slow a slow sshd down, and leaves a quiet one alone.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::arrivals::Arrivals;
use harness::fault::{Frozen, Rules};
use harness::limits::SOON;
use harness::process::Process;
use harness::scene::Scene;
use harness::wait;
use nix::unistd::Pid;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// A scene whose agent holds no tunnel, with this added to the guest's sshd.
fn scene(config: &str) -> Scene {
    let mut scene = Scene::new().unwrap();
    if !config.is_empty() {
        scene
            .sshd
            .configure("ListenAddress", &format!("{config}\nListenAddress"))
            .unwrap();
        scene.sshd.crash().unwrap();
        scene.sshd.start().unwrap();
    }
    scene
}

fn agent(scene: &Scene) -> Agent {
    let never = [("tunnel", "when = \"never\"")];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &never).unwrap();
    agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
    scene.add_bridge(&agent).unwrap();
    agent
}

fn sshd(state: &str) -> impl Fn(&Value) -> bool {
    move |status| status["sshd"]["state"] == state
}

fn fault(code: &str) -> impl Fn(&Value) -> bool {
    move |status| status["sshd"]["fault"]["code"] == code
}

/// Lets time pass since `start`: it is what the fault consists of.
fn pass(start: Instant, time: Duration) {
    thread::sleep(time.saturating_sub(start.elapsed()));
}

/// An sshd that takes connections and has no time for them.
fn slow() {
    let scene = scene("");
    let agent = agent(&scene);
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let listener = Pid::from_raw(scene.sshd.id().unwrap().try_into().unwrap());
    let frozen = Frozen::new(&[listener]).unwrap();
    let start = Instant::now();
    // A user comes, is not answered and leaves, which is a reason to look 15 s later.
    drop(UnixStream::connect(agent.bridge()).unwrap());
    agent
        .wait_for("silent sshd", SOON, fault("sshd-silent"))
        .unwrap();
    pass(start, 40 * SECOND);
    let before = arrivals.times().unwrap().len();
    assert!(
        before <= 2,
        "a user and one check, but there were {before} connections"
    );
    drop(frozen);
    let cured = agent.stopwatch();
    agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
    println!(
        "sshd stopped for 40 s | goes on | ready after {:.2?}",
        cured.elapsed()
    );
    assert!(cured.elapsed() <= 2 * SECOND);
    assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
}

/// An sshd that closes each connection before its banner.
fn closing() {
    let scene = scene("MaxStartups 1:100:1");
    let agent = agent(&scene);
    let idler = || -> TcpStream {
        let mut stream = scene.namespace.connect(scene.sshd.address).unwrap();
        let _ = stream.read(&mut [0; 4]);
        stream
    };
    let _idlers = [idler(), idler()];
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let start = Instant::now();
    drop(UnixStream::connect(agent.bridge()).unwrap());
    pass(start, 30 * SECOND);
    let checks = arrivals.times().unwrap().len();
    println!("sshd closes connections for 30 s | {checks} came");
    assert!(checks <= 8, "{checks} connections in 30 s");
}

/// An sshd that nobody asks for: more than a minute, after which 0.1 looked again.
fn quiet() {
    let scene = scene("");
    let _agent = agent(&scene);
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    // A reset where sshd had begun its key exchange by then.
    let closed = || scene.sshd.log().contains(" by 127.1.0.1 port");
    wait::until("the end of the check", SOON, || closed().then_some(())).unwrap();
    let (start, log) = (Instant::now(), scene.sshd.log());
    pass(start, 65 * SECOND);
    assert_eq!(arrivals.times().unwrap().len(), 0);
    assert_eq!(scene.sshd.log(), log);
}

/// One that goes away unseen is found out all the same.
fn gone() {
    let mut scene = scene("");
    let agent = agent(&scene);
    scene.sshd.stop();
    let start = Instant::now();
    agent
        .wait_for("lost sshd", 60 * SECOND + SOON, fault("sshd-down"))
        .unwrap();
    println!(
        "sshd is gone, and nobody asks | noticed after {:.1?}",
        start.elapsed()
    );
    scene.sshd.start().unwrap();
    agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
}

/// How long the sshd of [`starved`] works before its banner.
const WORK: Duration = Duration::from_secs(7);

/// An sshd that needs the only processor for 7 s before its banner: those who come meanwhile wait
/// for those who came before.
fn starved() {
    let mut scene = scene("");
    scene.sshd.stop();
    let dir = scene.sshd.dir().to_owned();
    let script = dir.join("starved");
    let text = format!(
        "( flock 9; sleep {} ) 9>{dir}/processor; exec /usr/sbin/sshd -i -f {dir}/sshd_config",
        WORK.as_secs(),
        dir = dir.display()
    );
    fs::write(&script, text).unwrap();
    let mut command = Command::new("socat");
    command
        .arg("TCP4-LISTEN:22,bind=127.0.0.1,fork,reuseaddr")
        .arg(format!("EXEC:sh {}", script.display()));
    let _server = scene.namespace.spawn(&dir, "socat", &command).unwrap();
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let never = [("tunnel", "when = \"never\"")];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &never).unwrap();
    scene.add_bridge(&agent).unwrap();
    agent
        .wait_for("silent sshd", SOON, fault("sshd-silent"))
        .unwrap();
    agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
    assert_eq!(arrivals.times().unwrap().len(), 1, "more than one check");
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
        println!("sshd works for {WORK:?} | login in {:.2?}", start.elapsed());
    }
    assert_eq!(arrivals.times().unwrap().len(), 4, "a check among logins");
}

/// Starts the scene's sshd again where /etc/hosts.allow and hosts.deny say something else. It is of
/// Debian 12, which has TCP wrappers.
fn wrapped(scene: &mut Scene, allow: &str, deny: &str) -> Process {
    scene.sshd.stop();
    let dir = scene.sshd.dir().to_owned();
    let mut script = String::new();
    for (name, text) in [("hosts.allow", allow), ("hosts.deny", deny)] {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        script += &format!("mount --bind {} /etc/{name} && ", path.display());
    }
    script += &format!(
        "exec /usr/sbin/sshd -D -e -f {}",
        dir.join("sshd_config").display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let process = scene.namespace.spawn(&dir, "wrapped", &command).unwrap();
    wait::until("listening sshd", SOON, || {
        process.log().contains("Server listening on").then_some(())
    })
    .unwrap();
    process
}

/// An sshd whose TCP wrappers admit 127.0.0.1 alone: they wait 5 s, and close.
fn denied() {
    let mut scene = scene("");
    let _server = wrapped(&mut scene, "sshd: 127.0.0.1\n", "ALL: ALL\n");
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let never = [("tunnel", "when = \"never\"")];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &never).unwrap();
    let start = Instant::now();
    let status = agent
        .wait_for("sshd that closes", SOON, |status| {
            let code = &status["sshd"]["fault"]["code"];
            assert_ne!(code, "sshd-silent", "{status:#}");
            code == "sshd-no-banner"
        })
        .unwrap();
    println!("hosts.deny | named after {:.1?}", start.elapsed());
    let advice = status["sshd"]["fault"]["advice"].as_str().unwrap();
    assert!(advice.contains("/etc/hosts.allow"), "{advice}");
    assert_eq!(scene.login("direct", "echo in").unwrap(), "in\n");
    pass(start, 20 * SECOND);
    // 5 s each, and 1, 2, 4 s apart; one of them is the login.
    let count = arrivals.times().unwrap().len();
    assert!(count <= 5, "{count} connections in 20 s");
}

#[test]
fn a_check_stays_on_one_connection_backs_off_and_needs_a_reason() {
    // Each of them waits nearly all the time, in a namespace of its own.
    thread::scope(|scope| {
        for scenario in [slow, closing, quiet, gone, starved, denied] {
            scope.spawn(scenario);
        }
    });
}

/// What sshd logs of a check by default.
#[test]
fn a_check_leaves_one_line_in_the_log_of_sshd() {
    let scene = scene("LogLevel INFO");
    let _agent = agent(&scene);
    let lines = || -> Vec<String> {
        let log = scene.sshd.log();
        let of_check = log.lines().filter(|line| line.contains("127.1.0.1"));
        of_check.map(str::to_owned).collect()
    };
    wait::until("a line", SOON, || (!lines().is_empty()).then_some(())).unwrap();
    // The next client's lines come after all of the check's.
    assert_eq!(scene.login("direct", "echo in").unwrap(), "in\n");
    let lines = lines();
    println!("{lines:#?}");
    assert_eq!(lines.len(), 1, "{}", scene.sshd.log());
    assert!(!scene.sshd.log().contains("error"), "{}", scene.sshd.log());
}

/// The check is banned, as by fail2ban, and users are not: they prove sshd.
#[test]
fn a_user_who_gets_in_proves_sshd_where_the_check_can_not() {
    let scene = scene("");
    let reject = "ip saddr 127.1.0.1 tcp dport 22 reject with tcp reset".to_owned();
    let _rules = Rules::new(&scene.namespace, &[reject]).unwrap();
    let never = [("tunnel", "when = \"never\"")];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &never).unwrap();
    scene.add_bridge(&agent).unwrap();
    agent.wait_for("sshd", SOON, fault("sshd-down")).unwrap();
    assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
    agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
}
