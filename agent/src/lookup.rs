//! Lookups of names, which outlive the attempts that ask for them.
//!
//! getaddrinfo(3) can't be cancelled: with dead nameservers it keeps its thread for up to a minute.
//! So an attempt joins the lookup of its name that is under way, and a new one is begun only if
//! the network or resolv.conf(5) has changed since. An answer that came after its attempt had
//! given up is left for the next attempt.
//!
//! The threads are no part of the runtime: the process ends without waiting for them.

use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::watch;

/// The most lookups of one name at a time. More than one only after the network has changed, since
/// getaddrinfo(3) goes on asking the nameservers that it began with, or beside a stuck lookup.
const MOST: usize = 3;

/// The age at which a lookup counts as stuck: attempts no longer join it. Dead nameservers keep
/// getaddrinfo(3) for up to a minute.
const STUCK: Duration = Duration::from_secs(90);

/// The age at which a lookup no longer counts towards [`MOST`]: it probably never returns.
const LOST: Duration = Duration::from_secs(5 * 60);

/// The most threads for all names together, lost ones included.
const THREADS: usize = 16;

/// For how long an answer that came too late is left for the next attempt.
const LEFT: Duration = Duration::from_secs(30);

/// All lookups of this process.
static LOOKUPS: Mutex<Lookups> = Mutex::new(Lookups(Vec::new()));

/// The addresses, each with port 0; or what the resolver said.
type Answer = Result<Vec<SocketAddr>, String>;

/// Where an answer is awaited, with the time at which it came.
type Awaited = watch::Receiver<Option<(Instant, Answer)>>;

/// The addresses of a host, each with port 0. A lookup goes on when this is dropped.
///
/// # Errors
/// The resolver's answer.
pub(crate) async fn lookup(host: &str) -> Answer {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, 0)]);
    }
    let mut awaited = lookups().join(host, Instant::now(), resolv_conf(), ask);
    let answer = match awaited.wait_for(Option::is_some).await.as_deref() {
        Ok(Some((_, answer))) => answer.clone(),
        Ok(None) | Err(_) => Err("the resolver gave no answer".to_owned()),
    };
    lookups().answered(host);
    answer
}

/// The network has changed, or may have: attempts from now on begin lookups of their own.
pub(crate) fn network_changed() {
    lookups().outdate();
}

/// Resolves the names in URLs.
pub(crate) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = lookup(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn lookups() -> MutexGuard<'static, Lookups> {
    LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which file /etc/resolv.conf is, and when it was changed; both differ after a change.
type ResolvConf = Option<(u64, i64, i64)>;

fn resolv_conf() -> ResolvConf {
    let file = fs::metadata("/etc/resolv.conf").ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec()))
}

/// Asks the resolver, on a thread that ends with the lookup.
fn ask(host: String, answer: watch::Sender<Option<(Instant, Answer)>>) {
    let name = host.clone();
    let asking = move || {
        let addresses = (host.as_str(), 0).to_socket_addrs();
        let found = addresses.map(Iterator::collect);
        answer.send_replace(Some((
            Instant::now(),
            found.map_err(|error| error.to_string()),
        )));
    };
    // Without a thread the sender is dropped, which is an answer as well.
    if let Err(error) = thread::Builder::new().name("lookup".into()).spawn(asking) {
        tracing::warn!(%error, name, "can't look a name up");
    }
}

#[derive(Debug)]
struct Lookups(Vec<Lookup>);

#[derive(Debug)]
struct Lookup {
    host: String,
    /// The resolv.conf that it began with.
    resolv_conf: ResolvConf,
    began: Instant,
    /// The network has changed since it began.
    outdated: bool,
    answer: Awaited,
}

impl Lookup {
    /// Whether its thread is still there.
    fn runs(&self) -> bool {
        self.answer.borrow().is_none() && self.answer.has_changed().is_ok()
    }

    /// Whether its thread is still there, and the lookup began less than `age` ago.
    fn runs_for_less_than(&self, age: Duration, now: Instant) -> bool {
        self.runs() && now.saturating_duration_since(self.began) < age
    }

    /// Whether an attempt with this resolv.conf can expect a valid answer.
    fn is_current(&self, resolv_conf: ResolvConf, now: Instant) -> bool {
        let answers = self.has_left(now) || self.runs_for_less_than(STUCK, now);
        answers && !self.outdated && self.resolv_conf == resolv_conf
    }

    /// Whether it has addresses for the next attempt.
    fn has_left(&self, now: Instant) -> bool {
        let answer = self.answer.borrow();
        matches!(&*answer, Some((at, Ok(_))) if now.saturating_duration_since(*at) < LEFT)
    }
}

impl Lookups {
    /// The lookup of `host` that is of use now; `ask` begins another where there is none. At
    /// [`THREADS`] none is begun: a name without any lookup then has no answer.
    fn join(
        &mut self,
        host: &str,
        now: Instant,
        resolv_conf: ResolvConf,
        ask: impl FnOnce(String, watch::Sender<Option<(Instant, Answer)>>),
    ) -> Awaited {
        self.0
            .retain(|lookup| lookup.runs() || (!lookup.outdated && lookup.has_left(now)));
        let of_host = || self.0.iter().filter(|lookup| lookup.host == host);
        let current = of_host().rfind(|lookup| lookup.is_current(resolv_conf, now));
        let threads = self.0.iter().filter(|lookup| lookup.runs()).count();
        let of_use = of_host().filter(|lookup| lookup.runs_for_less_than(LOST, now));
        let full = threads >= THREADS || of_use.count() >= MOST;
        // The latest is the best of those that are there.
        if let Some(joined) = current.or_else(|| of_host().next_back().filter(|_| full)) {
            return joined.answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        if threads >= THREADS {
            tracing::warn!(threads, name = host, "too many lookups never returned");
            return answer;
        }
        self.0.push(Lookup {
            host: host.to_owned(),
            resolv_conf,
            began: now,
            outdated: false,
            answer: answer.clone(),
        });
        ask(host.to_owned(), sender);
        answer
    }

    /// An attempt has the answer for `host`: the next one asks again.
    fn answered(&mut self, host: &str) {
        self.0.retain(|lookup| lookup.host != host || lookup.runs());
    }

    fn outdate(&mut self) {
        for lookup in &mut self.0 {
            lookup.outdated = true;
        }
    }
}

#[cfg(test)]
mod tests;
