//! The usual scene: a namespace with a proxy, this guest's sshd, and a key for each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crate::agent::{self, Agent};
use crate::failure::Result;
use crate::limits::{PROGRAM, SOON};
use crate::netns::Namespace;
use crate::openssh::{Sshd, TUNNEL_USER, make_key};
use crate::ssh::{Client, Key};

/// The port that the proxy has allocated to the guest.
pub const PORT: u16 = 12345;

/// What `authorized_keys` on the proxy allows a guest, with the probe.
pub const OPTIONS: &str = "restrict,port-forwarding,permitlisten=\"0.0.0.0:12345\",\
                           permitopen=\"127.0.0.1:12345\"";

/// The same document with another proxy before all that it names.
#[must_use]
pub fn preferring(address: SocketAddr, host_key: &str, document: &str) -> String {
    let (host, port) = (address.ip(), address.port());
    let before = "proxies:\n";
    let first = format!(
        "      - {{host: {host}, port: {port}, user: {TUNNEL_USER}, host_keys: ['{host_key}']}}\n"
    );
    document.replacen(before, &format!("{before}{first}"), 1)
}

/// A proxy on 127.0.0.1:2222 and a guest's sshd on 127.0.0.1:22, in a namespace.
pub struct Scene {
    /// Where all of it lives.
    pub namespace: Arc<Namespace>,
    /// The proxy.
    pub proxy: Sshd,
    /// This guest's own server.
    pub sshd: Sshd,
    /// The guest's key for the proxy; the proxy does not know it yet.
    pub key: Key,
    /// The key of a person who may log in to the guest as root.
    pub person: Key,
    /// The ways of that person: `direct` is sshd's own address, `tunnel` the proxy's port.
    pub client: Client,
    dir: tempfile::TempDir,
}

impl Scene {
    /// Sets the scene with the recommended proxy configuration.
    ///
    /// # Errors
    ///
    /// If a peer does not start.
    pub fn new() -> Result<Self> {
        Self::with_proxy(&Sshd::proxy_config())
    }

    /// Sets the scene with this configuration added to the proxy's.
    ///
    /// # Errors
    ///
    /// If a peer does not start.
    pub fn with_proxy(config: &str) -> Result<Self> {
        Self::with_addresses(&[], config)
    }

    /// The same, where the namespace has these addresses as well.
    ///
    /// # Errors
    ///
    /// If a peer does not start.
    pub fn with_addresses(addresses: &[&str], config: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let sub = |name: &str| -> Result<PathBuf> {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path)?;
            Ok(path)
        };
        let namespace = Namespace::new()?;
        for address in addresses {
            let mut command = Command::new("ip");
            command.args(["address", "add", address, "dev", "lo"]);
            namespace.run(&command, PROGRAM)?;
        }
        let proxy = Sshd::new(
            &namespace,
            &sub("proxy")?,
            ([127, 0, 0, 1], 2222).into(),
            config,
        )?;
        let sshd = Sshd::new(&namespace, &sub("sshd")?, ([127, 0, 0, 1], 22).into(), "")?;
        let key = make_key(&dir.path().join("guest_key"), "ed25519")?;
        let person = make_key(&dir.path().join("person_key"), "ed25519")?;
        sshd.authorize("", &person.public()?)?;
        let client = Client::new(dir.path(), &person)?;
        let at = |port: u16| {
            [
                "HostName 127.0.0.1".to_owned(),
                format!("Port {port}"),
                "HostKeyAlias guest".to_owned(),
            ]
        };
        client.add("direct", &at(22))?;
        client.add("tunnel", &at(PORT))?;
        sub("agent")?;
        Ok(Self {
            namespace,
            proxy,
            sshd,
            key,
            person,
            client,
            dir,
        })
    }

    /// The agent's directory.
    pub fn agent_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// A document for this scene: a public bind on [`PORT`], and the proxy's ed25519 key pinned.
    ///
    /// # Errors
    ///
    /// If a key can't be read.
    pub fn document(&self) -> Result<String> {
        self.document_with(
            "0.0.0.0",
            PORT,
            &self.proxy.host_key("ed25519")?,
            &self.key,
            "",
        )
    }

    /// A document with these values, and lines that are added to `tunnel:`.
    ///
    /// # Errors
    ///
    /// If a key can't be read.
    pub fn document_with(
        &self,
        bind: &str,
        port: u16,
        host_key: &str,
        key: &Key,
        more: &str,
    ) -> Result<String> {
        let proxy = proxy_entry("127.0.0.1", self.proxy.address.port(), host_key);
        document(&[proxy], bind, port, key, more)
    }

    /// Another proxy, on 10.99.`net`.2:2222, with its own ports: it is in a namespace of its own.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn another_proxy(&self, net: u8) -> Result<Sshd> {
        let dir = self.dir.path().join(format!("proxy{net}"));
        std::fs::create_dir_all(&dir)?;
        let namespace = Namespace::new()?;
        self.namespace.connect_to(&namespace, net)?;
        let address = ([10, 99, net, 2], 2222).into();
        Sshd::new(&namespace, &dir, address, &Sshd::proxy_config())
    }

    /// A document that names these proxies in this order, with a public bind on [`PORT`].
    ///
    /// # Errors
    ///
    /// If a key can't be read.
    pub fn document_of(&self, proxies: &[&Sshd], more: &str) -> Result<String> {
        let entry = |proxy: &&Sshd| -> Result<String> {
            let (host, port) = (proxy.address.ip().to_string(), proxy.address.port());
            Ok(proxy_entry(&host, port, &proxy.host_key("ed25519")?))
        };
        let entries: Vec<_> = proxies.iter().map(entry).collect::<Result<_>>()?;
        document(&entries, "0.0.0.0", PORT, &self.key, more)
    }

    /// Starts an agent with this document.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn agent(&self, document: &str) -> Result<Agent> {
        agent::write_document(&self.agent_dir(), document)?;
        Agent::start(&self.namespace, &self.agent_dir(), &[])
    }

    /// Lets the guest's key hold [`PORT`], starts an agent, and waits until its tunnel is up.
    ///
    /// # Errors
    ///
    /// If it is not up within [`SOON`].
    pub fn up(&self) -> Result<Agent> {
        self.proxy.authorize(OPTIONS, &self.key.public()?)?;
        let agent = self.agent(&self.document()?)?;
        agent.tunnel("up", SOON)?;
        Ok(agent)
    }

    /// Adds `bridge` to the ways of that person: through the socket that stands in for vsock.
    ///
    /// # Errors
    ///
    /// If the client's configuration can't be written.
    pub fn add_bridge(&self, agent: &Agent) -> Result<()> {
        let socket = agent.bridge();
        let proxy = format!("ProxyCommand socat - UNIX-CONNECT:{}", socket.display());
        self.client
            .add("bridge", &[proxy, "HostKeyAlias guest".into()])
    }

    /// Logs in by one of the ways, runs a command, and returns what it printed.
    ///
    /// # Errors
    ///
    /// If the login or the command fails.
    pub fn login(&self, way: &str, script: &str) -> Result<String> {
        self.client.run(&self.namespace, way, script)
    }

    /// A program of the ssh suite, with the scene's configuration.
    pub fn ssh(&self, program: &str) -> Command {
        self.client.command(program)
    }
}

/// One of a document's proxies.
pub(crate) fn proxy_entry(host: &str, port: u16, host_key: &str) -> String {
    format!("- {{host: {host}, port: {port}, user: {TUNNEL_USER}, host_keys: ['{host_key}']}}")
}

/// The document that names these proxies.
pub(crate) fn document(
    proxies: &[String],
    bind: &str,
    port: u16,
    key: &Key,
    more: &str,
) -> Result<String> {
    let proxies = proxies.join("\n      ");
    let private = key.private()?.replace('\n', "\n      ");
    Ok(format!(
        "vmagent:\n  version: 1\n  tunnel:\n    when: always\n    proxies:\n      {proxies}\n    \
         bind: '{bind}'\n    port: {port}\n    private_key: |\n      {private}\n{more}"
    ))
}
