//! By docs/mmds/mmds-user-guide.md of Firecracker.

use serde_json::json;

use super::*;
use crate::metadata::fixtures::{Say, Server, document, json as bare, yaml};
use crate::metadata::sources::tests::look;

/// A store with this in it.
async fn store(tree: Value) -> Server {
    Server::new(move |head| {
        if head.starts_with("put /latest/api/token ") {
            return Say::ok("token");
        }
        let session = head.contains("\r\nx-metadata-token: token\r\n");
        match session && head.starts_with("get / ") {
            true if head.contains("\r\naccept: application/json\r\n") => Say::ok(tree.to_string()),
            true => Say::ok("latest/"),
            false => Say::status(401),
        }
    })
    .await
}

async fn read(tree: Value) -> Reading {
    let server = store(tree).await;
    look(&mut Mmds::new(Http::new(&server.base()))).await
}

#[tokio::test]
async fn the_tree_may_have_it_in_more_than_one_place() {
    let ours = bare(12345);
    for tree in [
        json!({"vmagent": ours}),
        json!({"latest": {"vmagent": ours, "meta-data": {}}}),
        json!({"latest": {"meta-data": {"instance-id": "i", "vmagent": ours}}}),
        json!({"latest": {"user-data": {"vmagent": ours}}}),
        json!({"latest": {"user-data": ours}}),
        json!({"latest": {"user-data": format!("#cloud-config\n{}", yaml(12345))}}),
    ] {
        assert_eq!(
            read(tree.clone()).await,
            Reading::Found(document(12345)),
            "{tree}"
        );
    }
}

#[tokio::test]
async fn what_is_for_others_is_none_of_ours() {
    for tree in [
        json!({"latest": {"user-data": "#!/bin/sh\n"}}),
        json!({"latest": {"meta-data": {"ami-id": "ami-87654321"}}}),
    ] {
        assert_eq!(read(tree.clone()).await, Reading::Absent, "{tree}");
    }
    // EC2 answers with the names of its versions.
    let ec2 = Server::new(|head| match head.starts_with("put") {
        true => Say::ok("token"),
        false => Say::ok("1.0\n2007-01-19\nlatest"),
    })
    .await;
    let reading = look(&mut Mmds::new(Http::new(&ec2.base()))).await;
    assert!(matches!(reading, Reading::Silent { .. }), "{reading:?}");
    // The tree before its owner has set it.
    for tree in [json!({}), json!(null), json!([]), json!("text")] {
        let reading = read(tree.clone()).await;
        assert!(matches!(reading, Reading::Silent { .. }), "{tree}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_place() {
    let Reading::Failed(fault) = read(json!({"latest": {"vmagent": {"tunnel": 1}}})).await else {
        panic!()
    };
    assert!(fault.to_string().contains("/latest: tunnel"), "{fault}");
}

#[tokio::test]
async fn it_says_the_name_of_the_machine_where_somebody_gave_it_one() {
    let server = store(json!({"latest": {"meta-data": {"instance-id": "i-0abc"}}})).await;
    let said = Mmds::new(Http::new(&server.base())).facts().await;
    let said = said.unwrap().unwrap();
    assert_eq!(said.instance_id.as_deref(), Some("i-0abc"));
    assert_eq!(said.public, PublicAddress::Unknown);
    let server = store(json!({"vmagent": 1})).await;
    let said = Mmds::new(Http::new(&server.base())).facts().await;
    assert_eq!(said.unwrap(), None);
}
