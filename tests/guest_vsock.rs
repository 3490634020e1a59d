//! The guest's vsock device: missing, late, gone for a while, another one after a restore.

use std::time::{Duration, Instant};

use harness::failure::Result;
use harness::guest::Guest;
use harness::limits::SOON;
use harness::netns::Namespace;
use harness::snapshot::Snapshot;
use harness::wait;
use serde_json::Value;

/// From the device's return to a status that says so: the agent looks every 3 s (bridge/pace.rs),
/// and is asked through the same emulated machine, which takes seconds beside other work.
const LIMIT: Duration = Duration::from_secs(30);

/// For how long there is no device: the agent looks for one every few seconds at least.
const MISSING: Duration = Duration::from_secs(5);

/// Waits until the bridge serves this context ID, and nothing else is said to lead in by vsock.
fn serves(guest: &Guest, what: &str, cid: u32) -> Result<()> {
    let returned = Instant::now();
    let status = guest.wait_status("bridge on its device", LIMIT, |status| {
        status["bridge"]["state"] == "ready" && status["bridge"]["cid"] == cid
    })?;
    println!("{what}: seen after {:.1?}", returned.elapsed());
    assert_eq!(by_vsock(&status), [format!("ssh root@vsock/{cid}")]);
    Ok(())
}

/// The commands by which the status says that one gets in by vsock.
fn by_vsock(status: &Value) -> Vec<&str> {
    let ways = status["ways_in"].as_array().into_iter().flatten();
    ways.filter(|way| way["via"] == "vsock")
        .filter_map(|way| way["command"].as_str())
        .collect()
}

/// What the agent has logged since it was started last.
fn logged(guest: &Guest) -> Result<Vec<String>> {
    let lines = guest.run(
        "id=$(systemctl show --property=InvocationID --value vmagent.service)
         journalctl --quiet --output=cat _SYSTEMD_INVOCATION_ID=$id",
    )?;
    Ok(lines.lines().map(ToOwned::to_owned).collect())
}

#[test]
fn a_device_that_comes_late_is_waited_for_quietly_and_found_soon_and_another_after_a_restore()
-> Result<()> {
    let namespace = Namespace::new()?;
    let guest = Guest::restore(&namespace)?;
    // The loopback has a context ID as well, by which nobody gets in.
    guest.run(
        "modprobe vsock_loopback
         modprobe --remove vmw_vsock_virtio_transport
         systemctl restart vmagent.service",
    )?;
    guest.wait_status("status without a device", SOON, |status| {
        status["bridge"]["fault"]["code"] == "vsock-unavailable"
    })?;
    // The fault is the time itself.
    std::thread::sleep(MISSING);
    let status = guest.status()?;
    let bridge = &status["bridge"];
    assert_eq!(bridge["state"], "waiting", "{status:#}");
    assert_eq!(bridge["fault"]["code"], "vsock-unavailable", "{status:#}");
    assert_eq!(bridge["cid"], Value::Null, "{status:#}");
    assert_eq!(by_vsock(&status), [""; 0]);
    let lines = logged(&guest)?;
    let missing = |lines: &[String]| {
        lines
            .iter()
            .filter(|line| line.contains("no vsock device"))
            .count()
    };
    assert_eq!(missing(&lines), 1, "{lines:#?}");

    guest.run("modprobe vmw_vsock_virtio_transport")?;
    serves(&guest, "driver loaded late", 42)?;
    guest.ssh("true")?;

    let before = logged(&guest)?.len();
    guest.unplug_vsock()?;
    guest.plug_vsock(&guest.vsock)?;
    // Who dials before the driver is there is never answered.
    wait::retry("driver of the device", SOON, || {
        guest.run("ls -d /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio*")
    })?;
    guest.wait_banner(LIMIT)?;
    serves(&guest, "device plugged in again", 42)?;
    guest.ssh("true")?;
    let lines = logged(&guest)?;
    assert_eq!(missing(&lines), 1, "{lines:#?}");
    // Two connections of two lines each are of this test's making.
    assert!(lines.len() <= before + 6, "{lines:#?}");
    is_called_by_its_new_context_id_where_it_is_restored(guest)
}

fn is_called_by_its_new_context_id_where_it_is_restored(original: Guest) -> Result<()> {
    let snapshot = Snapshot::take(&original)?;
    drop(original);
    let namespace = Namespace::new()?;
    let restored = Guest::from_snapshot_as(&namespace, &snapshot, 43)?;
    serves(&restored, "restored elsewhere", 43)?;
    restored.ssh("true").map(drop)
}
