//! A guest's vsock device, taken away and given back while it runs.

use std::time::Duration;

use serde_json::json;

use crate::failure::{Context, Result};
use crate::guest::{COMMAND, Guest};
use crate::qmp::Qmp;
use crate::vsock::Vsock;
use crate::wait;

/// How long the guest may take to let go of a device.
const UNPLUGGED: Duration = crate::limits::SOON;

impl Guest {
    /// Takes its vsock device away.
    ///
    /// # Errors
    ///
    /// If the guest does not let go of it, or has none that was plugged in while it ran.
    pub fn unplug_vsock(&self) -> Result<()> {
        let mut qmp = self.qmp();
        unplug(&mut qmp)?;
        qmp.execute("chardev-remove", json!({ "id": "vsock" }))
            .map(drop)
    }

    /// Gives it a vsock device: the one that it had, or another.
    ///
    /// # Errors
    ///
    /// If it has one, or the device does not become ready.
    pub fn plug_vsock(&self, device: &Vsock) -> Result<()> {
        let address = json!({ "type": "unix", "data": { "path": device.device } });
        let socket = json!({ "addr": address, "server": false });
        let backend = json!({ "type": "socket", "data": socket });
        let chardev = json!({ "id": "vsock", "backend": backend });
        let mut qmp = self.qmp();
        // Its program needs a moment to be ready once more.
        wait::retry("vsock device", COMMAND, || {
            qmp.execute("chardev-add", chardev.clone())
        })?;
        plug(&mut qmp)
    }
}

/// Unplugs the device alone: its chardev stays.
pub(crate) fn unplug(qmp: &mut Qmp) -> Result<()> {
    qmp.forget_events();
    qmp.execute("device_del", json!({ "id": "vsock" }))?;
    let deleted = qmp.event("DEVICE_DELETED", UNPLUGGED);
    deleted.during("unplugging the vsock device").map(drop)
}

/// Plugs in a device for the chardev `vsock`.
pub(crate) fn plug(qmp: &mut Qmp) -> Result<()> {
    let device = json!({
        "driver": "vhost-user-vsock-pci", "id": "vsock", "chardev": "vsock", "bus": "late"
    });
    qmp.execute("device_add", device).map(drop)
}
