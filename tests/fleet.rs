//! Many agents that lose one proxy at once do not stampede it, and are all back soon.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::{self, Agent, binary};
use harness::arrivals::{Arrivals, peak};
use harness::failure::Result;
use harness::limits::SOON;
use harness::scene::Scene;
use harness::stopwatch::Stopwatch;
use harness::turn;
use harness::wait;
use nix::unistd::User;

/// How many there are; every one a process.
const FLEET: usize = 200;

/// The first of their ports.
const FIRST: usize = 20_000;

/// In so much time all are up, on two busy cores that do both halves of every key exchange.
const ALL_UP: Duration = Duration::from_secs(60);

/// Between two looks at the agents' connections.
const LOOK: Duration = Duration::from_millis(20);

/// The user that they run as. Each watches files with three inotify instances, of which a user has 128
/// on the whole machine (inotify(7), `max_user_instances`): root's are for the other tests, whose
/// agents would not notice a change of their files.
const USER: &str = "nobody";

/// The same command as [`USER`], who may run no program where only root may go.
fn as_user(command: &Command, program: &Path) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args([
        &format!("--reuid={USER}"),
        "--regid=nogroup",
        "--clear-groups",
    ]);
    // The kernel forgets the signal when the user changes.
    wrapped.args(["--", "setpriv", "--pdeathsig=KILL", "--"]);
    wrapped.arg(program).args(command.get_args());
    wrapped
}

/// Starts them one after another. Each has its directory, its port and its place on the disk.
fn start(scene: &Scene) -> Result<Vec<Agent>> {
    let host_key = scene.proxy.host_key("ed25519")?;
    let user = User::from_name(USER)?.map(|user| user.uid.as_raw());
    let folder = scene.agent_dir();
    let passable = Permissions::from_mode(0o711);
    fs::set_permissions(folder.parent().unwrap_or(&folder), passable)?;
    let program = folder.join("vmagent");
    fs::copy(binary(), &program)?;
    let one = |index: usize| -> Result<Agent> {
        let dir = folder.join(index.to_string());
        fs::create_dir(&dir)?;
        chown(&dir, user, None)?;
        let port = u16::try_from(FIRST + index)?;
        let document = scene.document_with("0.0.0.0", port, &host_key, &scene.key, "")?;
        agent::write_document(&dir, &document)?;
        chown(dir.join("tunnel.yaml"), user, None)?;
        Agent::start_by(&scene.namespace, &dir, &[], |command| {
            as_user(&command, &program)
        })
    };
    (0..FLEET).map(one).collect()
}

/// Waits until the proxy has let in as many as there are, and each is up.
fn all_up(scene: &Scene, agents: &[Agent], since: Instant) -> Result<Duration> {
    // The log began when the proxy did: an old session is not in it.
    let all_in = || (logins(scene) >= agents.len()).then_some(());
    wait::until("login of every agent", ALL_UP + SOON, all_in)?;
    for agent in agents {
        agent.tunnel("up", SOON)?;
    }
    Ok(since.elapsed())
}

fn logins(scene: &Scene) -> usize {
    scene.proxy.log().matches("Accepted publickey").count()
}

/// The most connections to the proxy that one agent has at once until `over`.
fn most_at_once(agents: &[Agent], over: &AtomicBool) -> usize {
    let table = format!("/proc/{}/net/tcp", agents[0].id());
    let mut before = HashSet::new();
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        let live = live_sockets(&table);
        // The table is not read at one moment: only who is in two of them was there in between.
        let both: HashSet<_> = live.intersection(&before).collect();
        for agent in agents {
            let files = fs::read_dir(format!("/proc/{}/fd", agent.id())).unwrap();
            // A file may be closed by now.
            let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
            // One socket may be two files.
            let names: HashSet<_> = links
                .map(|link| link.to_string_lossy().into_owned())
                .filter(|name| both.contains(name))
                .collect();
            most = most.max(names.len());
        }
        before = live;
        thread::sleep(LOOK);
    }
    most
}

/// The names, as in /proc/PID/fd, of the sockets that are connected to the proxy or try to be.
fn live_sockets(table: &str) -> HashSet<String> {
    let table = fs::read_to_string(table).unwrap();
    let live = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (remote, state, inode) = (words.get(2)?, words.get(3)?, words.get(9)?);
        // Established, or its SYN is sent; one that the proxy has closed is over.
        let counts = remote.ends_with(":08AE") && matches!(*state, "01" | "02");
        counts.then(|| format!("socket:[{inode}]"))
    });
    live.collect()
}

#[test]
fn two_hundred_agents_do_not_stampede_a_proxy_that_restarts() {
    let _turn = turn::take();
    // MaxStartups is the default, 10:30:100: with 10 that have not logged in yet, sshd begins to
    // drop others by chance.
    let mut scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    let options = "restrict,port-forwarding";
    scene.proxy.authorize(options, &public).unwrap();
    let arrivals = Arrivals::new(&scene.namespace, scene.proxy.address.port()).unwrap();
    let booted = Instant::now();
    let agents = start(&scene).unwrap();
    let took = all_up(&scene, &agents, booted).unwrap();
    println!("{FLEET} agents, started one after another | all up in {took:.1?}");

    arrivals.forget().unwrap();
    scene.proxy.crash().unwrap();
    scene.proxy.start().unwrap();
    let restarted = Instant::now();
    let busy: Vec<_> = agents.iter().map(Agent::stopwatch).collect();
    let over = AtomicBool::new(false);
    let (took, most) = thread::scope(|scope| {
        let most = scope.spawn(|| most_at_once(&agents, &over));
        let took = all_up(&scene, &agents, restarted);
        over.store(true, Ordering::Relaxed);
        (took.unwrap(), most.join().unwrap())
    });
    let times = arrivals.times().unwrap();
    let total = times.len();
    let second = peak(&times, Duration::from_secs(1));
    let tenth = peak(&times, Duration::from_millis(100));
    println!(
        "{FLEET} agents lose their proxy, which restarts | all up in {took:.1?} of {ALL_UP:?}: \
         {total} attempts, {second} in the worst second, {tenth} in the worst tenth of one, at \
         most {most} at once by one agent; the last {:.1?} after the first",
        times.last().copied().unwrap_or_default()
    );
    // What the agents waited for a processor is the machine's.
    let waited = busy.iter().map(Stopwatch::waited).max().unwrap_or_default();
    assert!(
        took <= ALL_UP + waited,
        "{took:?}, {waited:?} of it waiting"
    );
    assert!(total >= FLEET, "{total} attempts were seen");
    assert_eq!(logins(&scene), FLEET, "one login takes the port back");
    assert_eq!(most, 1, "the attempts of one agent in flight");
    // sshd drops more of them on a machine that is slow, and an agent tries again about once each
    // time that the outage has become twice as long.
    let doublings = (took.as_secs_f64() / 8.0).log2().max(0.0);
    let allowed = (3.0 + 2.0 * doublings) * FLEET as f64;
    assert!(
        (total as f64) <= allowed,
        "{total} attempts of {FLEET} agents, {allowed:.0} allowed in {took:.1?}"
    );
    assert!(second <= 2 * FLEET, "{second} attempts in one second");
    assert!(
        tenth <= FLEET / 2,
        "{tenth} attempts in a tenth of a second"
    );
}
