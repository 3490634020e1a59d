//! A proxy that hangs, or is none at all, is named, costs a step's deadline and no memory, and then
//! it is the next one's turn.

use std::any::Any;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::failure::{Failure, Result};
use harness::hostile::raw::{Raw, Script};
use harness::hostile::relay::{Fate, Relay};
use harness::hostile::ssh::{Manner, Ssh};
use harness::limits::{PROGRAM, SOON};
use harness::scene::{OPTIONS, Scene, preferring};
use harness::usage::Usage;
use serde_json::Value;

const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.9\r\n";

/// A proxy that misbehaves, kept for as long as it is to run.
struct Peer {
    address: SocketAddr,
    host_key: String,
    running: Box<dyn Any>,
}

impl Peer {
    fn raw(scene: &Scene, script: Script) -> Result<Self> {
        let raw = Raw::start(&scene.namespace, script)?;
        Ok(Self {
            address: raw.address(),
            host_key: scene.proxy.host_key("ed25519")?,
            running: Box::new(raw),
        })
    }

    fn relay(scene: &Scene, bytes: u64, fate: Fate) -> Result<Self> {
        let relay = Relay::start(&scene.namespace, scene.proxy.address, bytes, fate)?;
        Ok(Self {
            address: relay.address(),
            host_key: scene.proxy.host_key("ed25519")?,
            running: Box::new(relay),
        })
    }

    fn ssh(scene: &Scene, manner: Manner) -> Result<Self> {
        let ssh = Ssh::start(&scene.namespace, &scene.agent_dir(), manner)?;
        Ok(Self {
            address: ssh.address,
            host_key: ssh.host_key.clone(),
            running: Box::new(ssh),
        })
    }

    /// An address from which nothing ever comes back.
    fn nowhere(scene: &Scene) -> Result<Self> {
        // The packets arrive, and belong to nobody.
        let mut command = Command::new("ip");
        command.args(["route", "add", "192.0.2.1/32", "dev", "lo"]);
        scene.namespace.run(&command, PROGRAM)?;
        Ok(Self {
            address: ([192, 0, 2, 1], 22).into(),
            host_key: scene.proxy.host_key("ed25519")?,
            running: Box::new(()),
        })
    }
}

/// Where a proxy hangs, what that is called, the step's deadline in seconds, and the proxy.
struct Hang(&'static str, &'static str, u64, fn(&Scene) -> Result<Peer>);

const HANGS: &[Hang] = &[
    Hang("while dialling", "dial-timeout", 10, Peer::nowhere),
    Hang("after the connection", "no-banner", 15, |scene| {
        Peer::raw(scene, Script::Holds(Vec::new()))
    }),
    Hang("in the banner", "no-banner", 15, |scene| {
        Peer::raw(scene, Script::Holds(b"SSH-2.0-Open".to_vec()))
    }),
    Hang(
        "in a banner of one byte a second",
        "no-banner",
        15,
        |scene| Peer::raw(scene, Script::Trickles(BANNER.to_vec())),
    ),
    Hang("after the banner", "kex-failed", 15, |scene| {
        Peer::raw(scene, Script::Holds(BANNER.to_vec()))
    }),
    Hang("in the key exchange", "kex-failed", 15, |scene| {
        Peer::relay(scene, 200, Fate::Freezes)
    }),
    Hang("in the login", "auth-timeout", 15, |scene| {
        Peer::ssh(scene, Manner::IgnoresLogins)
    }),
    Hang("in the forward's reply", "forward-timeout", 10, |scene| {
        Peer::ssh(scene, Manner::IgnoresForwards)
    }),
];

#[test]
fn a_proxy_that_hangs_costs_one_deadline_and_then_the_next_is_up() {
    let ready = Barrier::new(HANGS.len());
    let failures: Vec<String> = thread::scope(|scope| {
        let cases: Vec<_> = HANGS
            .iter()
            .map(|case| scope.spawn(|| hangs(case, &ready)))
            .collect();
        cases
            .into_iter()
            .filter_map(|case| case.join().unwrap().err())
            .map(|failure| failure.to_string())
            .collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn hangs(Hang(place, code, deadline, peer): &Hang, ready: &Barrier) -> Result<()> {
    let prepared = prepare(*peer);
    // Making keys for all of them at once would slow down those that have begun.
    ready.wait();
    let (scene, peer) = prepared?;
    let document = preferring(peer.address, &peer.host_key, &scene.document()?);
    // The attempt begins between these two.
    let before = Instant::now();
    let agent = scene.agent(&document)?;
    let begun = agent.stopwatch();
    let deadline = Duration::from_secs(*deadline);
    let slack = Duration::from_secs(1);
    let noted = |status: &Value| !status["tunnel"]["proxies"][0]["fault"].is_null();
    let status = agent.wait_for("fault of the first proxy", deadline + SOON, noted)?;
    let (given_up, at_least) = (begun.elapsed(), before.elapsed());
    let next = agent.tunnel("up", SOON)?;
    let up = begun.elapsed();
    println!("hangs {place}: given up after {given_up:.2?}, the next up after {up:.2?}");
    drop(peer.running);
    let fault = &status["tunnel"]["proxies"][0]["fault"];
    let wrong = if fault["code"] != *code {
        format!("it is not {code}, but {fault:#}")
    } else if next["tunnel"]["proxy"] != "127.0.0.1:2222" {
        format!("it is up at the wrong proxy: {next:#}")
    } else if at_least + slack < deadline || given_up > deadline + slack {
        format!("it took {given_up:?}, not {deadline:?}")
    } else if up > given_up + 2 * slack {
        format!("the next is up {:?} later", up - given_up)
    } else {
        return Ok(());
    };
    Err(Failure::new(wrong).during(format!("a proxy that hangs {place}")))
}

/// A scene whose proxy is good, and one that is not.
fn prepare(peer: fn(&Scene) -> Result<Peer>) -> Result<(Scene, Peer)> {
    let scene = Scene::new()?;
    scene.proxy.authorize(OPTIONS, &scene.key.public()?)?;
    let peer = peer(&scene)?;
    Ok((scene, peer))
}

#[test]
fn a_connection_that_is_reset_in_the_key_exchange_is_named_and_passed_over() {
    let (scene, peer) = prepare(|scene| Peer::relay(scene, 200, Fate::Resets)).unwrap();
    let document = preferring(peer.address, &peer.host_key, &scene.document().unwrap());
    let agent = scene.agent(&document).unwrap();
    let status = agent.tunnel("up", SOON).unwrap();
    let fault = &status["tunnel"]["proxies"][0]["fault"];
    assert_eq!(fault["code"], "kex-failed", "{fault:#}");
}

#[test]
fn what_is_not_ssh_is_named_and_passed_over_and_costs_no_memory() {
    let packet = [BANNER, &(1_u32 << 20).to_be_bytes(), &[0; 4096]].concat();
    let banner = [b"SSH-2.0-".as_slice(), &[b'a'; 64 << 10], b"\r\n"].concat();
    let cases: [(Script, &str, &str); 9] = [
        (
            Script::Leaves(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
            "no-banner",
            "HTTP/1.1 400 Bad Request",
        ),
        (
            Script::Leaves(b"Not allowed at this time\r\n".to_vec()),
            "no-banner",
            "Not allowed at this time",
        ),
        (
            Script::Leaves(b"Exceeded MaxStartups\r\n".to_vec()),
            "no-banner",
            "Exceeded MaxStartups",
        ),
        (Script::Leaves(Vec::new()), "no-banner", ""),
        (Script::Resets, "no-banner", ""),
        (Script::Holds(banner), "no-banner", ""),
        (Script::Repeats(vec![b'x'; 64 << 10]), "no-banner", ""),
        (
            Script::Repeats(b"a line before the banner\r\n".repeat(1000)),
            "no-banner",
            "a line before the banner",
        ),
        (Script::Holds(packet), "kex-failed", ""),
    ];
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = scene.document().unwrap();
    let plain = scene.agent(&document).and_then(up).unwrap();
    let without = Usage::of(plain.id()).unwrap().resident;
    drop(plain);
    let mut failures = Vec::new();
    for (script, code, words) in cases {
        let name: String = format!("{script:?}").chars().take(40).collect();
        let raw = Raw::start(&scene.namespace, script).unwrap();
        // It is tried many times over before the one that is good.
        const TIMES: usize = 8;
        let hostile = (0..TIMES).fold(document.clone(), |document, _| {
            preferring(raw.address(), &host_key, &document)
        });
        let agent = scene.agent(&hostile).and_then(up).unwrap();
        let status = agent.status().unwrap();
        let fault = &status["tunnel"]["proxies"][0]["fault"];
        let message = fault["message"].as_str().unwrap_or_default();
        let more = Usage::of(agent.id())
            .unwrap()
            .resident
            .saturating_sub(without);
        println!("{name}: {more} KiB more than without; {message}");
        if fault["code"] != code || !message.contains(words) {
            failures.push(format!("{name} is not {code} with {words:?}: {fault:#}"));
        }
        if raw.taken() != TIMES || more > 1024 {
            let taken = raw.taken();
            failures.push(format!("{name}: tried {taken} times; {more} KiB more"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn up(agent: Agent) -> Result<Agent> {
    agent.tunnel("up", SOON)?;
    Ok(agent)
}
