//! The host's end of a guest's vsock device.
//!
//! vhost-device-vsock serves it outside the kernel and shows it as Unix
//! sockets, as Firecracker and cloud-hypervisor do. So the tests never open
//! AF_VSOCK themselves: the machine that they run on may be a VM whose own
//! vsock device belongs to somebody else.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::failure::{Context, Failure, Result};
use crate::limits::PROGRAM;
use crate::netns::Namespace;
use crate::process::Process;
use crate::{paths, wait};

/// One guest's vsock device, seen from the host.
#[derive(Clone)]
pub struct Vsock {
    /// The guest's context id.
    pub cid: u32,
    /// Where QEMU finds the device.
    pub(crate) device: PathBuf,
    /// Where host programs connect: `CONNECT port`, then `OK port`.
    pub socket: PathBuf,
    daemon: Arc<Mutex<Process>>,
}

impl Vsock {
    /// Starts one device for each context id. Guests of one call can reach one
    /// another by their ids, as siblings on one host can.
    ///
    /// # Errors
    ///
    /// If vhost-device-vsock is missing (`make device` builds it) or ends.
    pub fn start(namespace: &Namespace, dir: &Path, cids: &[u32]) -> Result<Vec<Self>> {
        let mut command = Command::new(paths::tool("vhost-device-vsock")?);
        let devices: Vec<_> = cids
            .iter()
            .map(|cid| {
                (
                    *cid,
                    dir.join(format!("vhost-{cid}")),
                    dir.join(format!("vsock-{cid}")),
                )
            })
            .collect();
        for (cid, device, socket) in &devices {
            // With 64 KiB or more, writes of over 32 KiB reach the host corrupted.
            command.arg("--vm").arg(format!(
                "guest-cid={cid},socket={},uds-path={},tx-buffer-size=32768,groups=siblings",
                device.display(),
                socket.display()
            ));
        }
        let mut daemon = namespace.spawn(dir, "vhost-device-vsock", &command)?;
        wait::until("vhost-device-vsock", PROGRAM, || {
            if devices.iter().all(|(_, device, _)| device.exists()) {
                Some(Ok(()))
            } else {
                daemon.alive().err().map(Err)
            }
        })??;
        let daemon = Arc::new(Mutex::new(daemon));
        let end = |(cid, device, socket)| Self {
            cid,
            device,
            socket,
            daemon: Arc::clone(&daemon),
        };
        Ok(devices.into_iter().map(end).collect())
    }

    /// Connects to a port of the guest.
    ///
    /// # Errors
    ///
    /// If nobody listens there (yet), or the device does not answer within 10 s.
    pub fn connect(&self, port: u32) -> Result<UnixStream> {
        connect(&self.socket, port)
    }

    /// Listens for the guest's connections to a port of its host (CID 2).
    ///
    /// # Errors
    ///
    /// If that port is taken.
    pub fn listen(&self, port: u32) -> Result<UnixListener> {
        let mut path = self.socket.clone().into_os_string();
        path.push(format!("_{port}"));
        UnixListener::bind(&path).during(format!("listening for the guest on vsock port {port}"))
    }

    /// Changes when the device is ready to be used once more.
    pub(crate) fn generation(&self) -> Option<(u64, i64, i64)> {
        let meta = fs::metadata(&self.device).ok()?;
        Some((meta.ino(), meta.ctime(), meta.ctime_nsec()))
    }

    /// What the device's daemon printed.
    pub fn log(&self) -> String {
        self.daemon
            .lock()
            .map(|daemon| daemon.log())
            .unwrap_or_default()
    }
}

/// Connects to a guest's port through the socket of a VMM that asks for
/// `CONNECT port`.
///
/// # Errors
///
/// If nobody listens there (yet), or the VMM does not answer within 10 s.
pub fn connect(socket: &Path, port: u32) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).during(socket.display())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // In one write: the daemon takes what its first read brings for the whole line.
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    // Byte by byte: what follows the line is the guest's.
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        match stream
            .read(&mut byte)
            .during(format!("vsock port {port}"))?
        {
            0 => return Err(Failure::new(format!("nobody listens on vsock port {port}"))),
            _ if byte[0] == b'\n' => break,
            _ => answer.push(byte[0]),
        }
    }
    if !answer.starts_with(b"OK ") {
        return Err(Failure::new(format!(
            "vsock port {port}: {:?}",
            String::from_utf8_lossy(&answer)
        )));
    }
    stream.set_read_timeout(None)?;
    Ok(stream)
}
