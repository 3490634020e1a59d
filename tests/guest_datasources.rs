//! The tunnel document by way of cloud-init's own data sources, in a guest that cloud-init sets up.

use harness::boot::Boot;
use harness::failure::Result;
use harness::guest::{BOOT, Guest};
use harness::image::Image;
use harness::metadata::Metadata;
use harness::world::{PUBLIC, World};
use serde_json::{Value, json};

/// Waits until cloud-init is done, and checks which data source it found. Returns what it warned of.
pub(crate) fn set_up_by(guest: &Guest, datasource: &str) -> Result<String> {
    let done = guest.cloud_init()?;
    let found = done["datasource"].as_str().unwrap_or_default();
    assert!(found.starts_with(datasource), "{done:#}");
    let stages = ["init-local", "init", "modules-config", "modules-final"];
    assert!(
        stages
            .iter()
            .all(|stage| done[stage]["errors"] == json!([])),
        "{done:#}"
    );
    let warned = stages.map(|stage| done[stage]["recoverable_errors"].to_string());
    Ok(warned.concat())
}

/// Waits until the agent has the document that cloud-init merged, and checks that it logged in
/// once. It may have read the document by itself before: it is the same one.
fn merged(world: &World, guest: &Guest) -> Result<Value> {
    let by_cloud_init = |status: &Value| status["metadata"]["source"] == "cloud-init";
    let status = guest.wait_status("what cloud-init merged", BOOT, by_cloud_init)?;
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
    let log = world.proxy.log();
    assert_eq!(log.matches("Accepted publickey").count(), 1, "{log}");
    Ok(status)
}

/// What cloud-init warns of where nothing is wrong.
pub(crate) const NOTHING: &str = "{}{}{}{}";

/// One host key: emulated processors take long to find RSA's primes.
pub(crate) fn config(world: &World) -> Result<String> {
    let wrapped = world.wrapped(PUBLIC)?;
    Ok(format!(
        "#cloud-config\nssh_genkeytypes: [ed25519]\n{wrapped}"
    ))
}

/// Why a source was left out.
fn left_out(status: &Value, source: &str) -> Option<String> {
    let list = status["metadata"]["left_out"].as_array()?;
    let left = list.iter().find(|left| left["source"] == source)?;
    left["reason"].as_str().map(str::to_owned)
}

#[test]
fn openstacks_service() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let metadata = Metadata::start(&world.namespace)?;
    let config = config(&world)?;
    let vendor_data = json!({"cloud-init": config}).to_string();
    metadata.openstack_with("i-openstack", &vendor_data, "{}");
    let guest = Boot::new(Image::of("trixie")?)?
        .smbios("type=1,product=OpenStack Nova")
        .launch(&world.namespace)?;
    guest.wait_tunnel(BOOT)?;
    assert_eq!(set_up_by(&guest, "DataSourceOpenStackLocal")?, NOTHING);
    let status = merged(&world, &guest)?;
    assert_eq!(status["instance_id"], "i-openstack");
    let reason = left_out(&status, "gce");
    assert_eq!(reason.as_deref(), Some("this is OpenStack"));
    assert_eq!(left_out(&status, "ec2"), None);
    Ok(())
}

#[test]
fn ec2s_service() -> Result<()> {
    const UUID: &str = "ec2e1916-9099-7caf-fd21-012345abcdef";
    let world = World::new(&[PUBLIC])?;
    let metadata = Metadata::start(&world.namespace)?;
    let config = config(&world)?;
    metadata.ec2("i-0abc", &config);
    let guest = Boot::new(Image::of("trixie")?)?
        .smbios(&format!(
            "type=1,manufacturer=Amazon EC2,uuid={UUID},serial={UUID}"
        ))
        .launch(&world.namespace)?;
    guest.wait_tunnel(BOOT)?;
    // It has no vendor data, and cloud-init does not like our key in the user's.
    let warned = set_up_by(&guest, "DataSourceEc2Local")?;
    assert!(warned.contains("schema"), "{warned}");
    let status = merged(&world, &guest)?;
    assert_eq!(status["instance_id"], "i-0abc");
    let reason = left_out(&status, "openstack");
    assert_eq!(reason.as_deref(), Some("this is EC2"));
    let requests = metadata.requests();
    assert!(requests.contains(&"PUT /latest/api/token".to_owned()));
    Ok(())
}
