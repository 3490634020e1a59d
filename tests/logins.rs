//! What a proxy wants of a login, and certificates over their life.

use std::process::Command;
use std::time::Duration;

use harness::agent::{Agent, binary};
use harness::metadata::Metadata;
use harness::openssh::{Sshd, TUNNEL_USER, make_key, sign};
use harness::scene::{OPTIONS, PORT, Scene};
use harness::ssh::Key;
use harness::wait;
use harness::watch::Outage;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// What needs a person is asked for again after ten seconds at most at first; and the login.
const CURED: Duration = Duration::from_secs(11);

/// How long a newer certificate is waited for before a login with one that has expired.
const RENEWAL: Duration = Duration::from_secs(4);

/// The configuration of a proxy that wants these methods of the tunnel's account.
fn wanting(methods: &str) -> String {
    let user = format!("Match User {TUNNEL_USER}\n");
    let wanted =
        format!("{user}    AuthenticationMethods {methods}\n    PasswordAuthentication yes\n");
    Sshd::proxy_config().replace(&user, &wanted)
}

#[test]
fn a_second_factor_is_told_from_a_key_that_is_not_accepted() {
    for (methods, said) in [
        ("publickey,password", "and wants password besides"),
        (
            "publickey,keyboard-interactive",
            "and wants keyboard-interactive besides",
        ),
        ("publickey,publickey", "and wants publickey besides"),
        (
            "keyboard-interactive,publickey",
            "it takes no key now, only keyboard-interactive",
        ),
    ] {
        let mut scene = Scene::with_proxy(&wanting(methods)).unwrap();
        let public = scene.key.public().unwrap();
        scene.proxy.authorize(OPTIONS, &public).unwrap();
        let agent = scene.agent(&scene.document().unwrap()).unwrap();
        let mut outage = Outage::begin(&agent, methods).unwrap();
        let status = outage
            .shows(SOON, &["auth-more-wanted", "auth-rejected"])
            .unwrap();
        let fault = &status["tunnel"]["fault"];
        assert_eq!(fault["code"], "auth-more-wanted", "{fault:#}");
        let message = fault["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
        let advice = fault["advice"].as_str().unwrap();
        assert!(advice.contains("AuthenticationMethods"), "{advice}");
        if methods == "publickey,password" {
            let wanted = format!("AuthenticationMethods {methods}");
            let key_alone = "AuthenticationMethods publickey";
            scene.proxy.configure(&wanted, key_alone).unwrap();
            scene.proxy.stop();
            scene.proxy.start().unwrap();
            let status = outage.cured("publickey alone", CURED).unwrap();
            assert_eq!(status["tunnel"]["fault"], json!(null));
        }
    }
}

#[test]
fn what_a_proxy_says_as_it_ends_a_login_is_shown() {
    let user = format!("Match User {TUNNEL_USER}\n");
    let config = Sshd::proxy_config().replace(&user, &format!("{user}    MaxAuthTries 1\n"));
    let scene = Scene::with_proxy(&config).unwrap();
    let agent = scene.agent(&scene.document().unwrap()).unwrap();
    let status = agent.tunnel_fault("auth-rejected", SOON).unwrap();
    let message = status["tunnel"]["fault"]["message"].as_str().unwrap();
    assert!(
        message.contains("Too many authentication failures"),
        "{message}"
    );
}

/// A scene whose proxy takes certificates of an authority.
struct Signed {
    scene: Scene,
    ca: Key,
}

impl Signed {
    fn new() -> Self {
        let scene = Scene::new().unwrap();
        let ca = make_key(&scene.agent_dir().join("ca"), "ed25519").unwrap();
        let options = format!("cert-authority,{OPTIONS}");
        scene
            .proxy
            .authorize(&options, &ca.public().unwrap())
            .unwrap();
        Self { scene, ca }
    }

    /// A document with a certificate for this span (ssh-keygen(1), `-V`).
    fn document(&self, span: &str) -> String {
        let options = ["-n", TUNNEL_USER, "-V", span];
        let certificate = sign(&self.ca, &self.scene.key, &options).unwrap();
        let more = format!("    certificate: '{certificate}'\n");
        let host_key = self.scene.proxy.host_key("ed25519").unwrap();
        let document = self
            .scene
            .document_with("0.0.0.0", PORT, &host_key, &self.scene.key, &more);
        document.unwrap()
    }

    /// What `vmagent check-config` says of a document, and its exit status.
    fn checked(&self, document: &str) -> (String, Option<i32>) {
        let path = self.scene.agent_dir().join("checked.yaml");
        std::fs::write(&path, document).unwrap();
        let mut command = Command::new(binary());
        command.args(["check-config", "--document"]).arg(&path);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.code())
    }
}

fn warning(status: &Value) -> &Value {
    &status["tunnel"]["certificate"]["warning"]["code"]
}

#[test]
fn a_certificate_that_is_not_valid_is_named_and_a_new_one_comes_up() {
    let signed = Signed::new();
    for (span, code, said, exit) in [
        (
            "20200101000000Z:20200102000000Z",
            "certificate-expired",
            "expired at 2020-01-02T00:00:00Z",
            78,
        ),
        (
            "20980101000000Z:20990101000000Z",
            "certificate-not-yet-valid",
            "is not valid before 2098-01-01T00:00:00Z",
            0,
        ),
    ] {
        let document = signed.document(span);
        let (text, status) = signed.checked(&document);
        assert!(text.contains(said), "{text}");
        assert_eq!(status, Some(exit), "{text}");
        let agent = signed.scene.agent(&document).unwrap();
        let status = agent.tunnel_fault(code, RENEWAL + SOON).unwrap();
        assert_eq!(warning(&status), code, "{status:#}");
        let fault = &status["tunnel"]["fault"];
        let words = [&fault["message"], &fault["advice"]].map(|words| words.as_str().unwrap());
        assert!(words[0].contains(said), "{words:?}");
        assert!(!words.concat().contains("authorized_keys"), "{words:?}");
        let lost = |status: &Value| status["health"] == "degraded";
        agent.wait_for("degraded health", SOON, lost).unwrap();
        agent
            .write_document(&signed.document("always:forever"))
            .unwrap();
        let status = agent.tunnel("up", SOON).unwrap();
        let expected = json!({
            "key_id": "vmagent-test", "valid_after": null, "valid_before": null, "warning": null
        });
        assert_eq!(status["tunnel"]["certificate"], expected);
    }
}

#[test]
fn a_certificate_that_ends_soon_is_said_to_while_all_is_well() {
    let signed = Signed::new();
    let document = signed.document("-1d:+1h");
    let (text, status) = signed.checked(&document);
    assert!(
        text.contains("warning: the certificate \"vmagent-test\" expires at "),
        "{text}"
    );
    assert_eq!(status, Some(0), "{text}");
    let agent = signed.scene.agent(&document).unwrap();
    let status = agent.tunnel("up", SOON).unwrap();
    assert_eq!(warning(&status), "certificate-expiring", "{status:#}");
    let ok = |status: &Value| status["health"] == "ok";
    agent.wait_for("ok", SOON, ok).unwrap();
    let words = String::from_utf8(agent.ask(&[]).unwrap().stdout).unwrap();
    let (_, worth_knowing) = words.split_once("Worth knowing").expect(&words);
    assert!(worth_knowing.contains("certificate-expiring"), "{words}");
    assert!(worth_knowing.contains("valid until"), "{words}");
    // One with most of its life before it is nothing to talk about.
    agent.write_document(&signed.document("-1h:+1d")).unwrap();
    let quiet = |status: &Value| status["tunnel"]["state"] == "up" && warning(status).is_null();
    let status = agent.wait_for("no warning", SOON, quiet).unwrap();
    let until = status["tunnel"]["certificate"]["valid_before"]
        .as_str()
        .unwrap();
    let (text, _) = signed.checked(&signed.document("-1h:+1d"));
    assert!(
        text.contains("with the certificate \"vmagent-test\", valid until 20"),
        "{text}"
    );
    assert!(humantime::parse_rfc3339(until).is_ok(), "{until}");
}

#[test]
fn the_metadata_is_read_before_a_login_with_a_certificate_that_has_expired() {
    let signed = Signed::new();
    let scene = &signed.scene;
    let service = Metadata::start(&scene.namespace).unwrap();
    service.ec2("i-1", &signed.document("-1h:+30s"));
    let config = [("metadata", "sources = [\"ec2\"]")];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config).unwrap();
    agent.tunnel("up", SOON).unwrap();
    let looks = || {
        let requests = service.requests();
        let of_document = |request: &&String| request.contains("/latest/user-data");
        requests.iter().filter(of_document).count()
    };
    let before = looks();
    // The fault is the time itself. The session stays, and is well.
    let expired = |status: &Value| warning(status) == "certificate-expired";
    let status = agent
        .wait_for("end of the certificate", 6 * SOON, expired)
        .unwrap();
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
    assert_eq!(status["health"], "ok", "{status:#}");
    wait::until("look at the metadata", SOON, || {
        (looks() > before).then_some(())
    })
    .unwrap();
    // Nobody tells the agent that there is a new one now.
    service.ec2("i-1", &signed.document("-1h:+1d"));
    let outage = Outage::begin(&agent, "session cut, its certificate expired").unwrap();
    scene.proxy.cut().unwrap();
    let status = outage
        .cured("a new one in the metadata", RENEWAL + SOON)
        .unwrap();
    assert!(warning(&status).is_null(), "{status:#}");
    let log = scene.proxy.log();
    assert!(!log.contains("expired"), "{log}");
}
