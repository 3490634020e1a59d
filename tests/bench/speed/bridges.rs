//! The bridges: a Unix socket in vsock's place, to TCP on loopback.

use std::process::Command;

use harness::failure::Result;

use crate::peer::Peer;
use crate::stage::{SERVICE, Stage};

/// What this is about.
pub const VMAGENT: &str = "vmagent";
/// The line that people use, but for the socket's family.
pub const SOCAT: &str = "socat";
/// The same with the buffer that those use who have measured.
pub const SOCAT_64K: &str = "socat -b 65536";

/// All of them, in the table's order.
pub const ALL: [&str; 4] = ["direct", VMAGENT, SOCAT, SOCAT_64K];

/// Starts all of them.
///
/// # Errors
///
/// If one does not start.
pub fn start(stage: &Stage) -> Result<Vec<Peer>> {
    Ok(vec![
        stage.direct(),
        vmagent(stage)?,
        socat(stage, SOCAT, &[])?,
        socat(stage, SOCAT_64K, &["-b", "65536"])?,
    ])
}

fn vmagent(stage: &Stage) -> Result<Peer> {
    let dir = stage.dir(VMAGENT)?;
    let (agent, group, most) = stage.agent(&dir, &[("tunnel", "when = \"never\"")])?;
    let endpoint = format!("unix:{}", agent.bridge().display());
    stage.serves(&endpoint)?;
    Ok(Peer {
        name: VMAGENT,
        endpoint,
        group: Some(group),
        most,
        parts: vec![Box::new(agent)],
    })
}

fn socat(stage: &Stage, name: &'static str, options: &[&str]) -> Result<Peer> {
    let socket = stage.dir(name)?.join("socket");
    let listen = format!("UNIX-LISTEN:{},fork", socket.display());
    let mut command = Command::new("socat");
    command
        .args(options)
        .args([listen, format!("TCP:{SERVICE}")]);
    stage.program(name, format!("unix:{}", socket.display()), &command)
}
