//! Many connections leave nothing behind, and running out of something hurts only who asked for
//! more of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::failure::Failure;
use harness::limits::SOON;
use harness::load::{self, Echo, call, fill};
use harness::process;
use harness::service::Service;
use harness::usage::Usage;
use harness::wait;
use nix::sys::signal::Signal;

fn usage(service: &Service) -> Usage {
    Usage::of(service.agent.id()).unwrap()
}

/// Waits until no more descriptors are open than before.
fn closed_since(service: &Service, before: &Usage) {
    service.wait_closed(SOON).unwrap();
    let same = || (usage(service).descriptors <= before.descriptors).then_some(());
    wait::until("end of all descriptors", SOON, same)
        .map_err(|failure| failure.during(format!("{before:?}, then {:?}", usage(service))))
        .unwrap();
}

/// A user's connection through which a byte has gone there and back.
fn used(service: &Service) -> TcpStream {
    let mut user = service.dial().unwrap();
    call(&mut user).unwrap();
    user
}

#[test]
fn twenty_thousand_connections_and_five_hundred_at_once_leave_nothing_behind() {
    let service = Service::new().unwrap();
    let echo = Echo::serve(&service.listener).unwrap();
    let many = || (0..500).map(|_| used(&service)).collect::<Vec<_>>();
    // Once before the count: buffers and tables that have grown stay.
    drop(many());
    service.wait_closed(SOON).unwrap();
    load::calls(&service.scene.namespace, service.address(), 4, 250).unwrap();
    service.wait_closed(SOON).unwrap();
    let before = usage(&service);
    let took = load::calls(&service.scene.namespace, service.address(), 4, 5000).unwrap();
    service.wait_closed(SOON).unwrap();
    let sequence = usage(&service);
    let mut held = many();
    let peak = usage(&service);
    // All of them are open and each still works.
    for user in &mut held {
        call(user).unwrap();
    }
    drop(held);
    closed_since(&service, &before);
    let after = usage(&service);
    println!(
        "20 000 took {took:?}; before {before:?}, after them {sequence:?}, \
         with 500 open {peak:?}, at the end {after:?}"
    );
    let grown = after.resident.saturating_sub(before.resident);
    assert!(grown < 1024, "{grown} KiB more");
    drop(echo);
}

/// All five hundred come with the same breath, before any has been answered.
#[test]
fn five_hundred_callers_in_the_same_moment_are_all_served() {
    let service = Service::new().unwrap();
    let echo = Echo::serve(&service.listener).unwrap();
    let mut users: Vec<_> = (0..500)
        .map(|_| {
            let mut user = service.dial().unwrap();
            user.set_read_timeout(Some(SOON)).unwrap();
            user.write_all(b"x").unwrap();
            user
        })
        .collect();
    let start = Instant::now();
    for (index, user) in users.iter_mut().enumerate() {
        let heard = user.read_exact(&mut [0]);
        assert!(heard.is_ok(), "caller {index}: {heard:?}");
    }
    println!("all of them after {:?}", start.elapsed());
    drop((users, echo));
}

/// The limit of a resource on a running process, put back on drop.
struct Limit {
    id: u32,
    name: &'static str,
    before: String,
}

impl Limit {
    fn set(id: u32, name: &'static str, most: u64) -> Self {
        let show = ["--noheadings", "--output=SOFT", &format!("--{name}")].map(str::to_owned);
        let before = prlimit(id, &show).trim().to_owned();
        prlimit(id, &[format!("--{name}={most}:")]);
        Self { id, name, before }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let mut command = Command::new("prlimit");
        command.arg(format!("--pid={}", self.id));
        // The process may be gone.
        let _ = process::run(command.arg(format!("--{}={}:", self.name, self.before)));
    }
}

fn prlimit(id: u32, arguments: &[String]) -> String {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={id}")).args(arguments);
    process::run(&mut command).unwrap()
}

/// The first four bytes that a caller of the bridge reads.
fn first_word(caller: &mut UnixStream) -> String {
    let mut word = [0; 4];
    caller.set_read_timeout(Some(SOON)).unwrap();
    caller.read_exact(&mut word).unwrap();
    String::from_utf8_lossy(&word).into_owned()
}

#[test]
fn out_of_descriptors_the_others_go_on_and_it_passes_by_itself() {
    let service = Service::new().unwrap();
    let echo = Echo::serve(&service.listener).unwrap();
    let mut old = used(&service);
    let before = usage(&service);
    let limit = Limit::set(
        service.agent.id(),
        "nofile",
        u64::try_from(before.descriptors).unwrap() + 4,
    );
    let short = Instant::now();
    let (mut taken, mut refused) = (Vec::new(), 0);
    for _ in 0..100 {
        let mut user = service.dial().unwrap();
        // Who is refused reads the end, or a reset, and nothing else.
        match call(&mut user) {
            Ok(()) => taken.push(user),
            Err(_) => refused += 1,
        }
    }
    let mut callers: Vec<_> = (0..8)
        .map(|_| UnixStream::connect(service.agent.bridge()).unwrap())
        .collect();
    // The bridge can't take them, and nothing happens: time enough to see what that costs. One at
    // most is taken, when a check of sshd ends, and turned away.
    callers.retain(|caller| {
        caller
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let mut said = String::new();
        let _ = (&*caller).read_to_string(&mut said);
        assert!(!said.starts_with("SSH-"), "{said}");
        said.is_empty()
    });
    assert!(callers.len() >= 7, "{} left", callers.len());
    call(&mut old).unwrap();
    let (period, now) = (short.elapsed(), usage(&service));
    let busy = now.processor - before.processor;
    println!(
        "{} taken, {refused} refused; {busy:?} of processor time in {period:?}",
        taken.len()
    );
    assert!(refused > 90);
    assert!(
        busy < period / 4,
        "{busy:?} of processor time in {period:?}"
    );
    // Room again, because others end: the callers of the bridge are taken one after the other.
    for mut user in taken.drain(..) {
        call(&mut user).unwrap();
    }
    let ended = Instant::now();
    let words = callers.iter_mut().map(first_word).collect::<Vec<_>>();
    println!("the bridge said {words:?} within {:?}", ended.elapsed());
    // Each needs two descriptors, and all ask at once: some are told that there is no room, and
    // that may be all of them. One alone has room enough.
    let told = |word: &String| word == "SSH-" || word == "vmag";
    assert!(words.iter().all(told), "{words:?}");
    drop(callers);
    wait::retry("room for a caller", SOON, || {
        let mut caller = UnixStream::connect(service.agent.bridge())?;
        match first_word(&mut caller) {
            word if word == "SSH-" => Ok(()),
            word => Err(Failure::new(word)),
        }
    })
    .unwrap();
    // All are taken when the limit is raised.
    drop(limit);
    let raised = Instant::now();
    for _ in 0..20 {
        let mut caller = UnixStream::connect(service.agent.bridge()).unwrap();
        assert_eq!(first_word(&mut caller), "SSH-");
    }
    println!("and twenty others after {:?}", raised.elapsed());
    assert!(ended.elapsed() < SOON, "{:?}", ended.elapsed());
    drop(used(&service));
    call(&mut old).unwrap();
    let log = service.agent.log();
    assert!(log.lines().count() < 1000, "{} lines", log.lines().count());
    let logins = service.scene.proxy.log();
    assert_eq!(logins.matches("Accepted publickey").count(), 1, "{logins}");
    drop(old);
    closed_since(&service, &before);
    drop(echo);
}

/// What waits for services that do not read is bounded, for each and in sum.
#[test]
fn a_hundred_connections_that_nobody_reads_cost_a_bounded_memory() {
    let service = Service::new().unwrap();
    let before = usage(&service);
    // A channel that is alone in its session is held back for a while before it is given up.
    let bystander = service.connect().unwrap();
    let (mut users, mut unread) = (Vec::new(), Vec::new());
    let mut held = 0;
    let mut peak = before;
    let start = Instant::now();
    for index in 0..100 {
        let took = start.elapsed();
        assert!(took < 2 * SOON, "{index} after {took:?}");
        let (mut user, server) = service.connect().unwrap();
        user.set_write_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        held += fill(&mut user).unwrap_or_default();
        users.push(user);
        unread.push(server);
        let now = usage(&service);
        if now.resident > peak.resident {
            peak = now;
        }
    }
    let grown = peak.resident - before.resident;
    println!("{held} bytes taken; {grown} KiB more at most");
    let ended = Instant::now();
    drop((users, unread, bystander));
    service.wait_closed(SOON).unwrap();
    println!("closed after {:?}: {:?}", ended.elapsed(), usage(&service));
    assert!(grown < 64 * 1024, "{grown} KiB");
}

/// There is no way to go on without memory: the allocator's failure ends the program (Rust's
/// `handle_alloc_error`), and the service manager starts it again. So the ports come back.
#[test]
fn out_of_memory_the_agent_ends_and_its_successor_has_the_ports_back() {
    let mut service = Service::new().unwrap();
    let room = usage(&service).address_space * 1024 + (512 << 10);
    let limit = Limit::set(service.agent.id(), "as", room);
    let mut held = Vec::new();
    while held.len() < 64
        && let Ok((mut user, server)) = service.connect()
    {
        user.set_write_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let broken = fill(&mut user).is_err();
        held.push((user, server));
        if broken {
            break;
        }
    }
    let status = service.agent.ends(SOON).unwrap();
    println!("ended by {status} with {} connections", held.len());
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    assert!(service.agent.log().contains("memory allocation of"));
    drop((limit, held));
    service.restart().unwrap();
    let started = service.agent.stopwatch();
    service.wait_up(SOON).unwrap();
    let took = started.elapsed();
    println!("ports back {took:?} after the successor was started");
    assert!(took < Duration::from_secs(3), "{took:?}");
}
