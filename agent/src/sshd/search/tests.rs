use std::net::{SocketAddr, TcpListener};

use super::super::finder::EARLY;
use super::super::listening::{Listener, Owner};
use super::super::openers::Openers;
use super::super::place::at;
use super::super::watch;
use super::*;
use crate::status::board::Board;

fn watcher(target: Target) -> Watcher {
    watch(target, Dialer::default(), Board::new("").sshd()).0
}

fn place(address: &str, inode: u32) -> Place {
    let address: SocketAddr = address.parse().unwrap();
    Place {
        inode: Some(inode),
        ..at(address.into(), FoundBy::ListeningSocket)
    }
}

/// The queue of a busy sshd may be full, and its connections are then not accepted.
#[tokio::test]
async fn a_place_that_accepts_nothing_is_not_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = watcher(Target::searched(root.path()));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (absent, there) = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        (gone.local_addr().unwrap(), other.local_addr().unwrap())
    };
    let (absent, there) = (place(&absent.to_string(), 1), place(&there.to_string(), 2));
    let server = std::thread::spawn(move || drop(other.accept().unwrap()));
    let asked = vec![absent.clone(), there.clone()];
    assert!(watcher.ask(asked, SILENT).await.is_none());
    server.join().unwrap();
    let finder = watcher.target.finder.as_mut().unwrap();
    assert!(finder.pass_over(&absent, None, Instant::now()));
    assert!(!finder.pass_over(&there, None, Instant::now()));
}

/// A slow sshd does not lose its users to the search, which is less patient than a check.
#[tokio::test]
async fn the_sshd_of_before_is_checked_and_not_asked() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/ssh")).unwrap();
    std::fs::write(root.path().join("etc/ssh/sshd_config"), "Port 1\n").unwrap();
    let mut finder = Finder::new(root.path());
    finder.all = || {
        let listener = |port| Listener {
            address: SocketAddr::from(([192, 0, 2, 1], port)),
            owner: Owner {
                uid: 0,
                inode: port.into(),
            },
            cgroup: Some(7),
        };
        Ok(vec![listener(2222), listener(2223)])
    };
    finder.openers = || Openers {
        sshd: vec![7],
        ..Openers::default()
    };
    let early = Instant::now().checked_sub(EARLY).unwrap();
    finder.choose(early);
    let before = place("192.0.2.1:2223", 5);
    let mut watcher = watcher(Target::new_at(before, Some(finder)));
    assert!(watcher.locate().await.unwrap().is_none());
    let chosen = &watcher.target.place;
    let seen = (chosen.address.to_string(), chosen.inode);
    assert_eq!(seen, ("192.0.2.1:2223".to_owned(), Some(2223)));
}
