//! Word of a source that has something else now.

use super::*;

/// A service like GCE's: an attribute whose version is its port, and which holds back who has it.
/// From 1000 on it holds nothing back, and has another version each time.
async fn telling_service(port: Arc<AtomicU16>) -> Server {
    let answers = AtomicU16::new(0);
    Server::new(move |head| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let port = port.load(Ordering::Relaxed);
        let version = match port {
            1000.. => format!("v{}", answers.fetch_add(1, Ordering::Relaxed)),
            _ => format!("v{port}"),
        };
        if target.contains("wait_for_change=true")
            && target.contains(&format!("last_etag={version}&"))
        {
            return Say::Silence;
        }
        match target.split('?').next() {
            Some("/computemetadata/v1/instance/attributes/vmagent") => {
                Say::ok(yaml(port)).with("ETag", &version)
            }
            _ => Say::status(404),
        }
    })
    .await
}

/// How many requests have waited for a change.
fn held(server: &Server) -> usize {
    let requests = server.requests();
    let waits = |request: &&String| request.contains("wait_for_change");
    requests.iter().filter(waits).count()
}

#[tokio::test]
async fn a_source_that_waits_for_a_change_holds_up_nothing() {
    let server = telling_service(Arc::new(AtomicU16::new(1))).await;
    let order = [SourceName::File, SourceName::Gce];
    let mut running = Running::new(Directory::new(), &server.url, &order);
    running.until_port(1).await;
    eventually(|| held(&server) == 1).await;
    running.documents.mark_unchanged();
    // A round in between: nothing changes, and the service is waited for again.
    running.nudge(Nudge::Reload).await;
    eventually(|| held(&server) == 2).await;
    assert!(!running.documents.has_changed().unwrap());
    running.directory.write(FILE, yaml(2));
    running.until_port(2).await;
    // What is behind the file can't change anything now.
    assert_eq!(held(&server), 2);
    std::fs::remove_file(running.directory.path().join(FILE)).unwrap();
    running.until_port(1).await;
    eventually(|| held(&server) == 3).await;
}

#[tokio::test]
async fn a_source_that_cries_wolf_is_not_read_all_the_time() {
    let server = telling_service(Arc::new(AtomicU16::new(1000))).await;
    let mut running = Running::new(Directory::new(), &server.url, &[SourceName::Gce]);
    running.until_port(1000).await;
    // At once, after one second, after two more: without a bound it would be thousands.
    let started = Instant::now();
    eventually(|| held(&server) == 3).await;
    assert!(
        started.elapsed() > Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}
