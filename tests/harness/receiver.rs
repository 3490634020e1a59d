//! An HTTP server that is told things, remembers them, and answers as a test wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::failure::Result;
use crate::netns::Namespace;
use crate::service::wake;
use crate::wait;

/// What it was told once.
#[derive(Debug, Clone)]
pub struct Told {
    /// `POST`, `PUT`.
    pub method: String,
    /// Where to, with the query.
    pub path: String,
    /// The headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
    /// What it answered.
    pub status: u16,
    /// When that was.
    pub at: Instant,
}

struct State {
    status: u16,
    told: Vec<Told>,
}

/// A running server. It ends on drop.
pub struct Receiver {
    state: Arc<Mutex<State>>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts one that answers with this status.
    ///
    /// # Errors
    ///
    /// If the address is taken.
    pub fn start(namespace: &Namespace, address: SocketAddr, status: u16) -> Result<Self> {
        let listener = namespace.listen(address)?;
        let told = Vec::new();
        let state = Arc::new(Mutex::new(State { status, told }));
        let (accepting, shared) = (listener.try_clone()?, Arc::clone(&state));
        let thread = thread::spawn(move || {
            // Ends when the listener is shut down. One after the other: nobody else is told.
            while let Ok((stream, _)) = accepting.accept() {
                // A client may leave in the middle.
                let _ = serve(&stream, &shared);
            }
        });
        Ok(Self {
            state,
            listener,
            thread: Some(thread),
        })
    }

    /// Answers with another status from now on.
    pub fn answer(&self, status: u16) {
        self.lock().status = status;
    }

    /// What it was told so far.
    pub fn told(&self) -> Vec<Told> {
        self.lock().told.clone()
    }

    /// Waits until it was told something like that, and returns it.
    ///
    /// # Errors
    ///
    /// After `limit`: with all that it was told.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Told) -> bool,
    ) -> Result<Told> {
        let heard = || self.told().into_iter().find(|told| condition(told));
        wait::until(what, limit, heard)
            .map_err(|failure| failure.during(format!("{:#?}", self.told())))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        wake(&self.listener);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.take(64 << 10));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok());
    let mut body = String::new();
    reader.take(length.unwrap_or(0)).read_to_string(&mut body)?;
    let mut words = request.split(' ').map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let status = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let status = state.status;
        state.told.push(Told {
            method: method.unwrap_or_default(),
            path: path.unwrap_or_default(),
            headers,
            body,
            status,
            at: Instant::now(),
        });
        status
    };
    let head = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}
