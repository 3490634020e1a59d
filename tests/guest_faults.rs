//! What happens to whole guests, and how soon after it the tunnel is up again.

use std::io::Read;
use std::time::{Duration, Instant};

use harness::failure::Result;
use harness::guest::Guest;
use harness::limits::SOON;
use harness::metadata::Metadata;
use harness::openssh::make_key;
use harness::snapshot::Snapshot;
use harness::wait;
use harness::world::{Forward, PUBLIC, World};
use serde_json::json;

const UP: Duration = SOON;

/// The longest from the cure to a new login: three seconds, to which the units' own tests hold
/// it natively. An emulated machine takes several times as long, most of all after a restore, when
/// nothing of its programs is translated yet, or beside other work. The measured times are printed.
const LIMIT: Duration = Duration::from_secs(10 * 3);

const DOCUMENT: &str = "/etc/vmagent/tunnel.yaml";

/// A guest whose tunnel is up.
fn guest(world: &World) -> Result<Guest> {
    let guest = Guest::restore(&world.namespace)?;
    guest.write(DOCUMENT, &world.document(PUBLIC)?)?;
    guest.wait_tunnel(UP)?;
    Ok(guest)
}

/// Waits until the tunnel is up on another session than that of this login, and says how long it
/// took.
fn up_again(world: &World, guest: &Guest, fault: &str, logins: usize) -> Result<()> {
    let cured = Instant::now();
    let again = || (self::logins(world) > logins).then_some(());
    wait::until("another login", LIMIT, again)?;
    let logged_in = cured.elapsed();
    guest.wait_tunnel(UP)?;
    println!(
        "{fault}: logged in after {logged_in:.1?}, seen up after {:.1?}",
        cured.elapsed()
    );
    Ok(())
}

fn logins(world: &World) -> usize {
    world.proxy.log().matches("Accepted publickey").count()
}

#[test]
fn a_guest_that_was_paused_for_a_minute_or_more() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let guest = guest(&world)?;
    // The fault is the time itself. The proxy may give the guest up meanwhile or not: sshd 9.2
    // does after two minutes, 10.0 after one.
    guest.pause(Duration::from_secs(60))?;
    let cured = Instant::now();
    wait::retry("login through the tunnel", LIMIT, || banner(&world))?;
    println!("guest paused: reached after {:.1?}", cured.elapsed());
    guest.wait_tunnel(UP).map(drop)
}

/// A user's connection through the proxy meets the guest's sshd.
fn banner(world: &World) -> Result<()> {
    let port = ([127, 0, 0, 1], PUBLIC.port).into();
    let mut stream = world.namespace.connect(port)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut start = [0; 4];
    stream.read_exact(&mut start)?;
    assert_eq!(&start, b"SSH-");
    Ok(())
}

#[test]
fn a_link_that_was_down_an_agent_that_was_killed_and_a_snapshot_that_was_restored() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let guest = guest(&world)?;
    a_link_that_was_down(&world, &guest)?;
    an_agent_that_was_killed(&world, &guest)?;
    a_snapshot_that_was_restored(&world, guest)
}

fn a_link_that_was_down(world: &World, guest: &Guest) -> Result<()> {
    let before = logins(world);
    let link = |up: bool| {
        guest
            .qmp()
            .execute("set_link", json!({ "name": "net", "up": up }))
    };
    link(false)?;
    // Fault: noticed, and then some attempts in vain.
    guest.wait_status("third attempt", UP, |status| {
        status["tunnel"]["attempt"].as_u64() >= Some(3)
    })?;
    link(true)?;
    up_again(world, guest, "link down and up", before)
}

fn an_agent_that_was_killed(world: &World, guest: &Guest) -> Result<()> {
    let before = logins(world);
    guest.run("systemctl kill --signal=KILL vmagent.service")?;
    up_again(world, guest, "agent killed", before)
}

fn a_snapshot_that_was_restored(world: &World, original: Guest) -> Result<()> {
    let snapshot = Snapshot::take(&original)?;
    drop(original);
    let before = logins(world);
    let restored = Guest::from_snapshot(&world.namespace, &snapshot)?;
    up_again(world, &restored, "snapshot restored", before)?;
    let journal = restored.run("journalctl --output=cat --unit=vmagent.service")?;
    assert!(journal.contains("restored from a snapshot"), "{journal}");
    Ok(())
}

#[test]
fn a_clone_never_uses_the_key_or_the_port_of_its_original() -> Result<()> {
    const OTHER: Forward<'static> = Forward {
        bind: "0.0.0.0",
        port: 12399,
    };
    let mut world = World::new(&[PUBLIC])?;
    let metadata = Metadata::start(&world.namespace)?;
    let serve = |world: &World, id: &str, forward| -> Result<()> {
        let document = world.json(forward)?;
        metadata.openstack(id, &format!("{{\"vmagent\": {document}}}"));
        Ok(())
    };
    serve(&world, "i-original", PUBLIC)?;
    let original = Guest::restore(&world.namespace)?;
    original.run("systemctl reload vmagent.service")?;
    original.wait_tunnel(UP)?;
    let snapshot = Snapshot::take(&original)?;
    drop(original);
    let old_key = world.proxy.fingerprint_of(&world.key)?;
    let before = world.proxy.log();
    assert!(before.contains(&old_key), "{before}");

    // The clone is another instance, with a key and a port of its own.
    world.key = make_key(&world.dir().join("clone_key"), "ed25519")?;
    let options =
        "restrict,port-forwarding,permitlisten=\"0.0.0.0:12399\",permitopen=\"127.0.0.1:12399\"";
    world.proxy.authorize(options, &world.key.public()?)?;
    serve(&world, "i-clone", OTHER)?;
    let clone = Guest::from_snapshot(&world.namespace, &snapshot)?;
    let status = clone.wait_status("tunnel of its own", UP, |status| {
        status["tunnel"]["state"] == "up" && status["tunnel"]["port"] == OTHER.port
    })?;
    assert_eq!(status["instance_id"], "i-clone", "{status:#}");
    let log = world.proxy.log();
    let since = &log[before.len()..];
    assert!(
        !since.contains(&old_key),
        "the clone used the old key:\n{since}"
    );
    assert!(
        since.contains(&world.proxy.fingerprint_of(&world.key)?),
        "{since}"
    );
    Ok(())
}
