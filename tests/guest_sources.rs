//! The tunnel document, delivered to a real guest by each of the sources.

use std::time::Duration;

use harness::boot::Boot;
use harness::failure::Result;
use harness::guest::{BOOT, Guest, key};
use harness::image::Image;
use harness::metadata::Metadata;
use harness::seed::Seed;
use harness::world::{PUBLIC, World};

const UP: Duration = Duration::from_secs(60);

/// Waits for the tunnel, and checks who brought the document.
fn up_by(guest: &Guest, source: &str, limit: Duration) -> Result<()> {
    let status = guest.wait_tunnel(limit)?;
    assert_eq!(status["metadata"]["state"], "found", "{status:#}");
    assert_eq!(status["metadata"]["source"], source, "{status:#}");
    Ok(())
}

#[test]
fn a_credential_of_the_hypervisor() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let document = world.document(PUBLIC)?;
    let boot = Boot::new(Image::of("trixie")?)?.credential("vmagent.tunnel", document.as_bytes());
    let guest = boot.launch(&world.namespace)?;
    up_by(&guest, "credential", BOOT)
}

#[test]
fn a_file_that_a_person_wrote() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let guest = Guest::restore(&world.namespace)?;
    guest.write("/etc/vmagent/tunnel.yaml", &world.document(PUBLIC)?)?;
    up_by(&guest, "file", UP)
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
    assert_eq!(
        guest
            .run_within("cloud-init status --wait || cloud-init status --long", BOOT)?
            .trim(),
        "status: done"
    );
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

#[test]
fn openstacks_vendor_data() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let metadata = Metadata::start(&world.namespace)?;
    let document = world.json(PUBLIC)?;
    metadata.openstack("i-openstack", &format!("{{\"vmagent\": {document}}}"));
    let guest = Guest::restore(&world.namespace)?;
    guest.run("systemctl reload vmagent.service")?;
    up_by(&guest, "openstack", UP)
}

#[test]
fn ec2s_user_data_by_imdsv2() -> Result<()> {
    let world = World::new(&[PUBLIC])?;
    let metadata = Metadata::start(&world.namespace)?;
    metadata.ec2(
        "i-ec2",
        &format!("#cloud-config\n{}", world.wrapped(PUBLIC)?),
    );
    let guest = Guest::restore(&world.namespace)?;
    guest.run("systemctl reload vmagent.service")?;
    up_by(&guest, "ec2", UP)?;
    assert!(
        metadata
            .requests()
            .contains(&"PUT /latest/api/token".to_owned())
    );
    Ok(())
}
