//! Tells when one of some files may have appeared, changed or gone.
//!
//! inotify watches directories, and those of cloud-init do not exist when the agent starts. So the
//! nearest directory that exists is watched for the next name on the way down, and once that
//! appears everything is armed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::future::pending;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// How long it has to be quiet before a change counts: a file is written in more than one step.
const QUIET: Duration = Duration::from_millis(200);

/// How long a file that never comes to rest can put a change off.
const PATIENCE: Duration = Duration::from_secs(1);

/// A watch on some files.
#[derive(Debug)]
pub(crate) struct Watch {
    files: Vec<PathBuf>,
    // None where the kernel refuses: the slow timer is left.
    events: Option<AsyncFd<Fd>>,
    names: BTreeMap<WatchDescriptor, BTreeSet<OsString>>,
    // A change that has been seen and not yet reported, also if `changed` was dropped meanwhile.
    seen: bool,
}

#[derive(Debug)]
struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    /// Watches `files`, whether or not they or the directories above them exist.
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let events = inotify.map_err(std::io::Error::from).and_then(|inotify| {
            #[expect(deprecated, reason = "its successor asks for an unsafe impl")]
            AsyncFd::new(Fd(inotify))
        });
        let mut watch = Self {
            files,
            events: events
                .inspect_err(|error| debug!(%error, "can't watch files"))
                .ok(),
            names: BTreeMap::new(),
            seen: false,
        };
        watch.arm();
        watch
    }

    /// Waits until something may have changed; [`Watch::changed`] ends after that.
    pub(super) async fn stirred(&mut self) {
        while !self.seen {
            self.read().await;
        }
    }

    /// Waits until something may have changed, and for things to settle. Nothing is lost if it
    /// is dropped before it ends.
    pub(crate) async fn changed(&mut self) {
        self.stirred().await;
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            let quiet = (Instant::now() + QUIET).min(patience);
            if timeout_at(quiet, self.read()).await.is_err() {
                break;
            }
        }
        self.seen = false;
        // What has appeared may be a directory with the file in it: it is read after this.
        self.arm();
    }

    /// Waits for events, and notes whether they are about the files.
    async fn read(&mut self) {
        let Some(events) = &self.events else {
            return pending().await;
        };
        let Ok(mut ready) = events.readable().await else {
            return pending().await;
        };
        let read = events.get_ref().0.read_events();
        // Whatever is left, also what did not fit the buffer of this read, is found again.
        match read {
            Ok(read) => self.seen |= read.iter().any(|event| concerns(&self.names, event)),
            Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
            Err(error) => {
                debug!(%error, "can't read what happened to files");
                self.events = None;
            }
        }
    }

    fn arm(&mut self) {
        let Some(events) = &self.events else { return };
        let mut names: BTreeMap<_, BTreeSet<OsString>> = BTreeMap::new();
        for (directory, name) in self.files.iter().flat_map(|file| steps(file)) {
            match events.get_ref().0.add_watch(&directory, mask()) {
                Ok(watch) => drop(names.entry(watch).or_default().insert(name)),
                Err(error) => debug!(?directory, %error, "can't watch a directory"),
            }
        }
        for old in self.names.keys().filter(|old| !names.contains_key(old)) {
            // Fails for a directory that is gone, whose watch went with it.
            let _ = events.get_ref().0.rm_watch(*old);
        }
        self.names = names;
    }
}

fn mask() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

/// The directories to watch on the way to `file`, each with the name to look for in it: the
/// nearest that exists, and those above it that hold a symbolic link on the way.
fn steps(file: &Path) -> Vec<(PathBuf, OsString)> {
    let mut steps = Vec::new();
    let mut below = file;
    while let (Some(directory), Some(name)) = (below.parent(), below.file_name()) {
        let nearest = steps.is_empty() && directory.is_dir();
        if nearest || below.is_symlink() {
            steps.push((directory.to_owned(), name.to_owned()));
        }
        below = directory;
    }
    steps
}

fn concerns(names: &BTreeMap<WatchDescriptor, BTreeSet<OsString>>, event: &InotifyEvent) -> bool {
    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
        return true;
    }
    // An event of a watch that has been taken away since.
    let Some(names) = names.get(&event.wd) else {
        return false;
    };
    match &event.name {
        Some(name) => names.contains::<OsStr>(name),
        None => event
            .mask
            .intersects(AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF),
    }
}

#[cfg(test)]
mod tests;
