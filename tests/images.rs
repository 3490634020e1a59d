//! What `images/verify` lets through, and what it refuses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use harness::failure::Result;
use harness::image::Image;
use harness::{package, paths, process};

/// Exit status and complaints of `images/verify`.
pub fn verify(image: &Path) -> Result<(Option<i32>, String)> {
    let script = paths::top().join("images/verify");
    let output = Command::new(script).arg(image).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), said))
}

/// The first line of a private key.
const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n";

/// A root file system with one more file.
pub fn root_with(path: &str, text: &str) -> Result<tempfile::TempDir> {
    let root = tempfile::tempdir()?;
    let files = [
        ("etc/os-release", "ID=debian\n"),
        ("etc/machine-id", "uninitialized\n"),
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nbackup:x:34:34::/srv/backup:/bin/sh\n",
        ),
        (
            "etc/ssh/sshd_config.d/keys.conf",
            "HostKey /etc/keys/host\nInclude \"/opt/first.conf\" ../../opt/*.d/*\n",
        ),
        ("opt/sshd.d/second", "include=/opt/third.conf\n"),
        (
            "opt/third.conf",
            "HostKey /etc/keys/included\nInclude /opt/third.conf\n",
        ),
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
        (
            "root/.ssh/authorized_keys2",
            "ssh-ed25519 AAAA\n",
            "log in to every VM",
        ),
        // A home directory that only /etc/passwd names.
        (
            "srv/backup/.ssh/authorized_keys",
            "ssh-ed25519 AAAA\n",
            "log in to every VM",
        ),
        ("root/.ssh/id_rsa", "key", "belongs to nobody"),
        ("home/debian/.ssh/deploy", KEY, "belongs to nobody"),
        ("srv/backup/.ssh/id_ed25519_sk", "key", "belongs to nobody"),
        ("etc/ssh/other_key", KEY, "the same host key"),
        ("etc/keys/host", KEY, "the same host key"),
        // Only sshd_config's Include leads to it.
        ("etc/keys/included", KEY, "the same host key"),
        (
            "boot/efi/loader/random-seed",
            "seed",
            "the same random numbers",
        ),
        (
            "var/lib/systemd/coredump/core.sshd",
            "memory",
            "memory of a process",
        ),
        (
            "var/lib/NetworkManager/secret_key",
            "key",
            "DHCP identities",
        ),
        ("var/lib/dhcpcd/duid", "00:01", "DHCP identity"),
        (
            "etc/credstore.encrypted/ssh.authorized_keys.root",
            "key",
            "log in to every VM",
        ),
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
        process::run(&mut make)?;
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
fn a_tree_that_only_root_can_read_is_not_accepted_by_others() -> Result<()> {
    let root = root_with("root/.ssh/authorized_keys", "ssh-ed25519 AAAA\n")?;
    fs::set_permissions(root.path(), Permissions::from_mode(0o755))?;
    fs::set_permissions(root.path().join("root"), Permissions::from_mode(0o700))?;
    // Other users may not reach the directory of the script, so the test copies it.
    let scripts = tempfile::tempdir()?;
    fs::set_permissions(scripts.path(), Permissions::from_mode(0o755))?;
    for name in ["verify", "disk.py", "filesystems.py", "fstab.py", "tree.py"] {
        fs::copy(
            paths::top().join("images").join(name),
            scripts.path().join(name),
        )?;
    }
    let mut nobody = Command::new("setpriv");
    nobody.args("--reuid=nobody --regid=nogroup --clear-groups env PATH=/usr/bin:/bin".split(' '));
    let output = nobody
        .arg(scripts.path().join("verify"))
        .arg(root.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), said.as_ref()),
        (Some(66), "images/verify: can't read /root: run as root\n")
    );
    Ok(())
}

/// A pipeline that ends at its first match kills its writer, which must not count as a pass.
#[test]
fn findings_are_not_missed_in_large_directories() -> Result<()> {
    let root = root_with("etc/vmagent/tunnel.yaml", "version: 1\n")?;
    for directory in ["etc", "etc/vmagent"] {
        for number in 0..20_000 {
            fs::write(root.path().join(directory).join(format!("z{number}")), "")?;
        }
    }
    for _ in 0..10 {
        let (status, said) = verify(root.path())?;
        assert_eq!(status, Some(1), "{said}");
    }
    Ok(())
}

/// The script that builds the image installs the package that it is given.
#[test]
fn make_image_takes_the_package_that_was_just_built() -> Result<()> {
    let sources = tempfile::tempdir()?;
    package::copy_sources(sources.path());
    let packages = sources.path().join("target/debian");
    fs::create_dir_all(&packages)?;
    let changelog = fs::read_to_string(sources.path().join("agent/debian/changelog"))?;
    let (_, rest) = changelog.split_once(')').unwrap_or_default();
    fs::write(
        sources.path().join("agent/debian/changelog"),
        format!("vmagent (0.10.0-1){rest}"),
    )?;
    let architecture = process::run(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim_end();
    for version in ["0.10.0-1", "0.9.0-1", "0.2.0-1"] {
        for package in ["vmagent", "vmagent-dbgsym"] {
            fs::write(
                packages.join(format!("{package}_{version}_{architecture}.deb")),
                "",
            )?;
        }
    }
    let given = sources.path().join("given");
    fs::write(
        sources.path().join("images/build"),
        format!("#!/bin/sh\necho \"$@\" >{}\n", given.display()),
    )?;
    let mut make = Command::new("make");
    // The package is there.
    make.args(["--old-file=deb", "image"])
        .current_dir(sources.path());
    process::run(&mut make)?;
    assert_eq!(
        fs::read_to_string(given)?,
        format!("target/debian/vmagent_0.10.0-1_{architecture}.deb\n")
    );
    Ok(())
}

#[test]
fn what_is_no_image_is_called_so() -> Result<()> {
    let (status, said) = verify(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    assert_eq!(status, Some(66));
    assert!(said.contains("no root file system"), "{said}");
    Ok(())
}
