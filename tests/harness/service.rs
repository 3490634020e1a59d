//! A service of the guest beside its sshd, reached through a forward of its own.
//!
//! Here both ends of a connection belong to the test, which can so stop, break or measure either.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{Shutdown, setsockopt, shutdown};
use nix::sys::time::TimeVal;

use crate::agent::Agent;
use crate::failure::{Context, Result};
use crate::limits::SOON;
use crate::openssh::Sshd;
use crate::scene::{OPTIONS, PORT, Scene};

/// The port of the proxy that leads to the service, on its loopback address.
pub const SERVICE: u16 = 8080;

/// How long a read, a write or an accept of a test may take before it is an error.
const PATIENCE: Duration = SOON;

/// A scene whose tunnel is up, with a forward of [`SERVICE`] to a listener of the test's.
pub struct Service {
    /// The guest's side of the forward: 127.0.0.1:80.
    pub listener: TcpListener,
    /// The agent.
    pub agent: Agent,
    /// The proxy, sshd and the rest.
    pub scene: Scene,
}

impl Service {
    /// Sets the scene with the recommended proxy configuration.
    ///
    /// # Errors
    ///
    /// If a peer does not start, or the forward is not granted within [`SOON`].
    pub fn new() -> Result<Self> {
        Self::with_proxy("")
    }

    /// Sets the scene with these lines before the recommended proxy configuration.
    ///
    /// # Errors
    ///
    /// As [`Service::new`].
    pub fn with_proxy(config: &str) -> Result<Self> {
        let scene = Scene::with_proxy(&format!("{config}\n{}", Sshd::proxy_config()))?;
        let options = format!("{OPTIONS},permitlisten=\"127.0.0.1:{SERVICE}\"");
        scene.proxy.authorize(&options, &scene.key.public()?)?;
        let more = format!(
            "    forwards:\n      - {{bind: 127.0.0.1, port: {SERVICE}, to: '127.0.0.1:80'}}\n"
        );
        let host_key = scene.proxy.host_key("ed25519")?;
        let document = scene.document_with("0.0.0.0", PORT, &host_key, &scene.key, &more)?;
        let listener = scene.namespace.listen(([127, 0, 0, 1], 80).into())?;
        setsockopt(
            &listener,
            ReceiveTimeout,
            &TimeVal::new(PATIENCE.as_secs().cast_signed(), 0),
        )?;
        let agent = scene.agent(&document)?;
        let service = Self {
            listener,
            agent,
            scene,
        };
        service.wait_up(SOON)?;
        Ok(service)
    }

    /// Starts another agent in place of one that has ended, as a service manager does.
    ///
    /// # Errors
    ///
    /// As [`Agent::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.agent = Agent::start(&self.scene.namespace, &self.scene.agent_dir(), &[])?;
        Ok(())
    }

    /// Waits until the tunnel is proven and the forward to the service is granted.
    ///
    /// # Errors
    ///
    /// After `limit`: with the last status and the agent's log.
    pub fn wait_up(&self, limit: Duration) -> Result<()> {
        self.agent
            .wait_for("granted forward", limit, |status| {
                status["tunnel"]["state"] == "up"
                    && status["tunnel"]["forwards"][0]["granted"] == true
            })
            .map(drop)
    }

    /// Waits until no connection through the tunnel is open any more.
    ///
    /// # Errors
    ///
    /// As [`Service::wait_up`].
    pub fn wait_closed(&self, limit: Duration) -> Result<()> {
        self.agent
            .wait_for("end of all connections", limit, |status| {
                status["tunnel"]["open"] == 0
            })
            .map(drop)
    }

    /// Where users connect to.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], SERVICE).into()
    }

    /// A user's connection. Whether the service takes it is another matter.
    ///
    /// # Errors
    ///
    /// As [`crate::netns::Namespace::connect`].
    pub fn dial(&self) -> Result<TcpStream> {
        patient(self.scene.namespace.connect(self.address())?)
    }

    /// Both ends of a connection: the user's and the service's.
    ///
    /// # Errors
    ///
    /// If it can't be made, or has not reached the service in time.
    pub fn connect(&self) -> Result<(TcpStream, TcpStream)> {
        let user = self.dial()?;
        let (server, _) = self
            .listener
            .accept()
            .during("waiting for a connection to the service")?;
        Ok((user, patient(server)?))
    }
}

/// No read or write of a test waits for ever.
fn patient(stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Ends whatever thread waits for a connection on this listener.
pub(crate) fn wake(listener: &TcpListener) {
    let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
}
