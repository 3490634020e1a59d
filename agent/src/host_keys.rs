//! The public host keys of the guest's sshd, by which those who come in know it.
//!
//! They are read from the files that sshd's own packages make. Anew when these change, and when
//! sshd answers again after it did not: a new one may have made them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::PublicKey;
use tracing::debug;

use crate::metadata::Watch;
use crate::sshd::{self, Sshd};
use crate::status::board::Slice;

/// Where sshd keeps its keys by default.
const DIRECTORY: &str = "/etc/ssh";

/// The kinds that sshd makes by itself; they are waited for.
const KINDS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

/// How the kinds begin, in the order in which ssh prefers them.
const PREFERENCE: [&str; 3] = ["ssh-ed25519", "ecdsa-", "ssh-rsa"];

/// The longest file that is looked at, in bytes; that of an RSA key of 16384 bits has 2800.
const LIMIT: u64 = 16 << 10;

/// How many keys are shown at most.
const MOST: usize = 8;

/// Publishes the keys in `directory` for as long as it is polled. In sshd's default directory, the
/// keys that sshd_config(5) names go before.
pub async fn run(directory: PathBuf, mut sshd: Sshd, slice: Slice<Vec<String>>) {
    let usual = KINDS.map(|kind| directory.join(format!("ssh_host_{kind}_key.pub")));
    let named = || match directory == Path::new(DIRECTORY) {
        true => sshd::host_keys(),
        false => Vec::new(),
    };
    let mut watch = Watch::new(usual.into_iter().chain(named()).collect());
    loop {
        let mut keys = ordered(named().into_iter());
        if keys.is_empty() {
            keys = read(&directory);
        }
        slice.update(|known| *known = keys);
        tokio::select! {
            () = watch.changed() => {}
            () = sshd.becomes_ready() => {}
        }
    }
}

/// The keys in `ssh_host_*_key.pub`, as a kind and its base64 without a comment. What can't be
/// read is left out.
fn read(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    ordered(entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ssh_host_") && name.ends_with("_key.pub")
    }))
}

/// The keys in these files, in ssh's order of preference.
fn ordered(files: impl Iterator<Item = PathBuf>) -> Vec<String> {
    let mut keys = Vec::new();
    for path in files {
        match line(&path) {
            Ok(key) => keys.push(key),
            Err(error) => debug!(?path, %error, "is not a host key"),
        }
    }
    keys.sort_by_key(|(rank, text)| (*rank, text.clone()));
    keys.dedup();
    keys.truncate(MOST);
    keys.into_iter().map(|(_, text)| text).collect()
}

fn line(path: &Path) -> io::Result<(usize, String)> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
    let mut key = PublicKey::from_openssh(text.trim()).map_err(io::Error::other)?;
    key.set_comment("");
    let algorithm = key.algorithm();
    let rank = PREFERENCE
        .iter()
        .position(|family| algorithm.as_str().starts_with(family));
    let text = key.to_openssh().map_err(io::Error::other)?;
    let rank = rank.unwrap_or(PREFERENCE.len());
    Ok((rank, text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAPyk0jwQrcQjMeIgzJYcRJiWP6xnMtrlElOLxp2ShZk";

    #[test]
    fn keys_lose_their_comment_and_stand_in_the_order_of_preference() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert!(read(dir.path()).is_empty());
        let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";
        write("ssh_host_ecdsa_key.pub", &format!("{ecdsa} root@vm\n"));
        write("ssh_host_ed25519_key.pub", &format!("{ED25519} root@vm\n"));
        // None of these is one.
        write("ssh_host_rsa_key.pub", "ssh-rsa AAAA\n");
        write("ssh_host_dsa_key", ED25519);
        write("ssh_host_ed25519_key-cert.pub", ED25519);
        write("other.pub", ED25519);
        fs::create_dir(dir.path().join("ssh_host_odd_key.pub")).unwrap();
        assert_eq!(read(dir.path()), [ED25519, ecdsa]);
        assert!(read(&dir.path().join("nowhere")).is_empty());
    }
}
