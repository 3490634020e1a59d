//! The tunnels: a port of a proxy on loopback, to the same guest.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::agent;
use harness::failure::{Context, Failure, Result};
use harness::openssh::{Sshd, TUNNEL_USER, make_key};
use harness::ssh::Key;
use harness::{paths, process};
use serde_json::json;

use crate::peer::Peer;
use crate::stage::{SERVICE, Stage};

/// What this is about.
pub const VMAGENT: &str = "vmagent";
/// ssh with the cipher that vmagent asks for.
pub const SSH_SAME: &str = "ssh -R aes128-gcm";
/// ssh with its default cipher, chacha20-poly1305.
pub const SSH: &str = "ssh -R";
/// autossh with ssh's default cipher.
pub const AUTOSSH: &str = "autossh";
/// The best peer in Rust, told to encrypt.
pub const RATHOLE: &str = "rathole noise";

/// All of them, in the table's order.
pub const ALL: [&str; 6] = ["direct", VMAGENT, SSH_SAME, SSH, AUTOSSH, RATHOLE];

/// The proxy's sshd.
const PROXY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2222);

/// Where the tunnel of a peer ends on the proxy.
fn port(name: &str) -> u16 {
    let number = ALL.iter().position(|peer| *peer == name);
    20_000 + number.unwrap_or_default() as u16
}

/// Starts the proxy and all of them. The proxy goes with the last of them.
///
/// # Errors
///
/// If one does not start.
pub fn start(stage: &Stage) -> Result<Vec<Peer>> {
    let dir = stage.dir("proxy")?;
    // A forward's connections are no logins.
    let proxy = Sshd::new(&stage.namespace, &dir, PROXY, &Sshd::proxy_config())?;
    let key = make_key(&dir.join("key"), "ed25519")?;
    let listens: Vec<_> = ALL
        .iter()
        .map(|name| format!("permitlisten=\"127.0.0.1:{}\"", port(name)))
        .collect();
    let options = format!("restrict,port-forwarding,{}", listens.join(","));
    proxy.authorize(&options, &key.public()?)?;
    let host_key = proxy.host_key("ed25519")?;
    write_client(&dir, &host_key)?;

    let mut peers = vec![
        stage.direct(),
        vmagent(stage, &host_key, &key)?,
        ssh(
            stage,
            &dir,
            SSH_SAME,
            "ssh",
            &["-c", "aes128-gcm@openssh.com"],
        )?,
        ssh(stage, &dir, SSH, "ssh", &[])?,
        ssh(stage, &dir, AUTOSSH, "autossh", &["-M", "0"])?,
        rathole(stage)?,
    ];
    if let Some(last) = peers.last_mut() {
        last.parts.push(Box::new(proxy));
    }
    Ok(peers)
}

fn write_client(dir: &Path, host_key: &str) -> Result<()> {
    let shown = dir.display();
    fs::write(dir.join("known_hosts"), format!("proxy {host_key}\n"))?;
    let config = format!(
        "Host proxy\n  HostName {}\n  Port {}\n  User {TUNNEL_USER}\n  \
         IdentityFile {shown}/key\n  IdentitiesOnly yes\n  HostKeyAlias proxy\n  \
         UserKnownHostsFile {shown}/known_hosts\n  StrictHostKeyChecking yes\n",
        PROXY.ip(),
        PROXY.port(),
    );
    fs::write(dir.join("ssh_config"), config).during("writing ssh_config")
}

fn vmagent(stage: &Stage, host_key: &str, key: &Key) -> Result<Peer> {
    let dir = stage.dir(VMAGENT)?;
    let document = json!({"vmagent": {"version": 1, "tunnel": {
        "when": "always",
        "proxies": [{"host": PROXY.ip(), "port": PROXY.port(), "user": TUNNEL_USER, "host_keys": [host_key]}],
        "bind": "127.0.0.1",
        "port": port(VMAGENT),
        "private_key": key.private()?,
    }}});
    agent::write_document(&dir, &document.to_string())?;
    let (agent, group, most) = stage.agent(&dir, &[("bridge", "listen = \"off\"")])?;
    agent.tunnel("up", Duration::from_secs(10))?;
    Ok(Peer {
        name: VMAGENT,
        endpoint: endpoint(VMAGENT),
        group: Some(group),
        most,
        parts: vec![Box::new(agent)],
    })
}

fn endpoint(name: &str) -> String {
    format!("tcp:127.0.0.1:{}", port(name))
}

fn ssh(
    stage: &Stage,
    dir: &Path,
    name: &'static str,
    program: &str,
    options: &[&str],
) -> Result<Peer> {
    let mut command = Command::new(program);
    command
        .args(options)
        .args(["-N", "-F"])
        .arg(dir.join("ssh_config"))
        .args(["-o", "ExitOnForwardFailure=yes", "-R"])
        .arg(format!("127.0.0.1:{}:{SERVICE}", port(name)))
        .arg("proxy");
    stage.program(name, endpoint(name), &command)
}

/// Its server takes the proxy's part, outside the group: only the guest's end is counted, as it is
/// of the others.
fn rathole(stage: &Stage) -> Result<Peer> {
    let program = paths::tool("rathole")?;
    let dir = stage.dir(RATHOLE)?;
    let keys = process::run(Command::new(&program).arg("--genkey"))?;
    let (private, public) = keypair(&keys)?;
    let service = "[SIDE.services.ssh]\ntoken = \"bench\"\n";
    let noise = "[SIDE.transport]\ntype = \"noise\"\n[SIDE.transport.noise]\n";
    let server = format!(
        "[SIDE]\nbind_addr = \"127.0.0.1:2333\"\n{noise}local_private_key = \"{private}\"\n\
         {service}bind_addr = \"127.0.0.1:{}\"\n",
        port(RATHOLE)
    );
    let client = format!(
        "[SIDE]\nremote_addr = \"127.0.0.1:2333\"\n{noise}remote_public_key = \"{public}\"\n\
         {service}local_addr = \"{SERVICE}\"\n"
    );
    let start = |side: &str, config: &str| -> Result<Command> {
        let path = dir.join(format!("{side}.toml"));
        fs::write(&path, config.replace("SIDE", side))?;
        let mut command = Command::new(&program);
        command.arg(format!("--{side}")).arg(path);
        Ok(command)
    };
    let far = stage
        .namespace
        .spawn(&dir, "server", &start("server", &server)?)?;
    let mut peer = stage.program(RATHOLE, endpoint(RATHOLE), &start("client", &client)?)?;
    peer.parts.push(Box::new(far));
    Ok(peer)
}

/// The two lines after "Private Key:" and "Public Key:".
fn keypair(printed: &str) -> Result<(String, String)> {
    let after = |title: &str| {
        let mut lines = printed.lines().skip_while(|line| !line.contains(title));
        lines.nth(1).map(|line| line.trim().to_owned())
    };
    after("Private Key")
        .zip(after("Public Key"))
        .ok_or_else(|| Failure::new(format!("no keys in {printed:?}")))
}
