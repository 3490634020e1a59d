//! Proxies that no stock sshd can be: they hang, babble, lie, and ask for what is not theirs.

pub mod raw;
pub mod relay;
pub mod ssh;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use nix::libc::linger;
use nix::sys::socket::{self, setsockopt, sockopt};

use crate::failure::Result;
use crate::netns::Namespace;

/// Takes connections, each on a thread of its own, and counts them. All of them end on drop.
struct Door {
    listener: TcpListener,
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<Weak<TcpStream>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Listens on a free port of the namespace's loopback.
    fn new(
        namespace: &Namespace,
        serve: impl Fn(&TcpStream) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = namespace.listen(([127, 0, 0, 1], 0).into())?;
        let address = listener.local_addr()?;
        let taken = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (accepting, counter, streams) =
            (listener.try_clone()?, Arc::clone(&taken), Arc::clone(&open));
        let serve = Arc::new(serve);
        let thread = thread::spawn(move || {
            let mut threads = Vec::new();
            // Ends when the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                counter.fetch_add(1, Relaxed);
                let stream = Arc::new(stream);
                lock(&streams).push(Arc::downgrade(&stream));
                let serve = Arc::clone(&serve);
                // The agent may leave in the middle.
                threads.push(thread::spawn(move || drop(serve(&stream))));
            }
            cut(&streams);
            for thread in threads {
                let _ = thread.join();
            }
        });
        Ok(Self {
            listener,
            address,
            taken,
            open,
            thread: Some(thread),
        })
    }

    fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Wakes the thread out of its accept(2).
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        cut(&self.open);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn cut(open: &Mutex<Vec<Weak<TcpStream>>>) {
    for stream in lock(open).drain(..).filter_map(|stream| stream.upgrade()) {
        // It may have ended by itself.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the kernel answer with a reset once the connection is closed.
pub(crate) fn reset(stream: &TcpStream) -> Result<()> {
    let at_once = linger {
        l_onoff: 1,
        l_linger: 0,
    };
    Ok(setsockopt(stream, sockopt::Linger, &at_once)?)
}
