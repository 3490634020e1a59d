//! Bytes arrive whole, whatever happens to the session that carries them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::limits::SOON;
use harness::load::{drain, fill};
use harness::process;
use harness::scene::Scene;
use harness::service::Service;
use harness::usage::Usage;
use harness::wait;
use nix::sys::signal::{Signal, kill};

/// How soon the tunnel is up again where the session was lost, and nothing hinders a new one.
const HEALED: Duration = Duration::from_secs(2);
/// How soon after the order to stop the port is free.
const FREED: Duration = Duration::from_secs(3);

fn checksum(path: &Path) -> String {
    let printed = process::run(Command::new("sha256sum").arg(path)).unwrap();
    printed.split(' ').next().unwrap().to_owned()
}

#[test]
fn files_arrive_whole_both_ways_and_by_both_ways_in() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    scene.add_bridge(&agent).unwrap();
    let dir = scene.agent_dir();
    let original = dir.join("original");
    let mut random = std::fs::File::open("/dev/urandom").unwrap().take(64 << 20);
    std::io::copy(&mut random, &mut std::fs::File::create(&original).unwrap()).unwrap();
    for way in ["tunnel", "bridge"] {
        let there = dir.join(format!("{way}-there"));
        let back = dir.join(format!("{way}-back"));
        let remote = format!("{way}:{}", there.display());
        for (from, to) in [
            (original.display().to_string(), remote.clone()),
            (remote, back.display().to_string()),
        ] {
            let mut command = scene.ssh("scp");
            command.args(["-q", &from, &to]);
            scene.namespace.run(&command, 3 * SOON).unwrap();
        }
        assert_eq!(checksum(&original), checksum(&back), "by the {way}");
        assert_eq!(checksum(&original), checksum(&there), "by the {way}");
    }
}

#[test]
fn a_half_close_is_carried_both_ways() {
    let service = Service::new().unwrap();
    let (mut user, mut server) = service.connect().unwrap();
    user.write_all(b"question").unwrap();
    user.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "question");
    server.write_all(b"answer").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    heard.clear();
    user.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "answer");
}

/// Sends [`fill`]'s bytes for as many bytes as are asked for, or a little more, and ends.
fn send(mut stream: TcpStream, least: u64) -> u64 {
    let chunk: Vec<u8> = (0..=250).cycle().take(251 * 261).collect();
    let mut sent = 0;
    while sent < least {
        stream.write_all(&chunk).unwrap();
        sent += chunk.len() as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    sent
}

/// Keys are exchanged anew after each megabyte, because the proxy says so. The agent never begins
/// an exchange of its own (see `config` in tunnel/connect.rs), so the proxy's are all there are.
#[test]
fn nothing_is_lost_while_the_proxy_exchanges_keys_fifty_times() {
    const EACH: u64 = 12 << 20;
    let service = Service::with_proxy("RekeyLimit 1M\nMatch all\n    LogLevel DEBUG1").unwrap();
    let pairs: Vec<_> = (0..3).map(|_| service.connect().unwrap()).collect();
    std::thread::scope(|scope| {
        for (user, server) in &pairs {
            for (from, to) in [(user, server), (server, user)] {
                let (from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let sent = scope.spawn(move || send(from, EACH));
                scope.spawn(move || {
                    let read = drain(&mut to).unwrap();
                    assert_eq!(read, sent.join().unwrap());
                });
            }
        }
    });
    let log = service.scene.proxy.log();
    let begun = log.matches("SSH2_MSG_KEXINIT sent").count();
    println!("{begun} key exchanges");
    assert!(begun > 50, "{begun} key exchanges only");
    assert_eq!(
        log.matches("Accepted publickey").count(),
        1,
        "the session was lost"
    );
}

/// The bytes that the service has handed over before the order to stop arrive, though they fill
/// every buffer on the way and their reader is only now beginning to read.
#[test]
fn what_was_sent_before_the_order_to_stop_arrives_and_the_port_is_free_at_once() {
    let mut service = Service::new().unwrap();
    let (mut user, mut server) = service.connect().unwrap();
    server
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let sent = fill(&mut server).unwrap();
    let stop = service.agent.stopwatch();
    service.agent.signal(Signal::SIGTERM).unwrap();
    let reader = std::thread::spawn(move || drain(&mut user));
    let address = service.address();
    let freed = wait::until("free port", SOON, || {
        service.scene.namespace.listen(address).ok()
    });
    let free = stop.elapsed();
    let read = reader.join().unwrap();
    let status = service.agent.ends(SOON).unwrap();
    println!(
        "{sent} bytes sent, {read:?} read; free after {free:?}, ended after {:?}",
        stop.elapsed()
    );
    freed.unwrap();
    assert!(free <= FREED, "{free:?}");
    assert_eq!(read.unwrap(), sent);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_reset_in_a_transfer_costs_that_connection_alone() {
    let service = Service::new().unwrap();
    let before = Usage::of(service.agent.id()).unwrap();
    let (mut bystander, mut other) = service.connect().unwrap();
    for broken in ["the user", "the service"].repeat(3) {
        let (user, server) = service.connect().unwrap();
        let (breaks, mut stays) = match broken {
            "the user" => (user, server),
            _ => (server, user),
        };
        // A user's reset reaches the service as an end of file only, and sshd reads on for ever:
        // it has no word for it. So the service stops by itself.
        let limit = (broken == "the user").then_some(Duration::from_millis(500));
        stays.set_write_timeout(limit.or(Some(SOON))).unwrap();
        let mut pushes = stays.try_clone().unwrap();
        let pusher = std::thread::spawn(move || {
            let chunk = vec![0; 1 << 16];
            let start = Instant::now();
            while pushes.write_all(&chunk).is_ok() {
                if limit.is_some_and(|limit| start.elapsed() > limit) {
                    return;
                }
                assert!(start.elapsed() < SOON, "{broken} is gone, and bytes go on");
            }
        });
        let mut some = breaks.try_clone().unwrap();
        some.read_exact(&mut vec![0; 4 << 20]).unwrap();
        // What is unread makes a reset of the close.
        drop((some, breaks));
        // It hears of it, one way or the other.
        assert!(!matches!(stays.read(&mut [0; 1]), Ok(1..)), "{broken}");
        pusher.join().unwrap();
    }
    bystander.write_all(b"x").unwrap();
    other.read_exact(&mut [0]).unwrap();
    drop((bystander, other));
    left_as_before(&service, &before);
}

/// The proxy's side of the session is killed while bytes flow both ways and a channel is blocked.
#[test]
fn a_session_lost_in_a_transfer_is_back_in_two_seconds_and_leaves_nothing() {
    let service = Service::new().unwrap();
    let before = Usage::of(service.agent.id()).unwrap();
    let mut worst = Duration::ZERO;
    for _ in 0..3 {
        let (mut user, mut server) = service.connect().unwrap();
        server
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        fill(&mut server).unwrap();
        let (from, _to) = service.connect().unwrap();
        let pusher = std::thread::spawn({
            let mut from = from.try_clone().unwrap();
            move || while from.write_all(&[0; 1 << 16]).is_ok() {}
        });
        for session in service.scene.proxy.sessions().unwrap() {
            // One of a pair may go with the other.
            let _ = kill(session, Signal::SIGKILL);
        }
        let fault = service.agent.stopwatch();
        let down = |status: &serde_json::Value| status["tunnel"]["state"] != "up";
        service.agent.wait_for("loss", SOON, down).unwrap();
        service.wait_up(SOON).unwrap();
        worst = worst.max(fault.elapsed());
        let _ = drain(&mut user);
        pusher.join().unwrap();
    }
    println!("up again after {worst:?} at worst");
    left_as_before(&service, &before);
    assert!(worst <= HEALED, "{worst:?}");
}

#[test]
fn a_user_who_leaves_while_the_channel_is_blocked_leaves_nothing_behind() {
    let service = Service::new().unwrap();
    let before = Usage::of(service.agent.id()).unwrap();
    for _ in 0..8 {
        let (user, mut server) = service.connect().unwrap();
        server
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        fill(&mut server).unwrap();
        drop(user);
    }
    left_as_before(&service, &before);
}

/// Every descriptor is closed, no connection is open, and memory is about what it was.
fn left_as_before(service: &Service, before: &Usage) {
    service.wait_closed(SOON).unwrap();
    let now = || Usage::of(service.agent.id()).unwrap();
    // Those who asked for the status are still being let go, before as after.
    let gone = || (now().descriptors <= before.descriptors).then_some(());
    wait::until("end of all descriptors", SOON, gone).unwrap();
    let grown = now().resident.saturating_sub(before.resident);
    println!("{grown} KiB more");
    // Buffers that have been in use once stay with the allocator; they are few.
    assert!(grown < 6 * 1024, "{grown} KiB more");
}
