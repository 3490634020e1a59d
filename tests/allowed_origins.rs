//! A guest whose sshd decides by the client's address or name.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::limits::SOON;
use harness::scene::{OPTIONS, Scene};
use serde_json::Value;

/// The time in which resolv.conf(5) gives up on one name: two attempts of 5 s.
const LOOKUP: Duration = Duration::from_secs(10);

/// A scene after `change` has altered its sshd; the guest's key may hold its port.
fn scene(change: impl FnOnce(&mut Scene)) -> Scene {
    let mut scene = Scene::new().unwrap();
    change(&mut scene);
    scene.sshd.stop();
    scene.sshd.start().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    scene
}

/// An agent of this scene with these lines in `[bridge]`; the client gets `bridge` as a way in.
fn agent(scene: &Scene, lines: &str) -> Agent {
    let document = scene.agent_dir().join("tunnel.yaml");
    std::fs::write(document, scene.document().unwrap()).unwrap();
    let directory = scene.sshd.dir().display();
    let lines = format!("host_keys = \"{directory}\"\n{lines}");
    let config = [("bridge", lines.as_str())];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config).unwrap();
    scene.add_bridge(&agent).unwrap();
    agent
}

fn only_localhost(name: &str, scene: &mut Scene) {
    let sshd = &mut scene.sshd;
    let key = scene.person.public().unwrap();
    match name {
        "hosts.allow" => {
            sshd.show("/etc/hosts.allow", "sshd: 127.0.0.1\n").unwrap();
            sshd.show("/etc/hosts.deny", "ALL: ALL\n").unwrap();
        }
        "from" => {
            sshd.revoke_all().unwrap();
            sshd.authorize("from=\"127.0.0.1\"", &key).unwrap();
        }
        "AllowUsers" => sshd
            .configure("UsePAM no", "UsePAM no\nAllowUsers root@127.0.0.1")
            .unwrap(),
        "pam_access" => {
            let list = sshd.dir().join("access.conf");
            std::fs::write(&list, "+:root:127.0.0.1\n-:ALL:ALL\n").unwrap();
            let access = format!("pam_access.so nodefgroup accessfile={}", list.display());
            let stack = format!(
                "auth required pam_permit.so\naccount required {access}\n\
                 session required pam_permit.so\n"
            );
            sshd.show("/etc/pam.d/sshd", &stack).unwrap();
            sshd.configure("UsePAM no", "UsePAM yes").unwrap();
        }
        other => unreachable!("{other}"),
    }
}

#[test]
fn an_sshd_that_admits_127_0_0_1_alone_is_reached_where_origins_are_one() {
    for name in ["hosts.allow", "from", "AllowUsers", "pam_access"] {
        let scene = scene(|scene| only_localhost(name, scene));
        let one = agent(&scene, "origins = \"one\"");
        one.tunnel("up", SOON).unwrap();
        for way in ["bridge", "tunnel"] {
            let seen = scene.login(way, "echo ${SSH_CONNECTION%% *}");
            let seen = seen.map_err(|failure| failure.during(name)).unwrap();
            assert_eq!(seen, "127.0.0.1\n", "{name}, {way}");
        }
        let ready = |status: &Value| status["sshd"]["state"] == "ready";
        let status = one.wait_for("sshd", SOON, ready).unwrap();
        assert_eq!(status["sshd"]["origins_apart"], false, "{status:#}");
        let words = String::from_utf8(one.ask(&[]).unwrap().stdout).unwrap();
        assert!(
            words.contains("sees all origins under one address"),
            "{words}"
        );
        let lines = one.log().matches("[bridge] origins is \"one\"").count();
        assert_eq!(lines, 1, "{}", one.log());
        drop(one);

        let apart = agent(&scene, "");
        let refused = scene.login("bridge", "echo in").unwrap_err();
        println!("{name}, origins apart: {refused}");
        if name == "hosts.allow" {
            // The agent's check detects this: sshd closes the connection before its banner.
            let silent = |status: &Value| status["sshd"]["fault"]["code"] == "sshd-no-banner";
            let status = apart.wait_for("sshd-no-banner", SOON, silent).unwrap();
            let advice = status["sshd"]["fault"]["advice"].as_str().unwrap();
            assert!(advice.contains("[bridge] origins = \"one\""), "{advice}");
        }
    }
}

/// Name servers that receive each question and answer none.
#[test]
fn the_host_logs_in_at_once_to_an_sshd_that_looks_up_names_while_no_name_server_answers() {
    let scene = scene(|scene| {
        let sshd = &mut scene.sshd;
        sshd.show("/etc/resolv.conf", "nameserver 127.9.9.9\n")
            .unwrap();
        sshd.show("/etc/hosts", "127.0.0.1 localhost\n").unwrap();
        let order = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n";
        sshd.show("/etc/nsswitch.conf", order).unwrap();
        sshd.configure("UsePAM no", "UsePAM no\nUseDNS yes")
            .unwrap();
    });
    let server = scene
        .namespace
        .enter(|| UdpSocket::bind("127.9.9.9:53"))
        .unwrap();
    let login = |way: &str| {
        let start = Instant::now();
        let seen = scene.login(way, "echo ${SSH_CONNECTION%% *}").unwrap();
        println!("{way} from {seen:?}: {:?}", start.elapsed());
        (seen, start.elapsed())
    };
    let apart = agent(&scene, "");
    let told = |status: &Value| status["sshd"]["use_dns"] == true;
    apart.wait_for("use_dns", SOON, told).unwrap();
    apart.tunnel("up", SOON).unwrap();
    let (seen, took) = login("bridge");
    assert_eq!(seen, "127.0.0.1\n");
    assert!(took < LOOKUP, "{took:?}");
    // A user of the proxy comes from an address of its own, which has no name.
    let (seen, took) = login("tunnel");
    assert!(seen.starts_with("127.") && seen != "127.0.0.1\n", "{seen}");
    assert!(took >= LOOKUP, "the name server is not asked: {took:?}");
    let words = String::from_utf8(apart.ask(&[]).unwrap().stdout).unwrap();
    assert!(words.contains("UseDNS yes"), "{words}");
    drop(apart);

    let one = agent(&scene, "origins = \"one\"");
    one.tunnel("up", SOON).unwrap();
    for way in ["bridge", "tunnel"] {
        let (seen, took) = login(way);
        assert_eq!(seen, "127.0.0.1\n");
        assert!(took < LOOKUP, "{way}: {took:?}");
    }
    drop(server);
}
