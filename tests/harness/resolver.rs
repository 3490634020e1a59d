//! A resolv.conf of an agent's own, and nameservers for it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::failure::{Context, Result};
use crate::netns::Namespace;

/// The file. Programs that [`ResolvConf::wrap`] starts see it in the place of the machine's.
pub struct ResolvConf(PathBuf);

impl ResolvConf {
    /// A file in `dir` with these lines.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn new(dir: &Path, lines: &str) -> Result<Self> {
        let file = Self(dir.join("resolv.conf"));
        file.set(lines)?;
        Ok(file)
    }

    /// Has these lines from now on.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn set(&self, lines: &str) -> Result<()> {
        // In place: a mount shows the file that was there when it was made.
        Ok(fs::write(&self.0, lines)?)
    }

    /// The same program in a mount namespace of its own, with this file as /etc/resolv.conf.
    pub fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("unshare");
        let script = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
        wrapped
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(&self.0)
            .arg(command.get_program())
            .args(command.get_args());
        wrapped
    }
}

/// A nameserver that has one IPv4 address for all names. It ends on drop.
pub struct Nameserver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Nameserver {
    /// Serves on port 53 of `address` in the namespace.
    ///
    /// # Errors
    ///
    /// If the port is taken.
    pub fn start(namespace: &Namespace, address: Ipv4Addr, answer: Ipv4Addr) -> Result<Self> {
        let at = SocketAddr::from((address, 53));
        let socket = namespace
            .enter(move || UdpSocket::bind(at))
            .during(format!("serving names on {at}"))?;
        // How long a drop waits at most.
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut query = [0; 512];
            while !stopped.load(Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut query)
                    && let Some(reply) = reply(&query[..length], answer)
                {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The reply to a query with one question (RFC 1035, 4): the address to a question of type A, and
/// no record to any other.
fn reply(query: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let name = query.get(HEADER..)?.iter().position(|byte| *byte == 0)?;
    // The name's end, type and class.
    let question = query.get(HEADER..HEADER + name + 5)?;
    let is_a = question.get(name + 1..name + 3)? == [0, 1];
    let mut reply = query.get(..2)?.to_vec();
    // A response, with recursion; one question, and one answer or none.
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    reply.extend(question);
    if is_a {
        // The question's name, A, IN, a lifetime of 0 s, 4 bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(answer.octets());
    }
    Some(reply)
}
