//! By cloud.google.com/compute/docs/metadata/querying-metadata.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::metadata::fixtures::{Say, Server, document, yaml};
use crate::metadata::sources::facts::PublicAddress;
use crate::metadata::sources::tests::look;

const LONG: Duration = Duration::from_secs(120);

/// An attribute and its version; none where there is none.
type Attribute = Option<(u16, &'static str)>;

/// A service with an attribute that can be changed. It holds a request back for ever.
async fn service(first: Attribute) -> (Server, Arc<Mutex<Attribute>>) {
    let attribute = Arc::new(Mutex::new(first));
    let now = Arc::clone(&attribute);
    let server = Server::new(move |head| {
        assert!(head.contains("\r\nmetadata-flavor: google\r\n"));
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (body, version) = match (path, *now.lock().unwrap()) {
            ("/computemetadata/v1/instance/attributes/vmagent", Some((port, version))) => {
                (yaml(port), version)
            }
            ("/computemetadata/v1/instance/attributes/", Some((_, version))) => {
                ("{\"vmagent\": \"\"}".to_owned(), version)
            }
            ("/computemetadata/v1/instance/attributes/", None) => ("{}".to_owned(), "none"),
            _ => return Say::status(404),
        };
        let waits = query.contains("wait_for_change=true") && query.contains("timeout_sec=300");
        if waits && query.contains(&format!("last_etag={version}")) {
            return Say::Silence;
        }
        Say::ok(body).with("ETag", version)
    })
    .await;
    (server, attribute)
}

async fn requests(server: &Server, count: usize) {
    timeout(LONG, async {
        while server.requests().len() < count {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("not asked so often");
}

#[tokio::test]
async fn it_is_told_of_another_version_and_of_none_any_more() {
    for later in [Some((2, "v2")), None] {
        let (server, attribute) = service(Some((1, "v1"))).await;
        let mut source = Gce::new(Http::new(&server.base()));
        assert!(source.change().is_none(), "nothing is known yet");
        assert_eq!(look(&mut source).await, Reading::Found(document(1)));
        // Held back.
        let change = source.change().unwrap();
        assert!(timeout(Duration::from_millis(200), change).await.is_err());
        requests(&server, 2).await;
        *attribute.lock().unwrap() = later;
        timeout(LONG, source.change().unwrap()).await.unwrap();
        let expected = later.map_or(Reading::Absent, |(port, _)| Reading::Found(document(port)));
        assert_eq!(look(&mut source).await, expected);
    }
}

#[tokio::test]
async fn it_is_told_of_an_attribute_that_appears() {
    let (server, attribute) = service(None).await;
    let mut source = Gce::new(Http::new(&server.base()));
    assert_eq!(look(&mut source).await, Reading::Absent);
    let change = tokio::spawn(source.change().unwrap());
    // The attributes of both places, all of the instance's, and all of them held back.
    requests(&server, 5).await;
    assert!(!change.is_finished());
    change.abort();
    *attribute.lock().unwrap() = Some((1, "v1"));
    timeout(LONG, source.change().unwrap()).await.unwrap();
    assert_eq!(look(&mut source).await, Reading::Found(document(1)));
}

#[tokio::test]
async fn the_projects_attribute_counts_where_the_instance_has_none() {
    let project = Arc::new(Mutex::new((2, "v2")));
    let instance = Arc::new(Mutex::new(404));
    let (of_project, of_instance) = (Arc::clone(&project), Arc::clone(&instance));
    let server = Server::new(move |head| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (port, version) = *of_project.lock().unwrap();
        match path {
            "/computemetadata/v1/instance/attributes/vmagent" => {
                match *of_instance.lock().unwrap() {
                    200 => Say::ok("null"),
                    status => Say::status(status),
                }
            }
            "/computemetadata/v1/project/attributes/vmagent" => {
                if query.contains(&format!("last_etag={version}&")) {
                    return Say::Silence;
                }
                Say::ok(yaml(port)).with("ETag", version)
            }
            _ => Say::Silence,
        }
    })
    .await;
    let mut source = Gce::new(Http::new(&server.base()));
    assert_eq!(look(&mut source).await, Reading::Found(document(2)));
    let change = timeout(Duration::from_millis(200), source.change().unwrap()).await;
    assert!(change.is_err(), "nothing has changed");
    *project.lock().unwrap() = (3, "v3");
    timeout(LONG, source.change().unwrap()).await.unwrap();
    assert_eq!(look(&mut source).await, Reading::Found(document(3)));
    // `null` on the instance overrides the project. A failure of the instance's page does not.
    *instance.lock().unwrap() = 200;
    assert!(matches!(look(&mut source).await, Reading::Empty(_)));
    *instance.lock().unwrap() = 503;
    assert!(matches!(look(&mut source).await, Reading::Failed(_)));
}

#[tokio::test]
async fn an_answer_that_is_none_is_no_change() {
    for say in [
        Say::ok(yaml(1)).with("ETag", "v1"),
        Say::ok(yaml(1)),
        Say::status(503),
        Say::status(401),
    ] {
        let server = Server::new(move |head| match head.contains("wait_for_change") {
            true => say.clone(),
            false => Say::ok(yaml(1)).with("ETag", "v1"),
        })
        .await;
        let mut source = Gce::new(Http::new(&server.base()));
        look(&mut source).await;
        // The first pause takes longer than that.
        let change = timeout(Duration::from_millis(500), source.change().unwrap()).await;
        assert!(change.is_err(), "nothing has changed");
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_version_is_escaped() {
    let server = Server::new(|head| match head.contains("last_etag=%22a%26b%22&") {
        true => Say::status(404),
        false => Say::ok(yaml(1)).with("ETag", "\"a&b\""),
    })
    .await;
    let mut source = Gce::new(Http::new(&server.base()));
    look(&mut source).await;
    timeout(LONG, source.change().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_machine_without_an_external_address_says_so_with_nothing_or_404() {
    for (say, expected) in [
        (
            Say::ok("198.51.100.7"),
            PublicAddress::Own("198.51.100.7".parse().unwrap()),
        ),
        (Say::ok(""), PublicAddress::None),
        (Say::status(404), PublicAddress::None),
    ] {
        let server = Server::new(move |head| match head.split(' ').nth(1) {
            Some("/computemetadata/v1/instance/id") => Say::ok("4520031799277581759"),
            Some(path) if path.ends_with("/external-ip") => say.clone(),
            _ => Say::status(404),
        })
        .await;
        let said = Gce::new(Http::new(&server.base()))
            .facts()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(said.public, expected);
        assert_eq!(said.instance_id.as_deref(), Some("4520031799277581759"));
    }
}
