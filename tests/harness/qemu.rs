//! The virtual machine itself: QEMU's command line, and which accelerator
//! works on this machine.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::failure::Result;
use crate::image::Image;
use crate::netns::Namespace;
use crate::vsock::Vsock;
use crate::{control, paths, process, wait};

/// The program, and also what a saved guest depends on.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// How the disk is attached and what starts the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The kernel directly, without an initrd: NVMe and ext4 are built in.
    /// Saves four seconds of each boot.
    Direct,
    /// The disk's own boot loader, under UEFI firmware, as a cloud does it.
    Firmware,
    /// The kernel and its initrd, with devices that can be saved.
    Savable,
}

/// A machine about to be started.
pub(crate) struct Machine<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) image: &'a Image,
    pub(crate) disk: &'a Path,
    pub(crate) start: Start,
    pub(crate) accelerator: &'a str,
    pub(crate) append: &'a str,
    pub(crate) smbios: &'a [String],
    pub(crate) network: bool,
}

impl Machine<'_> {
    /// The common part of the command line. The caller adds the vsock device,
    /// since a machine that is to be saved has none.
    pub(crate) fn command(&self) -> Command {
        let mut qemu = Command::new(PROGRAM);
        qemu.args(["-nodefaults", "-display", "none", "-m", "1G", "-smp", "2"]);
        qemu.args([
            "-machine",
            "q35,memory-backend=ram",
            "-accel",
            self.accelerator,
        ]);
        if self.accelerator == "kvm" {
            qemu.args(["-cpu", "host"]);
        }
        // vhost-user devices read the guest's memory from outside.
        qemu.args(["-object", "memory-backend-memfd,id=ram,size=1G,share=on"]);
        qemu.args(["-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"]);
        // A free slot for a device that comes later.
        qemu.args(["-device", "pcie-root-port,id=late,chassis=1,slot=1"]);
        let log = self.path("serial.log");
        let log = format!("file,id=serial,append=on,path={}", log.display());
        qemu.args(["-chardev", &log, "-serial", "chardev:serial"]);
        // A reboot ends QEMU, and the harness starts it again: vhost-device-vsock
        // does not serve a guest that was reset.
        qemu.args(["-action", "reboot=shutdown"]);
        qemu.args(["-qmp", &self.server("qmp")]);
        qemu.args([
            "-chardev",
            &format!(
                "socket,id=control,path={},server=on,wait=off",
                self.path("control").display()
            ),
        ]);
        qemu.args(["-device", "virtio-serial-pci"]);
        qemu.args([
            "-device",
            &format!("virtserialport,chardev=control,name={}", control::PORT),
        ]);
        if self.network {
            qemu.args([
                "-netdev",
                "user,id=net",
                "-device",
                "virtio-net-pci,netdev=net",
            ]);
        }
        qemu.arg("-drive")
            .arg(self.drive("disk", self.disk, "qcow2"));
        let root = match self.start {
            Start::Direct => {
                qemu.args(["-device", "nvme,drive=disk,serial=root"]);
                format!("PARTUUID={}", self.image.root)
            }
            Start::Savable => {
                qemu.args(["-device", "virtio-blk-pci,drive=disk"]);
                qemu.arg("-initrd").arg(self.image.file("initrd.img"));
                "LABEL=vmagent-root".to_owned()
            }
            Start::Firmware => {
                qemu.args([
                    "-device",
                    "virtio-blk-pci,drive=disk",
                    "-bios",
                    "/usr/share/ovmf/OVMF.fd",
                ]);
                String::new()
            }
        };
        if self.start != Start::Firmware {
            qemu.arg("-kernel").arg(self.image.file("vmlinuz"));
            qemu.args([
                "-append",
                &format!(
                    "root={root} rootwait rw console=ttyS0 quiet panic=-1 {}",
                    self.append
                ),
            ]);
        }
        for value in self.smbios {
            qemu.args(["-smbios", value]);
        }
        qemu
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn server(&self, name: &str) -> String {
        format!("unix:{},server=on,wait=off", self.path(name).display())
    }

    /// The machine with the vsock device that it boots with.
    pub(crate) fn command_with(&self, vsock: &Vsock) -> Command {
        let mut command = self.command();
        command
            .arg("-chardev")
            .arg(format!("socket,id=vsock,path={}", vsock.device.display()));
        command.args(["-device", "vhost-user-vsock-pci,chardev=vsock"]);
        command
    }

    /// Nothing of a test guest has to survive a power failure.
    fn drive(&self, id: &str, path: &Path, format: &str) -> OsString {
        format!(
            "if=none,id={id},format={format},cache=unsafe,file={}",
            path.display()
        )
        .into()
    }
}

/// What a test guest boots without, to be up in half the time: timers,
/// consoles and mounts that nothing under test touches.
pub(crate) fn trimmings() -> String {
    let masked = [
        "apt-daily-upgrade.timer",
        "apt-daily.timer",
        "dev-hugepages.mount",
        "dev-mqueue.mount",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "e2scrub_reap.service",
        "fstrim.timer",
        "getty@tty1.service",
        "kmod-static-nodes.service",
        "modprobe@configfs.service",
        "modprobe@drm.service",
        "modprobe@efi_pstore.service",
        "modprobe@fuse.service",
        "serial-getty@ttyS0.service",
        "sys-kernel-config.mount",
        "sys-kernel-debug.mount",
        "sys-kernel-tracing.mount",
        "systemd-binfmt.service",
        "systemd-growfs-root.service",
        "systemd-networkd-wait-online.service",
        "systemd-timesyncd.service",
    ];
    // What hardens the kernel costs an emulated processor an eighth of a boot.
    let mut line = "systemd.firstboot=off audit=0 mitigations=off init_on_alloc=0 \
                    hardened_usercopy=off randomize_kstack_offset=off"
        .to_owned();
    for unit in masked {
        line.push_str(" systemd.mask=");
        line.push_str(unit);
    }
    line
}

/// The accelerator that works here. `/dev/kvm` may be there and still not
/// carry a stock kernel (a hypervisor below may emulate only a part of the
/// processor), so the image's own kernel is started to see. The answer is kept
/// until the machine reboots.
///
/// # Errors
///
/// If QEMU can't be started.
pub(crate) fn accelerator(namespace: &Namespace, image: &Image) -> Result<&'static str> {
    const TCG: &str = "tcg,thread=multi";
    if !Path::new("/dev/kvm").exists() {
        return Ok(TCG);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let known = paths::target()
        .join("guest")
        .join(format!("accelerator-{}", boot.trim()));
    if let Ok(answer) = fs::read_to_string(&known) {
        return Ok(if answer == "kvm" { "kvm" } else { TCG });
    }
    let dir = tempfile::tempdir()?;
    let serial = dir.path().join("serial");
    let mut qemu = Command::new(PROGRAM);
    qemu.args([
        "-nodefaults",
        "-display",
        "none",
        "-machine",
        "q35",
        "-accel",
        "kvm",
        "-m",
        "256M",
        "-no-reboot",
    ]);
    qemu.args([
        "-append",
        "console=ttyS0 panic=-1",
        "-serial",
        &format!("file:{}", serial.display()),
    ]);
    qemu.arg("-kernel").arg(image.file("vmlinuz"));
    let mut process = namespace.spawn(dir.path(), "probe", &qemu)?;
    // It has no disk, so a good end is the kernel's complaint about that.
    // The answer counts until the machine's next boot, so a busy machine gets time to give it.
    let _ = wait::until("end of the probe", Duration::from_secs(30), || {
        (process.alive().is_err() || process.log().contains("KVM internal error")).then_some(())
    });
    process.kill();
    let works = fs::read(&serial)
        .is_ok_and(|log| String::from_utf8_lossy(&log).contains("Unable to mount root fs"));
    let answer = if works { "kvm" } else { "tcg" };
    fs::create_dir_all(paths::target().join("guest"))?;
    fs::write(&known, answer)?;
    Ok(if works { "kvm" } else { TCG })
}

/// QEMU's version: a saved guest fits one.
///
/// # Errors
///
/// If QEMU is not installed.
pub fn version() -> Result<String> {
    process::run(Command::new(PROGRAM).arg("--version"))
}
