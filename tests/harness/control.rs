//! A root shell in the guest that depends on nothing under test.
//!
//! It speaks over a virtio serial port, so it works without a network, sshd,
//! vsock or the agent, costs no login, and moves none of the agent's counters.
//! The guest's end is a unit that travels as a systemd credential (257 and
//! later), so the image itself stays what users get.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{Context, Failure, Result};
use crate::seed::{base64, credential, unbase64};

/// The virtio port's name.
pub(crate) const PORT: &str = "vmagent.control";

const UNIT: &str = r#"[Unit]
Description=Root shell of the test harness
DefaultDependencies=no
After=sysinit.target
StartLimitIntervalSec=0

[Service]
ExecStart=/bin/bash -c 'exec <>/dev/virtio-ports/vmagent.control 1>&0; \
  while read -r id script; do [ -n "$id" ] || continue; \
    script=$(base64 -d <<<"$script"); \
    out=$(/bin/bash -c "$script" 2>/run/control.err </dev/null | base64 -w0; echo " $${PIPESTATUS[0]}"); \
    echo "$id $out $(base64 -w0 </run/control.err)"; \
  done'
Restart=always
RestartSec=50ms
StandardError=journal
OOMScoreAdjust=-1000
"#;

/// The SMBIOS strings that bring the guest's end into the guest.
pub(crate) fn smbios() -> [String; 2] {
    let wanted = "[Unit]\nWants=vmagent-control.service\n";
    [
        credential(
            "systemd.extra-unit.vmagent-control.service",
            UNIT.as_bytes(),
        ),
        credential(
            "systemd.unit-dropin.sysinit.target~control",
            wanted.as_bytes(),
        ),
    ]
}

/// The host's end.
pub struct Control {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    last: u64,
}

impl Control {
    /// Connects to the port's socket. The guest need not be up.
    ///
    /// # Errors
    ///
    /// If QEMU does not listen there.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self {
            stream,
            reader,
            last: 0,
        })
    }

    /// Runs a bash script as root and returns what it printed. Waits for a
    /// guest that still boots.
    ///
    /// # Errors
    ///
    /// If the script fails (with all that it said), or after `limit`.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<String> {
        self.last += 1;
        let id = format!("#{}", self.last);
        // The empty line ends whatever a killed predecessor left half-read.
        writeln!(self.stream, "\n{id} {}", base64(script.as_bytes()))?;
        let deadline = Instant::now() + limit;
        let mut line = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(format!(
                    "the guest did not run within {limit:?}: {script}"
                )));
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.reader.read_line(&mut line) {
                Ok(0) => return Err(Failure::new("QEMU is gone")),
                Ok(_) if line.ends_with('\n') => {
                    // Anything else is an answer that nobody waited for.
                    if let Some(answer) = line.trim_end().strip_prefix(&format!("{id} ")) {
                        return outcome(script, answer);
                    }
                    line.clear();
                }
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e).during("the guest's control port"),
            }
        }
    }
}

/// Reads `STDOUT STATUS STDERR`.
fn outcome(script: &str, answer: &str) -> Result<String> {
    let mut fields = answer.split(' ');
    let mut field = || fields.next().unwrap_or_default();
    let (stdout, status, stderr) = (field(), field(), field());
    let text = |field: &str| String::from_utf8_lossy(&unbase64(field)).into_owned();
    let (stdout, stderr) = (text(stdout), text(stderr));
    if status == "0" {
        return Ok(stdout);
    }
    Err(Failure::new(format!(
        "in the guest: {script}\nexit status {status}\n{stdout}{stderr}"
    )))
}
