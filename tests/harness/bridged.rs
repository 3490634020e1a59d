//! A service in the place of this guest's sshd: both ends of a connection over the bridge belong
//! to the test, which can so stop, break or measure either.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::agent::Agent;
use crate::ends::End;
use crate::failure::{Context, Failure, Result};
use crate::limits::SOON;
use crate::scene::Scene;
use crate::service::wake;
use crate::usage::Usage;
use crate::wait;

/// Where the agent looks for sshd.
const SSHD: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 22);

/// Whom sshd sees when the agent looks whether it is there (`Origin::Check`).
const CHECK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 1, 0, 1));

/// How the service introduces itself, to the agent's own checks only.
pub const BANNER: &[u8] = b"SSH-2.0-service\r\n";

/// How long a read or a write of a test, or a connection to the service, may take before it is an
/// error.
const PATIENCE: Duration = SOON;

/// A scene whose bridge leads to the test, and not to sshd, which is stopped.
pub struct Bridged {
    /// The agent.
    pub agent: Agent,
    /// The rest.
    pub scene: Scene,
    service: Option<Service>,
}

/// What listens in sshd's place, until it is dropped.
struct Service {
    listener: TcpListener,
    arrivals: Receiver<TcpStream>,
    thread: Option<JoinHandle<()>>,
}

impl Bridged {
    /// Sets the scene: there is no service yet.
    ///
    /// # Errors
    ///
    /// If a peer does not start.
    pub fn without_service() -> Result<Self> {
        let mut scene = Scene::new()?;
        scene.sshd.stop();
        // These tests come as fast as they can, which is not for the bridge to bound here.
        let config = [
            ("tunnel", "when = \"never\""),
            ("bridge", "max_rate = 1000000"),
        ];
        let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config)?;
        scene.add_bridge(&agent)?;
        Ok(Self {
            agent,
            scene,
            service: None,
        })
    }

    /// Sets the scene, and waits until the bridge is ready.
    ///
    /// # Errors
    ///
    /// If a peer does not start.
    pub fn new() -> Result<Self> {
        let mut bridged = Self::without_service()?;
        bridged.serve()?;
        Ok(bridged)
    }

    /// Takes sshd's place, and waits until the agent has seen it.
    ///
    /// # Errors
    ///
    /// If somebody else has it.
    pub fn serve(&mut self) -> Result<()> {
        self.service = Some(Service::start(self.scene.namespace.listen(SSHD)?)?);
        self.agent
            .wait_for("ready bridge", PATIENCE, |status| {
                status["bridge"]["state"] == "ready"
            })
            .map(drop)
    }

    /// Gives sshd its place back.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn give_back(&mut self) -> Result<()> {
        self.service = None;
        self.scene.sshd.start()
    }

    /// A user's connection. Whether it gets to the service is another matter.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn dial(&self) -> Result<UnixStream> {
        let user = UnixStream::connect(self.agent.bridge())?;
        user.limit(PATIENCE)?;
        Ok(user)
    }

    /// The next connection that gets to the service.
    ///
    /// # Errors
    ///
    /// If none does within `limit`, or nothing serves.
    pub fn arrival(&self, limit: Duration) -> Result<TcpStream> {
        let Some(service) = &self.service else {
            return Err(Failure::new("nothing serves"));
        };
        let arrival = service.arrivals.recv_timeout(limit);
        let arrival = arrival.during("waiting for a connection to the service")?;
        arrival.limit(PATIENCE)?;
        Ok(arrival)
    }

    /// Both ends of a connection: the user's and the service's.
    ///
    /// # Errors
    ///
    /// As [`Bridged::dial`] and [`Bridged::arrival`].
    pub fn connect(&self) -> Result<(UnixStream, TcpStream)> {
        Ok((self.dial()?, self.arrival(PATIENCE)?))
    }

    /// What the agent holds now.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.agent.id())
    }

    /// Waits until this many connections over the bridge are open.
    ///
    /// # Errors
    ///
    /// After `limit`: with the last status and the agent's log.
    pub fn wait_open(&self, count: u64, limit: Duration) -> Result<()> {
        self.agent
            .wait_for(&format!("bridge.open {count}"), limit, |status| {
                status["bridge"]["open"] == count
            })
            .map(drop)
    }

    /// Waits until the agent holds no more descriptors than it did `before`.
    ///
    /// # Errors
    ///
    /// After `limit`.
    pub fn wait_descriptors(&self, before: &Usage, limit: Duration) -> Result<()> {
        wait::retry("end of all descriptors", limit, || {
            let now = self.usage()?;
            if now.descriptors > before.descriptors {
                return Err(Failure::new(format!("{before:?}, then {now:?}")));
            }
            Ok(())
        })
    }

    /// Waits until no connection is open, nor any more descriptor than `before`.
    ///
    /// # Errors
    ///
    /// As the two above.
    pub fn wait_closed(&self, before: &Usage, limit: Duration) -> Result<()> {
        self.wait_open(0, limit)?;
        self.wait_descriptors(before, limit)
    }
}

impl Service {
    fn start(listener: TcpListener) -> Result<Self> {
        let accepting = listener.try_clone()?;
        let (sender, arrivals) = channel();
        let thread = thread::spawn(move || {
            while let Ok((mut stream, from)) = accepting.accept() {
                if from.ip() == CHECK {
                    // It leaves as soon as it has read this.
                    let _ = stream.write_all(BANNER);
                } else if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            listener,
            arrivals,
            thread: Some(thread),
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        wake(&self.listener);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
