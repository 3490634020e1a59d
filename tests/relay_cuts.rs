//! Connections over the bridge that are cut wherever it happens leave nothing behind.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::bridged::{BANNER, Bridged};
use harness::ends::{End, Random};
use harness::failure::Result;
use harness::limits::SOON;

/// A call that moves no bytes for so long ends as well: it is one more that is cut.
const STUCK: Duration = Duration::from_secs(10);

/// Callers at the same time.
const CALLERS: u64 = 8;
/// What each of them does in sum.
const EACH: u64 = 125;

/// No more than this is said in one go: more than a buffer, and still quick.
const MOST: u64 = 512 << 10;

fn some(random: &mut Random) -> Vec<u8> {
    vec![b'x'; usize::try_from(1 + random.below(MOST)).unwrap()]
}

/// A user's connection, and how it ends.
fn call(mut user: UnixStream, random: &mut Random) -> Result<()> {
    let fate = random.below(8);
    if fate > 2 {
        let whole = fate > 3;
        user.read_exact(&mut vec![0; if whole { BANNER.len() } else { 5 }])?;
    }
    match fate {
        // Before sshd is dialled, as a rule.
        0 => {}
        1 => user.shutdown(Shutdown::Both)?,
        2 => user.write_all(&some(random))?,
        // In the banner.
        3 => user.reset()?,
        // With bytes on their way in either direction.
        4 => {
            let said = some(random);
            user.write_all(&said)?;
            user.read_exact(&mut vec![0; said.len() / 2])?;
        }
        5 => {
            user.write_all(&some(random))?;
            user.reset()?;
        }
        // Half-closed.
        6 => {
            user.write_all(&some(random))?;
            user.finish()?;
        }
        _ => {
            user.finish()?;
            user.read_to_end(&mut Vec::new())?;
        }
    }
    Ok(())
}

/// The service's side of such a connection, which ends in its own way.
fn answer(mut stream: TcpStream, random: &mut Random) -> Result<()> {
    let fate = random.below(8);
    match fate {
        0 => return Ok(()),
        1 => return stream.reset(),
        2 => {
            stream.write_all(&BANNER[..5])?;
            return stream.reset();
        }
        _ => stream.write_all(BANNER)?,
    }
    match fate {
        3 => {
            stream.write_all(&some(random))?;
            stream.reset()?;
        }
        4 => {
            stream.finish()?;
            std::io::copy(&mut stream, &mut std::io::sink())?;
        }
        5 => {
            let _ = stream.read(&mut some(random))?;
            stream.reset()?;
        }
        _ => drop(std::io::copy(&mut stream.again()?, &mut stream)?),
    }
    Ok(())
}

/// Callers make their calls, and the service answers until all of them have been made.
fn storm(bridged: &Bridged, seed: u64) {
    let bridge = &bridged.agent.bridge();
    let caller = move |caller: u64| {
        let mut random = Random::new(seed + caller);
        for _ in 0..EACH {
            let user = UnixStream::connect(bridge).unwrap();
            user.limit(STUCK).unwrap();
            // Most of them break, and which of the two comes first is chance.
            let _ = call(user, &mut random);
        }
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| scope.spawn(move || caller(number)))
            .collect();
        let mut seed = seed + CALLERS;
        // The last ones may get here after their callers have left.
        let idle = || bridged.agent.status().unwrap()["bridge"]["open"] == 0;
        while !callers.iter().all(|caller| caller.is_finished()) || !idle() {
            if let Ok(stream) = bridged.arrival(Duration::from_millis(50)) {
                seed += 1;
                scope.spawn(move || drop(answer(stream, &mut Random::new(seed))));
            }
        }
    });
}

#[test]
fn a_thousand_connections_cut_at_any_point_leave_nothing_behind() {
    let mut bridged = Bridged::without_service().unwrap();
    // The ones that are held because nothing listens are cut as well.
    let held: Vec<_> = (0..100).map(|_| bridged.dial().unwrap()).collect();
    bridged.wait_open(100, SOON).unwrap();
    for mut user in held.into_iter().step_by(2) {
        let _ = user.write_all(b"SSH-2.0-cut\r\n");
    }
    bridged.wait_open(0, SOON).unwrap();
    bridged.serve().unwrap();
    // Once before the count: buffers and tables that have grown stay.
    storm(&bridged, 1_000_000);
    bridged.wait_open(0, SOON).unwrap();
    let before = bridged.usage().unwrap();
    let start = Instant::now();
    storm(&bridged, 2_000_000);
    let took = start.elapsed();
    let start = Instant::now();
    bridged.wait_closed(&before, SOON).unwrap();
    let closed = start.elapsed();
    let after = bridged.usage().unwrap();
    let status = bridged.agent.status().unwrap();
    let (relayed, refused) = (&status["bridge"]["accepted"], &status["bridge"]["refused"]);
    println!(
        "{} calls in {took:?}, closed {closed:?} later; {relayed} relayed, {refused} refused in \
         both storms; before {before:?}, after {after:?}",
        CALLERS * EACH
    );
    // Those that hang up before they are accepted are not relayed.
    assert!(relayed.as_u64() > Some(CALLERS * EACH), "{status:#}");
    let grown = after.resident.saturating_sub(before.resident);
    assert!(grown < 2048, "{grown} KiB more");
    bridged.give_back().unwrap();
    assert_eq!(bridged.scene.login("bridge", "echo in").unwrap(), "in\n");
}
