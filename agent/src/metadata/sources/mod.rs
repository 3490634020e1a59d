//! The places that may hold a document, and how each is read.
//!
//! One file for each, and the closed set is [`SourceName`]. To add one:
//!
//! 1. its name to [`SourceName`], at its place in the order;
//! 2. a file here that implements [`Source`]: `hetzner.rs` is the shortest with all of it;
//! 3. a line in [`Blueprint::make`];
//! 4. if it is a cloud's, how that cloud is known: `../platform.rs`.
//!
//! Nothing else knows one source from another.

mod azure;
mod config_drive;
mod digitalocean;
mod ec2;
mod elsewhere;
mod facts;
mod files;
mod gce;
mod hetzner;
mod http;
mod mmds;
mod nocloud;
mod openstack;
mod source;
mod token;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::info;

use super::platform::{self, Guess};
use super::reading::{Reading, SourceFault};
use crate::config::{Config, HttpUrl, SourceName};

use elsewhere::Clouds;
use files::Files;
use http::Http;

pub use facts::{Facts, Identity, PublicAddress};
pub use files::Places;
use source::{Blueprint, Later, Round, Source};

/// A source that is not asked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) name: SourceName,
    pub(super) reason: String,
}

/// All sources of one configuration, with what they remember between two rounds.
#[derive(Debug)]
pub(super) struct Sources {
    blueprint: Blueprint,
    /// Named by the configuration: asked whatever the platform is.
    named: bool,
    all: Vec<(SourceName, Box<dyn Source>)>,
    left_out: Vec<LeftOut>,
    /// Had a document once: no guess takes away what is known to be there.
    proven: BTreeSet<SourceName>,
    /// How many of those that are not left out the last round asked.
    asked: usize,
    /// Services that want to be left alone until then, and what they said.
    resting: BTreeMap<String, (Instant, SourceFault)>,
}

impl Sources {
    pub(super) fn new(config: &Config, places: Places) -> Self {
        let blueprint = Blueprint {
            files: Arc::new(Files::new(places, config.file.clone())),
            cloud: Http::new(&config.url),
            document: config.document_url.as_ref().map(Http::new),
        };
        let order = config.sources.as_deref().unwrap_or(&SourceName::ALL);
        let made = |name: &SourceName| Some((*name, blueprint.make(*name)?));
        Self {
            named: config.sources.is_some(),
            all: order.iter().filter_map(made).collect(),
            blueprint,
            left_out: Vec::new(),
            proven: BTreeSet::new(),
            asked: 0,
            resting: BTreeMap::new(),
        }
    }

    /// Files whose appearance, change or removal calls for a new round.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let watched = self.all.iter().map(|(_, source)| source.watched());
        watched.flatten().collect()
    }

    /// Those that this platform can't have, as of the last round.
    pub(super) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Those that the configuration allows, in order.
    pub(super) fn names(&self) -> Vec<SourceName> {
        self.all.iter().map(|(name, _)| *name).collect()
    }

    /// What is known of this guest's name without asking anybody.
    pub(super) fn local_identity(&self) -> Identity {
        let mut identity = Identity::default();
        if let Some(id) = self.blueprint.files.instance_id() {
            identity.note(SourceName::CloudInit, id);
        }
        identity
    }

    /// Asks one source after the other, up to the first that has a document.
    ///
    /// May be dropped at any point: what is remembered changes only with a whole answer.
    pub(super) async fn walk(&mut self) -> Vec<(SourceName, Reading)> {
        self.look_around();
        let mut round = Round::default();
        // What kept one source from a service keeps the others from it.
        let mut closed = BTreeMap::new();
        self.resting.retain(|_, (until, _)| *until > Instant::now());
        for (service, (_, fault)) in &self.resting {
            closed.insert(service.clone(), fault.clone());
        }
        let named = self.named.then(|| self.names());
        let mut clouds = None;
        let mut readings = Vec::new();
        self.asked = 0;
        for (name, source) in asked(&mut self.all, &self.left_out) {
            let service = source.service().map(|http| http.base().to_owned());
            let closed_by = service.as_ref().and_then(|service| closed.get(service));
            let mut reading = match closed_by {
                Some(fault) => Reading::Failed(SourceFault::clone(fault)),
                None => source.read(&mut round).await,
            };
            if let (Reading::Failed(fault), Some(service)) = (&reading, service)
                && !closed.contains_key(&service)
            {
                rest(&mut self.resting, &service, fault);
                if fault.is_unreachable() || fault.retry_after().is_some() {
                    closed.insert(service, fault.clone());
                }
            }
            if matches!(&reading, Reading::Failed(fault) if fault.is_unreachable()) {
                let clouds =
                    *clouds.get_or_insert_with(|| Clouds::of(&self.blueprint, named.as_deref()));
                let urls = elsewhere(clouds, name, source.service());
                let answer = elsewhere::ask(&self.blueprint, name, &urls, &mut round).await;
                if let Some(answer) = answer {
                    (*source, reading) = answer;
                }
            }
            self.asked += 1;
            let found = matches!(reading, Reading::Found(_));
            readings.push((name, reading));
            if found {
                self.proven.insert(name);
                break;
            }
        }
        readings
    }

    /// Ends once one of those that the last round asked may have something else to say; never
    /// where none can tell. It holds nothing of the sources, which may be asked meanwhile.
    pub(super) fn change(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let resting = &self.resting;
        let mut asked = asked(&mut self.all, &self.left_out).take(self.asked);
        let change = asked.find_map(|(_, source)| {
            let rests = source
                .service()
                .is_some_and(|http| resting.contains_key(http.base()));
            source.change().filter(|_| !rests)
        });
        async move {
            match change {
                Some(change) => change.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Forgets what it remembers of services: they may be others now.
    pub(super) fn forget(&mut self) {
        for (name, source) in &mut self.all {
            if let Some(fresh) = self.blueprint.make(*name) {
                *source = fresh;
            }
        }
        self.resting.clear();
        self.asked = 0;
    }

    /// Asks what is known of this guest; `before` stands for a service that does not answer.
    pub(super) async fn facts(&mut self, before: Facts) -> Facts {
        let mut facts = before;
        if let Some(id) = self.blueprint.files.instance_id() {
            facts.identity.note(SourceName::CloudInit, id);
        }
        let mut public = Some((PublicAddress::Unknown, None));
        for (name, source) in asked(&mut self.all, &self.left_out) {
            let rests = |http: &Http| self.resting.contains_key(http.base());
            if source.service().is_some_and(rests) {
                public = None;
                break;
            }
            match source.facts().await {
                Ok(Some(said)) => {
                    if let Some(id) = said.instance_id {
                        facts.identity.note(name, id);
                    }
                    if said.public != PublicAddress::Unknown {
                        public = Some((said.public, Some(name)));
                        break;
                    }
                    // It is there, and does not speak of addresses.
                    public = public.map(|(public, who)| (public, who.or(Some(name))));
                }
                Ok(None) => {}
                Err(fault) => {
                    if let Some(http) = source.service() {
                        rest(&mut self.resting, http.base(), &fault);
                    }
                    public = None;
                    break;
                }
            }
        }
        (facts.public, facts.public_source) = public.unwrap_or((facts.public, facts.public_source));
        facts.instance_id = facts.identity.name();
        facts
    }

    /// Sees what platform this is, unless the configuration knows better.
    fn look_around(&mut self) {
        if self.named {
            return;
        }
        let guess = platform::guess(self.blueprint.files.places());
        let left_out: Vec<_> = self
            .all
            .iter()
            .filter(|(name, _)| !self.proven.contains(name))
            .filter_map(|(name, _)| left_out(&guess, *name))
            .collect();
        if left_out != self.left_out {
            info!(%guess, "what this machine is says which metadata services it can have");
            self.left_out = left_out;
        }
    }
}

/// The other URLs to ask where this service can't be reached.
fn elsewhere(clouds: Clouds, name: SourceName, here: Option<&Http>) -> Vec<HttpUrl> {
    let mut urls = clouds.urls(name);
    if !urls.is_empty() {
        urls.insert(0, HttpUrl::default());
    }
    urls.retain(|url| here.is_none_or(|here| !here.is_at(url)));
    urls
}

/// Leaves a service alone for as long as it wants.
fn rest(
    resting: &mut BTreeMap<String, (Instant, SourceFault)>,
    service: &str,
    fault: &SourceFault,
) {
    if let Some(rest) = fault.retry_after() {
        let until = Instant::now() + rest;
        resting.insert(service.to_owned(), (until, fault.clone()));
    }
}

fn left_out(guess: &Guess, name: SourceName) -> Option<LeftOut> {
    let reason = guess.excludes(name)?;
    Some(LeftOut { name, reason })
}

/// The sources that are not left out.
fn asked<'a>(
    all: &'a mut [(SourceName, Box<dyn Source>)],
    left_out: &'a [LeftOut],
) -> impl Iterator<Item = (SourceName, &'a mut Box<dyn Source>)> {
    all.iter_mut()
        .filter(|(name, _)| left_out.iter().all(|left| left.name != *name))
        .map(|(name, source)| (*name, source))
}

#[cfg(test)]
mod tests;
