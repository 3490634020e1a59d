//! A metadata service at 169.254.169.254, as a cloud runs it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::failure::Result;
use crate::netns::Namespace;

/// What a service has to say, by path.
#[derive(Default)]
struct Content {
    pages: BTreeMap<String, Vec<u8>>,
    token: Option<String>,
    requests: Vec<String>,
}

/// A running service. It ends on drop.
pub struct Metadata {
    content: Arc<Mutex<Content>>,
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
        let listener = namespace.listen(([169, 254, 169, 254], 80).into())?;
        let content = Arc::new(Mutex::new(Content::default()));
        let (accepting, shared) = (listener.try_clone()?, Arc::clone(&content));
        let thread = thread::spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    // A client may leave in the middle.
                    let _ = answer(&stream, &shared);
                });
            }
        });
        Ok(Self {
            content,
            listener,
            thread: Some(thread),
        })
    }

    /// Answers EC2's questions by IMDSv2, with a token, and with this user-data.
    pub fn ec2(&self, instance_id: &str, user_data: &str) {
        lock(&self.content).token = Some(format!("token-of-{instance_id}"));
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
        for version in ["2018-08-27", "latest"] {
            let page =
                |name: &str, text: &str| self.page(&format!("/openstack/{version}/{name}"), text);
            page(
                "meta_data.json",
                &format!(r#"{{"uuid": "{instance_id}", "hostname": "guest"}}"#),
            );
            page("vendor_data.json", "{}");
            page("vendor_data2.json", vendor_data2);
        }
        // OpenStack's own service answers in EC2's place too, without tokens.
        self.page("/latest/meta-data/instance-id", instance_id);
    }

    /// Puts a text at a path.
    pub fn page(&self, path: &str, text: &str) {
        lock(&self.content)
            .pages
            .insert(path.to_owned(), text.as_bytes().to_vec());
    }

    /// Removes everything: from now on the answer is 404.
    pub fn clear(&self) {
        let mut content = lock(&self.content);
        content.pages.clear();
        content.token = None;
    }

    /// The requests so far, as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.content).requests.clone()
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
fn answer(mut stream: &TcpStream, content: &Mutex<Content>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.take(64 << 10));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut token = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("x-aws-ec2-metadata-token")
        {
            token = Some(value.trim().to_owned());
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (status, body) = lock(content).respond(method, path, token.as_deref());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    stream.shutdown(Shutdown::Write)
}

impl Content {
    fn respond(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
    ) -> (&'static str, Vec<u8>) {
        self.requests.push(format!("{method} {path}"));
        if method == "PUT" {
            return match &self.token {
                Some(token) if path == "/latest/api/token" => ("200 OK", token.clone().into()),
                _ => ("405 Method Not Allowed", Vec::new()),
            };
        }
        if self.token.is_some() && token != self.token.as_deref() {
            return ("401 Unauthorized", Vec::new());
        }
        if let Some(body) = self.pages.get(&unversioned(path)) {
            return ("200 OK", body.clone());
        }
        let names = self.names(&unversioned(path));
        if names.is_empty() {
            ("404 Not Found", Vec::new())
        } else {
            ("200 OK", names.join("\n").into())
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
