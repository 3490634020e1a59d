//! Users who dial the forwarded port again and again, whether anybody answers or not.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Site;
use crate::scene::PORT;

/// Between two of them, and how long each waits for the banner.
const PACE: Duration = Duration::from_secs(1);

/// The users of one site. They stop on drop.
pub struct Users {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Users {
    /// One a second from now on.
    pub fn dial(site: &Site) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (stopped, outside) = (Arc::clone(&over), Arc::clone(&site.outside));
        let port = SocketAddr::from(([127, 0, 0, 1], PORT));
        let thread = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let start = Instant::now();
                if let Ok(mut user) = outside.connect(port) {
                    let _ = user.set_read_timeout(Some(PACE));
                    let _ = user.read(&mut [0; 64]);
                }
                thread::sleep(PACE.saturating_sub(start.elapsed()));
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
