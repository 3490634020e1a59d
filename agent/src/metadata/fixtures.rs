//! What more than one test needs: keys, documents, and places to write to.

mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{LineEnding, PrivateKey};

use super::document::{Carrier, Document, Parsed, parse};

pub(super) use server::{Say, Server};

/// An Ed25519 key, the same for the same seed.
pub(super) fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

/// Its private half as text.
pub(super) fn private(seed: u8) -> String {
    key(seed).to_openssh(LineEnding::LF).unwrap().to_string()
}

/// Its public half as text.
pub(super) fn public(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

/// A whole document in YAML under the key `vmagent`, which differs by its port.
pub(super) fn yaml(port: u16) -> String {
    let private_key = private(1).replace('\n', "\n      ");
    let host_key = public(2);
    format!(
        "vmagent:
  version: 1
  tunnel:
    proxies:
      - host: proxy.example.org
        user: rev-tunnel-user
        host_keys: [\"{host_key}\"]
    bind: 0.0.0.0
    port: {port}
    private_key: |
      {private_key}
"
    )
}

/// The same in JSON, without the key around it.
pub(super) fn json(port: u16) -> serde_json::Value {
    serde_json::json!({
        "version": 1,
        "tunnel": {
            "proxies": [{
                "host": "proxy.example.org",
                "user": "rev-tunnel-user",
                "host_keys": [public(2)],
            }],
            "bind": "0.0.0.0",
            "port": port,
            "private_key": private(1),
        },
    })
}

/// The same, parsed.
pub(super) fn document(port: u16) -> Arc<Document> {
    match parse(yaml(port).as_bytes(), Carrier::Own) {
        Ok(Parsed::Document(document)) => Arc::new(document),
        other => panic!("{other:?}"),
    }
}

/// Lets time pass at once; nothing may be under way on a socket meanwhile.
pub(super) async fn pass(time: std::time::Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// What is kept for a fuzz target to begin with.
pub(super) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let files = std::fs::read_dir(kept.join(target)).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

/// A directory of its own, removed with what is in it.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vmagent-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file below it for its owner alone, and makes the directories on the way.
    pub(super) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, private).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
