//! Clients of the bridge of a [`Machine`], whose socket unit listens on an abstract Unix socket
//! in place of vsock port 22.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::limits::SOON;
use crate::pid1::{Debian, Machine, Plan};

/// How long an answer may take, a restart of vmagent included.
const PATIENCE: Duration = SOON;

/// Lets the units of vmagent run in a namespace, which is a container to systemd, and listen
/// where vsock would be.
pub fn on_unix_socket(plan: Plan) -> Plan {
    let unit = "[Unit]\nConditionVirtualization=\n";
    let socket = format!("{unit}[Socket]\nListenStream=\nListenStream=@bridge\n");
    // Hundreds of calls without a login are an attack to sshd.
    let sshd = match plan.debian() {
        Debian::Bookworm => "MaxStartups 1000\n",
        Debian::Trixie => "MaxStartups 1000\nPerSourcePenalties no\n",
    };
    plan.file("/etc/ssh/sshd_config.d/bench.conf", 0o644, sshd)
        .file(
            "/etc/systemd/system/vmagent.service.d/bench.conf",
            0o644,
            unit,
        )
        .file(
            "/etc/systemd/system/vmagent-port.service.d/bench.conf",
            0o644,
            unit,
        )
        .file(
            "/etc/systemd/system/vmagent.socket.d/bench.conf",
            0o644,
            &socket,
        )
}

/// One connection; for a thread that is in the machine's network.
fn call() -> io::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name("bridge")?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, and returns the first line that comes.
fn banner() -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(call()?).take(256).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// What answers on the bridge's port.
pub fn greeting(machine: &Machine) -> io::Result<String> {
    machine.spawn(banner).join().unwrap()
}

/// A connection that stays open until it is dropped.
#[derive(Debug)]
pub struct Held(UnixStream);

impl Held {
    /// Connects and reads the banner of sshd.
    pub fn open(machine: &Machine) -> Self {
        let mut stream = machine.spawn(call).join().unwrap().unwrap();
        let mut start = [0; 8];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"SSH-2.0-");
        Self(stream)
    }

    /// True while sshd is at the far end: it answers a client's banner with its key exchange.
    pub fn alive(mut self) -> bool {
        let mut rest = [0; 200];
        self.0.write_all(b"SSH-2.0-test\r\n").is_ok() && self.0.read_exact(&mut rest).is_ok()
    }
}

/// What became of the calls of a [`Caller`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// Answered by sshd.
    pub answered: usize,
    /// Nobody listened.
    pub refused: usize,
    /// Accepted, and closed before sshd had answered.
    pub cut: usize,
}

/// Connects every few milliseconds, one call after the other.
#[derive(Debug)]
pub struct Caller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Calls>,
}

impl Caller {
    /// Begins to call.
    pub fn start(machine: &Machine) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = machine.spawn(move || {
            let mut calls = Calls::default();
            while !stopped.load(Ordering::Relaxed) {
                match banner() {
                    Ok(line) if line.starts_with("SSH-2.0-") => calls.answered += 1,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        calls.refused += 1;
                    }
                    Ok(_) | Err(_) => calls.cut += 1,
                }
                thread::sleep(Duration::from_millis(3));
            }
            calls
        });
        Self { stop, thread }
    }

    /// Stops when the call that is being made is decided.
    pub fn stop(self) -> Calls {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
