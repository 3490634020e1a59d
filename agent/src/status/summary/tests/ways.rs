use super::*;

#[test]
fn each_way_in_is_a_command() {
    let commands = |proxy: &str, bind: &str| -> Vec<String> {
        let mut status = well();
        status.tunnel.state = TunnelState::Up;
        status.tunnel.proxy = Some(proxy.to_owned());
        status.tunnel.bind = Some(bind.to_owned());
        status.tunnel.port = Some(12345);
        ways_in(&status)
            .into_iter()
            .map(|way| way.command)
            .collect()
    };
    for (proxy, bind, expected) in [
        (
            "proxy.example.org:22",
            "0.0.0.0",
            "ssh -p 12345 root@proxy.example.org",
        ),
        ("[2001:db8::1]:22", "", "ssh -p 12345 root@2001:db8::1"),
        (
            "proxy.example.org:22",
            "localhost",
            "ssh -J proxy.example.org -p 12345 root@localhost",
        ),
        (
            "proxy.example.org:2222",
            "web1.vm",
            "ssh -J proxy.example.org:2222 -p 12345 root@web1.vm",
        ),
        (
            "proxy.example.org:22",
            "198.51.100.7",
            "ssh -p 12345 root@198.51.100.7",
        ),
    ] {
        assert_eq!(commands(proxy, bind), ["ssh root@vsock/42", expected]);
    }
    let mut odd = well();
    odd.bridge.listen = Some("vsock:2222".to_owned());
    assert_eq!(ways_in(&odd)[0].command, "ssh -p 2222 root@vsock/42");
    let mut down = well();
    down.bridge.state = BridgeState::Waiting;
    assert!(ways_in(&down).is_empty());
}

#[test]
fn each_way_in_has_the_lines_that_ssh_looks_for() {
    let mut status = well();
    status.host_keys = vec!["ssh-ed25519 AAAA".to_owned(), "ssh-rsa BBBB".to_owned()];
    status.tunnel.state = TunnelState::Up;
    status.tunnel.bind = Some("0.0.0.0".to_owned());
    let mut first = |listen: &str, proxy: &str, bind: &str, port| -> Vec<String> {
        status.bridge.listen = Some(listen.to_owned());
        status.tunnel.proxy = Some(proxy.to_owned());
        status.tunnel.bind = Some(bind.to_owned());
        status.tunnel.port = Some(port);
        let ways = ways_in(&status);
        assert!(ways.iter().all(|way| way.known_hosts.len() == 2));
        ways.into_iter()
            .map(|way| way.known_hosts[0].clone())
            .collect()
    };
    assert_eq!(
        first("vsock:22", "proxy.example.org:2222", "0.0.0.0", 12345),
        [
            "vsock/42,vsock%42 ssh-ed25519 AAAA",
            "[proxy.example.org]:12345 ssh-ed25519 AAAA"
        ]
    );
    assert_eq!(
        first("vsock:2222", "[2001:db8::1]:22", "*", 12345),
        [
            "[vsock/42]:2222,[vsock%42]:2222 ssh-ed25519 AAAA",
            "[2001:db8::1]:12345 ssh-ed25519 AAAA"
        ]
    );
    // Names of the proxy's own, and a port that needs no brackets.
    assert_eq!(
        first("vsock:22", "proxy.example.org:22", "web1.vm", 22)[1],
        "web1.vm ssh-ed25519 AAAA"
    );
    assert_eq!(
        first("vsock:22", "proxy.example.org:22", "127.0.0.1", 12345)[1],
        "[127.0.0.1]:12345 ssh-ed25519 AAAA"
    );
}

#[test]
fn the_name_that_users_dial_is_in_commands_and_lines() {
    let way = |proxy: &str, public: &str, bind: &str| {
        let mut status = well();
        status.login.user = "debian".to_owned();
        status.host_keys = vec!["ssh-ed25519 AAAA".to_owned()];
        status.tunnel.state = TunnelState::Up;
        status.tunnel.proxy = Some(proxy.to_owned());
        status.tunnel.public_host = Some(public.to_owned());
        status.tunnel.bind = Some(bind.to_owned());
        status.tunnel.port = Some(12345);
        let ways = ways_in(&status);
        assert_eq!(ways[0].command, "ssh debian@vsock/42");
        ways[1].clone()
    };
    for bind in ["0.0.0.0", "", "10.0.2.2"] {
        let way = way("10.0.2.2:22", "gate.example.org", bind);
        assert_eq!(way.command, "ssh -p 12345 debian@gate.example.org");
        assert_eq!(
            way.known_hosts,
            ["[gate.example.org]:12345 ssh-ed25519 AAAA"]
        );
        let options = ["HostName gate.example.org", "Port 12345", "User debian"];
        assert_eq!(way.ssh_config, options);
    }
    for (proxy, public, jump) in [
        ("10.0.2.2:22", "gate.example.org", "gate.example.org"),
        ("10.0.2.2:2222", "gate.example.org", "gate.example.org:2222"),
        ("10.0.2.2:2222", "2001:db8::1", "[2001:db8::1]:2222"),
    ] {
        let way = way(proxy, public, "localhost");
        assert_eq!(
            way.command,
            format!("ssh -J {jump} -p 12345 debian@localhost")
        );
        assert_eq!(way.ssh_config[2], format!("ProxyJump {jump}"));
    }
    // The zone of an address is no token of ssh_config.
    let way = way("10.0.2.2:22", "fe80::1%eth0", "::");
    assert_eq!(way.ssh_config[0], "HostName fe80::1%%eth0");
}
