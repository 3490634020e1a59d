use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::watcher::{Absence, PATIENCE};
use super::*;
use crate::status::board::Board;
use crate::status::model::SshdState;

fn banner(text: &str) -> Introduction {
    Introduction::Banner(text.to_owned())
}

#[test]
fn the_banner_is_found_behind_other_lines_and_with_either_line_end() {
    for (received, expected) in [
        (
            "SSH-2.0-OpenSSH_10.0p2 Debian-7\r\n",
            banner("SSH-2.0-OpenSSH_10.0p2 Debian-7"),
        ),
        ("SSH-2.0-x\nrest", banner("SSH-2.0-x")),
        ("hello\r\nthere\nSSH-2.0-x\r\n", banner("SSH-2.0-x")),
        ("SSH-2.0-\x1b[31mred\r\n", banner("SSH-2.0-\\u{1b}[31mred")),
        ("SSH-2.0-x", Introduction::Incomplete),
        ("", Introduction::Incomplete),
    ] {
        assert_eq!(introduction(received.as_bytes()), expected, "{received:?}");
    }
}

#[test]
fn what_never_becomes_a_banner_is_given_up() {
    let endless = vec![b'x'; 255];
    let expected = Introduction::NotSsh(format!("{}..", "x".repeat(60)));
    assert_eq!(introduction(&endless), expected);
    assert_eq!(introduction(&endless[..254]), Introduction::Incomplete);
    let chatty = "HTTP/1.1 400\r\n".repeat(20);
    let expected = Introduction::NotSsh("HTTP/1.1 400".to_owned());
    assert_eq!(introduction(chatty.as_bytes()), expected);
}

proptest! {
    #[test]
    fn more_bytes_never_change_a_verdict(bytes: Vec<u8>, more: Vec<u8>) {
        let before = introduction(&bytes);
        if before != Introduction::Incomplete {
            let after = introduction(&[bytes, more].concat());
            if matches!(before, Introduction::Banner(_)) {
                prop_assert_eq!(before, after);
            } else {
                prop_assert!(matches!(after, Introduction::NotSsh(_)));
            }
        }
    }

    #[test]
    fn it_is_decided_within_a_bounded_number_of_bytes(line in "[^\n]{0,254}", lines in 0..30_usize) {
        let mut text = format!("{line}\n").repeat(lines).into_bytes();
        text.extend([b'x'; 256]);
        prop_assert_ne!(introduction(&text), Introduction::Incomplete);
    }

    #[test]
    fn what_is_shown_has_no_control_characters(bytes: Vec<u8>) {
        prop_assert!(!excerpt_of(&bytes).contains(char::is_control));
    }
}

fn excerpt_of(bytes: &[u8]) -> String {
    banner::excerpt(bytes)
}

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
    let (mut watcher, sshd) = watch(address, Dialer::default(), board.sshd());
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

/// What a watch makes of a server at first.
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
    assert!(matches!(reason, Reason::Silent));
    far.write_all(b"220 mail.example.org ESMTP\r\n")
        .await
        .unwrap();
    let reason = read_banner(&mut near, PATIENCE).await.unwrap_err();
    assert!(matches!(reason, Reason::NotSsh(said) if said.starts_with("220 mail")));
}

#[tokio::test]
async fn one_penalty_does_not_turn_a_good_sshd_down() {
    let error = |said: &str| CheckError {
        address: SocketAddr::from(([127, 0, 0, 1], 22)),
        reason: Reason::NoBanner(said.to_owned()),
    };
    assert!(error("").may_pass(0));
    assert!(!error("").may_pass(1));
    assert!(error("Not allowed at this time").may_pass(100));

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

#[test]
fn an_absent_sshd_is_looked_for_often_at_first() {
    let mut absence = Absence::new(Timing::DEFAULT);
    let pauses: Vec<_> = (0..10).map(|_| absence.pause().as_millis()).collect();
    assert_eq!(pauses[..5], [100, 200, 400, 750, 750]);
    absence.timing.hopeful = Duration::ZERO;
    assert!(
        (0..10)
            .map(|_| absence.pause())
            .any(|pause| pause == Duration::from_secs(5))
    );
}

#[tokio::test]
async fn a_suspicion_is_looked_into_and_a_quiet_hour_is_not_disturbed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_board, mut sshd) = watched(listener.local_addr().unwrap());
    let greet = async || {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    };
    greet().await;
    sshd.becomes_ready().await;
    let quiet = timeout(Duration::from_millis(100), listener.accept());
    assert!(quiet.await.is_err(), "a check without a reason");
    sshd.suspect();
    greet().await;
}
