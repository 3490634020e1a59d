//! The path to the proxy changes under the tunnel, or was never as wide as it says: the status names
//! it, and the port comes back.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::failure::{Context, Failure, Result};
use harness::link::{self, Link, Way};
use harness::openssh::Sshd;
use harness::site::{Site, Users};
use harness::wait;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// How long a black hole may stay without its name, and after that without its cure. Silence is
/// noticed in 15 s; a user's session that is stuck is evidence, and the first one here is there at
/// once.
const NAMED: Duration = Duration::from_secs(60);
const CURED: Duration = Duration::from_secs(30);

/// A link that drops packets of more than 1280 bytes without an ICMP message, at this age of the
/// tunnel.
fn black_hole(from_the_start: bool) -> Result<()> {
    let good = Way::new(10_000_000).delay(10);
    let bad = good.mtu(1280);
    let site = Site::new([if from_the_start { bad } else { good }; 2])?;
    let agent;
    let mut watch;
    if from_the_start {
        agent = site.agent()?;
        watch = agent.watch()?;
    } else {
        agent = site.agent_up()?;
        site.login("true", NAMED)?;
        watch = agent.watch()?;
        site.link.set([bad; 2])?;
    }
    let mut proven_too_early = false;
    // A person who tries to log in, as people do, again and again until it works.
    let named = thread::scope(|scope| {
        let login = scope.spawn(|| {
            wait::retry("login", NAMED + CURED, || {
                site.login("true", Duration::from_secs(10))
            })
        });
        let named = watch.until("path-mtu", NAMED, |status| {
            let tunnel = &status["tunnel"];
            proven_too_early |= tunnel["proven"] == true;
            tunnel["fault"]["code"] == "path-mtu"
        });
        (named, login.join().expect("a person"))
    });
    let (named, login) = named;
    named?;
    if from_the_start && proven_too_early {
        return Err(Failure::new(agent.log()).during("proven by small packets"));
    }
    login.map_err(|failure| failure.during(agent.log()))?;
    let proven = |status: &Value| {
        let tunnel = &status["tunnel"];
        status["health"] == "ok" && tunnel["state"] == "up" && tunnel["proven"] == true
    };
    agent.wait_for("proven tunnel", CURED, proven)?;
    // Every login works from then on.
    for _ in 0..3 {
        site.login("true", CURED)?;
    }
    let transferred = site.login("head -c 1000000 /dev/zero | cksum", CURED)?;
    assert!(transferred.contains("1000000"), "{transferred}");
    Ok(())
}

#[test]
fn a_path_mtu_black_hole_is_named_and_lived_with() {
    thread::scope(|scope| {
        let late = scope.spawn(|| black_hole(false).during("one that appears"));
        let early = black_hole(true).during("one from the start");
        early.unwrap();
        late.join().unwrap().unwrap();
    });
}

/// The guest's address after it has lost the first one.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 98, 0, 3));

/// The guest loses its link and its address, and has another address with the next link.
fn moved(site: &Site, agent: &Agent) {
    link::take_down(&site.guest).unwrap();
    agent.tunnel_fault("address-gone", 15 * SECOND).unwrap();
    link::bring_up(&site.guest, OTHER).unwrap();
}

/// Waits until the port is held from the new address and users can log in.
fn port_is_back(site: &Site, agent: &Agent, limit: Duration) {
    let start = Instant::now();
    let held = wait::until("port held from the new address", limit, || {
        (site.holder().ok().flatten() == Some(OTHER)).then_some(())
    });
    held.map_err(|failure| failure.during(agent.log())).unwrap();
    println!("another address: {:.1?}", start.elapsed());
    agent.tunnel("up", 15 * SECOND).unwrap();
    site.login("true", 30 * SECOND).unwrap();
}

/// Where a proxy's kernel gives up a connection on which nothing is acknowledged: after about 13 s
/// of repeats, which begin when a user dials, and up to as much again for the last of them. Then
/// the agent asks for the port within 2 s.
const RELEASED: Duration = Duration::from_secs(30);

#[test]
fn a_guest_with_another_address_has_its_port_back_although_users_dial_it() {
    let site = Site::new([Way::new(10_000_000).delay(10); 2]).unwrap();
    site.proxy_retries(5).unwrap();
    let agent = site.agent_up().unwrap();
    // They keep the check of the proxy's sshd from firing.
    let _users = Users::dial(&site);
    moved(&site, &agent);
    port_is_back(&site, &agent, RELEASED);
}

#[test]
fn a_session_from_a_lost_address_is_reset_as_soon_as_the_address_returns() {
    // The proxy says nothing on it by itself for a minute.
    let config = Sshd::proxy_config().replace("ClientAliveInterval 15", "ClientAliveInterval 60");
    let site = Site::with_proxy([Way::new(10_000_000).delay(10); 2], &config).unwrap();
    let agent = site.agent_up().unwrap();
    // Nothing that the proxy would repeat is on its way after that.
    let measured = |status: &Value| status["tunnel"]["round_trip_ms"].is_number();
    agent.wait_for("round trip", 30 * SECOND, measured).unwrap();
    moved(&site, &agent);
    agent.tunnel_fault("port-held", 30 * SECOND).unwrap();
    link::add_address(&site.guest, Link::NEAR).unwrap();
    port_is_back(&site, &agent, 10 * SECOND);
}
