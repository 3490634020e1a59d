//! The world outside a guest behind NAT: a proxy, and the people who log in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::failure::Result;
use crate::guest::Guest;
use crate::netns::Namespace;
use crate::openssh::{Sshd, TUNNEL_USER, make_key};
use crate::ssh::Key;

/// The port of the proxy.
const PROXY_PORT: u16 = 2222;

/// Where QEMU's NAT shows the namespace's loopback to the guest.
pub const GATEWAY: &str = "10.0.2.2";

/// A namespace with a proxy. Guests go into it.
pub struct World {
    /// Where all of it lives.
    pub namespace: Arc<Namespace>,
    /// The proxy.
    pub proxy: Sshd,
    /// The key that guests log in to the proxy with.
    pub key: Key,
    dir: TempDir,
}

/// A port of the proxy that leads to a guest.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// The address that the proxy listens on.
    pub bind: &'a str,
    /// The port that the proxy listens on.
    pub port: u16,
}

/// A port for everybody.
pub const PUBLIC: Forward<'static> = Forward {
    bind: "0.0.0.0",
    port: 12345,
};

/// A port for those who can log in to the proxy.
pub const LOOPBACK: Forward<'static> = Forward {
    bind: "127.0.0.1",
    port: 12346,
};

impl World {
    /// Makes a world whose proxy grants these forwards to the guest's key.
    ///
    /// # Errors
    ///
    /// If the proxy does not start.
    pub fn new(forwards: &[Forward<'_>]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let proxy_dir = dir.path().join("proxy");
        fs::create_dir(&proxy_dir)?;
        let namespace = Namespace::new()?;
        let address = ([127, 0, 0, 1], PROXY_PORT).into();
        let proxy = Sshd::new(&namespace, &proxy_dir, address, &Sshd::proxy_config())?;
        let key = make_key(&dir.path().join("guest_key"), "ed25519")?;
        let mut options = "restrict,port-forwarding".to_owned();
        for Forward { bind, port } in forwards {
            options += &format!(",permitlisten=\"{bind}:{port}\",permitopen=\"127.0.0.1:{port}\"");
        }
        proxy.authorize(&options, &key.public()?)?;
        Ok(Self {
            namespace,
            proxy,
            key,
            dir,
        })
    }

    /// The tunnel document that asks for a forward, as YAML.
    ///
    /// # Errors
    ///
    /// If a key can't be read.
    pub fn document(&self, forward: Forward<'_>) -> Result<String> {
        let Forward { bind, port } = forward;
        let private = self.key.private()?.trim_end().replace('\n', "\n    ");
        let host_key = self.proxy.host_key("ed25519")?;
        Ok(format!(
            "version: 1\ntunnel:\n  proxies:\n  - host: {GATEWAY}\n    port: {PROXY_PORT}\n    \
             user: {TUNNEL_USER}\n    host_keys: ['{host_key}']\n  bind: '{bind}'\n  port: {port}\n  \
             private_key: |\n    {private}\n"
        ))
    }

    /// The same under the `vmagent:` key, as a cloud's metadata has it.
    ///
    /// # Errors
    ///
    /// If a key can't be read.
    pub fn wrapped(&self, forward: Forward<'_>) -> Result<String> {
        Ok(format!(
            "vmagent:\n  {}\n",
            self.document(forward)?.trim_end().replace('\n', "\n  ")
        ))
    }

    /// The same as JSON, as a service of the operator's makes it.
    ///
    /// # Errors
    ///
    /// If a key can't be read.
    pub fn json(&self, forward: Forward<'_>) -> Result<Value> {
        Ok(json!({
            "version": 1,
            "tunnel": {
                "proxies": [{
                    "host": GATEWAY,
                    "port": PROXY_PORT,
                    "user": TUNNEL_USER,
                    "host_keys": [self.proxy.host_key("ed25519")?],
                }],
                "bind": forward.bind,
                "port": forward.port,
                "private_key": self.key.private()?,
            },
        }))
    }

    /// Tells a guest's ssh client the ways through the proxy: `tunnel` is the
    /// public port, `jump` goes by way of the proxy to the loopback port.
    ///
    /// # Errors
    ///
    /// If the client's configuration can't be written.
    pub fn add_ways(&self, guest: &Guest, person: &Key) -> Result<()> {
        self.proxy.authorize("", &person.public()?)?;
        let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
        let client = &guest.client;
        client.add(
            "proxy",
            &lines(&format!("HostName 127.0.0.1\nPort {PROXY_PORT}")),
        )?;
        client.add(
            "tunnel",
            &lines(&format!(
                "HostName 127.0.0.1\nPort {}\nHostKeyAlias vm",
                PUBLIC.port
            )),
        )?;
        let jump = format!(
            "HostName localhost\nPort {}\nHostKeyAlias vm\nProxyJump proxy",
            LOOPBACK.port
        );
        client.add("jump", &lines(&jump))
    }

    /// A line of the guest's private key for the proxy that can be searched
    /// for: there is no other like it.
    ///
    /// # Errors
    ///
    /// If the key can't be read.
    pub fn secret(&self) -> Result<String> {
        // The lines before have the public half.
        Ok(self
            .key
            .private()?
            .lines()
            .nth(4)
            .unwrap_or_default()
            .to_owned())
    }

    /// A directory that goes with the world.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in that directory.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}
