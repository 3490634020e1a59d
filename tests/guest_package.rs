//! The package in a real guest: who serves vsock port 22, before, during and after.

use harness::failure::Result;
use harness::guest::{BOOT, Guest, VM};
use harness::limits::SOON;
use harness::{netns::Namespace, package, process, wait};

/// Who answers on vsock port 22.
fn listening(guest: &Guest) -> Result<String> {
    let script = "for unit in vmagent.socket sshd-vsock.socket; do
         ! systemctl --quiet is-active $unit || echo $unit
     done";
    guest.run(script)
}

/// Waits until one unit alone listens: the port is handed over a moment after systemctl returns.
fn serves(guest: &Guest, unit: &str) -> Result<()> {
    let alone = || (listening(guest).ok()? == unit).then_some(());
    wait::until(unit, SOON, alone)
}

#[test]
fn systemd_serves_the_port_without_vmagent_and_vmagent_with_it() -> Result<()> {
    let namespace = Namespace::new()?;
    let guest = Guest::restore(&namespace)?;
    serves(&guest, "vmagent.socket\n")?;
    // The image has the package that is tested.
    let control = process::run(
        std::process::Command::new("dpkg-deb")
            .args(["-f"])
            .arg(package::deb())
            .arg("Version"),
    )?;
    assert_eq!(
        guest.run("dpkg-query --show --showformat '${Version}\\n' vmagent")?,
        control
    );

    guest.run("dpkg --remove vmagent")?;
    serves(&guest, "sshd-vsock.socket\n")?;
    guest.ssh("true")?;

    // Over the very way that it is about to take: the login outlives it.
    let mut scp = guest.client.command("scp");
    scp.arg(package::deb())
        .arg(format!("{VM}:/var/tmp/vmagent.deb"));
    namespace.run(&scp, SOON)?;
    guest.ssh("dpkg --install /var/tmp/vmagent.deb && echo installed")?;
    serves(&guest, "vmagent.socket\n")?;
    guest.ssh("true")?;

    let boot_id = "cat /proc/sys/kernel/random/boot_id";
    let before = guest.ssh(boot_id)?;
    guest.reboot()?;
    guest.wait_banner(BOOT)?;
    assert_ne!(guest.ssh(boot_id)?, before);
    // The generated unit lost the race for the port, as it should.
    serves(&guest, "vmagent.socket\n")?;
    assert_eq!(
        guest.run("systemctl is-active vmagent.service")?,
        "active\n"
    );

    guest.run("systemctl disable --now vmagent.socket vmagent.service")?;
    serves(&guest, "sshd-vsock.socket\n")?;
    guest.ssh("true")?;
    guest.run("systemctl enable --now vmagent.socket vmagent.service")?;
    serves(&guest, "vmagent.socket\n")?;
    Ok(())
}
