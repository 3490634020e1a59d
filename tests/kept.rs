//! An agent that is restarted while the metadata is out of reach comes up with the last good
//! document; but not with one that its source has taken back, or that is another machine's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use harness::agent::Agent;
use harness::limits::{ROUND, SOON};
use harness::metadata::Metadata;
use harness::netns::Namespace;
use harness::scene::{OPTIONS, Scene};
use harness::wait;
use serde_json::Value;
use tempfile::TempDir;

/// A scene, and the directories that a service manager gives to the agent.
struct Rig {
    scene: Scene,
    /// In memory, as /run is.
    runtime: TempDir,
    state: TempDir,
    cache: &'static str,
}

impl Rig {
    fn new(cache: &'static str) -> Self {
        let scene = Scene::new().unwrap();
        let public = scene.key.public().unwrap();
        scene.proxy.authorize(OPTIONS, &public).unwrap();
        Self {
            scene,
            runtime: tempfile::tempdir_in("/dev/shm").unwrap(),
            state: tempfile::tempdir().unwrap(),
            cache,
        }
    }

    fn namespace(&self) -> &Namespace {
        &self.scene.namespace
    }

    /// A service that calls the machine this, with the scene's document.
    fn service(&self, instance_id: &str) -> Metadata {
        let service = Metadata::start(self.namespace()).unwrap();
        service.ec2(instance_id, &self.scene.document().unwrap());
        service
    }

    /// An agent that asks the service alone. The one before it is killed.
    fn agent(&self) -> Agent {
        self.agent_with(&format!("cache = \"{}\"", self.cache))
    }

    /// As [`Rig::agent`], with this line for the cache.
    fn agent_with(&self, cache: &str) -> Agent {
        let config = [("metadata", "sources = [\"ec2\"]"), ("metadata", cache)];
        let [runtime, state] = [&self.runtime, &self.state].map(|dir| dir.path().to_str().unwrap());
        let environment = [("RUNTIME_DIRECTORY", runtime), ("STATE_DIRECTORY", state)];
        let dir = self.scene.agent_dir();
        Agent::start_with(&self.scene.namespace, &dir, &config, &environment).unwrap()
    }

    /// Where it keeps the document.
    fn file(&self) -> PathBuf {
        let dir = if self.cache == "state" {
            &self.state
        } else {
            &self.runtime
        };
        dir.path().join("document")
    }

    /// Has an agent come up and keep its document, and kills it; the service goes, too.
    fn leave_behind(&self) {
        let service = self.service("i-1");
        let agent = self.agent();
        agent.tunnel("up", SOON).unwrap();
        wait::until("kept document", SOON, || self.file().exists().then_some(())).unwrap();
        drop(agent);
        drop(service);
    }
}

fn kept(status: &Value) -> bool {
    let metadata = &status["metadata"];
    metadata["kept"] == true && metadata["source"] == "ec2" && metadata["state"] == "failed"
}

#[test]
fn a_restart_without_the_metadata_service_comes_up_and_says_from_what() {
    let rig = Rig::new("runtime");
    rig.leave_behind();
    let mode = fs::metadata(rig.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // Fault: nobody listens there any more. The cure is the agent itself.
    let began = Instant::now();
    let agent = rig.agent();
    let status = agent.tunnel("up", SOON).unwrap();
    println!("service gone: up {:.1?} after the start", began.elapsed());
    assert!(kept(&status), "{:#}", status["metadata"]);
    assert_eq!(status["metadata"]["fault"]["code"], "metadata-unreachable");
    assert!(status["metadata"]["fetched_at"].is_string());
    assert_eq!(status["instance_id"], "i-1", "{status:#}");
    assert_eq!(status["health"], "degraded", "a person should know");
    let text = agent.ask(&[]).unwrap().stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("kept from before a restart"), "{text}");
    // The service is back: it has the word.
    let service = rig.service("i-1");
    let found = |status: &Value| status["metadata"]["state"] == "found";
    let status = agent.wait_for("document", ROUND, found).unwrap();
    assert_eq!(status["metadata"]["kept"], false);
    assert_eq!(status["tunnel"]["state"], "up", "undisturbed");
    drop(service);
}

#[test]
fn so_does_one_whose_metadata_service_hangs() {
    let rig = Rig::new("runtime");
    rig.leave_behind();
    let _silent = rig
        .namespace()
        .listen(([169, 254, 169, 254], 80).into())
        .unwrap();
    let began = Instant::now();
    let agent = rig.agent();
    let status = agent.tunnel("up", SOON).unwrap();
    println!("service hangs: up {:.1?} after the start", began.elapsed());
    assert!(kept(&status), "{:#}", status["metadata"]);
}

#[test]
fn a_document_that_was_taken_back_is_not_used() {
    let rig = Rig::new("runtime");
    rig.leave_behind();
    let service = rig.service("i-1");
    service.page("/latest/user-data", "#!/bin/sh\n");
    let agent = rig.agent();
    let absent = |status: &Value| status["metadata"]["state"] == "absent";
    let status = agent.wait_for("absence", SOON, absent).unwrap();
    assert_eq!(status["metadata"]["source"], Value::Null);
    assert!(!rig.file().exists());
    assert!(!agent.log().contains("in force"), "{}", agent.log());
    // And it does not come back with the next one.
    drop(agent);
    drop(service);
    let agent = rig.agent();
    let failed = |status: &Value| status["metadata"]["state"] == "failed";
    let status = agent.wait_for("failure", SOON, failed).unwrap();
    assert_eq!(status["metadata"]["source"], Value::Null);
}

#[test]
fn a_clone_with_another_name_does_not_use_it() {
    let rig = Rig::new("runtime");
    rig.leave_behind();
    // It is asked in vain for a document, but says what the machine is called.
    let service = rig.service("i-2");
    service.page(
        "/latest/user-data",
        "#cloud-config\nvmagent: {version: 2}\n",
    );
    let agent = rig.agent();
    let failed = |status: &Value| status["metadata"]["state"] == "failed";
    let status = agent.wait_for("failure", SOON, failed).unwrap();
    assert_eq!(status["metadata"]["source"], Value::Null, "{status:#}");
    assert_eq!(status["metadata"]["fault"]["code"], "document-invalid");
    assert_eq!(status["tunnel"]["state"], "off");
    assert!(!agent.log().contains("in force"), "{}", agent.log());
    assert!(!rig.file().exists());
}

#[test]
fn on_a_disk_it_is_kept_only_where_that_is_asked_for() {
    let kept_in = |dir: &TempDir| dir.path().join("document").exists();
    let mut rig = Rig::new("state");
    rig.leave_behind();
    assert_eq!((kept_in(&rig.runtime), kept_in(&rig.state)), (false, true));
    // A reboot: nothing is left in memory.
    let agent = rig.agent();
    let status = agent.tunnel("up", SOON).unwrap();
    assert!(kept(&status), "{:#}", status["metadata"]);
    drop(agent);
    // Asked for no more, it is taken away, and nothing is used.
    rig.cache = "off";
    let agent = rig.agent();
    let failed = |status: &Value| status["metadata"]["state"] == "failed";
    let status = agent.wait_for("failure", SOON, failed).unwrap();
    assert_eq!(status["metadata"]["source"], Value::Null);
    let service = rig.service("i-1");
    agent.tunnel("up", ROUND).unwrap();
    let known = |status: &Value| status["instance_id"] == "i-1";
    agent.wait_for("facts", SOON, known).unwrap();
    assert_eq!((kept_in(&rig.runtime), kept_in(&rig.state)), (false, false));
    drop(service);
}

/// No good configuration is known: `cahce = "off"` may not keep the document.
#[test]
fn a_misspelt_cache_keeps_no_document() {
    let rig = Rig::new("runtime");
    rig.leave_behind();
    for dir in [&rig.runtime, &rig.state] {
        fs::remove_file(dir.path().join("config.toml")).unwrap();
    }
    let agent = rig.agent_with("cahce = \"off\"");
    let failed = |status: &Value| status["metadata"]["state"] == "failed";
    let status = agent.wait_for("failure", SOON, failed).unwrap();
    assert_eq!(status["config"]["state"], "partial", "{status:#}");
    assert_eq!(status["metadata"]["source"], Value::Null, "{status:#}");
    assert!(!rig.file().exists());
}
