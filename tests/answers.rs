//! How the agent reads the answers of metadata services: as "no document", or as a failure. Also
//! the addresses that it asks where a service has no IPv4 address.

use std::process::Command;

use harness::agent::Agent;
use harness::failure::Result;
use harness::limits::{PROGRAM, SOON};
use harness::metadata::Metadata;
use harness::netns::Namespace;
use harness::scene::{OPTIONS, Scene};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// An agent with this under `[metadata]`.
fn start(scene: &Scene, metadata: &str) -> Result<Agent> {
    let config = [("metadata", metadata)];
    Agent::start(&scene.namespace, &scene.agent_dir(), &config)
}

fn found(name: &str) -> impl Fn(&Value) -> bool {
    move |status| status["metadata"]["state"] == "found" && status["metadata"]["source"] == name
}

#[test]
fn an_empty_page_keeps_the_tunnel_and_null_takes_it_back() -> Result<()> {
    let scene = Scene::new()?;
    scene.proxy.authorize(OPTIONS, &scene.key.public()?)?;
    let service = Metadata::start(&scene.namespace)?;
    let document = scene.document()?;
    service.page("/vm.yaml", &document);
    let url = "sources = [\"url\"]\ndocument_url = \"http://169.254.169.254/vm.yaml\"";
    let agent = start(&scene, url)?;
    agent.tunnel("up", SOON)?;
    for empty in ["", "{}\n", "vmagent:\n", "{\"vmagent\": {}}"] {
        service.page("/vm.yaml", empty);
        agent.signal(Signal::SIGHUP)?;
        let status = agent.wait_for("fault", SOON, |status| {
            status["metadata"]["fault"]["code"] == "document-empty"
        })?;
        assert_eq!(status["metadata"]["state"], "failed", "{status:#}");
        assert_eq!(status["health"], "degraded", "{status:#}");
        assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
        service.page("/vm.yaml", &document);
        agent.signal(Signal::SIGHUP)?;
        agent.wait_for("document", SOON, |status| {
            found("url")(status) && status["metadata"]["fault"].is_null()
        })?;
    }
    let logins = scene.proxy.log().matches("Accepted publickey").count();
    assert_eq!(logins, 1, "the session was another");
    service.page("/vm.yaml", "null");
    agent.signal(Signal::SIGHUP)?;
    agent.tunnel("off", SOON)?;
    Ok(())
}

#[test]
fn an_emptied_file_keeps_the_tunnel_and_a_removed_one_takes_it_back() -> Result<()> {
    let scene = Scene::new()?;
    let agent = scene.up()?;
    agent.write_document("")?;
    let status = agent.wait_for("fault", SOON, |status| {
        status["metadata"]["fault"]["code"] == "document-empty"
    })?;
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
    agent.write_document("null\n")?;
    agent.tunnel("off", SOON)?;
    Ok(())
}

#[test]
fn the_projects_attribute_gives_each_vm_its_document() -> Result<()> {
    let scene = Scene::new()?;
    let service = Metadata::start(&scene.namespace)?;
    service.gce("1", None);
    service.page(
        "/computeMetadata/v1/project/attributes/vmagent",
        &scene.document()?,
    );
    let agent = start(&scene, "sources = [\"gce\"]")?;
    agent.wait_for("document", SOON, found("gce"))?;
    // `null` on the instance overrides the project's attribute.
    service.gce("1", Some("null"));
    agent.wait_for("word of the instance", SOON, |status| {
        status["metadata"]["state"] == "absent"
    })?;
    Ok(())
}

/// Runs ip(8) in a namespace.
fn ip(namespace: &Namespace, arguments: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    namespace.run(&command, PROGRAM)
}

#[test]
fn a_cloud_without_ipv4_is_found_without_configuration() -> Result<()> {
    let scene = Scene::new()?;
    let document = scene.document()?;
    let beside = Namespace::new()?;
    scene.namespace.connect_to(&beside, 7)?;
    let name = |namespace: &Namespace| -> Result<String> {
        let link = ip(namespace, "-brief link show type veth")?;
        let name = link.split(['@', ' ']).next().unwrap_or_default();
        Ok(name.to_owned())
    };
    let (here, there) = (name(&scene.namespace)?, name(&beside)?);
    let add = |namespace: &Namespace, address: &str, device: &str| {
        ip(
            namespace,
            &format!("-6 address add {address} dev {device} nodad"),
        )
    };
    add(&scene.namespace, "fe80::7/64", &here)?;
    add(&scene.namespace, "fd00:ec2::254/128", "lo")?;
    add(&beside, "fe80::a9fe:a9fe/64", &there)?;
    let ec2 = Metadata::start_at(&scene.namespace, "[fd00:ec2::254]:80".parse()?)?;
    ec2.ec2("i-6", &document);
    let openstack = Metadata::start_at(&beside, "[::]:80".parse()?)?;
    openstack.openstack("i-7", &json!({"vmagent": document}).to_string());

    // The address 169.254.169.254 has no listener.
    for (name, id) in [("ec2", "i-6"), ("openstack", "i-7")] {
        let agent = start(&scene, &format!("sources = [\"{name}\"]"))?;
        let status = agent.wait_for(&format!("document from {name}"), SOON, |status| {
            found(name)(status) && status["instance_id"] == id
        })?;
        assert_eq!(status["metadata"]["fault"], Value::Null, "{status:#}");
    }
    // The agent does not ask it where 169.254.169.254 answers, nor on another cloud.
    let service = Metadata::start(&scene.namespace)?;
    let (before, linked) = (ec2.requests().len(), openstack.requests().len());
    for (names, state) in [("\"ec2\", \"openstack\"", "absent"), ("\"gce\"", "absent")] {
        let agent = start(&scene, &format!("sources = [{names}]"))?;
        agent.wait_for(names, SOON, |status| status["metadata"]["state"] == state)?;
    }
    drop(service);
    let agent = start(&scene, "sources = [\"gce\", \"mmds\"]")?;
    agent.wait_for("failure", SOON, |status| {
        status["metadata"]["state"] == "failed"
    })?;
    assert_eq!(
        (ec2.requests().len(), openstack.requests().len()),
        (before, linked)
    );
    Ok(())
}
