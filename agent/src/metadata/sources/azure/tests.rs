//! By learn.microsoft.com/azure/virtual-machines/instance-metadata-service, and
//! learn.microsoft.com/azure/load-balancer/howto-load-balancer-imds.

use russh::keys::ssh_key::encoding::base64::{Base64, Encoding};
use serde_json::json;

use super::*;
use crate::explain::Explain;
use crate::metadata::fixtures::{Say, Server, document, yaml};
use crate::metadata::sources::tests::look;

/// A service with these answers for user data, the instance, and the load balancer.
async fn service(user_data: Say, instance: Value, balancer: Say) -> Server {
    Server::new(move |head| {
        if !head.contains("\r\nmetadata: true\r\n") {
            return Say::status(400);
        }
        match head.split(' ').nth(1) {
            Some("/metadata/instance/compute/userdata?api-version=2021-02-01&format=text") => {
                user_data.clone()
            }
            Some("/metadata/instance?api-version=2021-02-01") => Say::ok(instance.to_string()),
            Some("/metadata/loadbalancer?api-version=2020-10-01") => balancer.clone(),
            _ => Say::status(404),
        }
    })
    .await
}

async fn read(user_data: Say) -> Reading {
    let server = service(user_data, json!({}), Say::status(404)).await;
    look(&mut Azure(Http::new(&server.base()))).await
}

async fn public(address: &str, balancer: Say) -> PublicAddress {
    let interface = json!({"ipv4": {"ipAddress": [
        {"privateIpAddress": "10.1.0.4", "publicIpAddress": address}
    ]}});
    let instance = json!({"compute": {"vmId": "02aab8a4"}, "network": {"interface": [interface]}});
    let server = service(Say::ok(""), instance, balancer).await;
    let said = Azure(Http::new(&server.base()))
        .facts()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(said.instance_id.as_deref(), Some("02aab8a4"));
    said.public
}

#[tokio::test]
async fn user_data_comes_in_base64() {
    let packed = Base64::encode_string(format!("#cloud-config\n{}", yaml(12345)).as_bytes());
    let (one, other) = packed.split_at(64);
    for text in [packed.clone(), format!("{one}\r\n{other}\n"), yaml(12345)] {
        assert_eq!(
            read(Say::ok(&text)).await,
            Reading::Found(document(12345)),
            "{text}"
        );
    }
    let script = Base64::encode_string(b"#!/bin/sh\n");
    for none in [Say::ok(""), Say::ok(script)] {
        assert_eq!(read(none).await, Reading::Absent);
    }
    let gone = read(Say::status(404)).await;
    assert!(matches!(gone, Reading::Silent { .. }), "{gone:?}");
}

#[tokio::test]
async fn a_service_that_is_being_renewed_takes_nothing_back() {
    let Reading::Failed(fault) = read(Say::status(410)).await else {
        panic!()
    };
    assert_eq!(fault.code(), "metadata-http");
    assert!(fault.to_string().contains("410"), "{fault}");
}

#[tokio::test]
async fn an_address_of_the_standard_sku_is_known_to_the_load_balancer_alone() {
    let rule = json!({"frontendIpAddress": "198.51.100.8", "privateIpAddress": "10.1.0.4"});
    let says = |lists: Value| Say::ok(json!({"loadbalancer": lists}).to_string());
    let nothing = PublicAddress::None;
    let own = PublicAddress::Own("198.51.100.8".parse().unwrap());
    let shared = PublicAddress::LoadBalancer("198.51.100.8".parse().unwrap());
    for (balancer, expected) in [
        (Say::status(404), nothing),
        (Say::ok("<html>sign in</html>"), PublicAddress::Unknown),
        (says(json!({})), nothing),
        (
            says(json!({"publicIpAddresses": [], "inboundRules": []})),
            nothing,
        ),
        (says(json!({"outboundRules": [rule]})), nothing),
        (
            says(json!({"publicIpAddresses": [rule], "inboundRules": [rule]})),
            own,
        ),
        (
            says(json!({"publicIpAddresses": [], "inboundRules": [rule]})),
            shared,
        ),
    ] {
        assert_eq!(public("", balancer).await, expected);
    }
    // The Basic SKU says it itself.
    let basic = PublicAddress::Own("198.51.100.7".parse().unwrap());
    assert_eq!(public("198.51.100.7", Say::status(500)).await, basic);
}
