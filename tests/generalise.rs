//! `images/generalise` removes the secrets of a root file system, and changes nothing outside it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::failure::Result;
use harness::{paths, process};

use crate::images::{root_with, verify};

fn generalise(root: &Path) -> Result<()> {
    let mut generalise = Command::new(paths::top().join("images/generalise"));
    process::run(generalise.arg(root)).map(drop)
}

/// The files of one VM, by their paths.
const SECRETS: [&str; 18] = [
    "etc/ssh/ssh_host_rsa_key",
    "etc/machine-id",
    "etc/vmagent/tunnel.yaml",
    "etc/credstore/vmagent.tunnel",
    "usr/lib/credstore/ssh.authorized_keys.root",
    "root/.ssh/authorized_keys2",
    "root/.ssh/id_rsa",
    "root/.bash_history",
    "home/debian/.ssh/authorized_keys",
    "home/debian/.ssh/deploy",
    "var/lib/vmagent/document",
    "var/lib/cloud/instances/i-1/user-data.txt",
    "var/lib/dhcp/dhclient.leases",
    "var/lib/systemd/random-seed",
    "boot/efi/loader/random-seed",
    "var/log/syslog",
    "tmp/.hidden",
    "srv/backup/.ssh/authorized_keys",
];

fn write(top: &Path, path: &str) -> Result<()> {
    let file = top.join(path);
    fs::create_dir_all(file.parent().unwrap_or(top))?;
    fs::write(
        file,
        format!("{path}\n-----BEGIN OPENSSH PRIVATE KEY-----\n"),
    )?;
    Ok(())
}

/// The names and contents of all files in a directory.
fn snapshot(top: &Path) -> Result<String> {
    let mut list = Command::new("sh");
    list.args([
        "-c",
        "cd \"$0\" && find . -printf '%p %y %l\\n' | sort && find . -type f -exec sha256sum {} + | sort",
    ]);
    process::run(list.arg(top))
}

#[test]
fn a_generalised_root_passes() -> Result<()> {
    let root = root_with("etc/hostname", "localhost\n")?;
    for path in SECRETS {
        write(root.path(), path)?;
    }
    assert_eq!(verify(root.path())?.0, Some(1));
    generalise(root.path())?;
    assert_eq!(verify(root.path())?, (Some(0), String::new()));
    for path in SECRETS {
        let left = fs::read_to_string(root.path().join(path)).unwrap_or_default();
        let expected = if path == "etc/machine-id" {
            "uninitialized\n"
        } else {
            ""
        };
        assert_eq!(left, expected, "{path}");
    }
    assert!(root.path().join("etc/passwd").exists());
    Ok(())
}

/// Each path is a symbolic link: an absolute one, or one with more `..` than there are directories.
#[test]
fn links_are_followed_inside_the_root_and_nothing_outside_is_touched() -> Result<()> {
    const LINKS: [&str; 13] = [
        "etc/ssh",
        "etc/machine-id",
        "etc/vmagent",
        "etc/credstore",
        "root",
        "home",
        "var/lib/vmagent",
        "var/lib/cloud",
        "var/lib/dhcp",
        "var/lib/systemd/random-seed",
        "boot/efi",
        "var/log",
        "tmp",
    ];
    for up in ["", "../../../../../../../../../../../.."] {
        let outside = tempfile::tempdir_in("/run")?;
        let root = root_with("etc/hostname", "localhost\n")?;
        fs::remove_dir_all(root.path().join("etc/ssh"))?;
        fs::remove_file(root.path().join("etc/machine-id"))?;
        // The target inside the root has the same name as the decoy outside.
        let inside = root.path().join(outside.path().strip_prefix("/")?);
        for path in SECRETS {
            write(outside.path(), path)?;
            write(&inside, path)?;
        }
        for link in LINKS {
            let place = root.path().join(link);
            fs::create_dir_all(place.parent().unwrap_or(root.path()))?;
            let target = PathBuf::from(format!("{up}{}", outside.path().display())).join(link);
            symlink(target, place)?;
        }
        let before = snapshot(outside.path())?;
        generalise(root.path())?;
        assert_eq!(snapshot(outside.path())?, before);

        assert_eq!(verify(root.path())?, (Some(0), String::new()));
        for path in SECRETS {
            let linked = LINKS.iter().any(|link| path.starts_with(link));
            let left = fs::read_to_string(inside.join(path)).unwrap_or_default();
            assert!(!linked || left.is_empty(), "{path} is left: {left}");
        }
        let id = root.path().join("etc/machine-id");
        assert!(fs::symlink_metadata(&id)?.is_file());
        assert_eq!(fs::read_to_string(id)?, "uninitialized\n");
    }
    Ok(())
}

/// Users can make these links. Each target has to stay, and each link has to go.
#[test]
fn the_targets_of_links_that_users_can_make_stay() -> Result<()> {
    const LINKS: [(&str, &str); 15] = [
        ("tmp/u", "/usr/share"),
        ("tmp/file", "/srv/data/file"),
        ("var/tmp/data", "/srv/data"),
        ("var/tmp/up", "../../../../srv/data"),
        ("var/log/journal/data", "/srv/data"),
        ("var/lib/dhcp/data", "/srv/data"),
        ("var/lib/systemd/timers/data", "/srv/data"),
        ("var/lib/systemd/coredump/data", "/srv/data"),
        ("home/debian/.bash_history", "/srv/data/file"),
        ("root/.bash_history", "/dev/null"),
        ("home/debian/.ssh/authorized_keys", "/etc/shadow"),
        ("home/debian/.ssh/id_rsa", "/srv/data"),
        ("home/debian/.ssh/id_ed25519", "../../other/file"),
        ("home/debian/.ssh/deploy", "/srv/data/key"),
        ("home/other/.ssh", "/srv/keys"),
    ];
    const SURVIVORS: [&str; 9] = [
        "dev/null",
        "etc/shadow",
        "home/other/file",
        "srv/data/file",
        "srv/data/key",
        "srv/keys/authorized_keys",
        "srv/keys/deploy",
        "srv/keys/id_rsa",
        "usr/share/file",
    ];
    let root = root_with("etc/hostname", "localhost\n")?;
    for path in SURVIVORS {
        write(root.path(), path)?;
    }
    // Links below the home directory: their targets are keys of this user.
    for path in ["one", "two"] {
        write(root.path(), &format!("home/debian/keys/{path}"))?;
    }
    let below = [
        ("home/debian/.ssh/authorized_keys2", "/home/debian/keys/one"),
        ("home/debian/.ssh/github", "../keys/two"),
    ];
    for (link, target) in LINKS.iter().chain(&below) {
        let place = root.path().join(link);
        fs::create_dir_all(place.parent().unwrap_or(root.path()))?;
        symlink(target, place)?;
    }
    // As Debian's package dbus makes it.
    let id = root.path().join("var/lib/dbus/machine-id");
    fs::create_dir_all(id.parent().unwrap_or(root.path()))?;
    symlink("/etc/machine-id", &id)?;

    generalise(root.path())?;
    for path in SURVIVORS {
        let left = fs::read_to_string(root.path().join(path)).unwrap_or_default();
        assert!(left.starts_with(path), "{path} was changed: {left}");
    }
    for (link, _) in LINKS.iter().chain(&below) {
        let left = fs::symlink_metadata(root.path().join(link));
        assert!(left.is_err(), "{link} is left");
    }
    assert_eq!(
        fs::read_dir(root.path().join("home/debian/keys"))?.count(),
        0
    );
    assert!(fs::symlink_metadata(id).is_err());
    assert_eq!(
        fs::read_to_string(root.path().join("etc/machine-id"))?,
        "uninitialized\n"
    );
    assert_eq!(verify(root.path())?, (Some(0), String::new()));
    Ok(())
}

/// cloud-init in an image for another architecture can't run.
#[test]
fn a_foreign_cloud_init_is_done_without() -> Result<()> {
    let root = root_with("var/lib/cloud/instances/i-1/user-data.txt", "key\n")?;
    let program = root.path().join("usr/bin/cloud-init");
    fs::create_dir_all(root.path().join("usr/bin"))?;
    fs::write(&program, b"\x7fELF of no machine")?;
    process::run(Command::new("chmod").arg("755").arg(&program))?;
    generalise(root.path())?;
    assert_eq!(verify(root.path())?, (Some(0), String::new()));
    Ok(())
}
