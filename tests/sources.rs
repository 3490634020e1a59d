//! The tunnel document from each service over HTTP, and what is new of it at once. With
//! `--nocapture` the tests print what it took.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use harness::agent::Agent;
use harness::failure::Result;
use harness::limits::{PROGRAM, ROUND, SOON};
use harness::metadata::Metadata;
use harness::netns::Namespace;
use harness::scene::{PORT, Scene};
use harness::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// The port of a document that is another than the scene's.
const OTHER_PORT: u16 = 12346;

/// Lets the guest's key have both ports.
const BOTH: &str = "restrict,port-forwarding,permitlisten=\"0.0.0.0:12345\",\
                    permitlisten=\"0.0.0.0:12346\",permitopen=\"127.0.0.1:12345\",\
                    permitopen=\"127.0.0.1:12346\"";

/// A source by its name, what its service is made to say, and the name that it gives the machine.
type Cloud = (&'static str, fn(&Metadata, &str), &'static str);

const CLOUDS: [Cloud; 8] = [
    ("url", |service, text| service.page("/vm.yaml", text), ""),
    (
        "openstack",
        |service, text| service.openstack("i-1", &json!({"vmagent": text}).to_string()),
        "i-1",
    ),
    ("ec2", |service, text| service.ec2("i-1", text), "i-1"),
    ("mmds", |service, text| service.mmds("i-1", text), "i-1"),
    ("gce", |service, text| service.gce("1", Some(text)), "1"),
    ("azure", |service, text| service.azure("i-1", text), "i-1"),
    ("hetzner", |service, text| service.hetzner("42", text), "42"),
    (
        "digitalocean",
        |service, text| service.digitalocean(42, text),
        "42",
    ),
];

/// The configuration of an agent that asks one source.
fn only(name: &str) -> String {
    format!("sources = [\"{name}\"]\ndocument_url = \"http://169.254.169.254/vm.yaml\"")
}

fn start(scene: &Scene, name: &str, environment: &[(&str, &str)]) -> Result<Agent> {
    let sources = only(name);
    let config = [("metadata", sources.as_str())];
    Agent::start_with(&scene.namespace, &scene.agent_dir(), &config, environment)
}

fn found(name: &str) -> impl Fn(&Value) -> bool {
    move |status| status["metadata"]["state"] == "found" && status["metadata"]["source"] == name
}

/// The document of the scene, with another port.
fn other(document: &str) -> String {
    document.replace(&format!("port: {PORT}\n"), &format!("port: {OTHER_PORT}\n"))
}

/// The tunnel is that of a document with this port, whether or not it is up.
fn in_force(port: u16) -> impl Fn(&Value) -> bool {
    move |status| status["tunnel"]["port"] == port
}

fn up_at(port: u16) -> impl Fn(&Value) -> bool {
    move |status| status["tunnel"]["state"] == "up" && status["tunnel"]["port"] == port
}

fn logins(scene: &Scene) -> usize {
    scene.proxy.log().matches("Accepted publickey").count()
}

/// How many requests have waited for a change.
fn held(service: &Metadata) -> usize {
    let requests = service.requests();
    requests
        .iter()
        .filter(|line| line.contains("wait_for_change"))
        .count()
}

#[test]
fn each_service_has_the_document_in_force_right_after_the_start() -> Result<()> {
    let scene = Scene::new()?;
    let document = scene.document()?;
    // Whoever has a proxy for the rest of the world has none for the link.
    let trap = scene.namespace.listen(([127, 0, 0, 1], 3128).into())?;
    let proxies = ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"];
    let environment = proxies.map(|name| (name, "http://127.0.0.1:3128"));
    for (name, serve, id) in CLOUDS {
        let mut times = Vec::new();
        let mut requests = Vec::new();
        for _ in 0..3 {
            let service = Metadata::start(&scene.namespace)?;
            serve(&service, &document);
            let agent = start(&scene, name, &environment)?;
            let began = agent.stopwatch();
            agent.wait_for(&format!("document from {name}"), SOON, found(name))?;
            times.push(began.elapsed());
            agent.wait_for("name of the machine", SOON, |status| {
                id.is_empty() || status["instance_id"] == id
            })?;
            requests = service.requests();
        }
        times.sort();
        println!(
            "{name} | {:.0} ms to the document, at worst {:.0} | {} requests for it and the facts",
            times[1].as_secs_f64() * 1e3,
            times[2].as_secs_f64() * 1e3,
            requests.len()
        );
        assert!(times[2] < 5 * SECOND, "{name}: {times:?}");
        assert!(requests.len() <= 5, "{name}: {requests:?}");
    }
    nobody_came(&trap)
}

fn nobody_came(trap: &TcpListener) -> Result<()> {
    trap.set_nonblocking(true)?;
    assert!(trap.accept().is_err(), "somebody went through the proxy");
    Ok(())
}

#[test]
fn a_change_that_gce_tells_of_is_in_force_within_two_seconds() -> Result<()> {
    let scene = Scene::new()?;
    scene.proxy.authorize(BOTH, &scene.key.public()?)?;
    let document = scene.document()?;
    let service = Metadata::start(&scene.namespace)?;
    service.gce("1", Some(&document));
    let agent = start(&scene, "gce", &[])?;
    agent.wait_for("tunnel", SOON, up_at(PORT))?;
    for (round, port) in [OTHER_PORT, PORT, OTHER_PORT].into_iter().enumerate() {
        wait::until("request that waits", SOON, || {
            (held(&service) > round).then_some(())
        })?;
        let text = if port == PORT {
            document.clone()
        } else {
            other(&document)
        };
        let began = agent.stopwatch();
        service.gce("1", Some(&text));
        agent.wait_for("other document", SOON, in_force(port))?;
        let took = began.elapsed();
        println!(
            "gce | another document is in force after {:.2} s of 2",
            took.as_secs_f64()
        );
        assert!(took < 2 * SECOND, "{took:?}");
        agent.wait_for("tunnel at the other port", SOON, up_at(port))?;
    }

    // Another version of the same disturbs nothing.
    let (sessions, waiting) = (logins(&scene), held(&service));
    service.gce("1", Some(&other(&document)));
    wait::until("request that waits again", SOON, || {
        (held(&service) > waiting).then_some(())
    })?;
    assert_eq!(agent.status()?["tunnel"]["state"], "up");
    assert_eq!(logins(&scene), sessions, "the session was another");
    Ok(())
}

#[test]
fn an_attribute_that_appears_late_is_in_force_at_once() -> Result<()> {
    let scene = Scene::new()?;
    let service = Metadata::start(&scene.namespace)?;
    service.gce("1", None);
    let agent = start(&scene, "gce", &[])?;
    wait::until("request that waits", SOON, || {
        (held(&service) > 0).then_some(())
    })?;
    let began = agent.stopwatch();
    service.gce("1", Some(&scene.document()?));
    agent.wait_for("document", SOON, found("gce"))?;
    let took = began.elapsed();
    println!(
        "gce | an attribute that appears is found after {:.2} s of 2",
        took.as_secs_f64()
    );
    assert!(took < 2 * SECOND, "{took:?}");
    Ok(())
}

#[test]
fn a_document_at_a_url_is_sent_again_only_when_it_is_another() -> Result<()> {
    let scene = Scene::new()?;
    scene.proxy.authorize(BOTH, &scene.key.public()?)?;
    let document = scene.document()?;
    let service = Metadata::start(&scene.namespace)?;
    service.page("/vm.yaml", &document);
    let agent = start(&scene, "url", &[])?;
    agent.wait_for("tunnel", SOON, up_at(PORT))?;
    for round in 1..=3 {
        agent.signal(Signal::SIGHUP)?;
        wait::until("answer without a document", SOON, || {
            (service.unchanged() >= round).then_some(())
        })?;
    }
    assert_eq!(agent.status()?["metadata"]["fault"], Value::Null);
    assert_eq!(logins(&scene), 1, "the session was another");
    service.page("/vm.yaml", &other(&document));
    let began = agent.stopwatch();
    agent.signal(Signal::SIGHUP)?;
    agent.wait_for("other document", SOON, in_force(OTHER_PORT))?;
    let took = began.elapsed();
    println!(
        "url | another document is in force {:.2} s of 2 after the look",
        took.as_secs_f64()
    );
    assert!(took < 2 * SECOND, "{took:?}");
    agent.wait_for("tunnel at the other port", SOON, up_at(OTHER_PORT))?;
    Ok(())
}

/// What nova 34.0.0 said while a vendor data service was down, and when its database did not have
/// the machine: neither differs from an answer.
#[test]
fn an_outage_behind_openstack_takes_no_document_back() -> Result<()> {
    let scene = Scene::new()?;
    scene
        .proxy
        .authorize(harness::scene::OPTIONS, &scene.key.public()?)?;
    let service = Metadata::start(&scene.namespace)?;
    let document = scene.document()?;
    let vendor_data = |ours: Value| json!({"static": {}, "vmagent": ours}).to_string();
    service.openstack("i-1", &vendor_data(json!(document)));
    let agent = start(&scene, "openstack", &[])?;
    agent.wait_for("tunnel", SOON, up_at(PORT))?;
    let shows = |fault: &str| {
        let named = |status: &Value| status["metadata"]["fault"]["code"] == fault;
        agent.signal(Signal::SIGHUP)?;
        agent.wait_for(fault, SOON, named)
    };
    service.openstack("i-1", &vendor_data(json!({})));
    let status = shows("metadata-silent")?;
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
    service.clear();
    let status = shows("metadata-http")?;
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
    assert_eq!(status["metadata"]["source"], "openstack", "{status:#}");
    service.openstack("i-1", &vendor_data(json!(document)));
    // Nobody tells the agent.
    agent.wait_for("document", ROUND, found("openstack"))?;
    assert_eq!(logins(&scene), 1, "the session was another");
    // This is how an operator takes it back.
    service.openstack("i-1", &vendor_data(Value::Null));
    shows("document-empty")?;
    agent.tunnel("off", SOON)?;
    Ok(())
}

/// Runs ip(8) in a namespace.
fn ip(namespace: &Namespace, arguments: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    namespace.run(&command, PROGRAM)
}

#[test]
fn a_service_may_have_an_address_of_ipv6_also_of_the_link() -> Result<()> {
    let scene = Scene::new()?;
    let document = scene.document()?;
    let beside = Namespace::new()?;
    scene.namespace.connect_to(&beside, 7)?;
    let link = ip(&scene.namespace, "-brief link show type veth")?;
    let name = |text: &str| text.split(['@', ' ']).next().unwrap_or_default().to_owned();
    let (here, there) = (
        name(&link),
        name(&ip(&beside, "-brief link show type veth")?),
    );
    ip(
        &scene.namespace,
        &format!("-6 address add fe80::7/64 dev {here} nodad"),
    )?;
    ip(
        &beside,
        &format!("-6 address add fe80::a9fe:a9fe/64 dev {there} nodad"),
    )?;
    ip(
        &scene.namespace,
        "-6 address add fd00:ec2::254/128 dev lo nodad",
    )?;
    let own = Metadata::start_at(&scene.namespace, "[fd00:ec2::254]:80".parse()?)?;
    let linked = Metadata::start_at(&beside, "[::]:80".parse()?)?;
    for (service, url) in [
        (&own, "http://[fd00:ec2::254]".to_owned()),
        (&linked, format!("http://[fe80::a9fe:a9fe%25{here}]")),
    ] {
        service.ec2("i-6", &document);
        let config = format!("sources = [\"ec2\"]\nurl = \"{url}\"");
        let config = [("metadata", config.as_str())];
        // As its own user has it: not a single capability.
        let powerless = |agent: Command| {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]);
            command.arg(agent.get_program()).args(agent.get_args());
            command
        };
        let agent = Agent::start_by(&scene.namespace, &scene.agent_dir(), &config, powerless)?;
        let status = agent.wait_for(&format!("document from {url}"), SOON, found("ec2"))?;
        assert_eq!(status["metadata"]["fault"], Value::Null);
    }
    Ok(())
}

#[test]
fn sources_that_a_person_named_are_asked_whatever_this_machine_is() -> Result<()> {
    let scene = Scene::new()?;
    let service = Metadata::start(&scene.namespace)?;
    service.ec2("i-1", &scene.document()?);
    let config = "sources = [\"file\", \"url\", \"hetzner\", \"ec2\"]\n\
                  document_url = \"http://169.254.169.254/none\"";
    let agent = Agent::start(
        &scene.namespace,
        &scene.agent_dir(),
        &[("metadata", config)],
    )?;
    let status = agent.wait_for("document", SOON, found("ec2"))?;
    assert_eq!(status["metadata"]["left_out"], json!([]));
    let requests = service.requests();
    assert!(
        requests.contains(&"GET /hetzner/v1/userdata".to_owned()),
        "{requests:?}"
    );
    Ok(())
}
