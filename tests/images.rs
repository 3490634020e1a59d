//! What `images/verify` lets through, and what it refuses.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::failure::Result;
use harness::image::Image;
use harness::paths;

/// Exit status and complaints of `images/verify`.
fn verify(image: &Path) -> Result<(Option<i32>, String)> {
    let script = paths::top().join("images/verify");
    let output = Command::new(script).arg(image).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), said))
}

/// A root file system with one more file.
fn root_with(path: &str, text: &str) -> Result<tempfile::TempDir> {
    let root = tempfile::tempdir()?;
    let files = [
        ("etc/os-release", "ID=debian\n"),
        ("etc/machine-id", "uninitialized\n"),
        (path, text),
    ];
    for (path, text) in files {
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap_or(root.path()))?;
        fs::write(file, text)?;
    }
    Ok(root)
}

#[test]
fn the_image_of_the_tests_is_fit_to_be_published() -> Result<()> {
    let verdict = verify(&Image::of("trixie")?.file("disk.raw"))?;
    assert_eq!(verdict, (Some(0), String::new()));
    Ok(())
}

#[test]
fn an_image_with_an_identity_or_a_secret_is_refused_with_a_reason() -> Result<()> {
    let cases = [
        ("etc/ssh/ssh_host_rsa_key", "key", "the same host key"),
        ("etc/machine-id", "", "without sshd for ever"),
        (
            "etc/machine-id",
            "15c04dafa3a9c754db593e319d7125cc\n",
            "the same identity",
        ),
        (
            "var/lib/dbus/machine-id",
            "15c04dafa3a9c754db593e319d7125cc\n",
            "the same identity",
        ),
        (
            "etc/vmagent/tunnel.yaml",
            "version: 1\n",
            "the same tunnel key",
        ),
        (
            "etc/credstore/vmagent.tunnel",
            "version: 1\n",
            "the same document",
        ),
        (
            "root/.ssh/authorized_keys",
            "ssh-ed25519 AAAA\n",
            "log in to every VM",
        ),
        (
            "home/debian/.ssh/authorized_keys",
            "ssh-ed25519 AAAA\n",
            "log in to every VM",
        ),
        (
            "var/lib/systemd/random-seed",
            "seed",
            "the same random numbers",
        ),
        (
            "var/lib/systemd/credential.secret",
            "key",
            "encrypted credentials",
        ),
        (
            "var/lib/cloud/instances/i-1/user-data.txt",
            "text",
            "cloud-init clean",
        ),
        (
            "var/lib/cloud/seed/nocloud/user-data",
            "text",
            "the VM's own metadata",
        ),
        ("var/lib/vmagent/state", "text", "state of one VM"),
    ];
    for (path, text, reason) in cases {
        let root = root_with(path, text)?;
        // As a directory, and as a file system that is only read, never mounted.
        let disk = root.path().with_extension("ext4");
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-d"])
            .arg(root.path())
            .arg(&disk)
            .arg("8M");
        harness::process::run(&mut make)?;
        for image in [root.path(), &disk] {
            let (status, said) = verify(image)?;
            assert_eq!(status, Some(1), "{path} was let through: {said}");
            // Names the file, or the directory that should not be there.
            let named = said
                .strip_prefix("images/verify: /")
                .and_then(|said| said.split(' ').next());
            assert!(
                named.is_some_and(|named| path.starts_with(named)),
                "{path}: {said}"
            );
            assert!(said.contains(reason), "{path}: {said}");
        }
        fs::remove_file(disk)?;
    }
    Ok(())
}

#[test]
fn a_generalised_root_passes() -> Result<()> {
    let root = root_with("etc/ssh/ssh_host_rsa_key", "key")?;
    fs::write(root.path().join("etc/machine-id"), "")?;
    for directory in ["var/log", "root"] {
        fs::create_dir_all(root.path().join(directory))?;
    }
    let mut generalise = Command::new(paths::top().join("images/generalise"));
    harness::process::run(generalise.arg(root.path()))?;
    assert_eq!(verify(root.path())?, (Some(0), String::new()));
    Ok(())
}

#[test]
fn what_is_no_image_is_called_so() -> Result<()> {
    let (status, said) = verify(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    assert_eq!(status, Some(66));
    assert!(said.contains("no root file system"), "{said}");
    Ok(())
}
