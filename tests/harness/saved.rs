//! A guest that was booted once and saved, for all tests that want a running
//! guest and don't care how it got there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use crate::boot::Boot;
use crate::failure::{Context, Failure, Result};
use crate::guest::BOOT;
use crate::image::{self, Image};
use crate::launch::start;
use crate::limits::SOON;
use crate::netns::Namespace;
use crate::paths;
use crate::qemu::{self, Machine, Start};
use crate::seed::digest;
use crate::snapshot::{self, Snapshot};
use crate::ssh::Key;

/// A disk and the state of the machine that was running from it.
pub(crate) struct Saved {
    dir: PathBuf,
    image: Image,
    accelerator: &'static str,
    smbios: Vec<String>,
    append: String,
}

impl Saved {
    /// The saved guest of this image; boots one if there is none yet, or if it
    /// was made from other inputs.
    pub(crate) fn ensure(namespace: &Namespace, image: &Image) -> Result<Self> {
        let home = home()?;
        let _lock = lock(&home)?;
        let accelerator = qemu::accelerator(namespace, image)?;
        let boot = Boot::new_with(image.clone(), &key(&home)?)?;
        let inputs = [
            image.id.clone(),
            accelerator.to_owned(),
            qemu::version()?,
            boot.append.clone(),
            boot.smbios.concat(),
        ];
        let mut saved = Self {
            dir: home.join(format!("saved-{}", digest(&inputs.concat()))),
            image: image.clone(),
            accelerator,
            smbios: boot.smbios,
            append: boot.append,
        };
        if !saved.dir.exists() {
            eprintln!("booting a guest to save it (once for each image, half a minute)");
            // Others are of images that are no more.
            for entry in fs::read_dir(&home)?.flatten() {
                if entry.file_name().to_string_lossy().starts_with("saved-") {
                    fs::remove_dir_all(entry.path())?;
                }
            }
            let part = tempfile::Builder::new().prefix("part-").tempdir_in(&home)?;
            let wanted = std::mem::replace(&mut saved.dir, part.path().to_owned());
            saved.make(namespace).during("saving a guest")?;
            fs::rename(part.keep(), &wanted)?;
            saved.dir = wanted;
        }
        Ok(saved)
    }

    /// As [`crate::guest::key`].
    pub(crate) fn key() -> Result<Key> {
        let home = home()?;
        let _lock = lock(&home)?;
        key(&home)
    }

    /// The guest itself.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::at(&self.dir)
    }

    /// The machine that the state fits, with its sockets in `dir`.
    pub(crate) fn machine<'a>(&'a self, dir: &'a Path, disk: &'a Path) -> Machine<'a> {
        Machine {
            dir,
            image: &self.image,
            disk,
            start: Start::Savable,
            accelerator: self.accelerator,
            append: &self.append,
            smbios: &self.smbios,
            network: true,
        }
    }

    fn make(&self, namespace: &Namespace) -> Result<()> {
        let sockets = tempfile::tempdir()?;
        let disk = self.snapshot().disk();
        image::overlay(&self.image.file("disk.raw"), "raw", &disk)?;
        let command = self.machine(sockets.path(), &disk).command();
        let (mut qemu, mut qmp, mut control) = start(namespace, sockets.path(), &command)?;
        let settled = control.run(
            "systemctl is-system-running --wait || true
             /usr/lib/systemd/systemd-networkd-wait-online --any --timeout=60
             systemctl is-active --quiet ssh.service
             sync; echo 3 >/proc/sys/vm/drop_caches",
            BOOT,
        );
        settled.map_err(|error| {
            let console = fs::read(sockets.path().join("serial.log")).unwrap_or_default();
            Failure::new(format!(
                "{error}\n{}\n{}",
                qemu.log(),
                String::from_utf8_lossy(&console)
            ))
        })?;
        snapshot::save(&mut qmp, &self.snapshot().state())?;
        qmp.execute("quit", json!({}))?;
        qemu.wait(SOON).map(drop)
    }
}

fn home() -> Result<PathBuf> {
    let home = paths::target().join("guest");
    fs::create_dir_all(&home)?;
    Ok(home)
}

fn key(home: &Path) -> Result<Key> {
    Key::at(&home.join("id_ed25519"))
}

/// Two test runs at once would boot and remove each other's saved guests.
fn lock(home: &Path) -> Result<Flock<File>> {
    let file = File::create(home.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| Failure::from(error).during("locking target/guest"))
}
