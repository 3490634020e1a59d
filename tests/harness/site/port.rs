//! The forwarded port, as the proxy's kernel sees it: nothing connects to it.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use super::Site;
use crate::failure::{Context, Result};
use crate::scene::PORT;

/// Long enough for a short program on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

impl Site {
    /// The guest's address in the session that holds the forwarded port; none where the port is
    /// free.
    ///
    /// # Errors
    ///
    /// If ss can't be run.
    pub fn holder(&self) -> Result<Option<IpAddr>> {
        let listeners = self.sockets(&["-Htlnp", &format!("sport = :{PORT}")])?;
        let holders: Vec<_> = listeners.iter().flat_map(|line| processes(line)).collect();
        let port = self.proxy.address.port();
        let sessions = self.sockets(&["-Htnp", &format!("sport = :{port}")])?;
        let theirs = sessions
            .iter()
            .find(|line| processes(line).any(|process| holders.contains(&process)));
        // State, receive queue, send queue, local address, peer.
        theirs
            .map(|line| {
                let peer = line.split_whitespace().nth(4).unwrap_or_default();
                let peer: SocketAddr = peer.parse().during(line)?;
                Ok(peer.ip())
            })
            .transpose()
    }

    fn sockets(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let mut command = Command::new("ss");
        command.args(arguments);
        let text = self.outside.run(&command, LIMIT)?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// The processes that have a socket, in a line such as
/// `LISTEN 0 128 0.0.0.0:12345 0.0.0.0:* users:(("sshd",pid=4711,fd=8))`.
fn processes(line: &str) -> impl Iterator<Item = &str> {
    line.split("pid=")
        .skip(1)
        .filter_map(|rest| rest.split(',').next())
}
