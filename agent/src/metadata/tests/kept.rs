//! A document that an agent before has kept.

use super::*;

/// A service that gives this name, and a document or a failure.
async fn named(name: &'static str, state: Arc<AtomicU16>) -> Server {
    Server::new(
        move |head| match (head.split(' ').nth(1), state.load(Ordering::Relaxed)) {
            (Some("/openstack/latest/meta_data.json"), _) => {
                Say::ok(format!("{{\"uuid\": \"{name}\"}}"))
            }
            (Some("/openstack/latest/vendor_data2.json"), status @ 404..=599) => {
                Say::status(status)
            }
            (Some("/openstack/latest/vendor_data2.json"), 0) => Say::ok("{}"),
            (Some("/openstack/latest/vendor_data2.json"), port) => Say::ok(yaml(port)),
            _ => Say::status(404),
        },
    )
    .await
}

/// A directory in which an agent before has kept document 1, of the machine `one`.
async fn left_behind() -> Directory {
    let directory = Directory::new();
    directory.write("etc/machine-id", "0123456789abcdef\n");
    directory.write("run/other", "");
    let server = named("one", Arc::new(AtomicU16::new(1))).await;
    let kept = directory.path().join("run/document");
    let mut running = Running::new(directory, &server.url, &[SourceName::Openstack]);
    running.until_port(1).await;
    timeout(LONG, async {
        while !kept.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("never kept");
    running.stop()
}

impl Running {
    /// Ends the task, and gives the directory to the next one.
    fn stop(mut self) -> Directory {
        self.task.abort();
        std::mem::replace(&mut self.directory, Directory::new())
    }

    fn kept(&self) -> bool {
        self.directory.path().join("run/document").exists()
    }
}

#[tokio::test]
async fn what_was_kept_is_used_when_its_source_fails_and_the_source_has_the_word_again() {
    let state = Arc::new(AtomicU16::new(500));
    let server = named("one", Arc::clone(&state)).await;
    let order = [SourceName::Openstack];
    let mut running = Running::new(left_behind().await, &server.url, &order);
    running.until_port(1).await;
    let failed = running
        .until(|now| now.state == MetadataState::Failed)
        .await;
    assert!(failed.kept && failed.fetched_at.is_some());
    assert_eq!(failed.source.as_deref(), Some("openstack"));
    assert_eq!(fault(&failed), "metadata-server-error");
    // The service is back, first with the same, then with another.
    running.documents.mark_unchanged();
    state.store(1, Ordering::Relaxed);
    running.nudge(Nudge::Reload).await;
    let found = running.until(|now| now.state == MetadataState::Found).await;
    assert!(!found.kept);
    assert!(!running.documents.has_changed().unwrap(), "it is the same");
    state.store(2, Ordering::Relaxed);
    running.nudge(Nudge::Reload).await;
    running.until_port(2).await;
    // Once the service has none any more, none is kept either.
    state.store(0, Ordering::Relaxed);
    running.nudge(Nudge::Reload).await;
    running
        .until(|now| now.state == MetadataState::Absent)
        .await;
    assert!(!running.kept());
}

#[tokio::test]
async fn what_was_kept_is_not_used_when_the_source_has_none_or_another() {
    let order = [SourceName::Openstack];
    let server = named("one", Arc::new(AtomicU16::new(0))).await;
    let running = Running::new(left_behind().await, &server.url, &order);
    running
        .until(|now| now.state == MetadataState::Absent)
        .await;
    assert!(!running.documents.has_changed().unwrap(), "it was in force");
    assert!(!running.kept());

    let server = named("one", Arc::new(AtomicU16::new(2))).await;
    let mut running = Running::new(left_behind().await, &server.url, &order);
    running.until_port(2).await;
    let found = running.until(|now| now.state == MetadataState::Found).await;
    assert!(!found.kept);
}

/// Nova says so of everything when it does not find the machine, its name included.
#[tokio::test]
async fn what_was_kept_is_used_where_all_is_404() {
    let server = Server::new(|_| Say::status(404)).await;
    let directory = left_behind().await;
    let mut running = Running::new(directory, &server.url, &[SourceName::Openstack]);
    running.until_port(1).await;
    let status = running.until(|now| now.kept).await;
    assert_eq!(fault(&status), "metadata-http");
    assert!(running.kept());
}

#[tokio::test]
async fn a_clone_that_is_called_otherwise_does_not_use_what_was_kept() {
    let server = named("two", Arc::new(AtomicU16::new(500))).await;
    let order = [SourceName::Openstack];
    let running = Running::new(left_behind().await, &server.url, &order);
    let failed = running
        .until(|now| now.state == MetadataState::Failed)
        .await;
    assert_eq!((failed.source, failed.kept), (None, false));
    assert!(!running.documents.has_changed().unwrap(), "it was in force");
    assert!(!running.kept());
}

#[tokio::test]
async fn what_was_kept_is_gone_after_a_restore() {
    let server = named("one", Arc::new(AtomicU16::new(500))).await;
    let order = [SourceName::Openstack];
    let mut running = Running::new(left_behind().await, &server.url, &order);
    running.until_port(1).await;
    running.restores.send_replace(1);
    let gone = running.documents.wait_for(|now| now.document.is_none());
    timeout(LONG, gone).await.unwrap().unwrap();
    running
        .until(|now| now.state == MetadataState::Failed)
        .await;
    assert!(!running.kept());
}

#[tokio::test]
async fn what_was_kept_of_a_source_that_is_asked_no_more_is_taken_away() {
    let directory = left_behind().await;
    // A file that can't be read, so that the round fails.
    directory.write(&format!("{FILE}/in-the-way"), "");
    let running = Running::new(directory, "http://127.0.0.1:1", &[SourceName::File]);
    let failed = running
        .until(|now| now.state == MetadataState::Failed)
        .await;
    assert_eq!((failed.source, failed.kept), (None, false));
    assert!(!running.kept());
}
