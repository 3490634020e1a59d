//! One login through the tunnel in which somebody types, and sees each letter after a round trip.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{LOGIN, Site};
use crate::failure::{Failure, Result};
use crate::process::Process;

/// Between two keys.
const PACE: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Keys {
    /// When each key was struck that was not answered yet.
    open: VecDeque<Instant>,
    /// How long the answers to the others took.
    took: Vec<Duration>,
}

/// A person who types. Ends on drop.
pub struct Typist {
    // Dropped first: its end ends the threads.
    process: Process,
    keys: Arc<Mutex<Keys>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Typist {
    /// Logs in, and then strikes a key every 200 ms.
    ///
    /// # Errors
    ///
    /// If the login fails: with what ssh said.
    pub fn start(site: &Site) -> Result<Self> {
        // One letter for one letter: without a terminal, and without the buffer of a program.
        let (process, mut stdin, mut stdout) = site.piped("typist", "echo; exec cat")?;
        let keys = Arc::new(Mutex::new(Keys::default()));
        let ended = Arc::new(AtomicBool::new(false));
        let (first, there) = mpsc::channel();
        let (seen, over) = (Arc::clone(&keys), Arc::clone(&ended));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 256];
            let greeted = stdout.read_exact(&mut buffer[..1]).is_ok();
            let _ = first.send(greeted);
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                let mut keys = lock(&seen);
                for _ in 0..length {
                    let since = keys.open.pop_front();
                    keys.took.extend(since.map(|since| since.elapsed()));
                }
            }
            over.store(true, Relaxed);
        });
        let mut typist = Self {
            process,
            keys,
            ended,
            threads: vec![reader],
        };
        if there.recv_timeout(LOGIN) != Ok(true) {
            return Err(Failure::new(typist.process.log()).during("no login"));
        }
        let (struck, over) = (Arc::clone(&typist.keys), Arc::clone(&typist.ended));
        typist.threads.push(thread::spawn(move || {
            while !over.load(Relaxed) {
                lock(&struck).open.push_back(Instant::now());
                if stdin.write_all(b"k").is_err() {
                    return;
                }
                thread::sleep(PACE);
            }
        }));
        Ok(typist)
    }

    /// Whether the login has ended.
    pub fn ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// How long each answer took. A key without one counts with the time that it has waited.
    pub fn latencies(&self) -> Vec<Duration> {
        let keys = lock(&self.keys);
        let open = keys.open.iter().map(Instant::elapsed);
        keys.took.iter().copied().chain(open).collect()
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        self.process.kill();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(keys: &Mutex<Keys>) -> std::sync::MutexGuard<'_, Keys> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
