//! A guest as it was at one moment: its memory and its disk.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::failure::{Failure, Result};
use crate::guest::Guest;
use crate::limits::SOON;
use crate::qmp::Qmp;
use crate::{plug, wait};

/// A saved guest, in files.
pub struct Snapshot {
    dir: PathBuf,
    _owned: Option<TempDir>,
}

impl Snapshot {
    pub(crate) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            _owned: None,
        }
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Takes one of a guest that was restored, and leaves that paused. Its vsock device is
    /// unplugged first: what a program outside the VM serves can't be saved.
    ///
    /// # Errors
    ///
    /// If QEMU can't save it.
    pub fn take(guest: &Guest) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let snapshot = Self {
            dir: dir.path().to_owned(),
            _owned: Some(dir),
        };
        let mut qmp = guest.qmp();
        plug::unplug(&mut qmp)?;
        save(&mut qmp, &snapshot.state())?;
        // Nobody writes to it while the guest is paused.
        fs::copy(guest.disk(), snapshot.disk())?;
        Ok(snapshot)
    }
}

/// Saves the memory and the devices of a running guest, which is paused afterwards.
pub(crate) fn save(qmp: &mut Qmp, state: &Path) -> Result<()> {
    qmp.execute(
        "migrate-set-parameters",
        json!({ "max-bandwidth": 10_u64 << 30 }),
    )?;
    qmp.execute(
        "migrate",
        json!({ "uri": format!("file:{}", state.display()) }),
    )?;
    wait::retry("saved state", SOON, || {
        match qmp.execute("query-migrate", json!({}))?["status"].as_str() {
            Some("completed") => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    })
}
