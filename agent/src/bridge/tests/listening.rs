//! How the bridge comes by its listener.

use std::os::fd::OwnedFd;

use tokio::net::UnixListener;

use super::*;
use crate::bridge::listener::{is_lost, is_passing};

#[tokio::test]
async fn another_listener_that_leads_to_sshd_is_healthy_and_left_alone() {
    let mut world = World::new(echo_server().await);
    let theirs = UnixListener::bind(world.path()).unwrap();
    let serve = tokio::spawn(async move {
        loop {
            let (mut stream, _) = theirs.accept().await.unwrap();
            let _ = stream.write_all(b"SSH-2.0-theirs\r\n").await;
        }
    });
    world.start().await;
    let bridge = world.until_state(BridgeState::Foreign).await;
    assert_eq!(code(&bridge), Some("port-served"));
    let switch = bridge.fault.unwrap().advice;
    assert!(switch.contains("stop it"), "{switch}");
    // It goes, and leaves its file: ours takes its place.
    serve.abort();
    world.until_state(BridgeState::Ready).await;
    greet(&world.path()).await;
}

#[tokio::test]
async fn another_listener_that_leads_nowhere_is_a_fault() {
    let mut world = World::new(echo_server().await);
    let theirs = UnixListener::bind(world.path()).unwrap();
    tokio::spawn(async move { while theirs.accept().await.is_ok() {} });
    world.start().await;
    let bridge = world.until(|s| s.bridge.fault.is_some()).await;
    assert_eq!(bridge.state, BridgeState::Waiting);
    assert_eq!(code(&bridge), Some("port-taken"));
}

#[tokio::test]
async fn an_inherited_listener_wins_and_its_file_stays() {
    let mut world = World::new(echo_server().await);
    let path = world.dir.path().join("inherited.sock");
    let theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (unrelated, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    world.inherited = vec![
        inherited("log", unrelated.into()),
        inherited("bridge", theirs.into()),
    ];
    let task = world.start().await;
    let bridge = world.until_state(BridgeState::Ready).await;
    let listen = format!("unix:{}", path.display());
    assert_eq!(bridge.listen, Some(listen));
    assert!(!world.path().exists());
    greet(&path).await;
    world.stop.cancel();
    task.await.unwrap();
    assert!(path.exists());
}

fn inherited(name: &str, fd: OwnedFd) -> Inherited {
    let name = name.to_owned();
    Inherited { name, fd }
}

#[tokio::test]
async fn anything_else_that_is_inherited_is_named_and_does_no_harm() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    for (fd, found) in [
        (OwnedFd::from(file), "a descriptor that is no socket"),
        (tcp.into(), "a socket of another family"),
        (stream.into(), "a socket that does not listen"),
        (datagram.into(), "a socket that is no stream"),
    ] {
        let mut world = World::new(echo_server().await);
        world.inherited = vec![inherited("odd", fd)];
        world.start().await;
        let bridge = world.until_state(BridgeState::Ready).await;
        assert_eq!(code(&bridge), Some("inherited-wrong-socket"));
        let message = bridge.fault.unwrap().message;
        assert!(message.contains(&format!("{found} (odd)")), "{message}");
        greet(&world.path()).await;
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_tried_again() {
    let mut world = World::new(echo_server().await);
    std::fs::write(world.path(), "mine").unwrap();
    world.start().await;
    let bridge = world.until(|s| s.bridge.fault.is_some()).await;
    assert_eq!(code(&bridge), Some("bind-failed"));
    std::fs::remove_file(world.path()).unwrap();
    world.until_state(BridgeState::Ready).await;
}

#[tokio::test]
async fn off_is_off_and_still_alive() {
    let mut world = World::new(nobody().await);
    world.config.listen = Listen::Off;
    let task = world.start().await;
    assert_eq!(world.board.bridge().get().state, BridgeState::Off);
    assert_eq!(world.monitor.check(Duration::from_secs(5)).await, Ok(()));
    world.stop.cancel();
    task.await.unwrap();
}

#[test]
fn only_faults_of_the_listener_itself_lose_it() {
    use nix::errno::Errno;
    let error = |errno: Errno| std::io::Error::from(errno);
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS] {
        assert!(!is_lost(&error(errno)) && !is_passing(&error(errno)));
    }
    assert!(is_passing(&error(Errno::ECONNABORTED)));
    assert!(is_lost(&error(Errno::EINVAL)));
}
