//! Who asked for it is told how this guest is to be reached: once, again when it changes, and
//! later when they did not listen; and nothing waits for that.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::agent::{self, Agent};
use harness::limits::{REPORT, SOON};
use harness::process;
use harness::receiver::{Receiver, Told};
use harness::scene::Scene;
use serde_json::{Value, json};

const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 8085);

/// Where Google Compute Engine's metadata service is.
const GOOGLE: ([u8; 4], u16) = ([169, 254, 169, 254], 80);

fn address() -> SocketAddr {
    ADDRESS.into()
}

/// A scene whose proxy chooses the guest's port.
fn scene() -> (Scene, String) {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene
        .proxy
        .authorize("restrict,port-forwarding", &public)
        .unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = scene.document_with("0.0.0.0", 0, &host_key, &scene.key, "");
    (scene, document.unwrap())
}

/// An agent with this `[report]`.
fn agent(scene: &Scene, document: &str, report: &str) -> Agent {
    let dir = scene.agent_dir();
    agent::write_document(&dir, document).unwrap();
    let keys = scene.sshd.key_directory().unwrap();
    let keys = format!("host_keys = \"{}\"", keys.display());
    let config = [("bridge", keys.as_str()), ("report", report)];
    Agent::start(&scene.namespace, &dir, &config).unwrap()
}

fn url() -> String {
    format!("url = \"http://{}/vms?token=secret\"", address())
}

fn body(told: &Told) -> Value {
    serde_json::from_str(&told.body).unwrap()
}

fn says(state: &str) -> impl Fn(&Told) -> bool {
    move |told| body(told)["tunnel"]["state"] == state
}

#[test]
fn a_report_has_the_keys_and_the_port_that_the_proxy_chose_and_is_sent_once() {
    let (scene, document) = scene();
    let receiver = Receiver::start(&scene.namespace, address(), 204).unwrap();
    let agent = agent(&scene, &document, &url());
    let status = agent.tunnel("up", SOON).unwrap();
    let up = Instant::now();
    let told = receiver.wait_for("report", REPORT, says("up")).unwrap();
    println!(
        "up: told after {:.1?}",
        told.at.saturating_duration_since(up)
    );
    assert_eq!(
        (told.method.as_str(), told.path.as_str()),
        ("POST", "/vms?token=secret")
    );
    assert_eq!(told.headers["content-type"], "application/json");
    let report = body(&told);
    let port = &status["tunnel"]["port"];
    assert!(port.as_u64() > Some(0));
    assert_eq!(&report["tunnel"]["port"], port, "{report:#}");
    assert_eq!(report["tunnel"]["proxy"], "127.0.0.1:2222");
    let key = scene.sshd.host_key("ed25519").unwrap();
    let key: Vec<_> = key.split(' ').take(2).collect();
    assert_eq!(report["host_keys"][0], key.join(" "), "{report:#}");
    let delivered = |status: &Value| status["reports"][0]["state"] == "delivered";
    let status = agent.wait_for("delivered", SOON, delivered).unwrap();
    let shown = &status["reports"][0];
    assert_eq!(
        shown["url"],
        format!("http://{}/vms", address()),
        "no secrets"
    );
    assert_eq!(
        (&shown["to"], &shown["fault"]),
        (&json!("url"), &Value::Null)
    );

    // Logins change the status, but nothing that is told.
    let before = receiver.told().len();
    scene.add_bridge(&agent).unwrap();
    for _ in 0..3 {
        scene.login("bridge", "true").unwrap();
    }
    std::fs::remove_file(scene.agent_dir().join("tunnel.yaml")).unwrap();
    agent.tunnel("off", SOON).unwrap();
    receiver
        .wait_for("second report", REPORT, says("off"))
        .unwrap();
    assert_eq!(receiver.told().len(), before + 1, "{:#?}", receiver.told());
}

#[test]
fn the_documents_url_gets_reports_that_name_the_vm_and_its_key() {
    let (scene, document) = scene();
    let receiver = Receiver::start(&scene.namespace, address(), 204).unwrap();
    let at = |path: &str| {
        format!(
            "{document}  report: {{url: 'http://{}{path}'}}\n",
            address()
        )
    };
    let agent = agent(&scene, &at("/first?token=secret"), "");
    let told = receiver.wait_for("report", REPORT, says("up")).unwrap();
    assert_eq!(told.path, "/first?token=secret");
    let report = body(&told);
    // The fingerprint that ssh-keygen prints for the same key.
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-lf"]).arg(&scene.key.path);
    let fingerprint = process::run(&mut keygen).unwrap();
    let fingerprint = fingerprint.split(' ').nth(1).unwrap();
    assert_eq!(report["tunnel"]["key"], fingerprint, "{report:#}");
    let named = ["/etc/hostname", "/proc/sys/kernel/hostname"].map(std::fs::read_to_string);
    let host_name = named.into_iter().find_map(Result::ok).unwrap();
    assert_eq!(report["host_name"], host_name.trim(), "{report:#}");
    let shown = agent.status().unwrap();
    assert_eq!(shown["tunnel"]["key"], fingerprint, "{shown:#}");
    assert_eq!(
        shown["reports"][0]["url"],
        format!("http://{}/first", address())
    );
    // The new URL gets the same report, and the old URL gets no more reports.
    agent.write_document(&at("/second")).unwrap();
    let second = |told: &Told| told.path == "/second" && says("up")(told);
    receiver.wait_for("report", REPORT, second).unwrap();
    agent.write_document(&document).unwrap();
    let none = |status: &Value| status["reports"] == json!([]);
    agent.wait_for("no reports", SOON, none).unwrap();
}

#[test]
fn the_configurations_url_wins_over_the_documents() {
    let (scene, document) = scene();
    let receiver = Receiver::start(&scene.namespace, address(), 204).unwrap();
    let document = format!(
        "{document}  report: {{url: 'http://{}/other'}}\n",
        address()
    );
    let agent = agent(&scene, &document, &url());
    receiver.wait_for("report", REPORT, says("up")).unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status["reports"].as_array().unwrap().len(), 1, "{status:#}");
    let told = receiver.told();
    assert!(
        told.iter().all(|told| told.path == "/vms?token=secret"),
        "{told:#?}"
    );
}

#[test]
fn a_receiver_that_fails_is_told_later_and_holds_nothing_up() {
    let (scene, document) = scene();
    let receiver = Receiver::start(&scene.namespace, address(), 503).unwrap();
    let agent = agent(&scene, &document, &url());
    agent.tunnel("up", SOON).unwrap();
    let failed = |status: &Value| status["reports"][0]["state"] == "failed";
    let status = agent.wait_for("failure", REPORT, failed).unwrap();
    let report = &status["reports"][0];
    assert_eq!(report["fault"]["code"], "report-failed", "{report:#}");
    assert_eq!(status["health"], "ok", "a report is no way in");
    assert!(report["next_attempt_at"].is_string(), "{report:#}");
    let text = agent.ask(&[]).unwrap().stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("report-failed"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    assert!(!agent.log().contains("secret"), "{}", agent.log());
    receiver.answer(200);
    let cured = Instant::now();
    let good = |told: &Told| told.status == 200 && says("up")(told);
    receiver.wait_for("report", REPORT, good).unwrap();
    println!(
        "a receiver that failed: told {:.1?} after its cure",
        cured.elapsed()
    );
    let told = receiver.told();
    let gaps = told.windows(2).map(|pair| pair[1].at - pair[0].at);
    let polite = Duration::from_secs(9);
    assert!(
        gaps.clone().all(|gap| gap > polite),
        "{:?}",
        gaps.collect::<Vec<_>>()
    );
    let delivered = |status: &Value| status["reports"][0]["state"] == "delivered";
    agent.wait_for("delivered", SOON, delivered).unwrap();
}

#[test]
fn a_receiver_that_hangs_holds_nothing_up() {
    let (scene, document) = scene();
    // Takes connections into its queue, and never answers.
    let _silent = scene.namespace.listen(address()).unwrap();
    let agent = agent(&scene, &document, &url());
    let began = Instant::now();
    agent.tunnel("up", SOON).unwrap();
    println!("a receiver that hangs: up after {:.1?}", began.elapsed());
    let code = |status: &Value| status["reports"][0]["fault"]["code"] == "report-unreachable";
    let status = agent.wait_for("failure", REPORT, code).unwrap();
    assert_eq!(status["health"], "ok", "{status:#}");
}

#[test]
fn google_is_given_the_host_keys_where_it_takes_them() {
    let (scene, document) = scene();
    let receiver = Receiver::start(&scene.namespace, GOOGLE.into(), 200).unwrap();
    let agent = agent(&scene, &document, "guest_attributes = \"always\"");
    let delivered = |status: &Value| status["reports"][0]["state"] == "delivered";
    agent.wait_for("delivered", REPORT, delivered).unwrap();
    let told = receiver.told();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = scene.sshd.host_key(kind).unwrap();
        let (name, base64) = key.split_once(' ').unwrap();
        let base64 = base64.split(' ').next().unwrap();
        // https://cloud.google.com/compute/docs/metadata/manage-guest-attributes
        let path = format!("/computeMetadata/v1/instance/guest-attributes/hostkeys/{name}");
        let found = told.iter().find(|told| told.path == path).unwrap();
        assert_eq!(
            (found.method.as_str(), found.body.as_str()),
            ("PUT", base64)
        );
        assert_eq!(found.headers["metadata-flavor"], "Google");
    }
    assert_eq!(told.len(), 3, "{told:#?}");
}

#[test]
fn a_machine_without_guest_attributes_is_well() {
    let (scene, document) = scene();
    let _receiver = Receiver::start(&scene.namespace, GOOGLE.into(), 404).unwrap();
    let agent = agent(&scene, &document, "guest_attributes = \"always\"");
    agent.tunnel("up", SOON).unwrap();
    let code = |status: &Value| status["reports"][0]["fault"]["code"] == "report-not-offered";
    let status = agent.wait_for("refusal", REPORT, code).unwrap();
    assert_eq!(status["health"], "ok", "{status:#}");
}
