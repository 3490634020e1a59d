//! A NoCloud seed, for machines whose cloud-init does not run: a directory, a disk with the label
//! `cidata`, or a server that the kernel's command line or the machine's serial number names
//! (`ds=nocloud;s=http://host/`). The user's data goes over the vendor's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, Pulled};
use super::http::Http;
use super::{Later, Round, Source};
use crate::config::HttpUrl;
use crate::metadata::reading::{Reading, Secret, SourceFault};
use crate::metadata::userdata;

const LABEL: &str = "cidata";

/// What a seed may hold of ours, in order.
const NAMES: [&str; 2] = ["user-data", "vendor-data"];

/// Where seeds are that came with the image.
const DIRECTORIES: [&str; 2] = [
    "/var/lib/cloud/seed/nocloud",
    "/var/lib/cloud/seed/nocloud-net",
];

/// What may name a seed: the same for as long as the machine runs.
const HINTS: [&str; 2] = ["/proc/cmdline", "/sys/class/dmi/id/product_serial"];

/// How cloud-init's data source is called there.
const SOURCES: [&str; 2] = ["nocloud", "nocloud-net"];

/// The source, with what it remembers between two rounds.
#[derive(Debug)]
pub(super) struct Nocloud {
    files: Arc<Files>,
    /// None until it is known whether the machine names a seed.
    named: Option<Option<Named>>,
}

#[derive(Debug)]
enum Named {
    Server(Http),
    Directory(PathBuf),
    Other(SourceFault),
}

impl Nocloud {
    pub(super) fn new(files: Arc<Files>) -> Self {
        Self { files, named: None }
    }

    async fn look(&mut self, pulled: &mut Pulled) -> Reading {
        let files = &self.files;
        if files.is_for_cloud_init() {
            return Reading::Absent;
        }
        for directory in DIRECTORIES {
            let reading = in_directory(files, Path::new(directory), pulled).await;
            if reading != Reading::Absent {
                return reading;
            }
        }
        let reading = on_disk(files, pulled).await;
        if reading != Reading::Absent {
            return reading;
        }
        if self.named.is_none() {
            self.named = named(files, pulled).await;
        }
        match &self.named {
            Some(Some(Named::Server(http))) => at_server(http).await,
            Some(Some(Named::Directory(path))) => in_directory(files, path, pulled).await,
            Some(Some(Named::Other(fault))) => fault.clone().into(),
            Some(None) | None => Reading::Absent,
        }
    }
}

impl Source for Nocloud {
    fn read<'a>(&'a mut self, round: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(self.look(&mut round.pulled))
    }

    fn watched(&self) -> Vec<PathBuf> {
        let all = |directory| NAMES.map(|name| self.files.below(&Path::new(directory).join(name)));
        let mut files = self.files.disks(LABEL);
        files.extend(DIRECTORIES.into_iter().flat_map(all));
        files
    }

    fn service(&self) -> Option<&Http> {
        match &self.named {
            Some(Some(Named::Server(http))) => Some(http),
            Some(Some(Named::Directory(_) | Named::Other(_)) | None) | None => None,
        }
    }
}

async fn in_directory(files: &Files, directory: &Path, pulled: &mut Pulled) -> Reading {
    for name in NAMES {
        let path = files.below(&directory.join(name));
        let reading = match files.read(&path, pulled).await {
            Ok(Some(bytes)) => userdata::read(&path.display().to_string(), &bytes),
            Ok(None) => Reading::Absent,
            Err(fault) => fault.into(),
        };
        if reading != Reading::Absent {
            return reading;
        }
    }
    Reading::Absent
}

async fn on_disk(files: &Files, pulled: &mut Pulled) -> Reading {
    for name in NAMES {
        let reading = match files.on_disk(LABEL, name, pulled).await {
            Ok(Some((place, bytes))) => userdata::read(&place, &bytes),
            Ok(None) => Reading::Absent,
            Err(fault) => fault.into(),
        };
        if reading != Reading::Absent {
            return reading;
        }
    }
    Reading::Absent
}

async fn at_server(http: &Http) -> Reading {
    for name in NAMES {
        let path = format!("/{name}");
        let url = http.url(&path);
        let reading = match http.page(&path, &[]).await {
            Ok(Some(page)) => userdata::read(&url, &page.body),
            Ok(None) => Reading::Absent,
            Err(fault) => fault.into(),
        };
        if reading != Reading::Absent {
            return reading;
        }
    }
    Reading::Absent
}

/// What the machine names; none if that can't be read now.
async fn named(files: &Files, pulled: &mut Pulled) -> Option<Option<Named>> {
    for path in HINTS {
        let text: Option<Secret> = files.shown_to_us(Path::new(path), pulled).await.ok()?;
        let text = String::from_utf8_lossy(text.as_deref().map_or(&[], Vec::as_slice)).into_owned();
        if let Some(seed) = seed(&text) {
            let directory = seed.strip_prefix("file://").unwrap_or(seed);
            return Some(Some(if directory.starts_with('/') {
                Named::Directory(directory.into())
            } else {
                match HttpUrl::parse(seed) {
                    Ok(url) => Named::Server(Http::new(&url)),
                    Err(problem) => Named::Other(SourceFault::Unreadable {
                        place: path.to_owned(),
                        problem: format!(
                            "its NoCloud seed is no directory, and as a URL: {problem}"
                        ),
                    }),
                }
            }));
        }
    }
    Some(None)
}

/// `ds=nocloud;s=SEED`, one word among others.
fn seed(text: &str) -> Option<&str> {
    let words = text
        .split_ascii_whitespace()
        .map(|word| word.trim_matches('"'));
    words
        .filter_map(|word| word.strip_prefix("ci.").unwrap_or(word).strip_prefix("ds="))
        .find_map(|value| {
            let mut fields = value.trim_start_matches('"').split(';');
            let source = fields.next()?;
            let ours = SOURCES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(source));
            let named = |field: &&str| field.starts_with("s=") || field.starts_with("seedfrom=");
            let field = fields.find(named).filter(|_| ours)?;
            field.split_once('=').map(|(_, seed)| seed)
        })
}

#[cfg(test)]
mod tests;
