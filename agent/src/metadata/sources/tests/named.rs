//! Seeds on a server that the kernel's command line or the firmware names.

use super::seeds::{Machine, cloud_config};
use super::*;
use crate::config::SourceName::Nocloud;

/// As `sub_dmi_vars` and `read_seeded` of cloud-init 25.1 form them.
#[tokio::test]
async fn a_seed_is_named_as_for_cloud_init() {
    let user_data = cloud_config(12345);
    let server = Server::new(move |head| match head.split(' ').nth(1) {
        Some(
            "/seed/user-data"
            | "/s1/u-1/user-data"
            | "/?file=user-data"
            | "/user-data.yaml"
            | "/pc%201/c1//b1/__dmi.system-sku__/user-data",
        ) => Say::ok(&user_data),
        _ => Say::status(404),
    })
    .await;
    for seed in [
        "/seed/",
        "/seed",
        "/__dmi.system-serial-number__/__dmi.system-uuid__/",
        "/?file=",
        "/%s.yaml",
        "/__dmi.system-product-name__/__dmi.chassis-serial-number__/__dmi.chassis-version__/\
         __dmi.baseboard-serial-number__/__dmi.system-sku__",
    ] {
        let mut machine = Machine::new();
        machine.has(
            "kernel-command-line",
            format!("ds=nocloud;s={}{seed}", server.url),
        );
        machine.has("product-serial", "S1\n");
        machine.has("product-uuid", "u-1\n");
        machine.has("chassis-serial", "c1\n");
        machine.has("board-serial", "b1\n");
        let dmi = "sys/class/dmi/id";
        machine
            .directory
            .write(&format!("{dmi}/product_name"), "PC 1\n");
        let unset = [&[0xff; 8][..], b"\n"].concat();
        machine
            .directory
            .write(&format!("{dmi}/chassis_version"), unset);
        assert_eq!(
            machine.only(Nocloud).await,
            Reading::Found(document(12345)),
            "{seed}: {:?}",
            server.requests()
        );
    }
}

#[tokio::test]
async fn an_empty_page_of_a_seed_takes_nothing_back_and_hides_no_vendor_data() {
    for (vendor_data, expected) in [
        (Say::ok(cloud_config(1)), Some(1)),
        (Say::ok("#cloud-config\n{}\n"), None),
        (Say::status(404), None),
    ] {
        let server = Server::new(move |head| match head.split(' ').nth(1) {
            Some("/vendor-data") => vendor_data.clone(),
            _ => Say::ok(""),
        })
        .await;
        let mut machine = Machine::new();
        machine.has(
            "kernel-command-line",
            format!("ds=nocloud;s={}", server.url),
        );
        match (machine.only(Nocloud).await, expected) {
            (Reading::Silent { .. }, None) => {}
            (reading, port) => assert_eq!(reading, Reading::Found(document(port.unwrap()))),
        }
    }
}
