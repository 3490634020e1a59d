use std::os::unix::fs::PermissionsExt;

use nix::unistd::{Uid, setfsuid};
use russh::keys::ssh_key::encoding::base64::{Base64, Encoding};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::*;
use crate::config::SourceName::{CloudInit, Credential, Ec2, File, Openstack};
use crate::explain::Explain;
use crate::metadata::fixtures::{Directory, Say, Server, document, json, yaml};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn sources(directory: &Directory, url: &str, order: &[SourceName]) -> Sources {
    let config = Config {
        sources: order.to_vec(),
        url: url.to_owned(),
        file: directory.path().join("etc/vmagent/tunnel.yaml"),
        ..Config::default()
    };
    let places = Places {
        root: directory.path().to_owned(),
        credentials: Some(directory.path().join("credentials")),
        inputs: directory.path().join("inputs.sock"),
    };
    Sources::new(&config, places)
}

async fn only(directory: &Directory, name: SourceName) -> Reading {
    let mut readings = sources(directory, NOWHERE, &[name]).walk().await;
    readings.pop().unwrap().1
}

const COMBINED: &str = "run/cloud-init/combined-cloud-config.json";
const USER: &str = "var/lib/cloud/instance/cloud-config.txt";
const VENDOR: &str = "var/lib/cloud/instance/vendor-cloud-config.txt";
const VENDOR2: &str = "var/lib/cloud/instance/vendor2-cloud-config.txt";

#[tokio::test]
async fn a_credential_and_a_file_hold_the_document_alone() {
    for (name, path) in [
        (Credential, "credentials/vmagent.tunnel"),
        (File, "etc/vmagent/tunnel.yaml"),
    ] {
        let directory = Directory::new();
        assert_eq!(only(&directory, name).await, Reading::Absent);
        directory.write(path, yaml(12345));
        assert_eq!(
            only(&directory, name).await,
            Reading::Found(document(12345))
        );
        directory.write(path, json(12345).to_string());
        assert_eq!(
            only(&directory, name).await,
            Reading::Found(document(12345))
        );
        directory.write(path, "\n");
        assert!(matches!(only(&directory, name).await, Reading::Empty(_)));
        directory.write(path, "nonsense");
        assert!(matches!(only(&directory, name).await, Reading::Failed(_)));
    }
}

#[tokio::test]
async fn what_stands_for_a_missing_credential_is_absent() {
    let directory = Directory::new();
    directory.write("credentials/vmagent.tunnel", "vmagent:absent\n");
    assert_eq!(only(&directory, Credential).await, Reading::Absent);
}

#[tokio::test]
async fn the_merge_of_cloud_init_goes_over_its_parts() {
    let directory = Directory::new();
    assert_eq!(only(&directory, CloudInit).await, Reading::Absent);
    directory.write(VENDOR2, format!("#cloud-config\n{}", yaml(3)));
    assert_eq!(
        only(&directory, CloudInit).await,
        Reading::Found(document(3))
    );
    directory.write(VENDOR, format!("#cloud-config\n{}", yaml(2)));
    directory.write(USER, "#cloud-config\nusers: []\n");
    assert_eq!(
        only(&directory, CloudInit).await,
        Reading::Found(document(2))
    );
    directory.write(USER, yaml(1));
    assert_eq!(
        only(&directory, CloudInit).await,
        Reading::Found(document(1))
    );
    let merged = serde_json::json!({"users": [], "vmagent": json(4)});
    directory.write(COMBINED, serde_json::to_string_pretty(&merged).unwrap());
    assert_eq!(
        only(&directory, CloudInit).await,
        Reading::Found(document(4))
    );
    // Nobody has it any more; the parts are only read where there is no merge.
    directory.write(COMBINED, "{\"users\": []}");
    assert_eq!(only(&directory, CloudInit).await, Reading::Absent);
}

#[tokio::test]
async fn what_is_not_a_file_is_not_opened() {
    let directory = Directory::new();
    let path = directory.path().join("etc/vmagent");
    std::fs::create_dir_all(path.join("tunnel.yaml")).unwrap();
    let Reading::Failed(fault) = only(&directory, File).await else {
        panic!()
    };
    assert_eq!(fault.code(), "input-unreadable");
    std::fs::remove_dir(path.join("tunnel.yaml")).unwrap();
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&path.join("tunnel.yaml"), mode).unwrap();
    let Reading::Failed(fault) = only(&directory, File).await else {
        panic!()
    };
    assert!(fault.to_string().contains("not a regular file"), "{fault}");
    std::fs::remove_file(path.join("tunnel.yaml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path.join("tunnel.yaml")).unwrap();
    assert!(matches!(only(&directory, File).await, Reading::Failed(_)));
}

#[tokio::test]
async fn a_file_that_is_too_large_is_cut_and_named() {
    let directory = Directory::new();
    let path = directory.path().join("etc/vmagent/tunnel.yaml");
    directory.write("etc/vmagent/tunnel.yaml", "");
    std::fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    let Reading::Failed(fault) = only(&directory, File).await else {
        panic!()
    };
    assert_eq!(fault.code(), "metadata-too-large");
}

/// Reads files as somebody who is not root, on this thread, until it is dropped (setfsuid(2)).
struct AsNobody(Uid);

impl AsNobody {
    fn new() -> Self {
        Self(setfsuid(Uid::from_raw(65534)))
    }
}

impl Drop for AsNobody {
    fn drop(&mut self) {
        setfsuid(self.0);
    }
}

#[tokio::test]
async fn a_file_for_root_alone_comes_through_the_socket() {
    let directory = Directory::new();
    directory.write(COMBINED, "{}");
    let mode = |path: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(directory.path().join(path), permissions).unwrap();
    };
    mode("", 0o755);
    mode(COMBINED, 0o000);
    let nobody = AsNobody::new();
    let Reading::Failed(fault) = only(&directory, CloudInit).await else {
        panic!();
    };
    drop(nobody);
    assert_eq!(fault.code(), "input-unreadable");
    assert!(
        fault.to_string().contains("inputs.sock does not serve"),
        "{fault}"
    );

    let listener = UnixListener::bind(directory.path().join("inputs.sock")).unwrap();
    mode("inputs.sock", 0o777);
    let text = serde_json::json!({ "vmagent": json(12345) }).to_string();
    let says = serde_json::json!({
        "combined-cloud-config.json": {"state": "present", "base64": Base64::encode_string(text.as_bytes())},
    });
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(says.to_string().as_bytes()).await.unwrap();
    };
    let _nobody = AsNobody::new();
    let (reading, ()) = tokio::join!(only(&directory, CloudInit), serve);
    assert_eq!(reading, Reading::Found(document(12345)));
}

async fn vendor_data(text: impl AsRef<[u8]>) -> Reading {
    let say = Say::ok(text);
    let server = Server::new(move |head| {
        assert!(head.starts_with("get /openstack/latest/vendor_data2.json "));
        say.clone()
    })
    .await;
    openstack::read(&http::Http::new(server.url.clone())).await
}

#[tokio::test]
async fn vendor_data_holds_it_under_our_key_or_in_any_service() {
    let bare = json(12345);
    for services in [
        serde_json::json!({"vmagent": bare}),
        serde_json::json!({"static": {}, "vmagent": {"vmagent": bare}}),
        serde_json::json!({"join": {"x": 1}, "ports": bare}),
        serde_json::json!({"join": "text", "ports": {"vmagent": bare}}),
        serde_json::json!({"vmagent": yaml(12345)}),
    ] {
        let reading = vendor_data(services.to_string()).await;
        assert_eq!(reading, Reading::Found(document(12345)), "{services}");
    }
    assert_eq!(vendor_data("{}").await, Reading::Absent);
    assert_eq!(
        vendor_data("{\"static\": {\"tunnel\": {\"vpn\": 1}}}").await,
        Reading::Absent
    );
    assert!(matches!(
        vendor_data("{\"vmagent\": {}}").await,
        Reading::Empty(_)
    ));
    for wrong in [
        "[]",
        "<html>sign in</html>",
        "{\"vmagent\": {\"tunnel\": 1}}",
        "",
    ] {
        assert!(
            matches!(vendor_data(wrong).await, Reading::Failed(_)),
            "{wrong}"
        );
    }
    let Reading::Failed(fault) = vendor_data([0xff, 0xfe, 0]).await else {
        panic!()
    };
    assert_eq!(fault.code(), "metadata-not-text");
}

#[tokio::test]
async fn a_walk_ends_at_the_first_document() {
    let server = Server::new(|_| Say::status(404)).await;
    let directory = Directory::new();
    directory.write(COMBINED, format!("{{\"vmagent\": {}}}", json(12345)));
    let order = [Credential, Openstack, CloudInit, Ec2];
    let readings = sources(&directory, &server.url, &order).walk().await;
    let names: Vec<_> = readings.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [Credential, Openstack, CloudInit]);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_service_that_can_not_be_reached_is_tried_once_in_a_round() {
    let directory = Directory::new();
    let readings = sources(&directory, NOWHERE, &[Openstack, Ec2]).walk().await;
    let [
        (Openstack, Reading::Failed(one)),
        (Ec2, Reading::Failed(two)),
    ] = &readings[..]
    else {
        panic!("{readings:?}")
    };
    assert_eq!(one, two);
    assert!(one.is_unreachable());
}

#[tokio::test]
async fn the_facts_are_asked_of_the_first_service_that_knows() {
    let server = Server::new(|head| match head.split(' ').nth(1) {
        Some("/openstack/latest/meta_data.json") => Say::ok("{\"uuid\": \"83679162-1378\"}"),
        // Not an address: OpenStack without a floating IP.
        Some("/latest/meta-data/public-ipv4") => Say::ok(""),
        _ => Say::status(404),
    })
    .await;
    let directory = Directory::new();
    let mut sources = sources(&directory, &server.url, &[Openstack, Ec2]);
    let before = Facts {
        public_address: Some("198.51.100.7".parse().unwrap()),
        ..Facts::default()
    };
    let facts = sources.facts(before).await;
    assert_eq!(facts.public_address, None);
    assert_eq!(facts.instance_id.as_deref(), Some("83679162-1378"));
    // cloud-init knows better, as it read them first.
    directory.write("var/lib/cloud/data/instance-id", "i-0abc\n");
    assert_eq!(
        sources.facts(facts).await.instance_id.as_deref(),
        Some("i-0abc")
    );
}

#[tokio::test]
async fn facts_outlive_a_service_that_is_gone() {
    let directory = Directory::new();
    let before = Facts {
        public_address: Some("198.51.100.7".parse().unwrap()),
        instance_id: Some("i-0abc".to_owned()),
        identity: Identity {
            service: Some("i-0abc".to_owned()),
            ..Identity::default()
        },
    };
    let mut sources = sources(&directory, NOWHERE, &[Openstack, Ec2]);
    assert_eq!(sources.facts(before.clone()).await, before);
}

#[test]
fn a_name_tells_machines_apart_only_against_one_of_the_same_origin() {
    let identity = |cloud_init: Option<&str>, service: Option<&str>| Identity {
        cloud_init: cloud_init.map(str::to_owned),
        service: service.map(str::to_owned),
    };
    let known = identity(Some("a"), Some("b"));
    for (later, differs) in [
        (identity(Some("a"), Some("b")), false),
        (identity(None, None), false),
        (identity(Some("c"), Some("b")), true),
        (identity(None, Some("c")), true),
    ] {
        assert_eq!(known.differs(&later), differs, "{later:?}");
    }
    assert!(!identity(None, Some("b")).differs(&identity(Some("a"), None)));
}
