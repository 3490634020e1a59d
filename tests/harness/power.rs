//! Reboots and power cycles of a guest.

use crate::failure::{Context, Result};
use crate::guest::{BOOT, COMMAND, Guest, lock};
use crate::launch::start;
use crate::wait;

impl Guest {
    /// Reboots the guest from inside and waits until it runs again.
    ///
    /// # Errors
    ///
    /// If it does not come back.
    pub fn reboot(&self) -> Result<()> {
        self.go_down("reboot")?;
        self.power_on()
    }

    /// Powers the guest off from inside, as an administrator does; its disk stays.
    ///
    /// # Errors
    ///
    /// If it does not go down.
    pub fn power_off(&self) -> Result<()> {
        self.go_down("poweroff")
    }

    /// Starts a guest that was powered off, from its disk, and waits until it runs.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn power_on(&self) -> Result<()> {
        let (qemu, qmp, control) = start(&self.namespace, self.dir.path(), &self.again)?;
        *lock(&self.qemu) = qemu;
        *lock(&self.qmp) = qmp;
        *lock(&self.control) = control;
        let up = self.run_within("true", BOOT);
        self.examined(up.during("the guest comes up again"))
            .map(drop)
    }

    /// Also waits until QEMU has ended and the vsock device is free for the next start.
    fn go_down(&self, verb: &str) -> Result<()> {
        let device = self.vsock.generation();
        // A guest that shuts down quickly may lose the answer to this command.
        let asked = self.run(&format!("systemctl --no-block {verb}"));
        let down = lock(&self.qemu).wait(BOOT);
        self.examined(down.during(format!("the guest goes down for {verb} ({asked:?})")))?;
        wait::until("vsock device for the next boot", COMMAND, || {
            (self.vsock.generation() != device).then_some(())
        })
    }
}
