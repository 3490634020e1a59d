use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::pulse::Monitor;
use crate::sshd;
use crate::status::board::Board;
use crate::status::model::Status;

/// A bridge on a Unix socket in a folder of its own, and what stands around it.
struct World {
    dir: tempfile::TempDir,
    board: Board,
    stop: CancellationToken,
    monitor: Monitor,
    config: Config,
    limits: Limits,
    inherited: Vec<Inherited>,
}

impl World {
    fn new(service: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            listen: Listen::Unix(dir.path().join("bridge.sock")),
            sshd: Some(service.into()),
            ..Config::default()
        };
        Self {
            board: Board::new(&service.to_string()),
            dir,
            stop: CancellationToken::new(),
            monitor: Monitor::default(),
            config,
            limits: Limits::new(&Config::default(), 1 << 16),
            inherited: Vec::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("bridge.sock")
    }

    /// Runs it, and comes back once its first attempt to listen has come out.
    async fn start(&mut self) -> tokio::task::JoinHandle<()> {
        let dialer = Dialer::default();
        let target = sshd::Target::new(self.config.sshd.clone());
        let (watcher, sshd) = sshd::watch(target, dialer.clone(), self.board.sshd());
        tokio::spawn(watcher.run(self.stop.clone()));
        let inherited = std::mem::take(&mut self.inherited);
        let slice = self.board.bridge();
        let restores = watch::channel(0).1;
        let bridge = Bridge::new(
            &self.config,
            inherited,
            self.limits,
            dialer,
            sshd,
            restores,
            slice,
        );
        let (decided, wait) = oneshot::channel();
        let pulse = self.monitor.pulse("bridge");
        let task = tokio::spawn(bridge.run(decided, pulse, self.stop.clone()));
        wait.await.unwrap();
        task
    }

    async fn until(&self, what: impl FnMut(&Status) -> bool) -> model::Bridge {
        let mut status = self.board.subscribe();
        let status = timeout(Duration::from_secs(60), status.wait_for(what)).await;
        status.expect("in time").unwrap().bridge.clone()
    }

    async fn until_state(&self, state: BridgeState) -> model::Bridge {
        self.until(|status| status.bridge.state == state).await
    }
}

fn code(bridge: &model::Bridge) -> Option<&str> {
    bridge.fault.as_ref().map(|fault| fault.code.as_str())
}

/// Greets like sshd, then says everything back.
async fn echo(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            stream.write_all(b"SSH-2.0-echo\r\n").await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

async fn sshd_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn echo_server() -> SocketAddr {
    let (listener, address) = sshd_listener().await;
    tokio::spawn(echo(listener));
    address
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    sshd_listener().await.1
}

async fn greet(path: &Path) -> UnixStream {
    let mut client = UnixStream::connect(path).await.unwrap();
    let mut greeting = [0; 14];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"SSH-2.0-echo\r\n");
    client
}

async fn rest(mut client: UnixStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn it_is_ready_once_sshd_has_answered_and_then_relays_and_counts() {
    let mut world = World::new(echo_server().await);
    let task = world.start().await;
    let bridge = world.until_state(BridgeState::Ready).await;
    let listen = format!("unix:{}", world.path().display());
    assert_eq!(bridge.listen.as_deref(), Some(listen.as_str()));
    assert_eq!((bridge.fault, bridge.cid), (None, None));

    let mut client = greet(&world.path()).await;
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(client).await, "hello");
    let bridge = world
        .until(|s| s.bridge.accepted == 1 && s.bridge.open == 0)
        .await;
    assert_eq!(bridge.refused, 0);
    assert_eq!(bridge.origins.len(), 1);
    assert_eq!(bridge.origins[0].origin, "unix");
    assert_eq!(bridge.origins[0].seen_as, "127.1.0.3");

    assert_eq!(world.monitor.check(Duration::from_secs(5)).await, Ok(()));
    world.stop.cancel();
    task.await.unwrap();
    assert!(!world.path().exists());
}

#[tokio::test]
async fn a_connection_is_held_while_sshd_starts_and_loses_no_byte() {
    let service = nobody().await;
    let mut world = World::new(service);
    world.start().await;
    let bridge = world.until(|s| s.bridge.fault.is_some()).await;
    assert_eq!(bridge.state, BridgeState::Waiting);
    assert_eq!(code(&bridge), Some("sshd-down"));

    let mut client = UnixStream::connect(world.path()).await.unwrap();
    // A client does not wait for the server's banner.
    client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    world.until(|s| s.bridge.open == 1).await;
    tokio::spawn(echo(TcpListener::bind(service).await.unwrap()));
    let mut received = [0; 30];
    client.read_exact(&mut received).await.unwrap();
    assert_eq!(&received[..], b"SSH-2.0-echo\r\nSSH-2.0-client\r\n");
    let bridge = world.until_state(BridgeState::Ready).await;
    assert_eq!(bridge.fault, None);
}

#[tokio::test]
async fn a_held_client_that_hangs_up_is_let_go() {
    let mut world = World::new(nobody().await);
    world.start().await;
    let mut client = UnixStream::connect(world.path()).await.unwrap();
    client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    world.until(|s| s.bridge.open == 1).await;
    drop(client);
    let bridge = world.until(|s| s.bridge.open == 0).await;
    assert_eq!((bridge.accepted, bridge.refused), (0, 0));
}

#[tokio::test]
async fn a_client_that_can_not_be_held_any_more_is_told_why() {
    let service = nobody().await;
    let mut world = World::new(service);
    world.limits.hold = Duration::from_millis(50);
    world.start().await;
    let client = UnixStream::connect(world.path()).await.unwrap();
    let said = rest(client).await;
    let expected = format!("vmagent: sshd does not answer on {service}: ");
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.ends_with("\r\n"), "{said}");
    world
        .until(|s| s.bridge.refused == 1 && s.bridge.open == 0)
        .await;
}

#[tokio::test]
async fn only_so_many_are_held_and_the_first_ones_stay() {
    let mut world = World::new(nobody().await);
    world.limits.held = 1;
    world.start().await;
    let mut first = UnixStream::connect(world.path()).await.unwrap();
    world.until(|s| s.bridge.open == 1).await;
    let second = UnixStream::connect(world.path()).await.unwrap();
    assert!(rest(second).await.contains("sshd does not answer"));
    let mut buffer = [0; 1];
    assert!(
        timeout(Duration::from_millis(20), first.read(&mut buffer))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn only_so_many_are_open() {
    let mut world = World::new(echo_server().await);
    world.limits.open.total = 1;
    world.start().await;
    let first = greet(&world.path()).await;
    let second = UnixStream::connect(world.path()).await.unwrap();
    let expected = "vmagent: too many connections: 1 are open ([bridge] max_connections)\r\n";
    assert_eq!(rest(second).await, expected);
    drop(first);
    world.until(|s| s.bridge.open == 0).await;
    greet(&world.path()).await;
}

#[tokio::test]
async fn a_stop_gives_open_connections_a_little_time() {
    let mut world = World::new(echo_server().await);
    world.limits.grace = Duration::from_millis(300);
    let task = world.start().await;
    let mut client = greet(&world.path()).await;
    world.stop.cancel();
    // Nobody new gets in, and who is in goes on for the time being.
    while world.path().exists() {
        tokio::task::yield_now().await;
    }
    client.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    task.await.unwrap();
    assert_eq!(rest(client).await, "");
    assert_eq!(world.board.bridge().get().open, 0);
}

#[tokio::test]
async fn a_reset_of_sshd_reaches_the_client() {
    let (listener, service) = sshd_listener().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            stream.write_all(b"SSH-2.0-echo\r\n").await.unwrap();
            let _ = stream.read_u8().await;
            stream.set_zero_linger().unwrap();
        }
    });
    let mut world = World::new(service);
    world.start().await;
    let mut client = greet(&world.path()).await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(rest(client).await, "");
    world.until(|s| s.bridge.open == 0).await;
}

mod listening;
