use std::path::Path;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::model::{MetadataState, OriginCount, Status};
use super::server;

type Lines = tokio::io::Lines<BufReader<UnixStream>>;

async fn serve(path: &Path, board: &Board) -> CancellationToken {
    let stop = CancellationToken::new();
    let (decided, wait) = oneshot::channel();
    let status = board.subscribe();
    tokio::spawn(server::run(path.to_owned(), status, decided, stop.clone()));
    wait.await.unwrap();
    stop
}

async fn connect(path: &Path) -> Lines {
    BufReader::new(UnixStream::connect(path).await.unwrap()).lines()
}

async fn next(lines: &mut Lines) -> Option<Status> {
    let line = lines.next_line().await.unwrap()?;
    Some(serde_json::from_str(&line).unwrap())
}

/// Makes a new generation.
fn change(board: &Board) {
    board.metadata().update(|metadata| {
        metadata.state = if metadata.state == MetadataState::Looking {
            MetadataState::Absent
        } else {
            MetadataState::Looking
        };
    });
}

#[tokio::test]
async fn a_client_gets_a_line_at_once_and_one_for_each_change() {
    let dir = tempfile::tempdir().unwrap();
    // The directory is made when there is none.
    let path = dir.path().join("run/status.sock");
    let board = Board::new("127.0.0.1:22");
    let stop = serve(&path, &board).await;
    let mut client = connect(&path).await;
    assert_eq!(next(&mut client).await.unwrap().generation, 0);
    for generation in 1..4 {
        change(&board);
        assert_eq!(next(&mut client).await.unwrap().generation, generation);
    }
    stop.cancel();
    assert!(next(&mut client).await.is_none());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_slow_client_skips_to_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status.sock");
    let board = Board::new("127.0.0.1:22");
    let _stop = serve(&path, &board).await;
    let mut slow = connect(&path).await;
    next(&mut slow).await.unwrap();
    for _ in 0..10_000 {
        change(&board);
        tokio::task::yield_now().await;
    }
    let mut lines = 0;
    while next(&mut slow).await.unwrap().generation < 10_000 {
        lines += 1;
        assert!(lines < 5_000, "every generation was kept for it");
    }
}

#[tokio::test]
async fn one_client_too_many_still_gets_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status.sock");
    let board = Board::new("127.0.0.1:22");
    let _stop = serve(&path, &board).await;
    let mut watchers = Vec::new();
    for _ in 0..64 {
        let mut client = connect(&path).await;
        next(&mut client).await.unwrap();
        watchers.push(client);
    }
    let mut late = connect(&path).await;
    assert!(next(&mut late).await.is_some());
    assert!(next(&mut late).await.is_none());
    // A place that becomes free is given away again; the server notices in its own time.
    drop(watchers.pop());
    loop {
        let mut client = connect(&path).await;
        next(&mut client).await.unwrap();
        let changed = async {
            tokio::task::yield_now().await;
            change(&board);
            next(&mut client).await
        };
        if changed.await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn a_socket_that_another_agent_serves_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status.sock");
    let (first, second) = (Board::new("127.0.0.1:1"), Board::new("127.0.0.1:2"));
    let stop = serve(&path, &first).await;
    let _stop = serve(&path, &second).await;
    let mut client = connect(&path).await;
    let status = next(&mut client).await.unwrap();
    assert_eq!(status.sshd.address, "127.0.0.1:1");
    stop.cancel();
    assert!(next(&mut client).await.is_none());
    tokio::time::pause();
    loop {
        // Nobody is there until the second has tried again.
        if let Ok(stream) = UnixStream::connect(&path).await {
            let mut client = BufReader::new(stream).lines();
            let status = next(&mut client).await.unwrap();
            assert_eq!(status.sshd.address, "127.0.0.1:2");
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[test]
fn an_origin_is_counted_by_the_address_that_a_service_sees() {
    let mut list = Vec::new();
    for seen_as in ["127.201.16.3", "127.0.0.1", "127.201.16.3"] {
        OriginCount::add(&mut list, "198.51.100.7".to_owned(), seen_as.to_owned());
    }
    let counts: Vec<_> = list
        .iter()
        .map(|c| (c.seen_as.as_str(), c.accepted))
        .collect();
    assert_eq!(counts, [("127.0.0.1", 1), ("127.201.16.3", 2)]);
}
