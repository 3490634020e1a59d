//! Load: many short connections, or a few that move bytes as fast as they can.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::netns::Namespace;
use crate::service::wake;

/// A service that sends back what it is sent, on any number of connections. Ends on drop.
pub struct Echo {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Serves on a listener.
    ///
    /// # Errors
    ///
    /// If the descriptor can't be duplicated.
    pub fn serve(listener: &TcpListener) -> Result<Self> {
        let theirs = listener.try_clone()?;
        let thread = thread::spawn(move || {
            for stream in theirs.incoming() {
                let stream = match stream {
                    Ok(stream) => stream,
                    // Nobody came for a while.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(_) => return,
                };
                // Not joined: it ends with its connection.
                let _ = thread::Builder::new()
                    .stack_size(64 * 1024)
                    .spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        Ok(Self {
            listener: listener.try_clone()?,
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        wake(&self.listener);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends one byte and waits until it comes back and, if the byte is all, for the end.
///
/// # Errors
///
/// If the connection breaks, or nothing comes back.
pub fn call(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"x")?;
    Ok(stream.read_exact(&mut [0])?)
}

/// Makes `each` connections one after the other, in each of `callers` threads, and sends a byte
/// there and back on each. Returns how long it took.
///
/// # Errors
///
/// If one of them fails.
pub fn calls(
    namespace: &Namespace,
    to: SocketAddr,
    callers: usize,
    each: usize,
) -> Result<Duration> {
    let start = Instant::now();
    let caller = move || -> Result<()> {
        for _ in 0..each {
            let mut stream = TcpStream::connect(to)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            call(&mut stream)?;
        }
        Ok(())
    };
    // A thread lives in the namespace of the one that starts it.
    let threads: Vec<_> =
        namespace.enter(move || (0..callers).map(|_| thread::spawn(caller)).collect());
    for thread in threads {
        thread
            .join()
            .map_err(|_| Failure::new("a caller panicked"))??;
    }
    Ok(start.elapsed())
}

/// Bytes that are pushed into one end of a connection and read at the other, without pause.
/// Ends on drop.
pub struct Stream {
    ends: [TcpStream; 2],
    arrived: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Stream {
    /// Begins to push into `from` and to read from `to`.
    ///
    /// # Errors
    ///
    /// If a descriptor can't be duplicated.
    pub fn start(from: TcpStream, to: TcpStream) -> Result<Self> {
        let arrived = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (mut writer, mut reader) = (from.try_clone()?, to.try_clone()?);
        let stopped = Arc::clone(&stop);
        let pusher = thread::spawn(move || {
            let chunk = vec![0; 64 * 1024];
            while !stopped.load(Relaxed) && writer.write_all(&chunk).is_ok() {}
        });
        let counter = Arc::clone(&arrived);
        let puller = thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                counter.fetch_add(length as u64, Relaxed);
            }
        });
        Ok(Self {
            ends: [from, to],
            arrived,
            threads: vec![pusher, puller],
            stop,
        })
    }

    /// How many bytes have arrived.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Fills a connection that nobody reads until it takes no more for as long as the stream's write
/// timeout; returns how many bytes it took.
///
/// # Errors
///
/// If it breaks.
pub fn fill(stream: &mut TcpStream) -> Result<u64> {
    let chunk: Vec<u8> = (0..=250).cycle().take(251 * 261).collect();
    let mut taken = 0;
    let mut rest: &[u8] = &chunk;
    loop {
        if rest.is_empty() {
            rest = &chunk;
        }
        match stream.write(rest) {
            Ok(length) => {
                taken += length as u64;
                rest = &rest[length..];
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(taken);
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Reads to the end of what [`fill`] wrote, and returns how many bytes that was.
///
/// # Errors
///
/// If the connection breaks, or a byte is not the one that was written.
pub fn drain(stream: &mut TcpStream) -> Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut read: u64 = 0;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(read);
        }
        for byte in &buffer[..length] {
            if u64::from(*byte) != read % 251 {
                return Err(Failure::new(format!("byte {read} is wrong: {byte}")));
            }
            read += 1;
        }
    }
}
