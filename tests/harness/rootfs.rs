//! The root file systems of the two Debian releases, built once from the machine's own mirror.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths;

/// A release that vmagent is packaged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debian {
    /// Debian 12: systemd 252, OpenSSH 9.2, cloud-init 22.4.
    Bookworm,
    /// Debian 13: systemd 257, OpenSSH 10.0, cloud-init 25.1.
    Trixie,
}

impl Debian {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// The name of the release in an archive.
    pub fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// What apt reads to install this release, from the mirrors that this machine uses.
    pub fn sources(self) -> String {
        let format = "$(REPO_URI) $(CODENAME) $(RELEASE) $(ORIGIN)";
        let output = Command::new("apt-get")
            .args([
                "indextargets",
                "--format",
                format,
                "Created-By: Packages",
                "Component: main",
            ])
            .output()
            .expect("apt-get runs");
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| line.ends_with(" Debian") && !line.contains("backports"))
            .filter_map(|line| {
                let (uri, rest) = line.split_once(' ')?;
                let suite = rest.split(' ').next()?.replace("bookworm", self.codename());
                Some(format!("deb {uri} {suite} main\n"))
            })
            .collect();
        lines.sort();
        lines.dedup();
        assert!(!lines.is_empty(), "this machine has no Debian sources");
        lines.concat()
    }

    /// The archive of this release that this machine uses.
    pub fn mirror(self) -> String {
        let ours = format!(" {} main", self.codename());
        let sources = self.sources();
        let line = sources
            .lines()
            .find(|line| line.ends_with(&ours))
            .expect("a main archive");
        line["deb ".len()..line.len() - ours.len()].to_owned()
    }

    /// The unpacked system, for reading only. The first call takes most of a minute.
    pub fn rootfs(self) -> PathBuf {
        let cache = paths::target().join("rootfs");
        fs::create_dir_all(&cache).unwrap();
        let mut key = DefaultHasher::new();
        (PACKAGES, CUSTOMIZE, self.sources()).hash(&mut key);
        let root = cache.join(format!("{}-{:016x}", self.codename(), key.finish()));
        let lock = File::create(cache.join(format!("{}.lock", self.codename()))).unwrap();
        lock.lock().unwrap();
        if !root.exists() {
            self.forget(&cache);
            let partial = cache.join(format!("{}.partial", self.codename()));
            self.build(&partial);
            fs::rename(&partial, &root).unwrap();
        }
        root
    }

    /// Removes what was made of another recipe.
    fn forget(self, cache: &Path) {
        for entry in fs::read_dir(cache).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if name.starts_with(&format!("{}-", self.codename())) {
                fs::remove_dir_all(&path).unwrap();
            }
        }
    }

    fn build(self, root: &Path) {
        let _ = fs::remove_dir_all(root);
        let sources = root.with_extension("list");
        fs::write(&sources, self.sources()).unwrap();
        let output = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--mode=root"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(format!("--customize-hook={CUSTOMIZE}"))
            .arg(self.codename())
            .args([root, &sources])
            .output()
            .expect("mmdebstrap runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mmdebstrap: {errors}");
    }
}

const PACKAGES: &[&str] = &[
    "cloud-init",
    "dbus",
    "init-system-helpers",
    "iproute2",
    "lintian",
    "needrestart",
    "openssh-server",
    "systemd",
    "systemd-sysv",
];

/// What makes no sense in a namespace is masked, and nothing starts that a test did not ask for.
const CUSTOMIZE: &str = r#"
cd "$1/etc/systemd/system"
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-networkd.service \
    systemd-networkd.socket systemd-networkd-wait-online.service systemd-resolved.service \
    systemd-firstboot.service systemd-logind.service systemd-timesyncd.service networking.service getty.target \
    console-getty.service systemd-modules-load.service systemd-sysctl.service \
    kmod-static-nodes.service dev-hugepages.mount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    proc-sys-fs-binfmt_misc.automount apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer man-db.timer \
    systemd-tmpfiles-clean.timer
do
    ln -sf /dev/null $unit
done
touch "$1/etc/cloud/cloud-init.disabled"
echo 4c0a6c6b9c1e4a5b8a3d0f2e6b7c8d9e >"$1/etc/machine-id"
"#;
