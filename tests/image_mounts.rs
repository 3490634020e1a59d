//! `images/verify` never accepts a disk of which it has not looked into each part.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::failure::Result;
use harness::{paths, process};

use crate::image_disks::{disk, filled, refused, tree};
use crate::images::{root_with, verify};

const KEY: &str = "debian/.ssh/authorized_keys";
const ESP: &str = "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

/// Asserts exit status 66 for this reason.
fn undecided(image: &Path, reason: &str) -> Result<()> {
    let (status, said) = verify(image)?;
    assert_eq!(status, Some(66), "{said}");
    assert!(said.contains(reason), "{said}");
    Ok(())
}

/// debugfs leaves a transaction in the journal, as a crash does.
#[test]
fn a_journal_with_changes_gives_no_verdict_on_ext4() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let image = scratch.path().join("root");
    let root = root_with("etc/hostname", "localhost\n")?;
    filled("ext4", root.path(), &image)?;
    let mut debugfs = Command::new("debugfs")
        .args(["-w", "-f", "/dev/stdin"])
        .arg(&image)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let requests = "jo\njw -b 333 /dev/zero\njc\n";
    if let Some(mut stdin) = debugfs.stdin.take() {
        stdin.write_all(requests.as_bytes())?;
    }
    assert!(debugfs.wait()?.success());
    undecided(&image, "e2fsck")?;

    let disk_of_it = scratch.path().join("disk");
    disk("gpt", &[("type=L", &image)], &disk_of_it)?;
    undecided(&disk_of_it, "partition 1: its journal")?;

    // Exit status 1 of e2fsck: it has corrected the file system.
    let fsck = Command::new("e2fsck").arg("-fy").arg(&image).output()?;
    assert!(fsck.status.code() <= Some(1));
    assert_eq!(verify(&image)?, (Some(0), String::new()));
    Ok(())
}

/// The log of a clean XFS ends with a record of its unmount, which has the flag 0x20 after the client 0xaa.
#[test]
fn a_log_with_changes_gives_no_verdict_on_xfs() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let image = scratch.path().join("root.img");
    let root = root_with("etc/hostname", "localhost\n")?;
    filled("xfs", root.path(), &image)?;
    assert_eq!(verify(&image)?, (Some(0), String::new()));
    let file = fs::File::options().read(true).write(true).open(&image)?;
    let mut ask = Command::new("xfs_logprint");
    let said = process::run(ask.arg("-t").arg(&image))?;
    let daddr = said
        .split_once("daddr: ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    let start = daddr.unwrap_or_default() * 512;
    let mut log = vec![0; 4096];
    file.read_exact_at(&mut log, start)?;
    let flag = log.windows(2).rposition(|pair| pair == [0xaa, 0x20]);
    let flag =
        flag.ok_or_else(|| std::io::Error::other("the log has no record of an unmount"))? + 1;
    file.write_all_at(&[0], start + flag as u64)?;
    undecided(&image, "its journal")
}

/// btrfs keeps the last fsyncs in a tree that the superblock names at 0x60.
#[test]
fn a_log_tree_gives_no_verdict_on_btrfs() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let image = scratch.path().join("root");
    let root = root_with("etc/hostname", "localhost\n")?;
    filled("btrfs", root.path(), &image)?;
    let file = fs::File::options().read(true).write(true).open(&image)?;
    let mut block = vec![0; 0x1000];
    file.read_exact_at(&mut block, 0x10000)?;
    block[0x60..0x68].copy_from_slice(&0x0190_0000_u64.to_le_bytes());
    let sum = crc32c(&block[0x20..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&block, 0x10000)?;
    undecided(&image, "its journal")
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_second_partition_for_one_place_is_not_looked_into() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let fstab = "LABEL=twin /home ext4 defaults 0 0\n";
    for (name, text) in [("plain", ""), ("labels", fstab)] {
        filled("ext4", root_with("etc/fstab", text)?.path(), &at(name))?;
    }
    filled("vfat", tree(&["EFI/a"])?.path(), &at("esp"))?;
    filled("vfat", tree(&["loader/random-seed"])?.path(), &at("seed"))?;
    for (name, path) in [("clean", "debian/file"), ("key", KEY)] {
        filled("ext4", tree(&[path])?.path(), &at(name))?;
        let mut label = Command::new("tune2fs");
        process::run(label.args(["-L", "twin"]).arg(at(name)))?;
    }
    for (root, words, parts) in [
        ("plain", ESP, ["seed", "esp"]),
        ("labels", "type=L", ["key", "clean"]),
    ] {
        let image = at("disk");
        let [bad, good] = parts.map(at);
        let last = [("type=L", at(root)), (words, bad), (words, good)];
        let listed: Vec<_> = last
            .iter()
            .map(|(words, file)| (*words, file.as_path()))
            .collect();
        disk("gpt", &listed, &image)?;
        let (status, said) = verify(&image)?;
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("partition 3 is not looked into"), "{said}");
        // In the other order, the partition with the secret is not looked into.
        disk("gpt", &[listed[0], listed[2], listed[1]], &image)?;
        undecided(&image, "partition 3 is not looked into")?;
        fs::remove_file(image)?;
    }
    Ok(())
}

#[test]
fn bind_mounts_are_followed() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let fstab = "/data/home /home none bind 0 0\n\
        LABEL=data /data ext4 defaults 0 0\n\
        /srv/ssh /etc/ssh none defaults,rbind 0 0\n";
    let root = root_with("etc/fstab", fstab)?;
    let path = root.path().join("srv/ssh");
    fs::create_dir_all(&path)?;
    fs::write(path.join("ssh_host_rsa_key"), "key")?;
    filled("ext4", root.path(), &at("root"))?;
    filled("ext4", tree(&[&format!("home/{KEY}")])?.path(), &at("data"))?;
    let mut label = Command::new("tune2fs");
    process::run(label.args(["-L", "data"]).arg(at("data")))?;
    disk(
        "gpt",
        &[("type=L", &at("root")), ("type=L", &at("data"))],
        &at("disk"),
    )?;
    assert_eq!(
        refused(&at("disk"))?,
        [
            "/etc/ssh/ssh_host_rsa_key",
            "/home/debian/.ssh/authorized_keys"
        ]
    );
    Ok(())
}

#[test]
fn what_is_mounted_from_elsewhere_is_named() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let image = scratch.path().join("root");
    let fstab = "UUID=8e9eb8a1 / ext4 defaults 0 1\n\
        UUID=5f0e2d7c none swap sw 0 0\n\
        tmpfs /tmp tmpfs defaults 0 0\n\
        LABEL=elsewhere /mnt/data ext4 nofail 0 0\n\
        nas:/export/home /home nfs defaults 0 0\n\
        /mnt/data/srv /srv none bind 0 0\n";
    let root = root_with("etc/fstab", fstab)?;
    filled("ext4", root.path(), &image)?;
    let expected = [
        ("/mnt/data", "LABEL=elsewhere"),
        ("/home", "nas:/export/home"),
        ("/srv", "/mnt/data/srv"),
    ]
    .map(|(place, spec)| {
        format!(
            "images/verify: {place} is not looked into: /etc/fstab mounts {spec} there, \
             which is not in this image\n"
        )
    })
    .concat();
    for image in [image.as_path(), root.path()] {
        assert_eq!(verify(image)?, (Some(0), expected.clone()));
    }
    Ok(())
}

/// The file system was made with: btrfs subvolume create @home, @log, @empty, @home/x/nested and d/deep; files in all but
/// @empty; btrfs subvolume snapshot -r @home @home/x/old; then btrfs-image -c9. Without a mount, no program makes these.
const SUBVOLUMES: &str = "tests/data/subvolumes.btrfs-image.base64";

#[test]
fn subvolumes_that_nothing_mounts_are_not_looked_into() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let script = "base64 -d \"$0\" >\"$1.dump\"; btrfs-image -r \"$1.dump\" \"$1\"";
    let mut restore = Command::new("sh");
    restore.args(["-ec", script]);
    process::run(restore.args([paths::top().join(SUBVOLUMES), at("data")]))?;
    for (options, unvisited) in [
        ("subvol=@home", &["/@home/x/old", "/@log", "/d/deep"][..]),
        (
            "subvol=/@log",
            &["/@home", "/@home/x/nested", "/@home/x/old", "/d/deep"],
        ),
        ("noatime", &["/@home/x/old"]),
    ] {
        let fstab = format!("/dev/vda2 /mnt btrfs {options} 0 0\n");
        filled("ext4", root_with("etc/fstab", &fstab)?.path(), &at("root"))?;
        disk(
            "gpt",
            &[("type=L", &at("root")), ("type=L", &at("data"))],
            &at("disk"),
        )?;
        let lines = unvisited.iter().map(|path| {
            format!(
                "images/verify: partition 2: subvolume {path} is not looked into: \
                 /etc/fstab does not mount it\n"
            )
        });
        let expected: String = lines.collect();
        assert_eq!(verify(&at("disk"))?, (Some(66), expected), "{options}");
        fs::remove_file(at("disk"))?;
        fs::remove_file(at("root"))?;
    }
    Ok(())
}
