mod bad_input;
mod clouds;
mod named;
mod seeds;
mod walk;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::unistd::{Uid, setfsuid};
use russh::keys::ssh_key::encoding::base64::{Base64, Encoding};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::facts::Said;
use super::*;
use crate::config::HttpUrl;
use crate::config::SourceName::{CloudInit, Credential, Ec2, File, Openstack};
use crate::explain::Explain;
use crate::metadata::fixtures::{Directory, Say, Server, document, json, pass, yaml};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn sources(directory: &Directory, url: &str, order: &[SourceName]) -> Sources {
    configured(directory, url, Some(order.to_vec()))
}

fn configured(directory: &Directory, url: &str, order: Option<Vec<SourceName>>) -> Sources {
    let config = Config {
        sources: order,
        url: HttpUrl::parse(url).unwrap(),
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

/// One look at a source.
pub(super) async fn look(source: &mut dyn Source) -> Reading {
    source.read(&mut Round::default()).await
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
        let blank = only(&directory, name).await;
        assert!(matches!(blank, Reading::Silent { .. }), "{blank:?}");
        directory.write(path, "null");
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
        fault
            .to_string()
            .contains("combined-cloud-config.json does not serve"),
        "{fault}"
    );

    let socket = format!("inputs/{COMBINED}");
    let parent = directory.path().join(&socket);
    std::fs::create_dir_all(parent.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(directory.path().join(&socket)).unwrap();
    mode(&socket, 0o777);
    let text = serde_json::json!({ "vmagent": json(12345) }).to_string();
    let says = serde_json::json!({
        "file": {"state": "present", "base64": Base64::encode_string(text.as_bytes())},
    });
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(says.to_string().as_bytes()).await.unwrap();
    };
    let _nobody = AsNobody::new();
    let (reading, ()) = tokio::join!(only(&directory, CloudInit), serve);
    assert_eq!(reading, Reading::Found(document(12345)));
}
