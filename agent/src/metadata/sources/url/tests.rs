//! By RFC 9110 section 13.1.2 (`If-None-Match`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::*;
use crate::explain::Explain;
use crate::metadata::fixtures::{Say, Server, document, yaml};
use crate::metadata::sources::tests::look;

#[tokio::test]
async fn a_document_that_is_the_same_is_not_sent_again() {
    let port = Arc::new(AtomicU16::new(1));
    let sent = Arc::new(AtomicU16::new(0));
    let (now, count) = (Arc::clone(&port), Arc::clone(&sent));
    let server = Server::new(move |head| {
        let port = now.load(Ordering::Relaxed);
        if port == 0 {
            return Say::status(404);
        }
        if head.contains(&format!("\r\nif-none-match: \"v{port}\"\r\n")) {
            return Say::status(304);
        }
        count.fetch_add(1, Ordering::Relaxed);
        Say::ok(yaml(port)).with("ETag", &format!("\"v{port}\""))
    })
    .await;
    let mut source = Url::new(Http::new(&server.base()));
    for _ in 0..3 {
        assert_eq!(look(&mut source).await, Reading::Found(document(1)));
    }
    assert_eq!(sent.load(Ordering::Relaxed), 1);
    port.store(2, Ordering::Relaxed);
    assert_eq!(look(&mut source).await, Reading::Found(document(2)));
    port.store(0, Ordering::Relaxed);
    assert_eq!(look(&mut source).await, Reading::Absent);
    // Nothing is remembered of what is gone.
    port.store(2, Ordering::Relaxed);
    assert_eq!(look(&mut source).await, Reading::Found(document(2)));
    assert_eq!(sent.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_empty_page_is_no_word_and_204_and_null_are() {
    for (say, silent) in [
        (Say::ok(""), true),
        (Say::ok("\r\n"), true),
        (Say::ok("{}"), true),
        (Say::ok("---\n"), true),
        (Say::ok("vmagent:\n"), true),
        (Say::ok("{\"vmagent\": {}}"), true),
        (Say::ok("null"), false),
        (Say::ok("~\n"), false),
        (Say::ok("vmagent: null # none any more"), false),
        (Say::ok("{\"vmagent\":null}"), false),
        (Say::status(204), false),
        (Say::status(404), false),
        (Say::status(410), false),
    ] {
        let shown = format!("{say:?}");
        let server = Server::new(move |_| say.clone()).await;
        match look(&mut Url::new(Http::new(&server.base()))).await {
            Reading::Silent { fault, .. } if silent => {
                let said = fault.to_string();
                assert_eq!(said, format!("{} is there, but empty", server.url));
                assert!(fault.advice().contains("`null`"));
            }
            Reading::Absent | Reading::Empty(_) if !silent => {}
            other @ (Reading::Found(_)
            | Reading::Absent
            | Reading::Empty(_)
            | Reading::Silent { .. }
            | Reading::Failed(_)) => panic!("{shown}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_was_wrong_stays_wrong_until_it_is_something_else() {
    let server = Server::new(|head| match head.contains("if-none-match") {
        true => Say::status(304),
        false => Say::ok("<html>sign in</html>").with("ETag", "x"),
    })
    .await;
    let mut source = Url::new(Http::new(&server.base()));
    let first = look(&mut source).await;
    assert!(matches!(first, Reading::Failed(_)));
    assert_eq!(look(&mut source).await, first);
}

#[tokio::test]
async fn a_server_without_versions_sends_it_each_time() {
    let server = Server::new(|head| {
        assert!(!head.contains("if-none-match"));
        Say::ok(yaml(1))
    })
    .await;
    let mut source = Url::new(Http::new(&server.base()));
    for _ in 0..2 {
        assert_eq!(look(&mut source).await, Reading::Found(document(1)));
    }
}
