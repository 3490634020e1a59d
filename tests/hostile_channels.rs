//! A proxy that we have logged in to gets at nothing but the forwards, and can neither fill this
//! guest's memory nor its log.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::hostile::raw::{Raw, Script};
use harness::hostile::ssh::{Kind, Manner, Refusal, Ssh};
use harness::limits::SOON;
use harness::scene::{PORT, Scene};
use harness::usage::Usage;
use harness::wait;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

/// An agent whose tunnel is up at a server that grants everything, with a second forward, on port
/// 8080 of the server, to this service.
fn granted(scene: &Scene, to: SocketAddr) -> (Ssh, Agent) {
    let ssh = Ssh::start(&scene.namespace, &scene.agent_dir(), Manner::Grants).unwrap();
    let more = format!("    forwards:\n      - {{bind: 127.0.0.1, port: 8080, to: '{to}'}}\n");
    // A loopback bind, which is up without a proof: this server listens on no port.
    let document = scene
        .document_with("127.0.0.1", PORT, &ssh.host_key, &scene.key, &more)
        .unwrap()
        .replace("port: 2222", &format!("port: {}", ssh.address.port()));
    let agent = scene.agent(&document).unwrap();
    let both = |status: &Value| {
        status["tunnel"]["state"] == "up" && status["tunnel"]["forwards"][0]["granted"] == true
    };
    agent.wait_for("both forwards", SOON, both).unwrap();
    (ssh, agent)
}

/// The way in works, in the first session still.
fn unharmed(ssh: &Ssh, agent: &Agent) {
    let way_in = Kind::Forwarded("127.0.0.1", PORT);
    let mut channel = ssh.open(&way_in).unwrap().unwrap();
    let said = ssh.read(&mut channel).unwrap();
    assert!(said.starts_with(b"SSH-2.0-OpenSSH"), "{said:?}");
    ssh.close(&channel).unwrap();
    assert_eq!(agent.status().unwrap()["tunnel"]["state"], "up");
    assert_eq!(ssh.taken(), 1);
}

#[test]
fn channels_that_were_not_asked_for_are_refused_and_the_session_lives_on() {
    let scene = Scene::new().unwrap();
    let (ssh, agent) = granted(&scene, ([127, 0, 0, 1], 80).into());
    for kind in [
        Kind::Forwarded("127.0.0.1", 9),
        Kind::Forwarded("0.0.0.0", 22),
        Kind::Session,
        Kind::DirectTcp,
        Kind::DirectUnix,
        Kind::ForwardedUnix,
        Kind::X11,
        Kind::KeyAgent,
    ] {
        let refusal = ssh.open(&kind).unwrap().err();
        let expected = Some(Refusal::AdministrativelyProhibited);
        assert_eq!(refusal, expected, "{kind:?}");
    }
    unharmed(&ssh, &agent);
}

#[test]
fn a_thousand_channels_at_once_leave_the_session_alone_and_nothing_behind() {
    const MANY: usize = 1000;
    let scene = Scene::new().unwrap();
    let service = Raw::start(&scene.namespace, Script::Holds(Vec::new())).unwrap();
    let (ssh, agent) = granted(&scene, service.address());
    unharmed(&ssh, &agent);
    let open = |count: usize| {
        agent
            .wait_for(&format!("{count} open channels"), SOON, |status| {
                status["tunnel"]["open"] == json!(count)
            })
            .unwrap();
    };
    open(0);
    let usage = || Usage::of(agent.id()).unwrap();
    let resident = || usage().resident;
    let files = usage().descriptors;
    let mut after = Vec::new();
    for _ in 0..3 {
        let (before, begun) = (resident(), Instant::now());
        let taken = ssh
            .open_many(&Kind::Forwarded("127.0.0.1", 8080), MANY)
            .unwrap();
        open(taken.len());
        println!(
            "{} of {MANY} taken in {:.2?}, with {} KiB",
            taken.len(),
            begun.elapsed(),
            resident().saturating_sub(before)
        );
        assert!(resident() < before + MANY as u64 * 32);
        let way_in = Kind::Forwarded("127.0.0.1", PORT);
        let mut login = ssh.open(&way_in).unwrap().unwrap();
        let said = ssh.read(&mut login).unwrap();
        assert!(said.starts_with(b"SSH-2.0-OpenSSH"), "{said:?}");
        ssh.close(&login).unwrap();
        for channel in &taken {
            ssh.close(channel).unwrap();
        }
        open(0);
        after.push(resident());
    }
    println!("resident after each round: {after:?}");
    // What the first rounds brought, the allocator may keep for the next. The number that is taken
    // differs.
    assert!(after[2] < after[0].max(after[1]) + 1024, "{after:?}");
    wait::until("files as before", SOON, || {
        (usage().descriptors <= files).then_some(())
    })
    .unwrap();
    unharmed(&ssh, &agent);
}

#[test]
fn many_channels_to_a_service_that_does_not_read_hold_little_memory() {
    /// In KiB.
    const LIMIT: u64 = 64 << 10;
    let scene = Scene::new().unwrap();
    // Its queue takes the connections, and next to none of their bytes.
    let service = scene.namespace.listen(([127, 0, 0, 1], 0).into()).unwrap();
    setsockopt(&service, sockopt::RcvBuf, &4096).unwrap();
    let (ssh, agent) = granted(&scene, service.local_addr().unwrap());
    let before = Usage::of(agent.id()).unwrap().resident;
    let forward = Kind::Forwarded("127.0.0.1", 8080);
    let taken = ssh.open_many(&forward, 50).unwrap();
    assert_eq!(taken.len(), 50);
    let sent = ssh.flood(taken, 12 << 20, Duration::from_secs(5)).unwrap() >> 10;
    let highest = Usage::of(agent.id()).unwrap().peak.saturating_sub(before);
    println!("{sent} KiB sent, {highest} KiB more at most");
    assert!(sent as u64 > LIMIT, "only {sent} KiB were sent");
    assert!(highest < LIMIT, "{highest} KiB more");
    unharmed(&ssh, &agent);
}

#[test]
fn what_a_proxy_says_at_the_end_is_shown_and_forges_no_line_of_the_log() {
    let scene = Scene::new().unwrap();
    let (ssh, agent) = granted(&scene, ([127, 0, 0, 1], 80).into());
    ssh.disconnect("gone for \u{1b}[31mlunch\nERROR all is lost")
        .unwrap();
    let status = agent.tunnel_fault("closed-by-proxy", SOON).unwrap();
    let message = status["tunnel"]["fault"]["message"].as_str().unwrap();
    assert!(message.contains("gone for"), "{message}");
    let log = agent.log();
    assert!(!log.contains('\u{1b}'), "{log}");
    let forged = log.lines().any(|line| line.starts_with("ERROR all"));
    assert!(!forged, "{log}");
    agent.tunnel("up", SOON).unwrap();
    assert_eq!(ssh.taken(), 2);
}
