//! By docs.hetzner.cloud, "Server metadata".

use super::*;
use crate::metadata::fixtures::{Say, Server};

async fn said(metadata: &'static str) -> Option<Said> {
    let server = Server::new(move |head| match head.split(' ').nth(1) {
        Some("/hetzner/v1/metadata") => Say::ok(metadata),
        _ => Say::status(404),
    })
    .await;
    Hetzner(Http::new(&server.base())).facts().await.unwrap()
}

#[tokio::test]
async fn its_address_is_on_the_interface_or_there_is_none() {
    let yaml = "hostname: web1\ninstance-id: 42\npublic-ipv4: 198.51.100.7\nregion: eu-central\n";
    assert_eq!(
        said(yaml).await,
        Some(Said::new(Some("42"), Some("198.51.100.7")))
    );
    let private = "hostname: web1\ninstance-id: '42'\npublic-ipv4: ''\n";
    assert_eq!(said(private).await, Some(Said::new(Some("42"), None)));
    let odd = "- 1\n- 2\n";
    assert_eq!(said(odd).await, Some(Said::new(None, None)));
}
