//! A server that speaks SSH well, and misuses it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::server::{self, Auth, Handle, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, Disconnect, Error};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::{Context, Failure, Result};
use crate::netns::Namespace;
use crate::openssh::make_key;

/// How long the agent has for an answer.
const ANSWER: Duration = crate::limits::SOON;

/// How far a server lets an agent get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// No login is ever answered.
    IgnoresLogins,
    /// Every login is accepted, and no request for a forward ever answered.
    IgnoresForwards,
    /// Everything asked for is granted, and then the test decides. It listens on no port.
    Grants,
}

/// A channel that a server opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A connection that came in on a port, as `tcpip-forward` promises.
    Forwarded(&'static str, u16),
    /// A shell.
    Session,
    /// A connection from the agent to an address of the server's choice.
    DirectTcp,
    /// The same to a Unix socket.
    DirectUnix,
    /// A connection that came in on a Unix socket.
    ForwardedUnix,
    /// A window.
    X11,
    /// The agent's keys.
    KeyAgent,
}

/// A running server. It ends on drop, with its connections.
pub struct Ssh {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its public host key.
    pub host_key: String,
    runtime: Option<Runtime>,
    connections: Arc<AtomicUsize>,
    granted: watch::Receiver<Option<Handle>>,
}

impl Ssh {
    /// Starts a server on a free port of the namespace's loopback, which keeps its key in `dir`.
    ///
    /// # Errors
    ///
    /// If it can't listen or make its key.
    pub fn start(namespace: &Namespace, dir: &Path, manner: Manner) -> Result<Self> {
        let key = make_key(&dir.join("hostile_ed25519"), "ed25519")?;
        let config = Arc::new(server::Config {
            keys: vec![PrivateKey::from_openssh(key.private()?)?],
            nodelay: true,
            ..server::Config::default()
        });
        let listener = namespace.listen(([127, 0, 0, 1], 0).into())?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let (grants, granted) = watch::channel(None);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                counter.fetch_add(1, Relaxed);
                let guest = Guest {
                    manner,
                    grants: grants.clone(),
                };
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    // The agent may leave in the middle.
                    if let Ok(session) = server::run_stream(config, stream, guest).await {
                        let _ = session.await;
                    }
                });
            }
            #[expect(unreachable_code, reason = "names the type of the errors above")]
            std::io::Result::Ok(())
        });
        Ok(Self {
            address,
            host_key: key.public()?,
            runtime: Some(runtime),
            connections,
            granted,
        })
    }

    /// How many connections it has taken.
    pub fn taken(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Opens a channel in the latest session that was granted a forward.
    ///
    /// # Errors
    ///
    /// If there is no answer. That it is refused is the caller's to judge.
    pub fn open(&self, kind: &Kind) -> Result<std::result::Result<Channel<Msg>, Refusal>> {
        self.block_on(open(self.session()?, kind.clone()))
    }

    /// Opens many channels of a kind at once, and returns those that the agent took.
    ///
    /// # Errors
    ///
    /// If one has no answer.
    pub fn open_many(&self, kind: &Kind, count: usize) -> Result<Vec<Channel<Msg>>> {
        let session = self.session()?;
        self.block_on(async {
            let mut asked = JoinSet::new();
            for _ in 0..count {
                asked.spawn(open(session.clone(), kind.clone()));
            }
            let mut taken = Vec::new();
            while let Some(answer) = asked.join_next().await {
                taken.extend(answer??.ok());
            }
            Ok(taken)
        })
    }

    /// Writes so many bytes to each of these channels, all at once, for as long as `limit` where
    /// they are not taken; then the channels are gone. Returns how many bytes went out.
    ///
    /// # Errors
    ///
    /// None but those of the runtime: the agent may end channels.
    pub fn flood(
        &self,
        channels: Vec<Channel<Msg>>,
        bytes: usize,
        limit: Duration,
    ) -> Result<usize> {
        const STEP: usize = 64 << 10;
        let sent = Arc::new(AtomicUsize::new(0));
        self.block_on(async {
            let mut writing = JoinSet::new();
            for channel in channels {
                let sent = Arc::clone(&sent);
                writing.spawn(async move {
                    for _ in 0..bytes / STEP {
                        if channel.data_bytes(vec![0; STEP]).await.is_err() {
                            return;
                        }
                        sent.fetch_add(STEP, Relaxed);
                    }
                });
            }
            // The library leaves a writer waiting whose channel the peer has closed.
            let _ = timeout(limit, async {
                while writing.join_next().await.is_some() {}
            })
            .await;
            Ok(sent.load(Relaxed))
        })
    }

    /// The next bytes that arrive on a channel.
    ///
    /// # Errors
    ///
    /// If it ends instead.
    pub fn read(&self, channel: &mut Channel<Msg>) -> Result<Vec<u8>> {
        self.block_on(async {
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Data { data }) => return Ok(data.to_vec()),
                    Some(ChannelMsg::Close) | None => return Err(Failure::new("it was closed")),
                    Some(_) => {}
                }
            }
        })
    }

    /// Closes a channel.
    ///
    /// # Errors
    ///
    /// If the session is gone.
    pub fn close(&self, channel: &Channel<Msg>) -> Result<()> {
        self.block_on(async { Ok(channel.close().await?) })
    }

    /// Ends the session with these words.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn disconnect(&self, words: &str) -> Result<()> {
        let session = self.session()?;
        self.block_on(async {
            let reason = Disconnect::ByApplication;
            Ok(session
                .disconnect(reason, words.to_owned(), String::new())
                .await?)
        })
    }

    fn session(&self) -> Result<Handle> {
        let mut granted = self.granted.clone();
        self.block_on(async {
            let session = granted.wait_for(Option::is_some).await?;
            session
                .clone()
                .ok_or_else(|| Failure::new("there is no session"))
        })
    }

    fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = self.runtime.as_ref().expect("it runs until it is dropped");
        runtime
            .block_on(async { timeout(ANSWER, work).await })
            .during("waiting for the agent")?
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        // A session that answers nothing would never end by itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why the agent did not take a channel.
pub type Refusal = ChannelOpenFailure;

async fn open(session: Handle, kind: Kind) -> Result<std::result::Result<Channel<Msg>, Refusal>> {
    const FROM: (&str, u32) = ("192.0.2.1", 40_000);
    static CALLERS: AtomicUsize = AtomicUsize::new(0);
    let result = match kind {
        Kind::Forwarded(bind, port) => {
            // Many users, each of whom is an origin of its own.
            let caller = CALLERS.fetch_add(1, Relaxed) % 250;
            let from = format!("198.51.100.{caller}");
            session
                .channel_open_forwarded_tcpip(bind, u32::from(port), from, FROM.1)
                .await
        }
        Kind::Session => session.channel_open_session().await,
        Kind::DirectTcp => {
            session
                .channel_open_direct_tcpip("127.0.0.1", 22, FROM.0, FROM.1)
                .await
        }
        Kind::DirectUnix => session.channel_open_direct_streamlocal("/run/socket").await,
        Kind::ForwardedUnix => {
            session
                .channel_open_forwarded_streamlocal("/run/socket")
                .await
        }
        Kind::X11 => session.channel_open_x11(FROM.0, FROM.1).await,
        Kind::KeyAgent => session.channel_open_agent().await,
    };
    match result {
        Ok(channel) => Ok(Ok(channel)),
        Err(Error::ChannelOpenFailure(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(error.into()),
    }
}

/// One agent, as the server treats it.
struct Guest {
    manner: Manner,
    grants: watch::Sender<Option<Handle>>,
}

impl server::Handler for Guest {
    type Error = Error;

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: VerifiedPublicKey<'_>,
    ) -> std::result::Result<Auth, Error> {
        if self.manner == Manner::IgnoresLogins {
            std::future::pending::<()>().await;
        }
        Ok(Auth::Accept)
    }

    async fn tcpip_forward(
        &mut self,
        _: &str,
        _: &mut u32,
        session: &mut Session,
    ) -> std::result::Result<bool, Error> {
        if self.manner == Manner::IgnoresForwards {
            std::future::pending::<()>().await;
        }
        self.grants.send_replace(Some(session.handle()));
        Ok(true)
    }
}
