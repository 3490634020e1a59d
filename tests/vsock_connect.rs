//! An ssh `ProxyCommand` for a VMM that shows a guest's vsock as a Unix
//! socket: `vsock-connect SOCKET PORT`, with `ProxyUseFdpass yes`. Newer
//! systems (systemd 258) have `systemd-ssh-proxy` for it (`ssh vsock-mux/SOCKET`).
#![forbid(unsafe_code)]

use std::env;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::path::Path;

use harness::failure::{Failure, Result};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().collect();
    let [_, socket, port] = arguments.as_slice() else {
        return Err(Failure::new("usage: vsock-connect SOCKET PORT"));
    };
    let stream = harness::vsock::connect(Path::new(socket), port.parse()?)?;
    // ssh takes the connection itself and talks to the guest without us.
    let fds = [stream.as_raw_fd()];
    let stdout = std::io::stdout().as_raw_fd();
    sendmsg::<()>(
        stdout,
        &[IoSlice::new(b"\0")],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}
