//! By docs.digitalocean.com/reference/api/metadata-api.

use serde_json::json;

use super::*;
use crate::metadata::fixtures::{Say, Server, document, yaml};
use crate::metadata::sources::tests::look;

async fn droplet(all: Value) -> Server {
    Server::new(move |head| match head.split(' ').nth(1) {
        Some("/metadata/v1.json") => Say::ok(all.to_string()),
        _ => Say::status(404),
    })
    .await
}

async fn read(all: Value) -> Reading {
    let server = droplet(all).await;
    look(&mut Digitalocean(Http::new(&server.base()))).await
}

#[tokio::test]
async fn the_users_data_go_over_the_vendors() {
    let script = "#!/bin/sh\n";
    for (user, vendor, port) in [
        (yaml(1), yaml(2), 1),
        (script.to_owned(), yaml(2), 2),
        (yaml(1), script.to_owned(), 1),
    ] {
        let reading =
            read(json!({"droplet_id": 1, "user_data": user, "vendor_data": vendor})).await;
        assert_eq!(reading, Reading::Found(document(port)));
    }
    assert_eq!(
        read(json!({"droplet_id": 1, "vendor_data": yaml(2)})).await,
        Reading::Found(document(2))
    );
    assert_eq!(
        read(json!({"droplet_id": 1, "user_data": ""})).await,
        Reading::Absent
    );
    assert!(matches!(read(json!([])).await, Reading::Failed(_)));
    assert_eq!(
        read(json!({"user_data": yaml(1)})).await,
        Reading::Found(document(1))
    );
    // Every Droplet has a name.
    let empty = read(json!({})).await;
    assert!(matches!(empty, Reading::Silent { .. }), "{empty:?}");
}

#[tokio::test]
async fn its_address_is_on_the_interface_or_there_is_none() {
    let public = json!([{"ipv4": {"ip_address": "198.51.100.7", "netmask": "255.255.240.0"}}]);
    for (interfaces, address) in [
        (
            json!({"public": public, "private": []}),
            Some("198.51.100.7"),
        ),
        (json!({"private": []}), None),
    ] {
        let server = droplet(json!({"droplet_id": 2_756_294, "interfaces": interfaces})).await;
        let said = Digitalocean(Http::new(&server.base())).facts().await;
        assert_eq!(said.unwrap(), Some(Said::new(Some("2756294"), address)));
    }
}
