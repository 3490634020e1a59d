//! A metadata service at 169.254.169.254, as a cloud runs it.

mod clouds;
mod request;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use request::Request;

use crate::failure::Result;
use crate::netns::Namespace;

/// What a service has to say, by path.
#[derive(Default)]
struct Content {
    pages: BTreeMap<String, Page>,
    /// Counts the changes of pages: each has a version of its own.
    changes: u64,
    token: Option<String>,
    /// A header that every request must have, in lower case.
    header: Option<&'static str>,
    requests: Vec<String>,
    /// How often the answer was 304.
    unchanged: usize,
}

struct Page {
    body: Vec<u8>,
    version: String,
}

/// What the threads of a service share.
#[derive(Default)]
struct Shared {
    content: Mutex<Content>,
    /// Told of each change.
    changed: Condvar,
}

/// A running service. It ends on drop.
pub struct Metadata {
    shared: Arc<Shared>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Metadata {
    /// Starts an empty service: it answers 404 to everything.
    ///
    /// # Errors
    ///
    /// If the namespace has one already.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_at(namespace, ([169, 254, 169, 254], 80).into())
    }

    /// As [`Metadata::start`], at another address.
    ///
    /// # Errors
    ///
    /// If the namespace has something there already.
    pub fn start_at(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = namespace.listen(address)?;
        let shared = Arc::<Shared>::default();
        let (accepting, served) = (listener.try_clone()?, Arc::clone(&shared));
        let thread = thread::spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                let shared = Arc::clone(&served);
                thread::spawn(move || {
                    // A client may leave in the middle.
                    let _ = answer(&stream, &shared);
                });
            }
        });
        Ok(Self {
            shared,
            listener,
            thread: Some(thread),
        })
    }

    /// Answers EC2's questions by IMDSv2, with a token, and with this user-data.
    pub fn ec2(&self, instance_id: &str, user_data: &str) {
        lock(&self.shared.content).token = Some(format!("token-of-{instance_id}"));
        self.page("/latest/meta-data/instance-id", instance_id);
        self.page("/latest/meta-data/local-hostname", "guest");
        self.page(
            "/latest/dynamic/instance-identity/document",
            &format!(r#"{{"instanceId": "{instance_id}", "region": "nowhere-1"}}"#),
        );
        self.page("/latest/user-data", user_data);
    }

    /// Answers OpenStack's questions, with this `vendor_data2.json`.
    pub fn openstack(&self, instance_id: &str, vendor_data2: &str) {
        self.openstack_with(instance_id, "{}", vendor_data2);
    }

    /// The same, with a `vendor_data.json` too, which is the operator's for all guests.
    pub fn openstack_with(&self, instance_id: &str, vendor_data: &str, vendor_data2: &str) {
        for version in ["2018-08-27", "latest"] {
            let page =
                |name: &str, text: &str| self.page(&format!("/openstack/{version}/{name}"), text);
            page(
                "meta_data.json",
                &format!(r#"{{"uuid": "{instance_id}", "hostname": "guest"}}"#),
            );
            page("vendor_data.json", vendor_data);
            page("vendor_data2.json", vendor_data2);
        }
        // OpenStack's own service answers in EC2's place too, without tokens.
        self.page("/latest/meta-data/instance-id", instance_id);
    }

    /// Puts a text at a path. Even if it is the same as before, it has another version now.
    pub fn page(&self, path: &str, text: &str) {
        let mut content = lock(&self.shared.content);
        content.changes += 1;
        let page = Page {
            body: text.as_bytes().to_vec(),
            version: format!("{:016x}", content.changes),
        };
        content.pages.insert(path.to_owned(), page);
        self.shared.changed.notify_all();
    }

    /// Removes everything: from now on the answer is 404.
    pub fn clear(&self) {
        let mut content = lock(&self.shared.content);
        content.pages.clear();
        content.token = None;
        self.shared.changed.notify_all();
    }

    /// How often it has answered that a page is the same as before.
    pub fn unchanged(&self) -> usize {
        lock(&self.shared.content).unchanged
    }

    /// The requests so far, as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.content).requests.clone()
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        // Wakes the thread out of its accept(2).
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.listener),
            nix::sys::socket::Shutdown::Both,
        );
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads one request, answers it, and closes.
fn answer(mut stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = Request::read(stream)?;
    let mut content = lock(&shared.content);
    content.requests.push(request.shown());
    // As GCE does it: an answer once there is another version, or after a while.
    if let Some((known, seconds)) = request.waits() {
        let path = request.path();
        let same = |content: &mut Content| {
            let page = content.pages.get(&path);
            page.is_some_and(|page| page.version == known)
        };
        let limit = Duration::from_secs(seconds);
        let waited = shared.changed.wait_timeout_while(content, limit, same);
        content = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    let (status, etag, body) = content.respond(&request);
    drop(content);
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{etag}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    stream.shutdown(Shutdown::Write)
}

impl Content {
    /// The status, an `ETag` line, and the body.
    fn respond(&mut self, request: &Request) -> (&'static str, String, Vec<u8>) {
        let (method, path) = (request.method(), unversioned(&request.path()));
        let plain = |status, body| (status, String::new(), body);
        if method == "PUT" {
            return match &self.token {
                Some(token) if path == "/latest/api/token" => plain("200 OK", token.clone().into()),
                _ => plain("405 Method Not Allowed", Vec::new()),
            };
        }
        let tokens = ["x-aws-ec2-metadata-token", "x-metadata-token"];
        let given = tokens.into_iter().find_map(|name| request.header(name));
        let token = self.token.as_deref().map(str::to_lowercase);
        if token.is_some() && token.as_deref() != given {
            return plain("401 Unauthorized", Vec::new());
        }
        if !self.header.is_none_or(|header| request.has(header)) {
            return plain("403 Forbidden", Vec::new());
        }
        if let Some(page) = self.pages.get(&path) {
            let etag = format!("ETag: {}\r\n", page.version);
            if request.header("if-none-match") == Some(&page.version) {
                self.unchanged += 1;
                return ("304 Not Modified", etag, Vec::new());
            }
            return ("200 OK", etag, page.body.clone());
        }
        let names = self.names(&path);
        if names.is_empty() {
            plain("404 Not Found", Vec::new())
        } else {
            plain("200 OK", names.join("\n").into())
        }
    }

    /// What is in a directory; directories of their own end in a slash.
    fn names(&self, directory: &str) -> Vec<String> {
        let prefix = format!("{}/", directory.trim_end_matches('/'));
        let mut names: Vec<_> = self
            .pages
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(|rest| match rest.split_once('/') {
                // OpenStack lists its versions plainly.
                Some((name, _)) if prefix == "/openstack/" => name.to_owned(),
                Some((name, _)) => format!("{name}/"),
                None => rest.to_owned(),
            })
            .collect();
        names.dedup();
        names
    }
}

/// EC2 answers under dates as well as under `latest`.
fn unversioned(path: &str) -> String {
    let mut parts = path.splitn(3, '/');
    let (_, version, rest) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
    let date = version.len() == 10 && version.starts_with("20");
    match rest {
        Some(rest) if date => format!("/latest/{rest}"),
        _ => path.to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
