//! The server's host keys, and other keys.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Sshd;
use crate::failure::{Context, Failure, Result};
use crate::process;
use crate::ssh::Key;

/// The host key of this kind, until a test has it changed: to find one takes a third of a second
/// of processor, and every test would need two.
const RSA: &str = include_str!("../../../agent/src/metadata/key/fixtures/rsa.openssh");
const RSA_PUBLIC: &str = include_str!("../../../agent/src/metadata/key/fixtures/rsa.pub");

/// A server's host keys, those that are not there.
pub(super) fn make(dir: &Path) -> Result<()> {
    for kind in ["ed25519", "ecdsa"] {
        make_key(&dir.join(format!("host_{kind}")), kind)?;
    }
    let rsa = dir.join("host_rsa");
    if !rsa.exists() {
        fs::write(&rsa, RSA)?;
        fs::set_permissions(&rsa, Permissions::from_mode(0o600))?;
        fs::write(rsa.with_extension("pub"), RSA_PUBLIC)?;
    }
    Ok(())
}

impl Sshd {
    /// Its public host key of a kind: `ed25519`, `ecdsa` or `rsa`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn host_key(&self, kind: &str) -> Result<String> {
        Key {
            path: self.dir.join(format!("host_{kind}")),
        }
        .public()
    }

    /// A directory with its public host keys under the names that they have in `/etc/ssh`.
    ///
    /// # Errors
    ///
    /// If they can't be copied.
    pub fn key_directory(&self) -> Result<PathBuf> {
        let directory = self.dir.join("etc_ssh");
        fs::create_dir_all(&directory)?;
        for kind in ["ed25519", "ecdsa", "rsa"] {
            let name = format!("ssh_host_{kind}_key.pub");
            fs::write(directory.join(name), self.host_key(kind)?)?;
        }
        Ok(directory)
    }

    /// The SHA-256 fingerprint of a host key.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn fingerprint(&self, kind: &str) -> Result<String> {
        self.fingerprint_of(&Key {
            path: self.dir.join(format!("host_{kind}")),
        })
    }

    /// The SHA-256 fingerprint of a key, as it stands in the log.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn fingerprint_of(&self, key: &Key) -> Result<String> {
        let path = key.path.with_extension("pub");
        let printed = process::run(Command::new("ssh-keygen").arg("-lf").arg(path))?;
        let word = printed.split_whitespace().nth(1).map(str::to_owned);
        word.ok_or_else(|| Failure::new(format!("no fingerprint in {printed:?}")))
    }

    /// Makes new host keys. A start reads them.
    ///
    /// # Errors
    ///
    /// If they can't be made.
    pub fn change_host_keys(&self) -> Result<()> {
        for kind in ["ed25519", "ecdsa", "rsa"] {
            let path = self.dir.join(format!("host_{kind}"));
            fs::remove_file(&path).during(path.display())?;
            fs::remove_file(path.with_extension("pub"))?;
            make_key(&path, kind)?;
        }
        Ok(())
    }
}

/// Signs a key by this authority, with options of ssh-keygen, and returns the certificate's line.
/// It lies beside the key, where ssh looks for it.
///
/// # Errors
///
/// What ssh-keygen says.
pub fn sign(ca: &Key, key: &Key, options: &[&str]) -> Result<String> {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-s"])
        .arg(&ca.path)
        .args(["-I", "vmagent-test"])
        .args(options);
    process::run(command.arg(key.path.with_extension("pub")))?;
    let name = key.path.file_name().unwrap_or_default().to_string_lossy();
    let certificate = key.path.with_file_name(format!("{name}-cert.pub"));
    let line = fs::read_to_string(&certificate).during(certificate.display())?;
    Ok(line.trim().to_owned())
}

/// Makes a key pair of a kind that `ssh-keygen -t` knows, unless it is there.
///
/// # Errors
///
/// What ssh-keygen says.
pub fn make_key(path: &Path, kind: &str) -> Result<Key> {
    if !path.exists() {
        let mut command = Command::new("ssh-keygen");
        command
            .args(["-q", "-t", kind, "-N", "", "-C", "vmagent-test", "-f"])
            .arg(path);
        if kind == "rsa" {
            // The usual 3072 bits take a second to find.
            command.args(["-b", "2048"]);
        }
        process::run(&mut command)?;
    }
    Ok(Key {
        path: path.to_owned(),
    })
}

/// Makes a key pair of this kind and size in bits, as for `ssh-keygen -t` and `-b`.
///
/// # Errors
///
/// The message of ssh-keygen.
pub fn make_key_of(path: &Path, kind: &str, bits: &str) -> Result<Key> {
    let mut command = Command::new("ssh-keygen");
    command
        .args([
            "-q",
            "-t",
            kind,
            "-b",
            bits,
            "-N",
            "",
            "-C",
            "vmagent-test",
            "-f",
        ])
        .arg(path);
    process::run(&mut command)?;
    Ok(Key {
        path: path.to_owned(),
    })
}
