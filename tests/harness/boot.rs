//! What a guest is booted with.

use std::sync::Arc;

use crate::control;
use crate::failure::Result;
use crate::guest::Guest;
use crate::image::Image;
use crate::netns::Namespace;
use crate::qemu::{Start, trimmings};
use crate::saved::Saved;
use crate::seed::{Drive, Seed, credential};
use crate::ssh::Key;

/// A guest about to be booted.
pub struct Boot {
    pub(crate) image: Image,
    pub(crate) cid: u32,
    pub(crate) drive: Option<Drive>,
    pub(crate) smbios: Vec<String>,
    pub(crate) fw_cfg: Vec<(String, Vec<u8>)>,
    pub(crate) append: String,
    pub(crate) start: Start,
    pub(crate) network: bool,
}

impl Boot {
    /// A guest of this image with no metadata at all: root's key comes as a
    /// systemd credential, and cloud-init finds nothing to do.
    ///
    /// # Errors
    ///
    /// If the tests' key can't be made.
    pub fn new(image: Image) -> Result<Self> {
        Self::new_with(image, &Saved::key()?)
    }

    pub(crate) fn new_with(image: Image, key: &Key) -> Result<Self> {
        let mut smbios = control::smbios().to_vec();
        // People append to the file: the last line must have an end.
        let authorized = format!("{}\n", key.public()?);
        smbios.push(credential(
            "ssh.authorized_keys.root",
            authorized.as_bytes(),
        ));
        Ok(Self {
            image,
            cid: 42,
            drive: None,
            smbios,
            fw_cfg: Vec::new(),
            append: trimmings(),
            start: Start::Direct,
            network: true,
        })
    }

    /// Boots the way a cloud does: UEFI firmware, the disk's own boot loader,
    /// and none of the tests' kernel options.
    #[must_use]
    pub fn firmware(mut self) -> Self {
        self.start = Start::Firmware;
        self
    }

    /// With a NoCloud seed.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.drive(seed.drive())
    }

    /// With a disk that tells it who it is.
    #[must_use]
    pub fn drive(mut self, drive: Drive) -> Self {
        self.drive = Some(drive);
        self
    }

    /// With a systemd credential, delivered by SMBIOS.
    #[must_use]
    pub fn credential(mut self, name: &str, value: &[u8]) -> Self {
        self.smbios.push(credential(name, value));
        self
    }

    /// With a systemd credential, delivered by QEMU's fw_cfg device.
    #[must_use]
    pub fn fw_cfg_credential(mut self, name: &str, value: &[u8]) -> Self {
        let name = format!("opt/io.systemd.credentials/{name}");
        self.fw_cfg.push((name, value.to_vec()));
        self
    }

    /// With an option of QEMU's `-smbios`.
    #[must_use]
    pub fn smbios(mut self, option: &str) -> Self {
        self.smbios.push(option.to_owned());
        self
    }

    /// With more on the kernel's command line.
    #[must_use]
    pub fn append(mut self, options: &str) -> Self {
        self.append = format!("{} {options}", self.append);
        self
    }

    /// Without a network card.
    #[must_use]
    pub fn without_network(mut self) -> Self {
        self.network = false;
        self
    }

    /// Starts it and returns at once.
    ///
    /// # Errors
    ///
    /// If QEMU or the vsock device can't be started.
    pub fn launch(self, namespace: &Arc<Namespace>) -> Result<Guest> {
        Guest::boot(namespace, &self)
    }
}
