//! A golden VM: a guest that has run, was made ready to be copied from inside, and powered off.

use std::fs;

use harness::boot::Boot;
use harness::failure::Result;
use harness::guest::{BOOT, Guest};
use harness::image::Image;
use harness::netns::Namespace;
use harness::paths;

use crate::images::verify;

/// What two VMs made of one disk must not share.
fn identity(guest: &Guest) -> Result<String> {
    guest.run("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
}

#[test]
fn the_documented_flow_ends_with_a_disk_that_is_accepted_and_boots_as_another_vm() -> Result<()> {
    let namespace = Namespace::new()?;
    // Where the emulator starves, the kernel misses the timer that it tests.
    let guest = Boot::new(Image::of("trixie")?)?
        .append("no_timer_check")
        .launch(&namespace)?;
    guest.run_within("true", BOOT)?;
    guest.wait_banner(BOOT)?;
    // A boot by systemd-boot leaves a seed on the EFI system partition.
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
    // A qcow2 file with another one behind it.
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
