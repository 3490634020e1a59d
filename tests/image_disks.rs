//! `images/verify` on disks: real file systems of each kind, never mounted.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::failure::Result;
use harness::process;

use crate::images::{root_with, verify};

const KEY: &str = "root/.ssh/authorized_keys";

/// Makes a file system with this content, in a file.
pub fn filled(kind: &str, tree: &Path, file: &Path) -> Result<()> {
    let script = match kind {
        "ext4" => "mke2fs -q -t ext4 -d \"$0\" \"$1\" 32M",
        "btrfs" => "truncate -s 192M \"$1\"; mkfs.btrfs -q -r \"$0\" \"$1\"",
        "vfat" => {
            "mkfs.vfat -C \"$1\" 8192 >/dev/null; cd \"$0\"; [ -z \"$(ls)\" ] || mcopy -s -i \"$1\" * ::/"
        }
        _ => {
            let mut list = String::from("/dev/null\n0 0\nd--755 0 0\n");
            prototype(tree, &mut list)?;
            fs::write(file.with_extension("proto"), list)?;
            "truncate -s 320M \"$1\"; mkfs.xfs -q -p \"${1%.*}.proto\" \"$1\""
        }
    };
    let mut make = Command::new("sh");
    make.args(["-ec", script]).args([tree, file]);
    process::run(&mut make).map(drop)
}

/// A directory as a prototype for `mkfs.xfs -p`.
fn prototype(tree: &Path, list: &mut String) -> Result<()> {
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_symlink() {
            writeln!(
                list,
                "{name} l--777 0 0 {}",
                fs::read_link(&path)?.display()
            )?;
        } else if kind.is_dir() {
            writeln!(list, "{name} d--700 0 0")?;
            prototype(&path, list)?;
        } else {
            writeln!(list, "{name} ---600 0 0 {}", path.display())?;
        }
    }
    list.push_str("$\n");
    Ok(())
}

/// A partition: its line for sfdisk, and its file system.
pub type Part<'a> = (&'a str, &'a Path);

/// Puts file systems into a disk, one after the other.
pub fn disk(label: &str, parts: &[Part], file: &Path) -> Result<()> {
    let (mut table, mut copies) = (format!("label: {label}\n"), String::new());
    let mut start = 1;
    for (words, part) in parts {
        let size = fs::metadata(part)?.len().div_ceil(1 << 20);
        writeln!(table, "start={start}MiB, size={size}MiB, {words}")?;
        writeln!(
            copies,
            "dd status=none bs=1M conv=sparse,notrunc seek={start} if={} of=\"$0\"",
            part.display()
        )?;
        start += size;
    }
    let script = format!(
        "truncate -s {}M \"$0\"\nsfdisk --quiet \"$0\" <<'END'\n{table}END\n{copies}",
        start + 1
    );
    let mut make = Command::new("sh");
    make.args(["-ec", &script]).arg(file);
    process::run(&mut make).map(drop)
}

/// An empty directory with these files.
pub fn tree(files: &[&str]) -> Result<tempfile::TempDir> {
    let tree = tempfile::tempdir()?;
    for path in files {
        let file = tree.path().join(path);
        fs::create_dir_all(file.parent().unwrap_or(tree.path()))?;
        fs::write(file, "text\n")?;
    }
    Ok(tree)
}

/// The paths that `images/verify` refuses.
pub fn refused(image: &Path) -> Result<Vec<String>> {
    let (status, said) = verify(image)?;
    let paths = said.lines().filter_map(|line| {
        let line = line.strip_prefix("images/verify: ")?;
        Some(line.split(' ').next()?.to_owned())
    });
    let paths: Vec<String> = paths.collect();
    assert_eq!(status, Some(if paths.is_empty() { 0 } else { 1 }), "{said}");
    Ok(paths)
}

/// The folder of the administrator's keys in an image.
const KEYS: &str = "root/.ssh";

#[test]
fn ext4_xfs_and_btrfs_are_read_links_and_contents_too() -> Result<()> {
    for kind in ["ext4", "xfs", "btrfs"] {
        let scratch = tempfile::tempdir()?;
        let clean = root_with("etc/hostname", "localhost\n")?;
        let image = scratch.path().join("clean.img");
        filled(kind, clean.path(), &image)?;
        assert_eq!(verify(&image)?, (Some(0), String::new()), "{kind}");

        let root = root_with("srv/people/a b/.ssh/authorized_keys", "ssh-ed25519 AAAA\n")?;
        let top = root.path();
        fs::remove_file(top.join("etc/machine-id"))?;
        fs::write(top.join("etc/id"), "15c04dafa3a9c754db593e319d7125cc\n")?;
        symlink("/etc/id", top.join("etc/machine-id"))?;
        symlink("../../srv/../../srv/people", top.join("home"))?;
        // A link that is too long for an inode.
        let long = format!("/{}srv/root", "./".repeat(60));
        symlink(long, top.join("root"))?;
        let keys = top.join("srv").join(KEYS);
        fs::create_dir_all(&keys)?;
        fs::write(keys.join("id_rsa"), "key")?;
        fs::write(
            keys.join("deploy"),
            format!("{}-----BEGIN PRIVATE KEY-----\n", "#\n".repeat(9000)),
        )?;
        if kind == "xfs" {
            // mkfs.xfs accepts no name with a blank.
            fs::rename(top.join("srv/people/a b"), top.join("srv/people/a"))?;
        }
        let image = scratch.path().join("root.img");
        filled(kind, top, &image)?;
        let home = if kind == "xfs" { "/home/a/" } else { "/home/a" };
        let found = refused(&image)?;
        assert_eq!(found.len(), 4, "{kind}: {found:?}");
        assert_eq!(
            found[..3],
            [
                "/etc/machine-id",
                &format!("/{KEYS}/deploy"),
                &format!("/{KEYS}/id_rsa")
            ],
            "{kind}"
        );
        assert!(found[3].starts_with(home), "{kind}: {found:?}");
    }
    Ok(())
}

#[test]
fn all_partitions_of_a_disk_are_looked_into_whatever_its_format() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let fstab = "# <file system> <mount point>\n\
        PARTUUID=11111111-2222-3333-4444-555555555555 /srv/my\\040homes btrfs defaults,subvol=/@home 0 0\n\
        /dev/vda4 /var xfs defaults 0 0\n\
        tmpfs /tmp tmpfs defaults 0 0\n";
    let root = root_with("etc/fstab", fstab)?;
    symlink("srv/my homes", root.path().join("home"))?;
    fs::create_dir_all(root.path().join("srv/my homes"))?;
    let esp = tree(&["loader/random-seed", "EFI/BOOT/BOOTX64.EFI"])?;
    let homes = tree(&["@home/debian/.ssh/id_ecdsa"])?;
    let var = tree(&["lib/systemd/random-seed", "lib/vmagent/document"])?;
    for (kind, tree, name) in [
        ("ext4", &root, "root.img"),
        ("vfat", &esp, "esp.img"),
        ("btrfs", &homes, "homes.img"),
        ("xfs", &var, "var.img"),
    ] {
        filled(kind, tree.path(), &at(name))?;
    }
    fs::write(at("bios.img"), vec![1; 1 << 20])?;
    let raw = at("disk.raw");
    disk(
        "gpt",
        &[
            ("type=U", &at("esp.img")),
            ("type=L", &at("root.img")),
            (
                "type=L, uuid=11111111-2222-3333-4444-555555555555",
                &at("homes.img"),
            ),
            ("type=L", &at("var.img")),
            ("type=21686148-6449-6E6F-744E-656564454649", &at("bios.img")),
        ],
        &raw,
    )?;
    let expected = [
        "/home/debian/.ssh/id_ecdsa",
        "/var/lib/vmagent",
        "/var/lib/systemd/random-seed",
        "/boot/efi/loader/random-seed",
    ];
    assert_eq!(refused(&raw)?, expected);
    for format in ["qcow2", "vmdk", "vdi", "vhdx", "vpc"] {
        let image = at(format);
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-O", format]).args([&raw, &image]);
        process::run(&mut convert)?;
        assert_eq!(refused(&image)?, expected, "{format}");
    }
    Ok(())
}

#[test]
fn partition_types_say_where_they_belong_without_fstab() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let parts = [
        (root_with("etc/hostname", "localhost\n")?, "type=L"),
        (
            tree(&["debian/.ssh/authorized_keys"])?,
            "type=933AC7E1-2EB4-4F13-B844-0E14E2AEF915",
        ),
        (
            tree(&["lib/cloud/instances/i-1"])?,
            "type=4D21B016-B534-45C2-A9FB-5C16E091FD2D",
        ),
        (
            tree(&["loader/random-seed"])?,
            "type=BC13C2FF-59E6-4262-A352-B275FD6F7172",
        ),
    ];
    let mut listed: Vec<(&str, PathBuf)> = Vec::new();
    for (number, (tree, words)) in parts.iter().enumerate() {
        let file = at(&number.to_string());
        filled("ext4", tree.path(), &file)?;
        listed.push((words, file));
    }
    let listed: Vec<Part> = listed
        .iter()
        .map(|(words, file)| (*words, file.as_path()))
        .collect();
    disk("gpt", &listed, &at("disk"))?;
    let mut found = refused(&at("disk"))?;
    found.sort();
    assert_eq!(
        found,
        [
            "/boot/loader/random-seed",
            "/home/debian/.ssh/authorized_keys",
            "/var/lib/cloud/instances/i-1"
        ]
    );
    Ok(())
}

#[test]
fn what_can_not_be_looked_into_is_never_accepted() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let clean = root_with("etc/hostname", "localhost\n")?;
    filled("ext4", clean.path(), &at("root"))?;
    let secret = tree(&[KEY])?;
    filled("ext4", secret.path(), &at("unnamed"))?;
    let mut luks = vec![0_u8; 1 << 20];
    luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
    luks[168..204].copy_from_slice(b"8e9eb8a1-9a3c-4bfd-8f8a-1d7d2b3e1f3c");
    fs::write(at("luks"), luks)?;
    fs::write(at("noise"), vec![0x5a; 1 << 20])?;
    process::run(
        Command::new("sh")
            .args(["-ec", "truncate -s 1M \"$0\"; mkfs.minix \"$0\""])
            .arg(at("minix")),
    )?;
    for (name, reason) in [
        ("unnamed", "partition 2 is not looked into"),
        ("luks", "can't look into crypto_LUKS"),
        ("minix", "can't look into minix"),
        ("noise", "can't look into what is in it"),
    ] {
        for label in ["gpt", "dos"] {
            let file = at(&format!("{name}-{label}"));
            disk(
                label,
                &[("type=L", &at("root")), ("type=L", &at(name))],
                &file,
            )?;
            let (status, said) = verify(&file)?;
            assert_eq!(status, Some(66), "{name}: {said}");
            assert!(said.contains(reason), "{name}: {said}");
        }
    }
    // Unpartitioned space, which is empty.
    fs::write(at("nothing"), vec![0; 1 << 20])?;
    disk(
        "dos",
        &[("type=L", &at("root")), ("type=L", &at("nothing"))],
        &at("room"),
    )?;
    assert_eq!(verify(&at("room"))?, (Some(0), String::new()));
    Ok(())
}
