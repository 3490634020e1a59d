use super::*;
use crate::explain::Explain;
use crate::metadata::fixtures::{Say, Server, document, json, yaml};
use crate::metadata::sources::facts::PublicAddress;
use crate::metadata::sources::tests::look;

async fn vendor_data(text: impl AsRef<[u8]>) -> Reading {
    let say = Say::ok(text);
    let server = Server::new(move |head| {
        assert!(head.starts_with("get /openstack/latest/vendor_data2.json "));
        say.clone()
    })
    .await;
    look(&mut Openstack::new(Http::new(&server.base()))).await
}

#[tokio::test]
async fn vendor_data_holds_it_under_our_key_or_in_any_service() {
    let bare = json(12345);
    for services in [
        serde_json::json!({"vmagent": bare}),
        serde_json::json!({"static": {}, "vmagent": {"vmagent": bare}}),
        serde_json::json!({"join": {"x": 1}, "ports": bare}),
        serde_json::json!({"join": "text", "ports": {"vmagent": bare}}),
        serde_json::json!({"vmagent": yaml(12345)}),
    ] {
        let reading = vendor_data(services.to_string()).await;
        assert_eq!(reading, Reading::Found(document(12345)), "{services}");
    }
    assert_eq!(vendor_data("{}").await, Reading::Absent);
    assert_eq!(
        vendor_data("{\"static\": {\"tunnel\": {\"vpn\": 1}}}").await,
        Reading::Absent
    );
    assert!(matches!(
        vendor_data("{\"vmagent\": null}").await,
        Reading::Empty(_)
    ));
    for wrong in [
        "[]",
        "<html>sign in</html>",
        "{\"vmagent\": {\"tunnel\": 1}}",
        "",
    ] {
        assert!(
            matches!(vendor_data(wrong).await, Reading::Failed(_)),
            "{wrong}"
        );
    }
    let Reading::Failed(fault) = vendor_data([0xff, 0xfe, 0]).await else {
        panic!()
    };
    assert_eq!(fault.code(), "metadata-not-text");
}

/// As nova 34.0.0 answered while its service `vmagent` was not there, and to a machine that its
/// database did not have.
#[tokio::test]
async fn what_nova_also_says_when_it_has_failed_takes_nothing_back() {
    for (text, service, is_empty) in [
        (r#"{"static": {}, "vmagent": {}}"#, Some("vmagent"), true),
        (r#"{"static": {}, "ports": {}}"#, Some("ports"), false),
        (r#"{"ports": {}, "vmagent": null}"#, None, false),
        (r#"{"static": {}}"#, None, false),
    ] {
        match (vendor_data(text).await, service) {
            (Reading::Silent { fault, blank }, Some(service)) => {
                assert_eq!(fault.code(), "metadata-silent");
                assert!(fault.to_string().contains(service), "{fault}");
                assert!(fault.advice().contains(service), "{}", fault.advice());
                assert_eq!(blank.is_some(), is_empty, "{text}");
            }
            (Reading::Absent | Reading::Empty(_), None) => {}
            (reading, _) => panic!("{text}: {reading:?}"),
        }
    }
    let nobody = Server::new(|_| Say::status(404)).await;
    let reading = look(&mut Openstack::new(Http::new(&nobody.base()))).await;
    let Reading::Silent { fault, blank: None } = reading else {
        panic!("{reading:?}")
    };
    assert_eq!(fault.code(), "metadata-http");
}

#[tokio::test]
async fn a_service_with_tokens_is_another_unless_it_was_openstacks() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let server =
        Server::new(
            move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                1 => Say::ok("{}"),
                _ => Say::status(401),
            },
        )
        .await;
    let mut source = Openstack::new(Http::new(&server.base()));
    assert_eq!(look(&mut source).await, Reading::Absent);
    assert_eq!(look(&mut source).await, Reading::Absent);
    let Reading::Failed(fault) = look(&mut source).await else {
        panic!()
    };
    assert_eq!(fault.code(), "metadata-forbidden");
}

#[tokio::test]
async fn what_is_no_metadata_says_nothing_of_this_guest() {
    for (meta_data, address, expected) in [
        ("{\"uuid\": \"i-1\"}", "", Some(PublicAddress::None)),
        (
            "{\"uuid\": \"i-1\"}",
            "sign in",
            Some(PublicAddress::Unknown),
        ),
        ("<html>sign in</html>", "198.51.100.7", None),
        ("", "", None),
    ] {
        let server = Server::new(move |head| match head.split(' ').nth(1) {
            Some(META_DATA) => Say::ok(meta_data),
            Some(PUBLIC_IPV4) => Say::ok(address),
            _ => Say::status(404),
        })
        .await;
        let said = Openstack::new(Http::new(&server.base())).facts().await;
        assert_eq!(
            said.unwrap().map(|said| said.public),
            expected,
            "{meta_data}"
        );
    }
}

#[test]
fn a_service_may_carry_the_document_as_text() {
    let bare = crate::metadata::fixtures::json(1);
    let expected = find(&bare, Carrier::Own).unwrap();
    let keyed = serde_json::json!({"vmagent": bare}).to_string();
    for services in [
        serde_json::json!({"vmagent": bare.to_string()}),
        serde_json::json!({"vmagent": Value::from(bare.to_string()).to_string()}),
        serde_json::json!({"static": {}, "join": keyed, "other": "words"}),
        serde_json::json!({"join": Value::from(keyed).to_string()}),
    ] {
        let said = super::vendor_data(services.to_string().as_bytes());
        assert_eq!(said.unwrap(), (expected.clone(), None), "{services}");
    }
}
