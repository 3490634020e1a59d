//! HTTPS: the document and the report through a real TLS server, if this machine trusts it.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::agent::Agent;
use harness::failure::Result;
use harness::limits::SOON;
use harness::metadata::Metadata;
use harness::process::{self, Process};
use harness::receiver::Receiver;
use harness::scene::Scene;
use harness::wait;
use serde_json::Value;
use tempfile::TempDir;

/// Ports of TLS on loopback, and who is behind them.
const DOCUMENT: (u16, &str) = (443, "169.254.169.254:80");
const REPORT: (u16, &str) = (8443, "127.0.0.1:8085");

/// What a server's certificate says, and not that it may vouch for others.
const CERTIFICATE: &str = "[req]\ndistinguished_name = name\nx509_extensions = server\n[name]\n\
                           [server]\nbasicConstraints = CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";

/// Two servers behind OpenSSL, with one certificate.
struct Behind {
    scene: Scene,
    service: Metadata,
    receiver: Receiver,
    dir: TempDir,
    _tls: [Process; 2],
}

impl Behind {
    fn new() -> Result<Self> {
        let scene = Scene::new()?;
        let public = scene.key.public()?;
        scene.proxy.authorize("restrict,port-forwarding", &public)?;
        let dir = tempfile::tempdir()?;
        certify(dir.path())?;
        let service = Metadata::start(&scene.namespace)?;
        service.page("/vm.yaml", &scene.document()?);
        let receiver = Receiver::start(&scene.namespace, REPORT.1.parse()?, 204)?;
        let tls = [
            tls(&scene, dir.path(), DOCUMENT)?,
            tls(&scene, dir.path(), REPORT)?,
        ];
        Ok(Self {
            scene,
            service,
            receiver,
            dir,
            _tls: tls,
        })
    }

    /// An agent that trusts whom this certificate belongs to.
    fn trusted_by(&self, certificate: &Path) -> Result<Agent> {
        let metadata = format!(
            "sources = [\"url\"]\ndocument_url = \"https://127.0.0.1:{}/vm.yaml\"",
            DOCUMENT.0
        );
        let report = format!("url = \"https://127.0.0.1:{}/vms\"", REPORT.0);
        let config = [("metadata", metadata.as_str()), ("report", report.as_str())];
        let certificate = certificate.display().to_string();
        let environment = [("SSL_CERT_FILE", certificate.as_str())];
        let dir = self.scene.agent_dir();
        Agent::start_with(&self.scene.namespace, &dir, &config, &environment)
    }
}

/// Writes `certificate.pem`, which signs itself, and `key.pem`.
fn certify(dir: &Path) -> Result<()> {
    fs::write(dir.join("config"), CERTIFICATE)?;
    let mut command = Command::new("openssl");
    command
        .current_dir(dir)
        .args(["req", "-x509", "-nodes", "-days", "2", "-config", "config"]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args([
        "-subj",
        "/CN=test",
        "-keyout",
        "key.pem",
        "-out",
        "certificate.pem",
    ]);
    process::run(&mut command).map(drop)
}

/// OpenSSL in front of a server that knows nothing of TLS.
fn tls(scene: &Scene, dir: &Path, (port, to): (u16, &str)) -> Result<Process> {
    let files = dir.display();
    let listen = format!(
        "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,\
         cert={files}/certificate.pem,key={files}/key.pem"
    );
    let mut command = Command::new("socat");
    command.args([listen, format!("TCP:{to}")]);
    let process = scene
        .namespace
        .spawn(dir, &format!("tls-{port}"), &command)?;
    wait::until("TLS", SOON, || {
        scene.namespace.connect(([127, 0, 0, 1], port).into()).ok()
    })?;
    Ok(process)
}

#[test]
fn a_document_and_a_report_pass_through_tls() -> Result<()> {
    let behind = Behind::new()?;
    let agent = behind.trusted_by(&behind.dir.path().join("certificate.pem"))?;
    agent.tunnel("up", SOON)?;
    behind
        .receiver
        .wait_for("report", SOON, |told| told.path == "/vms")?;
    Ok(())
}

#[test]
fn a_server_that_nobody_vouches_for_gives_no_document_and_gets_no_report() -> Result<()> {
    let behind = Behind::new()?;
    let other = tempfile::tempdir()?;
    certify(other.path())?;
    let agent = behind.trusted_by(&other.path().join("certificate.pem"))?;
    let of_certificate = |fault: &Value| fault.to_string().contains("certificate");
    let status = agent.wait_for("fault of the source", SOON, |status| {
        of_certificate(&status["metadata"]["fault"])
    })?;
    assert_eq!(status["tunnel"]["state"], "off", "{status:#}");
    agent.wait_for("fault of the report", SOON, |status| {
        of_certificate(&status["reports"][0]["fault"])
    })?;
    assert_eq!(behind.service.requests(), Vec::<String>::new());
    assert_eq!(behind.receiver.told().len(), 0);
    Ok(())
}

#[test]
fn without_certificates_plain_http_works_and_https_says_what_is_missing() -> Result<()> {
    let behind = Behind::new()?;
    // A system without ca-certificates: an empty file and an empty directory.
    let nothing = tempfile::tempdir()?;
    let file = nothing.path().join("none.pem");
    fs::write(&file, "")?;
    let (file, dir) = (
        file.display().to_string(),
        nothing.path().display().to_string(),
    );
    let environment = [("SSL_CERT_FILE", &*file), ("SSL_CERT_DIR", &*dir)];
    let start = |metadata: &str| {
        let report = format!("url = \"https://127.0.0.1:{}/vms\"", REPORT.0);
        let config = [("metadata", metadata), ("report", report.as_str())];
        let dir = behind.scene.agent_dir();
        Agent::start_with(&behind.scene.namespace, &dir, &config, &environment)
    };
    let plain = "sources = [\"url\"]\ndocument_url = \"http://169.254.169.254/vm.yaml\"";
    let agent = start(plain)?;
    agent.tunnel("up", SOON)?;
    let report = agent.wait_for("fault of the report", SOON, |status| {
        status["reports"][0]["fault"]["code"] == "tls-no-certificates"
    })?;
    assert_eq!(report["metadata"]["fault"], Value::Null, "{report:#}");
    drop(agent);

    let agent = start(&plain.replace("http://169.254.169.254", "https://127.0.0.1"))?;
    let status = agent.wait_for("fault of the source", SOON, |status| {
        status["metadata"]["fault"]["code"] == "tls-no-certificates"
    })?;
    assert_eq!(status["health"], "degraded", "{status:#}");
    let advice = status["metadata"]["fault"]["advice"].to_string();
    assert!(advice.contains("ca-certificates"), "{advice}");
    Ok(())
}
