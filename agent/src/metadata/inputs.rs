//! Files that only root may read, for an agent that is not root.
//!
//! ```text
//!  agent ── connect ──> /run/vmagent-inputs/PATH ── systemd starts ──> vmagent inputs
//!    ^                                               (as root it reads the file and hands it
//!    └──────────── one JSON object, then the end ────  over as a credential, afresh each time)
//! ```
//!
//! Each file has its own socket and unit, `vmagent-file@.service`: systemd bounds the sum of a
//! unit's credentials, so a file that is too large affects no other. The answer is `{"file":
//! {"state": "present", "base64": ".."}}`, or `absent`, or `failed` with a `problem`.
//!
//! [`SOCKET`] leads to another unprivileged process. Its answer has an entry for each small file
//! that the agent's sandbox hides ([`FILES`]), and for the files of labelled disks, which this
//! process reads itself ([`volumes`]). The agent connects to it once in each round.

pub mod volumes;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::sockopt::AcceptConn;
use nix::sys::socket::{Shutdown, getsockopt, shutdown};
use russh::keys::ssh_key::encoding::base64::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::{Zeroize, Zeroizing};

use super::content::{Content, read_bounded};
use super::reading::{Secret, append};

/// Where systemd listens for us.
pub const SOCKET: &str = "/run/vmagent-inputs.sock";

/// The names of credentials and their source files: small ones that the agent's sandbox hides, or
/// that only root may read.
pub const FILES: [(&str, &str); 5] = [
    ("kernel-command-line", "/proc/cmdline"),
    ("product-serial", "/sys/class/dmi/id/product_serial"),
    ("product-uuid", "/sys/class/dmi/id/product_uuid"),
    ("chassis-serial", "/sys/class/dmi/id/chassis_serial"),
    ("board-serial", "/sys/class/dmi/id/board_serial"),
];

/// The name of the credential in a unit that reads one file, and of its entry in the answer.
const FILE: &str = "file";

/// The largest file that systemd passes on, in bytes: systemd counts the credential's name too.
pub(super) const LARGEST: u64 = (1 << 20) - FILE.len() as u64;

/// How often a file is requested: systemd closes a connection that arrives while its unit is busy.
const TRIES: u32 = 3;

/// How long a pull may take; systemd starts a process for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// The largest answer, in bytes. The credentials of a unit have 1 MiB at most, and the files of
/// each disk no more than that.
const LIMIT: usize = 6 << 20;

#[derive(Serialize, Deserialize)]
struct Entry {
    state: State,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    base64: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    problem: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Present,
    Absent,
    Failed,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.base64.zeroize();
    }
}

impl Entry {
    fn present(bytes: &[u8]) -> Self {
        Self {
            state: State::Present,
            base64: Base64::encode_string(bytes),
            problem: String::new(),
        }
    }

    fn absent() -> Self {
        Self {
            state: State::Absent,
            base64: String::new(),
            problem: String::new(),
        }
    }

    fn failed(problem: &str) -> Self {
        Self {
            state: State::Failed,
            base64: String::new(),
            problem: problem.to_owned(),
        }
    }
}

/// Writes what is in `$CREDENTIALS_DIRECTORY` to `out`: the hidden command `vmagent inputs`.
///
/// If `out` is a listening socket, its first connection gets the unit's one file. Otherwise `out`
/// gets the other inputs.
///
/// # Errors
/// There is no such directory, or `out` can't be written to.
pub fn serve(mut out: impl Write + AsFd) -> io::Result<()> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        io::Error::other("there is no $CREDENTIALS_DIRECTORY; systemd starts this command")
    })?;
    let directory = Path::new(&directory);
    if getsockopt(&out, AcceptConn).unwrap_or(false) {
        let listener = UnixListener::from(out.as_fd().try_clone_to_owned()?);
        return serve_file(directory, &mut listener.accept()?.0);
    }
    serve_from(directory, Path::new(volumes::LABELS), &mut out)?;
    // A disk that hangs may keep this process from ending. Fails where `out` is not a socket.
    let _ = shutdown(out.as_fd().as_raw_fd(), Shutdown::Write);
    Ok(())
}

fn serve_from(credentials: &Path, labels: &Path, out: &mut impl Write) -> io::Result<()> {
    let mut entries = volumes::entries(labels);
    for (name, _) in FILES {
        entries.insert(name.to_owned(), entry(&credentials.join(name)));
    }
    write(&entries, out)
}

fn serve_file(credentials: &Path, out: &mut impl Write) -> io::Result<()> {
    let entry = entry(&credentials.join(FILE));
    write(&BTreeMap::from([(FILE.to_owned(), entry)]), out)
}

fn write(entries: &BTreeMap<String, Entry>, out: &mut impl Write) -> io::Result<()> {
    let text = Zeroizing::new(serde_json::to_vec(entries)?);
    match out.write_all(&text).and_then(|()| out.flush()) {
        // An agent that begins its round anew has hung up on this one, which is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn entry(path: &Path) -> Entry {
    match read_bounded(path).map(Content::of_credential) {
        Ok(Content::Bytes(bytes)) => Entry::present(&bytes),
        Ok(Content::Missing) => Entry::absent(),
        Ok(Content::Denied) => Entry::failed("permission denied"),
        Err(fault) => Entry::failed(&fault.to_string()),
    }
}

/// What a pull has brought.
pub(super) struct Delivered(BTreeMap<String, Entry>);

impl Delivered {
    /// The bytes of the file that is passed on as `name`, if there is one.
    pub(super) fn get(&self, name: &str) -> Result<Option<Secret>, String> {
        let Some(entry) = self.0.get(name) else {
            return Err(format!("{SOCKET} does not pass it on"));
        };
        match entry.state {
            State::Absent => Ok(None),
            State::Failed => Err(entry.problem.clone()),
            State::Present => {
                let mut bytes = Secret::new(vec![0; entry.base64.len() / 4 * 3]);
                let decoded = Base64::decode(&entry.base64, &mut bytes);
                let length = decoded.map_err(|error| error.to_string())?.len();
                bytes.truncate(length);
                Ok(Some(bytes))
            }
        }
    }
}

/// Pulls one file, whose absolute path is `file`, through its socket below `sockets`.
pub(super) async fn pull_file(sockets: &Path, file: &Path) -> Result<Option<Secret>, String> {
    let socket = sockets.join(file.strip_prefix("/").unwrap_or(file));
    pulled(&socket, TRIES).await?.get(FILE)
}

/// Pulls all entries through the socket at `path`.
pub(super) async fn pull(path: &Path) -> Result<Delivered, String> {
    pulled(path, 1).await
}

async fn pulled(path: &Path, tries: u32) -> Result<Delivered, String> {
    let shown = path.display();
    let bytes = match timeout(DEADLINE, receive_of(path, tries)).await {
        Ok(received) => received.map_err(|error| format!("{shown} does not serve: {error}"))?,
        Err(_) => {
            return Err(format!(
                "{shown} did not end within {} s",
                DEADLINE.as_secs()
            ));
        }
    };
    if bytes.is_empty() {
        return Err(format!(
            "{shown} ended without a word: see `journalctl -u 'vmagent-*@*'`"
        ));
    }
    // Its own message could repeat what stands there.
    let entries = serde_json::from_slice(&bytes);
    entries
        .map(Delivered)
        .map_err(|_| format!("{shown} says something else than expected"))
}

/// Reads the answer in up to `tries` connections: systemd closes one that arrives while the unit is
/// busy.
async fn receive_of(path: &Path, tries: u32) -> io::Result<Secret> {
    for _ in 1..tries {
        let bytes = receive(path).await?;
        if !bytes.is_empty() {
            return Ok(bytes);
        }
    }
    receive(path).await
}

async fn receive(path: &Path) -> io::Result<Secret> {
    let mut stream = UnixStream::connect(path).await?;
    let mut bytes = Secret::default();
    let mut chunk = Zeroizing::new(vec![0; 16 << 10]);
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Ok(bytes),
            count if append(&mut bytes, &chunk[..count], LIMIT) => {}
            _ => return Err(io::Error::other(format!("more than {LIMIT} bytes"))),
        }
    }
}

#[cfg(test)]
mod tests;
