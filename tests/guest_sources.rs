//! The tunnel document, delivered to a real guest by each of the sources.

use std::time::Duration;

use harness::boot::Boot;
use harness::failure::Result;
use harness::guest::{BOOT, Guest, key};
use harness::image::Image;
use harness::limits::SOON;
use harness::metadata::Metadata;
use harness::seed::{self, Drive, Seed};
use harness::world::{PUBLIC, World};
use serde_json::json;

use crate::guest_datasources::{NOTHING, config, set_up_by};

const UP: Duration = SOON;

/// Waits for the tunnel, and checks who brought the document.
fn up_by(guest: &Guest, source: &str, limit: Duration) -> Result<()> {
    let status = guest.wait_tunnel(limit)?;
    assert_eq!(status["metadata"]["state"], "found", "{status:#}");
    assert_eq!(status["metadata"]["source"], source, "{status:#}");
    Ok(())
}

/// Takes the agent's credential away.
fn without_credential(guest: &Guest) -> Result<()> {
    let drop_in = "/etc/systemd/system/vmagent.service.d";
    guest.run(&format!("mkdir -p {drop_in}"))?;
    guest.write(
        &format!("{drop_in}/test.conf"),
        "[Service]\nLoadCredential=\n",
    )?;
    guest
        .run("systemctl daemon-reload; systemctl restart vmagent.service")
        .map(drop)
}

#[test]
fn a_credential_and_a_config_drive_where_the_disk_boots_by_its_own_loader() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let document = world.document(PUBLIC)?;
    let vendor_data = json!({"cloud-init": config(&world)?}).to_string();
    let meta_data = r#"{"uuid": "83679162-1378", "hostname": "guest"}"#;
    let files = [
        ("openstack/latest/meta_data.json", meta_data),
        ("openstack/latest/vendor_data.json", &vendor_data),
    ];
    let drive = Drive {
        label: "config-2",
        files: files.map(|(path, text)| (path.into(), text.into())).into(),
    };
    let guest = Boot::new(Image::of("trixie")?)?
        .firmware()
        .credential("vmagent.tunnel", document.as_bytes())
        .drive(drive)
        .launch(&world.namespace)?;
    up_by(&guest, "credential", BOOT)?;
    // As an image is published: an identity of its own, and host keys that are not the image's.
    assert_eq!(
        guest.ssh("wc --chars </etc/machine-id; ls /etc/ssh/ssh_host_ed25519_key")?,
        "33\n/etc/ssh/ssh_host_ed25519_key\n"
    );
    assert_eq!(set_up_by(&guest, "DataSourceConfigDrive")?, NOTHING);
    without_credential(&guest)?;
    up_by(&guest, "cloud-init", UP)?;
    assert_eq!(guest.status()?["instance_id"], "83679162-1378");
    Ok(())
}

#[test]
fn vendor_data_through_cloud_init() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let seed = Seed {
        instance_id: "i-vendor".into(),
        // A user who knows nothing of it, and has lists of his own.
        user_data: "#cloud-config\nruncmd: ['true']\nssh_genkeytypes: [ed25519]\n".into(),
        vendor_data: format!("#cloud-config\n{}", world.wrapped(PUBLIC)?),
    };
    let guest = Boot::new(Image::of("trixie")?)?
        .seed(seed)
        .launch(&world.namespace)?;
    up_by(&guest, "cloud-init", BOOT)?;
    world.add_ways(&guest, &key()?)?;
    assert_eq!(set_up_by(&guest, "DataSourceNoCloud")?, NOTHING);
    assert_eq!(
        guest
            .client
            .run(&world.namespace, "tunnel", "id --user --name")?,
        "root\n"
    );
    let readable =
        "find / -xdev -type f -perm /o=r -newer /etc/os-release -print0 | xargs -0 grep -lF";
    let found = guest.run_within(&format!("{readable} '{}' || true", world.secret()?), BOOT)?;
    assert_eq!(found, "", "everybody can read the private key there");
    Ok(())
}

/// Waits until nobody has a document any more.
fn gone(guest: &Guest) -> Result<()> {
    let off = |status: &serde_json::Value| status["tunnel"]["state"] == "off";
    guest
        .wait_status("no document", UP, off)
        .map(|status| assert_eq!(status["metadata"]["source"], json!(null), "{status:#}"))
}

#[test]
fn files_disks_and_seeds_where_cloud_init_does_not_run() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let guest = Guest::restore(&world.namespace)?;
    guest.run("! test -e /run/cloud-init/enabled")?;
    let config = format!("#cloud-config\n{}", world.wrapped(PUBLIC)?);

    guest.write("/etc/vmagent/tunnel.yaml", &world.document(PUBLIC)?)?;
    up_by(&guest, "file", UP)?;
    guest.run("rm /etc/vmagent/tunnel.yaml")?;
    gone(&guest)?;

    let vendor_data = json!({"static": {}, "vmagent": world.json(PUBLIC)?}).to_string();
    let files = [
        (
            "openstack/latest/meta_data.json",
            r#"{"uuid": "83679162-1378"}"#,
        ),
        ("openstack/latest/vendor_data2.json", &vendor_data),
    ];
    let drive = seed::iso(&guest.dir().join("drive"), "config-2", &files)?;
    let device = guest.plug_disk(&drive)?;
    up_by(&guest, "config-drive", UP)?;
    let named = |status: &serde_json::Value| status["instance_id"] == "83679162-1378";
    guest.wait_status("the drive's name for it", UP, named)?;
    guest.run(&format!("! grep -l '^{device} ' /proc/[0-9]*/mounts"))?;
    guest.run(&format!("losetup --detach {device}"))?;
    gone(&guest)?;

    // As carriers mangle it: a part in base64, behind a script.
    let part = seed::base64(config.as_bytes());
    let user_data = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\
         Content-Type: text/x-shellscript\n\n#!/bin/sh\n--x\nContent-Type: text/cloud-config\n\
         Content-Transfer-Encoding: base64\n\n{part}\n--x--\n"
    );
    let files = [("meta-data", ""), ("user-data", &user_data)];
    let disk = seed::fat(&guest.dir().join("seed"), "CIDATA", &files)?;
    let device = guest.plug_disk(&disk)?;
    up_by(&guest, "nocloud", UP)?;
    guest.run(&format!("losetup --detach {device}"))?;
    gone(&guest)?;

    guest.run("mkdir -p -m 700 /var/lib/cloud/seed/nocloud")?;
    guest.write("/var/lib/cloud/seed/nocloud/vendor-data", &config)?;
    up_by(&guest, "nocloud", UP)?;
    assert_eq!(guest.run("systemctl --failed --no-legend")?, "");
    Ok(())
}

#[test]
fn what_the_hypervisor_says_where_cloud_init_is_off() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let metadata = Metadata::start(&world.namespace)?;
    let config = format!("#cloud-config\n{}", world.wrapped(PUBLIC)?);
    metadata.page("/seed/user-data", "#!/bin/sh\n");
    metadata.page("/seed/vendor-data", &config);
    let guest = Boot::new(Image::of("trixie")?)?
        .append("cloud-init=disabled")
        .fw_cfg_credential("vmagent.tunnel", world.document(PUBLIC)?.as_bytes())
        .smbios("type=1,serial=ds=nocloud;s=http://169.254.169.254/seed/")
        .launch(&world.namespace)?;
    up_by(&guest, "credential", BOOT)?;

    // Without it, the serial number leads to a server. It is for root alone to read.
    without_credential(&guest)?;
    up_by(&guest, "nocloud", UP)?;
    let requests = metadata.requests();
    assert!(
        requests.contains(&"GET /seed/vendor-data".to_owned()),
        "{requests:?}"
    );
    Ok(())
}
