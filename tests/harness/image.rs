//! The disk that `images/build` made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::{paths, process};

/// A disk image with its kernel and initrd.
#[derive(Clone)]
pub struct Image {
    /// The directory that has all of it.
    pub dir: PathBuf,
    /// Names the inputs that it was made from.
    pub id: String,
    /// The id of the root partition. The kernel finds it by this without an
    /// initrd, and cloud-init knows this spelling of `root=`.
    pub(crate) root: String,
}

impl Image {
    /// The image of a Debian release, as `make image` leaves it.
    ///
    /// # Errors
    ///
    /// If it was not built yet.
    pub fn of(suite: &str) -> Result<Self> {
        Self::at(&paths::target().join("image").join(suite))
    }

    /// The image in this directory.
    ///
    /// # Errors
    ///
    /// If it was not built yet.
    pub fn at(dir: &Path) -> Result<Self> {
        let text = fs::read_to_string(dir.join("manifest")).map_err(|e| {
            Failure::new(format!("no image in {} ({e}): make image", dir.display()))
        })?;
        let manifest: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let value = |key: &str| {
            let value = manifest.get(key).map(|value| (*value).to_owned());
            value.ok_or_else(|| {
                Failure::new(format!("the image's manifest has no {key}: make image"))
            })
        };
        Ok(Self {
            dir: dir.to_owned(),
            id: value("id")?,
            root: value("partuuid")?,
        })
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Makes a disk that starts as a copy of `base`, takes writes, and leaves
/// `base` as it is.
///
/// # Errors
///
/// What qemu-img says.
pub fn overlay(base: &Path, format: &str, path: &Path) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .arg(base)
        .arg(path);
    process::run(&mut command).map(drop)
}
