//! The task as a whole, on files and a service of its own.

mod live;

use std::sync::atomic::{AtomicU16, Ordering};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::{HttpUrl, SourceName};
use crate::metadata::fixtures::{Directory, Say, Server, document, yaml};
use crate::status::board::Board;
use crate::status::model::{Metadata, MetadataState};

/// Far more than anything here takes: a test that reaches it has failed.
const LONG: Duration = Duration::from_secs(120);
const FILE: &str = "etc/vmagent/tunnel.yaml";

mod kept;

struct Running {
    directory: Directory,
    board: Board,
    nudges: mpsc::Sender<Nudge>,
    restores: channel::Sender<u64>,
    documents: channel::Receiver<InForce>,
    facts: channel::Receiver<Facts>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn new(directory: Directory, url: &str, order: &[SourceName]) -> Self {
        let config = Config {
            sources: Some(order.to_vec()),
            url: HttpUrl::parse(url).unwrap(),
            file: directory.path().join(FILE),
            ..Config::default()
        };
        let places = Places {
            root: directory.path().to_owned(),
            credentials: None,
            inputs: directory.path().join("inputs.sock"),
        };
        let board = Board::new("127.0.0.1:22");
        let (nudges, nudged) = mpsc::channel(4);
        let (restores, restored) = channel::channel(0);
        let (document, documents) = channel::channel(InForce::default());
        let (known, facts) = channel::channel(Facts::default());
        let wires = Wires {
            nudges: nudged,
            restores: restored,
            document,
            facts: known,
        };
        let machine_id = directory.path().join("etc/machine-id");
        let kept = Some(directory.path().join("run")).filter(|path| path.exists());
        let keeper = Keeper::at(kept, &machine_id);
        let task = run_in(places, keeper, config, board.metadata(), wires);
        Self {
            directory,
            board,
            nudges,
            restores,
            documents,
            facts,
            task: tokio::spawn(task),
        }
    }

    /// Waits until the slice is as wanted.
    async fn until(&self, wanted: impl Fn(&Metadata) -> bool) -> Metadata {
        let mut statuses = self.board.subscribe();
        let status = timeout(LONG, statuses.wait_for(|status| wanted(&status.metadata))).await;
        match status {
            Ok(status) => status.unwrap().metadata.clone(),
            Err(_) => panic!("still {:?}", self.board.metadata().get()),
        }
    }

    /// Waits until this document is in force, by its port.
    async fn until_port(&mut self, port: u16) {
        let wanted = document(port);
        let force = self
            .documents
            .wait_for(|now| now.document.as_ref() == Some(&wanted));
        timeout(LONG, force).await.expect("never in force").unwrap();
    }

    async fn nudge(&self, nudge: Nudge) {
        self.nudges.send(nudge).await.unwrap();
    }
}

async fn eventually(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, holds).await.expect("never so");
}

fn fault(metadata: &Metadata) -> &str {
    metadata.fault.as_ref().map_or("", |fault| &fault.code)
}

#[tokio::test]
async fn a_file_that_comes_late_is_in_force_at_once_and_gone_when_it_goes() {
    let mut running = Running::new(Directory::new(), "http://127.0.0.1:1", &[SourceName::File]);
    running
        .until(|now| now.state == MetadataState::Absent)
        .await;
    running.directory.write(FILE, yaml(1));
    running.until_port(1).await;
    let found = running.until(|now| now.state == MetadataState::Found).await;
    assert_eq!(found.source.as_deref(), Some("file"));
    assert!(found.fetched_at.is_some());
    running.directory.write(FILE, yaml(2));
    running.until_port(2).await;
    std::fs::remove_file(running.directory.path().join(FILE)).unwrap();
    timeout(
        LONG,
        running.documents.wait_for(|now| now.document.is_none()),
    )
    .await
    .unwrap()
    .unwrap();
    let absent = running
        .until(|now| now.state == MetadataState::Absent)
        .await;
    assert_eq!((absent.source, absent.fetched_at), (None, None));
}

#[tokio::test]
async fn a_wrong_file_leaves_the_last_good_one_in_force() {
    let directory = Directory::new();
    directory.write(FILE, yaml(1));
    let mut running = Running::new(directory, "http://127.0.0.1:1", &[SourceName::File]);
    running.until_port(1).await;
    running
        .directory
        .write(FILE, yaml(1).replace("port: 1\n", "port: 70000\n"));
    let failed = running
        .until(|now| now.state == MetadataState::Failed)
        .await;
    assert_eq!(fault(&failed), "document-invalid");
    assert!(
        failed
            .fault
            .unwrap()
            .message
            .contains("tunnel.port: found 70000")
    );
    assert_eq!(failed.source.as_deref(), Some("file"));
    assert!(running.documents.borrow().document.is_some());
    running.directory.write(FILE, yaml(2));
    running.until_port(2).await;
    let found = running.until(|now| now.state == MetadataState::Found).await;
    assert_eq!(found.fault, None);
}

#[tokio::test]
async fn an_empty_file_is_absent_and_says_so() {
    let directory = Directory::new();
    directory.write(FILE, "");
    let running = Running::new(directory, "http://127.0.0.1:1", &[SourceName::File]);
    let absent = running
        .until(|now| now.state == MetadataState::Absent)
        .await;
    assert_eq!(fault(&absent), "document-empty");
}

/// A service that fails with a status, or has the document of a port.
async fn service(state: Arc<AtomicU16>) -> Server {
    Server::new(
        move |head| match (head.split(' ').nth(1), state.load(Ordering::Relaxed)) {
            (Some("/openstack/latest/vendor_data2.json"), status @ 404..=599) => {
                Say::status(status)
            }
            (Some("/openstack/latest/vendor_data2.json"), 0) => Say::ok("{}"),
            (Some("/openstack/latest/vendor_data2.json"), port) => Say::ok(yaml(port)),
            (Some("/openstack/latest/meta_data.json"), _) => Say::ok("{\"uuid\": \"1-2-3\"}"),
            (Some("/latest/meta-data/public-ipv4"), _) => Say::ok("198.51.100.7"),
            _ => Say::status(404),
        },
    )
    .await
}

#[tokio::test]
async fn a_failing_service_keeps_the_document_and_an_answer_without_one_takes_it() {
    let state = Arc::new(AtomicU16::new(1));
    let server = service(Arc::clone(&state)).await;
    let order = [SourceName::File, SourceName::Openstack];
    let mut running = Running::new(Directory::new(), &server.url, &order);
    running.until_port(1).await;
    state.store(500, Ordering::Relaxed);
    running.nudge(Nudge::Reload).await;
    let failed = running
        .until(|now| now.state == MetadataState::Failed)
        .await;
    assert_eq!(fault(&failed), "metadata-server-error");
    assert_eq!(failed.source.as_deref(), Some("openstack"));
    assert!(running.documents.borrow().document.is_some());
    state.store(2, Ordering::Relaxed);
    running.nudge(Nudge::Reload).await;
    running.until_port(2).await;
    state.store(0, Ordering::Relaxed);
    running.nudge(Nudge::Reload).await;
    timeout(
        LONG,
        running.documents.wait_for(|now| now.document.is_none()),
    )
    .await
    .unwrap()
    .unwrap();
}

#[tokio::test]
async fn a_rejected_key_has_the_metadata_read_again() {
    let state = Arc::new(AtomicU16::new(1));
    let server = service(Arc::clone(&state)).await;
    let mut running = Running::new(Directory::new(), &server.url, &[SourceName::Openstack]);
    running.until_port(1).await;
    state.store(2, Ordering::Relaxed);
    running.nudge(Nudge::AuthFault).await;
    running.until_port(2).await;
}

#[tokio::test]
async fn the_same_document_is_not_announced_twice() {
    let server = service(Arc::new(AtomicU16::new(1))).await;
    let mut running = Running::new(Directory::new(), &server.url, &[SourceName::Openstack]);
    running.until_port(1).await;
    running.documents.mark_unchanged();
    let requests = server.requests().len();
    running.nudge(Nudge::Reload).await;
    running.nudge(Nudge::Reload).await;
    // The third nudge finds room only when the second has been taken.
    for _ in 0..4 {
        running.nudge(Nudge::Reload).await;
    }
    assert!(server.requests().len() > requests);
    assert!(!running.documents.has_changed().unwrap());
}

#[tokio::test]
async fn the_facts_follow_the_document() {
    let server = service(Arc::new(AtomicU16::new(1))).await;
    let mut running = Running::new(Directory::new(), &server.url, &[SourceName::Openstack]);
    let known = running
        .facts
        .wait_for(|facts| facts.public_source.is_some());
    let facts = timeout(LONG, known).await.unwrap().unwrap().clone();
    assert_eq!(facts.instance_id.as_deref(), Some("1-2-3"));
    let named = PublicAddress::Own("198.51.100.7".parse().unwrap());
    assert_eq!(facts.public, named);
}

#[tokio::test]
async fn a_slow_service_does_not_hold_up_a_file_that_appears() {
    let server = Server::new(|_| Say::Silence).await;
    let order = [SourceName::File, SourceName::Openstack];
    let mut running = Running::new(Directory::new(), &server.url, &order);
    // The walk has gone past the file, and hangs in the service.
    eventually(|| !server.requests().is_empty()).await;
    running.directory.write(FILE, yaml(1));
    let started = Instant::now();
    running.until_port(1).await;
    // Before the exchange with the service ends, after 5 s.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn after_a_restore_nothing_of_before_is_kept_not_even_over_a_failure() {
    let state = Arc::new(AtomicU16::new(1));
    let server = service(Arc::clone(&state)).await;
    let mut running = Running::new(Directory::new(), &server.url, &[SourceName::Openstack]);
    running.until_port(1).await;
    state.store(500, Ordering::Relaxed);
    running.restores.send_replace(1);
    let gone = running.documents.wait_for(|now| now.document.is_none());
    timeout(LONG, gone).await.unwrap().unwrap();
    let failed = running
        .until(|now| now.state == MetadataState::Failed)
        .await;
    assert_eq!(fault(&failed), "metadata-server-error");
    assert_eq!(failed.source, None);
    // Soon after the service is back; and what it says now is of this epoch.
    state.store(2, Ordering::Relaxed);
    running.until_port(2).await;
    assert_eq!(running.documents.borrow().epoch, 1);
}

#[tokio::test]
async fn the_same_document_is_announced_again_after_a_restore() {
    let server = service(Arc::new(AtomicU16::new(1))).await;
    let mut running = Running::new(Directory::new(), &server.url, &[SourceName::Openstack]);
    running.until_port(1).await;
    running.restores.send_replace(1);
    let again = |now: &InForce| now.epoch == 1 && now.document.is_some();
    let again = running.documents.wait_for(again);
    timeout(LONG, again).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_document_of_another_name_is_not_kept_over_a_failure() {
    let name = Arc::new(AtomicU16::new(1));
    let shown = Arc::clone(&name);
    let server = Server::new(move |head| {
        let name = shown.load(Ordering::Relaxed);
        match head.split(' ').nth(1) {
            Some("/openstack/latest/meta_data.json") => {
                Say::ok(format!("{{\"uuid\": \"{name}\"}}"))
            }
            Some("/openstack/latest/vendor_data2.json") if name == 1 => Say::ok(yaml(1)),
            Some("/openstack/latest/vendor_data2.json") => Say::status(500),
            _ => Say::status(404),
        }
    })
    .await;
    let mut running = Running::new(Directory::new(), &server.url, &[SourceName::Openstack]);
    running.until_port(1).await;
    let known = running
        .facts
        .wait_for(|facts| facts.instance_id.as_deref() == Some("1"));
    timeout(LONG, known).await.unwrap().unwrap();
    name.store(2, Ordering::Relaxed);
    running.nudge(Nudge::Reload).await;
    let gone = running.documents.wait_for(|now| now.document.is_none());
    timeout(LONG, gone).await.unwrap().unwrap();
}
