//! A golden VM: a guest ran, was generalised from inside, and was powered off.

use std::fs;

use harness::boot::Boot;
use harness::failure::Result;
use harness::guest::{BOOT, Guest};
use harness::image::Image;
use harness::netns::Namespace;
use harness::paths;

use crate::images::verify;

/// The identities that two VMs from one disk must not share.
fn identity(guest: &Guest) -> Result<String> {
    guest.run("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
}

#[test]
fn the_documented_flow_ends_with_a_disk_that_is_accepted_and_boots_as_another_vm() -> Result<()> {
    let namespace = Namespace::new()?;
    // On a starved emulator, the kernel's check of its timer fails.
    let guest = Boot::new(Image::of("trixie")?)?
        .append("no_timer_check")
        .launch(&namespace)?;
    guest.run_within("true", BOOT)?;
    guest.wait_banner(BOOT)?;
    // systemd-boot leaves a random seed on the EFI system partition.
    guest.run_within(
        "bootctl --esp-path=/boot/efi random-seed; test -s /boot/efi/loader/random-seed",
        BOOT,
    )?;
    guest.run_within("journalctl --flush", BOOT)?;
    let before = identity(&guest)?;

    guest.write(
        "/root/generalise",
        &fs::read_to_string(paths::top().join("images/generalise"))?,
    )?;
    guest.run_within("bash /root/generalise / && rm /root/generalise", BOOT)?;
    guest.power_off()?;
    // A qcow2 file on top of another one.
    assert_eq!(verify(&guest.disk())?, (Some(0), String::new()));

    guest.power_on()?;
    guest.wait_banner(BOOT)?;
    assert_ne!(identity(&guest)?, before);
    assert_eq!(
        guest.run("stat --format %s /var/lib/systemd/random-seed | grep -vx 0 | wc -l")?,
        "1\n",
        "it has no seed of its own"
    );
    assert_eq!(guest.run("systemctl --failed --no-legend")?, "");
    guest.ssh("true").map(drop)
}
