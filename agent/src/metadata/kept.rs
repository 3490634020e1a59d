//! The last good document, kept for the agent that comes after this one: should the metadata be
//! out of reach then, it comes up all the same.
//!
//! It lies in the runtime directory of the service, which is in memory and gone at a reboot; on a
//! disk only where the configuration asks for it. It is one file for its owner alone (0600),
//! replaced in one step, and taken away as soon as the document is no longer in force.
//!
//! It belongs to the machine that it was read on: to the names that this machine was called by,
//! and where none of them can be compared, to its machine id. So a clone does not use it. A boot
//! needs no name of its own here: the directory ends with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::content::{Content, read_bounded};
use super::decide::Found;
use super::document::{self, Document, write};
use super::reading::{LIMIT, Secret};
use super::sources::Identity;
use super::tree::Tree;
use crate::config::{Cache, SourceName};
use crate::explain::Explain;
use crate::status::model::Timestamp;

/// The name of the file.
const NAME: &str = "document";

/// The form of the file; one of another form is none.
const FORM: u64 = 1;

/// A document that an agent before this one left behind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// The document, and the source that had it.
    pub(super) found: Found,
    /// When that was.
    pub(super) fetched_at: Timestamp,
    /// The names of the machine that it was read on.
    pub(super) identity: Identity,
}

/// What stands in the file beside the document.
#[derive(Serialize, Deserialize)]
struct Head {
    form: u64,
    source: SourceName,
    fetched_at: Timestamp,
    identity: Identity,
    machine_id: Option<String>,
}

/// Why a document can't be kept, or read again.
#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("{0}")]
    Unfit(&'static str),
}

/// The document can't be kept, so the next agent can't open the tunnel before it has read the
/// metadata.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the document can't be kept in {}: {why}", directory.display())]
pub(super) struct Unkept {
    directory: PathBuf,
    why: String,
}

impl Explain for Unkept {
    fn code(&self) -> &'static str {
        "document-not-kept"
    }

    fn advice(&self) -> String {
        "make that directory one that the user vmagent can write to, or set [metadata] cache to \
         \"runtime\" or \"off\""
            .to_owned()
    }
}

/// Keeps one document, or none.
#[derive(Debug)]
pub struct Keeper {
    /// Why the document in force is not in the kept file.
    unkept: Option<Unkept>,
    directory: Option<PathBuf>,
    machine_id: Option<String>,
    /// What stands in the file.
    written: Option<(Found, Identity)>,
}

impl Keeper {
    /// Where the service manager has made room for it, as the configuration wants it.
    ///
    /// What an agent with another configuration left elsewhere is taken away.
    #[must_use]
    pub fn system(cache: Cache) -> Self {
        // Several are separated by colons; the unit has one of each (systemd.exec(5)).
        let place = |name: &str| {
            let path = std::env::var_os(name)?;
            Some(PathBuf::from(path)).filter(|path| path.is_absolute())
        };
        let (runtime, state) = (place("RUNTIME_DIRECTORY"), place("STATE_DIRECTORY"));
        let (chosen, others) = match cache {
            Cache::Runtime => (runtime, vec![state]),
            Cache::State => (state, vec![runtime]),
            Cache::Off => (None, vec![runtime, state]),
        };
        for other in others.into_iter().flatten() {
            remove(&other);
        }
        let volatile = |path: &PathBuf| {
            let fit = cache == Cache::State || in_memory(path);
            if !fit {
                info!(?path, "is not in memory: the document is not kept there");
            }
            fit
        };
        Self::at(chosen.filter(volatile), Path::new("/etc/machine-id"))
    }

    /// In this directory, if there is one, for the machine whose id this file has.
    #[must_use]
    pub fn at(directory: Option<PathBuf>, machine_id: &Path) -> Self {
        let id = fs::read_to_string(machine_id).ok();
        Self {
            directory,
            machine_id: id.map(|id| id.trim().to_owned()),
            written: None,
            unkept: None,
        }
    }

    /// Why the document in force is not kept; `None` unless an attempt has failed.
    pub(super) fn unkept(&self) -> Option<&Unkept> {
        self.unkept.as_ref()
    }

    /// What was left for this machine, as far as its name is known by now.
    pub(super) fn load(&mut self, identity: &Identity) -> Option<Kept> {
        let directory = self.directory.clone()?;
        let (kept, machine_id) = match read(&directory.join(NAME)) {
            Ok(read) => read?,
            Err(trouble) => {
                warn!(%trouble, "the kept document can't be used");
                remove(&directory);
                return None;
            }
        };
        let same = machine_id.is_some() && machine_id == self.machine_id;
        if kept.identity.differs(identity) || !(kept.identity.agrees(identity) || same) {
            info!("the kept document is another machine's");
            remove(&directory);
            return None;
        }
        self.written = Some((kept.found.clone(), kept.identity.clone()));
        Some(kept)
    }

    /// Keeps what is in force on the machine with these names.
    pub(super) fn keep(&mut self, found: &Found, identity: &Identity) {
        let Some(directory) = &self.directory else {
            return;
        };
        let same = |(document, name): &(Found, Identity)| document == found && name == identity;
        if self.written.as_ref().is_some_and(same) {
            return;
        }
        let head = Head {
            form: FORM,
            source: found.source,
            fetched_at: Timestamp::now(),
            identity: identity.clone(),
            machine_id: self.machine_id.clone(),
        };
        match store(directory, &head, &found.document) {
            Ok(()) => {
                debug!("the document is kept");
                self.unkept = None;
            }
            Err(trouble) => {
                warn!(%trouble, ?directory, "the document can't be kept for the next agent");
                remove(directory);
                self.unkept = Some(Unkept {
                    directory: directory.clone(),
                    why: trouble.to_string(),
                });
            }
        }
        // Whatever went wrong goes wrong again: not to be tried at each round.
        self.written = Some((found.clone(), identity.clone()));
    }

    /// Takes away what is kept.
    pub(super) fn discard(&mut self) {
        self.written = None;
        self.unkept = None;
        if let Some(directory) = &self.directory {
            remove(directory);
        }
    }
}

fn in_memory(directory: &Path) -> bool {
    statfs(directory).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

fn remove(directory: &Path) {
    for name in [NAME.to_owned(), fresh()] {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, ?directory, "the kept document can't be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// The name while it is written.
fn fresh() -> String {
    format!(".{NAME}.new")
}

fn store(directory: &Path, head: &Head, document: &Document) -> Result<(), Trouble> {
    let unfit = || Trouble::Unfit("its key can't be encoded");
    let mut tree = Tree(json!({"head": head}));
    tree.0["document"] = std::mem::take(&mut write(document).map_err(|_| unfit())?.0);
    // No larger one is read again; and a buffer that need not grow leaves no copies behind.
    let mut text = Zeroizing::new(vec![0_u8; LIMIT]);
    let mut rest = &mut text[..];
    serde_json::to_writer(&mut rest, &tree.0).map_err(io::Error::from)?;
    let length = LIMIT - rest.len();
    let path = directory.join(fresh());
    let _ = fs::remove_file(&path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(&text[..length])?;
    file.sync_all()?;
    fs::rename(&path, directory.join(NAME))?;
    Ok(File::open(directory)?.sync_all()?)
}

/// What stands in the file, and the id of the machine that wrote it; none if there is no file.
fn read(path: &Path) -> Result<Option<(Kept, Option<String>)>, Trouble> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let own = found.is_file() && found.uid() == nix::unistd::geteuid().as_raw();
    if !own || found.mode() & 0o077 != 0 {
        return Err(Trouble::Unfit("others may have written or read it"));
    }
    match read_bounded(path) {
        Ok(Content::Bytes(bytes)) => decode(&bytes).map(Some),
        Ok(Content::Missing | Content::Denied) => Ok(None),
        Err(_) => Err(Trouble::Unfit("it can't be read")),
    }
}

fn decode(bytes: &Secret) -> Result<(Kept, Option<String>), Trouble> {
    // What the parser would say could repeat what stands there.
    let broken = || Trouble::Unfit("it is not of this version, or damaged");
    let mut tree = Tree(serde_json::from_slice(bytes).map_err(|_| broken())?);
    let head = tree.0.get_mut("head").map(Value::take);
    let head: Head = serde_json::from_value(head.unwrap_or_default()).map_err(|_| broken())?;
    // An agent of version 0.1.0 accepted two forwards that ask for the same place. Its tunnel goes
    // on after an upgrade.
    match document::read(&tree.0["document"]) {
        Ok(document) if head.form == FORM => {
            let kept = Kept {
                found: Found {
                    document: Arc::new(document),
                    source: head.source,
                },
                fetched_at: head.fetched_at,
                identity: head.identity,
            };
            Ok((kept, head.machine_id))
        }
        _ => Err(broken()),
    }
}

#[cfg(test)]
mod tests;
