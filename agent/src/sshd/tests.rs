use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::leave::takes_silence;
use super::timing::PATIENCE;
use super::*;
use crate::status::board::Board;
use crate::status::model::SshdState;

/// A server that gives its clients these answers in turn, the last one again and again.
async fn server(answers: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut answers = answers.iter();
        let mut answer = "";
        loop {
            let (mut stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip().to_string(), "127.1.0.1");
            answer = answers.next().copied().unwrap_or(answer);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

fn watched(address: SocketAddr) -> (Board, Sshd) {
    let board = Board::new(&address.to_string());
    let (mut watcher, sshd) = watch(address.into(), Dialer::default(), board.sshd());
    watcher.timing.doubtful = Duration::from_millis(10);
    watcher.timing.suspicion = (Duration::from_millis(10), Duration::from_millis(20));
    tokio::spawn(watcher.run(CancellationToken::new()));
    (board, sshd)
}

#[tokio::test]
async fn a_banner_makes_it_ready_and_is_published() {
    let (board, mut sshd) = watched(server(&["SSH-2.0-test\r\n"]).await);
    assert_eq!(sshd.state(), State::Unknown);
    assert_eq!(sshd.banner().await.as_deref(), Ok("SSH-2.0-test"));
    let mut status = board.subscribe();
    let status = status.wait_for(|s| s.sshd.state == SshdState::Ready);
    let status = status.await.unwrap().clone();
    assert_eq!(status.sshd.banner.as_deref(), Some("SSH-2.0-test"));
    assert!(status.sshd.latency_ms.is_some());
}

#[tokio::test]
async fn an_sshd_that_comes_late_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (board, mut sshd) = watched(address);
    sshd.changed().await;
    let State::Down(fault) = sshd.state() else {
        panic!("{:?}", sshd.state());
    };
    assert_eq!(fault.code, "sshd-down");
    assert_eq!(board.sshd().get().state, SshdState::Waiting);

    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-late\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    sshd.becomes_ready().await;
}

/// The first fault that a watch finds with a server.
async fn first_fault(address: SocketAddr) -> model::Fault {
    let (_, mut sshd) = watched(address);
    sshd.changed().await;
    let State::Down(fault) = sshd.state() else {
        panic!("{:?}", sshd.state());
    };
    fault
}

#[tokio::test]
async fn each_fault_has_its_code() {
    for (answers, code) in [
        (&[""] as &'static [&'static str], "sshd-no-banner"),
        (&["Not allowed at this time\r\n"], "sshd-no-banner"),
        (&["220 mail.example.org ESMTP\r\n"], "sshd-no-banner"),
    ] {
        let fault = first_fault(server(answers).await).await;
        assert_eq!(fault.code, code);
        assert!(fault.message.contains(answers[0].trim()), "{fault:?}");
        assert!(fault.advice.contains("ssh-keygen -A"));
        assert!(fault.advice.contains("hosts.allow"));
    }
    let mut endless: &[u8] = &[b'x'; 300];
    let reason = read_banner(&mut endless, PATIENCE).await.unwrap_err();
    assert!(matches!(reason, Reason::NotSsh(_)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_waits_is_silent_or_of_another_kind() {
    let (mut near, mut far) = tokio::io::duplex(64);
    let reason = read_banner(&mut near, PATIENCE).await.unwrap_err();
    assert!(matches!(reason, Reason::Silent(_)));
    far.write_all(b"220 mail.example.org ESMTP\r\n")
        .await
        .unwrap();
    let reason = read_banner(&mut near, PATIENCE).await.unwrap_err();
    assert!(matches!(reason, Reason::NotSsh(said) if said.starts_with("220 mail")));
}

#[test]
fn a_refusal_in_words_and_a_silent_close_are_told_apart() {
    let error = |said: &str| CheckError {
        address: SocketAddr::from(([127, 0, 0, 1], 22)).into(),
        reason: Reason::NoBanner(said.to_owned()),
        looked_at: None,
    };
    for (said, refusal, close, other) in [
        ("", false, true, false),
        ("Not allowed at this time", true, false, false),
        ("Exceeded MaxStartups", true, false, false),
        ("220 mail.example.org", false, false, true),
    ] {
        assert_eq!(error(said).is_of_another_server(), other, "{said}");
        assert_eq!(error(said).is_refusal(), refusal, "{said}");
        assert_eq!(error(said).is_close(), close, "{said}");
    }
}

#[tokio::test]
async fn one_silent_close_does_not_turn_a_good_sshd_down() {
    let address = server(&["SSH-2.0-x\r\n", "", "SSH-2.0-y\r\n"]).await;
    let (board, mut sshd) = watched(address);
    sshd.becomes_ready().await;
    sshd.suspect();
    let mut status = board.subscribe();
    // The second answer came in between, and nothing of it shows.
    let wait = status.wait_for(|s| {
        assert_ne!(s.sshd.state, SshdState::Waiting);
        s.sshd.banner.as_deref() == Some("SSH-2.0-y")
    });
    wait.await.unwrap();
}

#[tokio::test]
async fn a_check_introduces_itself_and_leaves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, _sshd) = watched(address);
    let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("SSH-2.0-vmagent_"));
    assert!(said.ends_with("\r\n"));
}

/// A slow sshd: there is one connection to it, and no other until it has answered.
#[tokio::test(start_paused = true)]
async fn a_check_stays_on_its_connection_however_slow_sshd_is() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut near = near;
    let read = read_banner(&mut near, PATIENCE);
    let answer = async {
        sleep(Duration::from_secs(119)).await;
        far.write_all(b"SSH-2.0-slow\r\n").await.unwrap();
    };
    let (read, ()) = tokio::join!(read, answer);
    assert_eq!(read.unwrap(), "SSH-2.0-slow");
}

/// A listener to answer by hand, the watch over it, and what it has answered at first.
async fn answered() -> (TcpListener, Board, Sshd) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (board, mut sshd) = watched(listener.local_addr().unwrap());
    answer(&listener, "SSH-2.0-x\r\n").await;
    sshd.becomes_ready().await;
    (listener, board, sshd)
}

async fn answer(listener: &TcpListener, text: &str) {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// No check comes for long enough that any which is due would have come.
async fn nobody_comes(listener: &TcpListener) {
    let come = timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(come.is_err(), "a check without a reason");
}

#[tokio::test]
async fn a_check_needs_a_reason() {
    let (listener, _board, sshd) = answered().await;
    nobody_comes(&listener).await;
    sshd.moved(0, 0);
    answer(&listener, "SSH-2.0-x\r\n").await;
    // Banners alone, and a key exchange, are none.
    sshd.moved(40, 40);
    sshd.moved(1500, 1100);
    nobody_comes(&listener).await;
}

#[tokio::test]
async fn sshd_that_turns_the_check_away_in_words_is_well_and_is_left_alone() {
    let (listener, board, sshd) = answered().await;
    sshd.suspect();
    answer(&listener, "Exceeded MaxStartups\r\n").await;
    nobody_comes(&listener).await;
    assert!(sshd.state().is_ready());
    assert_eq!(board.sshd().get().fault, None);
}

/// The check may be banned where users are not.
#[tokio::test]
async fn a_user_who_gets_through_proves_sshd() {
    let (board, mut sshd) = watched(server(&[""]).await);
    sshd.changed().await;
    assert!(matches!(sshd.state(), State::Down(_)));
    sshd.moved(40, 300);
    assert!(matches!(sshd.state(), State::Down(_)), "a page of HTTP");
    sshd.moved(1500, 1100);
    sshd.becomes_ready().await;
    assert_eq!(board.sshd().get().state, SshdState::Ready);
    assert_eq!(board.sshd().get().fault, None);
}

#[tokio::test]
async fn a_user_who_gets_through_ends_a_suspicion() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let board = Board::new("");
    let address = listener.local_addr().unwrap();
    let (mut watcher, mut sshd) = watch(address.into(), Dialer::default(), board.sshd());
    watcher.timing.suspicion.0 = Duration::from_millis(200);
    tokio::spawn(watcher.run(CancellationToken::new()));
    answer(&listener, "SSH-2.0-x\r\n").await;
    sshd.becomes_ready().await;
    sshd.suspect();
    tokio::task::yield_now().await;
    sshd.moved(1500, 1100);
    nobody_comes(&listener).await;
}

/// The kernel tells that sshd is gone, before a user does.
#[tokio::test]
async fn a_probe_of_the_tunnel_hears_at_once_that_sshd_is_gone() {
    let (listener, _board, mut sshd) = answered().await;
    assert_eq!(sshd.banner().await.as_deref(), Ok("SSH-2.0-x"));
    nobody_comes(&listener).await;
    drop(listener);
    let why = sshd.banner().await.unwrap_err();
    assert!(why.contains("connection refused"), "{why}");
}

async fn goes_down(sshd: &mut Sshd) {
    let down = async {
        while !matches!(sshd.state(), State::Down(_)) {
            sshd.changed().await;
        }
    };
    timeout(Duration::from_secs(30), down).await.unwrap();
}

/// The report of a user's connection comes up to [`UNANSWERED`] late.
#[tokio::test]
async fn a_late_proof_does_not_hide_that_sshd_has_stopped() {
    let (listener, board, mut sshd) = answered().await;
    drop(listener);
    sshd.moved(1500, 1100);
    goes_down(&mut sshd).await;
    // Nor does it bring back one that is known to be down.
    let before = board.sshd().get().fault.unwrap().count;
    sshd.moved(1500, 1100);
    let mut status = board.subscribe();
    let checked = status.wait_for(|status| {
        assert_eq!(status.sshd.state, SshdState::Waiting);
        let fault = status.sshd.fault.as_ref();
        fault.is_some_and(|fault| fault.count > before + 1)
    });
    timeout(Duration::from_secs(30), checked)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_late_proof_does_not_vouch_for_an_sshd_that_stops_during_a_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_board, mut sshd) = watched(listener.local_addr().unwrap());
    let (mut stream, _) = listener.accept().await.unwrap();
    drop(listener);
    sshd.moved(1500, 1100);
    let changed = timeout(Duration::from_millis(100), sshd.changed()).await;
    assert!(changed.is_err(), "{:?}", sshd.state());
    // A process of sshd that outlives the listener answers the check, which is no reason to rest.
    stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    goes_down(&mut sshd).await;
}

#[test]
fn only_a_server_that_takes_it_well_is_left_without_a_word() {
    for (banner, silently) in [
        ("SSH-2.0-OpenSSH_10.0p2 Debian-7", true),
        ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7", false),
        ("SSH-2.0-dropbear_2022.83", false),
        ("SSH-2.0-OpenSSH_", false),
        ("", false),
    ] {
        assert_eq!(takes_silence(banner), silently, "{banner}");
    }
}
