//! Tells a connection why it does not get in, and sees to it that it can be read.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use tokio::io::AsyncReadExt;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::relay::sockets::Socket;

/// How long a client may take to read the line and hang up.
const LINGER: Duration = Duration::from_secs(2);

/// What it may say meanwhile, in bytes: its version and its first packet are far less.
const SAYS: u64 = 64 * 1024;

/// How many are waited for at the same time; the one turned away first makes room for one more.
const MOST: usize = 256;

/// Connections that were told why they do not get in, until they have hung up.
///
/// Clients say their version without waiting for ours. To close with that unread, or before it
/// has come, is a reset: it may overtake the line, and a client that fails to write never reads.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    tasks: JoinSet<()>,
    last: VecDeque<AbortHandle>,
}

impl TurnedAway {
    /// Says why in a line, which a server may send before its version (RFC 4253, 4.2), and closes.
    pub(super) fn add(&mut self, client: OwnedFd, why: &str) {
        while self.tasks.try_join_next().is_some() {}
        let line = format!("vmagent: {why}\r\n");
        let fd = client.as_raw_fd();
        // A new connection has room for a line. One that has hung up loses nothing.
        let said = send(fd, line.as_bytes(), MsgFlags::MSG_NOSIGNAL)
            .and_then(|_| shutdown(fd, Shutdown::Write));
        let (Ok(()), Ok(client)) = (said, Socket::new(client)) else {
            return;
        };
        if self.last.len() == MOST
            && let Some(first) = self.last.pop_front()
        {
            first.abort();
        }
        self.last.push_back(self.tasks.spawn(hear_out(client)));
    }

    /// Waits until all have hung up, which takes [`LINGER`] at most.
    pub(super) async fn drain(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Reads what nobody wants to know, until the client hangs up.
async fn hear_out(client: Socket) {
    let mut client = client.take(SAYS);
    let mut ignored = [0; 256];
    let heard = async { while matches!(client.read(&mut ignored).await, Ok(1..)) {} };
    let _ = timeout(LINGER, heard).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    /// Both ends of a connection, ours as it comes from an accept.
    fn pair() -> (OwnedFd, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours.into(), theirs)
    }

    /// Says its version late, and then reads, as a client does on a busy machine.
    fn late(mut client: UnixStream) -> String {
        std::thread::sleep(Duration::from_millis(20));
        client.write_all(b"SSH-2.0-late\r\n").unwrap();
        client.write_all(&[1; 1000]).unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        said
    }

    #[tokio::test]
    async fn a_client_that_speaks_before_or_after_it_reads_the_whole_line() {
        let mut turned_away = TurnedAway::default();
        for _ in 0..10 {
            let (early, mut client) = pair();
            client.write_all(b"SSH-2.0-early\r\n").unwrap();
            turned_away.add(early, "no");
            let (ours, theirs) = pair();
            turned_away.add(ours, "no");
            let clients = [client, theirs].map(|c| tokio::task::spawn_blocking(|| late(c)));
            for client in clients {
                assert_eq!(client.await.unwrap(), "vmagent: no\r\n");
            }
        }
        turned_away.drain().await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_hang_up_is_let_go_after_a_while() {
        let mut turned_away = TurnedAway::default();
        let (ours, _silent) = pair();
        turned_away.add(ours, "no");
        let start = tokio::time::Instant::now();
        turned_away.drain().await;
        assert_eq!(start.elapsed().as_secs(), LINGER.as_secs());
    }

    #[tokio::test]
    async fn one_that_does_not_stop_to_talk_is_let_go() {
        let mut turned_away = TurnedAway::default();
        let (ours, mut talker) = pair();
        turned_away.add(ours, "no");
        let talks = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            while talker.write_all(&[0; 1024]).is_ok() {}
            begun.elapsed()
        });
        turned_away.drain().await;
        assert!(talks.await.unwrap() < LINGER);
    }

    #[tokio::test]
    async fn only_so_many_are_waited_for_and_the_last_ones_stay() {
        let mut turned_away = TurnedAway::default();
        let mut clients: Vec<_> = (0..MOST + 10)
            .map(|_| {
                let (ours, theirs) = pair();
                turned_away.add(ours, "no");
                theirs
            })
            .collect();
        tokio::task::yield_now().await;
        let still = |client: &mut UnixStream| client.write_all(b"x").is_ok();
        assert!(clients[..10].iter_mut().all(|client| !still(client)));
        assert!(clients[10..].iter_mut().all(still));
    }
}
