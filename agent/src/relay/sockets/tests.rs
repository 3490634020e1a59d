use std::net::Ipv4Addr;

use nix::sys::socket::{setsockopt, sockopt};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::turn::BUFFER;
use super::*;

/// What a peer may take at most to see the end of a connection.
const SOON: Duration = Duration::from_secs(60);

fn start(origin: Socket, service: Socket, linger: Duration) -> JoinHandle<(End, u64, u64)> {
    tokio::spawn(async move {
        let mark = AtomicU8::new(0);
        let mut progress = Progress::default();
        let end = pump(&origin, &service, &mut progress, &mark, linger).await;
        let moved = progress.moved;
        (end, moved.inward(), moved.outward())
    })
}

fn unix_pair(buffer: Option<usize>) -> (UnixStream, Socket) {
    let (far, near) = UnixStream::pair().unwrap();
    if let Some(size) = buffer {
        for socket in [&far, &near] {
            setsockopt(socket, sockopt::SndBuf, &size).unwrap();
        }
    }
    (far, near.try_into().unwrap())
}

async fn tcp_pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (near, _) = listener.accept().await.unwrap();
    (far.unwrap(), near.try_into().unwrap())
}

/// Numbers that give away a piece that is lost, doubled or out of order.
fn numbers(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

#[tokio::test]
async fn both_directions_carry_everything_and_the_ends() {
    let (mut origin, near) = unix_pair(None);
    let (mut service, far) = tcp_pair().await;
    let pump = start(near, far, LINGER);
    let (question, answer) = (numbers(5_000_000, 1), numbers(7_000_000, 2));
    let client = async {
        let (mut read, mut write) = origin.split();
        let mut received = Vec::new();
        let send = async {
            write.write_all(&question).await.unwrap();
            write.shutdown().await.unwrap();
        };
        tokio::join!(send, async {
            read.read_to_end(&mut received).await.unwrap()
        });
        received
    };
    let server = async {
        let mut received = Vec::new();
        service.read_to_end(&mut received).await.unwrap();
        service.write_all(&answer).await.unwrap();
        service.shutdown().await.unwrap();
        received
    };
    let (at_client, at_server) = tokio::join!(client, server);
    assert!(at_client == answer && at_server == question);
    let (end, inward, outward) = timeout(SOON, pump).await.unwrap().unwrap();
    assert!(matches!(end, End::Closed), "{end:?}");
    assert_eq!((inward, outward), (5_000_000, 7_000_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_is_lost_through_the_smallest_buffers(
        pieces in prop::collection::vec(1_usize..200_000, 1..6),
        seed: u64,
        step in 1_usize..20_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // The kernel raises it to its minimum, a few KiB.
            let (mut origin, near) = unix_pair(Some(1));
            let (mut service, far) = unix_pair(Some(1));
            let pump = start(near, far, LINGER);
            let sent = numbers(pieces.iter().sum(), seed);
            let copy = sent.clone();
            tokio::spawn(async move {
                let mut rest = &copy[..];
                for piece in pieces {
                    origin.write_all(&rest[..piece]).await.unwrap();
                    rest = &rest[piece..];
                }
            });
            let mut received = Vec::new();
            let mut buffer = vec![0; step];
            loop {
                match service.read(&mut buffer).await.unwrap() {
                    0 => break,
                    length => received.extend_from_slice(&buffer[..length]),
                }
            }
            assert!(received == sent);
            drop(service);
            timeout(SOON, pump).await.unwrap().unwrap();
        });
    }
}

#[tokio::test]
async fn the_service_may_end_first_and_still_listen() {
    let (mut origin, near) = unix_pair(None);
    let (mut service, far) = tcp_pair().await;
    let pump = start(near, far, LINGER);
    service.write_all(b"last words").await.unwrap();
    service.shutdown().await.unwrap();
    let mut received = String::new();
    origin.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "last words");
    origin.write_all(b"thanks").await.unwrap();
    drop(origin);
    let mut received = String::new();
    service.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "thanks");
    let (end, inward, outward) = timeout(SOON, pump).await.unwrap().unwrap();
    assert!(matches!(end, End::Closed), "{end:?}");
    assert_eq!((inward, outward), (6, 10));
}

#[tokio::test]
async fn a_reset_on_either_side_ends_both() {
    for reset_the_service in [false, true] {
        let (mut origin, near) = tcp_pair().await;
        let (mut service, far) = tcp_pair().await;
        let pump = start(near, far, LINGER);
        origin.write_all(b"?").await.unwrap();
        service.read_u8().await.unwrap();
        let (reset, mut other) = if reset_the_service {
            (service, origin)
        } else {
            (origin, service)
        };
        reset.set_zero_linger().unwrap();
        drop(reset);
        let (end, ..) = timeout(SOON, pump).await.unwrap().unwrap();
        assert!(matches!(end, End::Broken(_)), "{end:?}");
        assert_eq!(other.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn last_words_arrive_though_their_speaker_listens_no_more() {
    let (mut origin, near) = unix_pair(None);
    let (mut service, far) = unix_pair(None);
    // It says why, stops reading, and only then the client speaks on.
    service.write_all(b"too many failures").await.unwrap();
    socket2::SockRef::from(&service)
        .shutdown(std::net::Shutdown::Read)
        .unwrap();
    origin.write_all(&numbers(100_000, 3)).await.unwrap();
    let pump = start(near, far, LINGER);
    let mut received = [0; 17];
    origin.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"too many failures");
    drop((origin, service));
    let (_, inward, outward) = timeout(SOON, pump).await.unwrap().unwrap();
    assert_eq!((inward, outward), (0, 17));
}

#[tokio::test]
async fn a_peer_that_never_reads_holds_back_its_sender() {
    let (mut origin, near) = unix_pair(Some(1));
    let (service, far) = unix_pair(Some(1));
    let pump = start(near, far, LINGER);
    let flood = vec![0; 64 * 1024];
    let mut sent = 0;
    // Once nobody takes anything any more for a while, everything is full.
    while let Ok(result) = timeout(Duration::from_millis(200), origin.write(&flood)).await {
        sent += result.unwrap();
        assert!(sent <= BUFFER + 256 * 1024, "{sent} bytes are somewhere");
    }
    drop(service);
    drop(origin);
    timeout(SOON, pump).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_sender_that_is_reset_while_nobody_reads_is_noticed() {
    let (mut origin, near) = tcp_pair().await;
    let (_service, far) = unix_pair(Some(1));
    let pump = start(near, far, LINGER);
    origin.write_all(&numbers(64 * 1024, 4)).await.unwrap();
    // The pump has read it all, and is stuck with what the service does not take.
    while socket2::SockRef::from(&origin)
        .send(&[0; 64 * 1024])
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    origin.set_zero_linger().unwrap();
    drop(origin);
    let (end, ..) = timeout(SOON, pump).await.unwrap().unwrap();
    assert!(matches!(end, End::Broken(_)), "{end:?}");
}

#[tokio::test]
async fn a_reset_that_the_other_direction_learns_of_is_noticed_by_a_stuck_one() {
    let (origin, near) = unix_pair(Some(1));
    let (service, far) = tcp_pair().await;
    let pump = start(near, far, LINGER);
    while socket2::SockRef::from(&service)
        .send(&[0; 64 * 1024])
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    // Between the news that the origin has spoken and the pump's turn: so the write to the service
    // takes the one error, before anybody was told of it.
    let (bell, heard) = UnixStream::pair().unwrap();
    let reset = tokio::spawn(async move {
        heard.readable().await.unwrap();
        service.set_zero_linger().unwrap();
        drop(service);
    });
    tokio::task::yield_now().await;
    bell.try_write(b"!").unwrap();
    origin.try_write(b"x").unwrap();
    let (end, ..) = timeout(SOON, pump).await.unwrap().unwrap();
    assert!(matches!(end, End::Broken(_)), "{end:?}");
    reset.await.unwrap();
}

#[tokio::test]
async fn a_half_closed_connection_that_stands_still_ends() {
    let linger = Duration::from_millis(50);
    let (mut origin, near) = unix_pair(None);
    let (mut service, far) = unix_pair(None);
    let pump = start(near, far, linger);
    origin.shutdown().await.unwrap();
    let mut received = Vec::new();
    service.read_to_end(&mut received).await.unwrap();
    let (end, ..) = timeout(SOON, pump).await.unwrap().unwrap();
    assert!(matches!(end, End::Stalled), "{end:?}");
    // Both are told.
    assert_eq!(origin.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_open_connection_may_stand_still() {
    let (mut origin, near) = unix_pair(None);
    let (mut service, far) = unix_pair(None);
    let pump = start(near, far, Duration::from_millis(1));
    for _ in 0..20 {
        origin.write_all(b"x").await.unwrap();
        service.read_u8().await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!pump.is_finished());
    pump.abort();
}

#[tokio::test]
async fn one_busy_connection_leaves_the_others_their_turn() {
    let (mut loud, near) = unix_pair(None);
    let (mut sink, far) = unix_pair(None);
    let busy = start(near, far, LINGER);
    let flood = tokio::spawn(async move {
        let flood = vec![0; 1 << 20];
        while loud.write_all(&flood).await.is_ok() {}
    });
    let drain = tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 20];
        while matches!(sink.read(&mut buffer).await, Ok(1..)) {}
    });
    let (mut origin, near) = unix_pair(None);
    let (mut service, far) = unix_pair(None);
    let quiet = start(near, far, LINGER);
    let rounds = async {
        for _ in 0..100 {
            origin.write_all(b"x").await.unwrap();
            service.read_u8().await.unwrap();
        }
    };
    timeout(SOON, rounds).await.unwrap();
    for task in [flood, drain] {
        task.abort();
    }
    busy.abort();
    quiet.abort();
}

/// Runs a relay, but never for long: after a few polls it is stopped, and taken up by another
/// that knows what a next process would know.
async fn in_pieces(origin: Socket, service: Socket, mut random: fastrand::Rng) -> u32 {
    let mark = AtomicU8::new(0);
    let mut progress = Progress::default();
    for stops in 0.. {
        let polls = random.u32(1..20);
        let pause = async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            end = pump(&origin, &service, &mut progress, &mark, LINGER) => {
                assert!(matches!(end, End::Closed), "{end:?}");
                return stops;
            }
            () = pause => {}
        }
        let expected = AtomicU8::new(0);
        progress.undelivered.mark(&expected);
        assert_eq!(mark.load(Relaxed), expected.load(Relaxed));
        let file = progress.undelivered.write().unwrap();
        progress.undelivered = Undelivered::read(file).unwrap();
    }
    unreachable!("the relay ends")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_relay_that_is_taken_up_again_and_again_loses_nothing(seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut origin, near) = unix_pair(Some(4096));
            let (mut service, far) = unix_pair(Some(8192));
            let relay = tokio::spawn(in_pieces(near, far, fastrand::Rng::with_seed(seed)));
            let (question, answer) = (numbers(400_000, seed), numbers(300_000, !seed));
            let (mut asked, mut answered) = (Vec::new(), Vec::new());
            let ((mut origin_read, mut origin_write), (mut read, mut write)) =
                (origin.split(), service.split());
            timeout(SOON, async {
                tokio::join!(
                    async {
                        origin_write.write_all(&question).await.unwrap();
                        origin_write.shutdown().await.unwrap();
                    },
                    async {
                        write.write_all(&answer).await.unwrap();
                        write.shutdown().await.unwrap();
                    },
                    async { read.read_to_end(&mut asked).await.unwrap() },
                    async { origin_read.read_to_end(&mut answered).await.unwrap() },
                )
            })
            .await
            .unwrap();
            assert!(asked == question && answered == answer);
            assert!(relay.await.unwrap() > 0);
        });
    }
}
