//! How a guest is started: restored from a saved state, or booted.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::json;
use tempfile::TempDir;

use crate::boot::Boot;
use crate::control::Control;
use crate::failure::{Context, Result};
use crate::guest::{COMMAND, Guest, VM};
use crate::image::{self, Image};
use crate::limits::PROGRAM;
use crate::netns::Namespace;
use crate::process::{self, Process};
use crate::qemu::{self, Machine, Start};
use crate::qmp::Qmp;
use crate::saved::Saved;
use crate::snapshot::Snapshot;
use crate::ssh::Client;
use crate::vsock::Vsock;
use crate::{plug, turn, wait};

impl Guest {
    /// A guest that was booted and saved before. It has no cloud-init data and
    /// no tunnel document; its vsock device appears now.
    ///
    /// # Errors
    ///
    /// If there is no image, or the guest does not come up.
    pub fn restore(namespace: &Arc<Namespace>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let vsock = Vsock::start(namespace, dir.path(), &[42])?.remove(0);
        Self::restore_with(namespace, dir, vsock)
    }

    /// Two guests on one host, which can reach each other's vsock by CID.
    ///
    /// # Errors
    ///
    /// As [`Guest::restore`].
    pub fn restore_pair(namespace: &Arc<Namespace>) -> Result<(Self, Self)> {
        let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let mut ends = Vsock::start(namespace, one.path(), &[42, 43])?;
        let (second, first) = (ends.remove(1), ends.remove(0));
        Ok((
            Self::restore_with(namespace, one, first)?,
            Self::restore_with(namespace, two, second)?,
        ))
    }

    fn restore_with(namespace: &Arc<Namespace>, dir: TempDir, vsock: Vsock) -> Result<Self> {
        let saved = Saved::ensure(namespace, &Image::of("trixie")?)?;
        let guest = Self::load(namespace, dir, vsock, &saved, &saved.snapshot())?;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs_f64();
        // Who dials before the guest's driver has the device is never answered, nor who dials next.
        guest.run(&format!(
            "date --set=@{now} >/dev/null
             until ls /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio* >/dev/null 2>&1
             do sleep 0.05; done"
        ))?;
        guest.wait_banner(COMMAND)?;
        Ok(guest)
    }

    /// A guest that goes on from a snapshot of another, in another QEMU. Its network is another
    /// as well: what was connected is not any more.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn from_snapshot(namespace: &Arc<Namespace>, snapshot: &Snapshot) -> Result<Self> {
        Self::from_snapshot_as(namespace, snapshot, 42)
    }

    /// The same, on a host that gives it this context id.
    ///
    /// # Errors
    ///
    /// As [`Guest::from_snapshot`].
    pub fn from_snapshot_as(
        namespace: &Arc<Namespace>,
        snapshot: &Snapshot,
        cid: u32,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let vsock = Vsock::start(namespace, dir.path(), &[cid])?.remove(0);
        let saved = Saved::ensure(namespace, &Image::of("trixie")?)?;
        Self::load(namespace, dir, vsock, &saved, snapshot)
    }

    fn load(
        namespace: &Arc<Namespace>,
        dir: TempDir,
        vsock: Vsock,
        saved: &Saved,
        snapshot: &Snapshot,
    ) -> Result<Self> {
        let disk = dir.path().join("disk");
        image::overlay(&snapshot.disk(), "qcow2", &disk)?;
        let mut machine = saved.machine(dir.path(), &disk);
        let mut command = machine.command();
        command.args(["-incoming", "defer", "-chardev"]);
        command.arg(format!("socket,id=vsock,path={}", vsock.device.display()));
        machine.start = Start::Direct;
        let again = machine.command_with(&vsock);
        let guest = Self::launch(namespace, dir, vsock, &command, again)?;
        {
            let mut qmp = guest.qmp();
            qmp.execute(
                "migrate-incoming",
                json!({ "uri": format!("file:{}", snapshot.state().display()) }),
            )?;
            qmp.event("RESUME", COMMAND)
                .during("restoring the saved guest")?;
            plug::plug(&mut qmp)?;
        }
        Ok(guest)
    }

    pub(crate) fn boot(namespace: &Arc<Namespace>, boot: &Boot) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let vsock = Vsock::start(namespace, dir.path(), &[boot.cid])?.remove(0);
        let disk = dir.path().join("disk");
        image::overlay(&boot.image.file("disk.raw"), "raw", &disk)?;
        let machine = Machine {
            dir: dir.path(),
            image: &boot.image,
            disk: &disk,
            start: boot.start,
            accelerator: qemu::accelerator(namespace, &boot.image)?,
            append: &boot.append,
            smbios: &boot.smbios,
            network: boot.network,
        };
        let mut command = machine.command_with(&vsock);
        if let Some(drive) = &boot.drive {
            let iso = drive.write(dir.path())?;
            command.arg("-drive").arg(format!(
                "if=none,id=drive,format=raw,readonly=on,file={}",
                iso.display()
            ));
            command.args(["-device", "nvme,drive=drive,serial=drive"]);
        }
        for (index, (name, value)) in boot.fw_cfg.iter().enumerate() {
            let file = dir.path().join(format!("fw_cfg{index}"));
            fs::write(&file, value)?;
            let entry = format!("name={name},file={}", file.display());
            command.args(["-fw_cfg", &entry]);
        }
        let again = process::copy(&command);
        Self::launch(namespace, dir, vsock, &command, again)
    }

    fn launch(
        namespace: &Arc<Namespace>,
        dir: TempDir,
        vsock: Vsock,
        command: &Command,
        again: Command,
    ) -> Result<Self> {
        let turn = turn::take();
        let (qemu, qmp, control) = start(namespace, dir.path(), command)?;
        let client = Client::new(dir.path(), &Saved::key()?)?;
        client.add_vsock(VM, &vsock.socket)?;
        Ok(Self {
            vsock,
            client,
            qmp: Mutex::new(qmp),
            control: Mutex::new(control),
            qemu: Mutex::new(qemu),
            again,
            namespace: Arc::clone(namespace),
            dir,
            turn,
        })
    }
}

/// Starts QEMU and connects to its control sockets.
pub(crate) fn start(
    namespace: &Namespace,
    dir: &Path,
    command: &Command,
) -> Result<(Process, Qmp, Control)> {
    let mut qemu = namespace.spawn(dir, "qemu", command)?;
    let qmp = wait::until("control socket of QEMU", PROGRAM, || match qemu.alive() {
        Err(end) => Some(Err(end)),
        Ok(()) => Qmp::connect(&dir.join("qmp")).ok().map(Ok),
    })??;
    let control = Control::connect(&dir.join("control")).during("the guest's control port")?;
    Ok((qemu, qmp, control))
}
