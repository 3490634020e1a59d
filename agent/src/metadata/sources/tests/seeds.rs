//! Config drives and NoCloud seeds, with the socket that brings what is on disks.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::config::SourceName::{ConfigDrive, Nocloud};
use crate::metadata::inputs::volumes;

/// What `vmagent inputs` would say of a machine: entries by their name.
pub(super) struct Machine {
    pub(super) directory: Directory,
    entries: Value,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            directory: Directory::new(),
            entries: json!({
                "kernel-command-line": {"state": "absent"},
                "product-serial": {"state": "absent"},
            }),
        }
    }

    pub(super) fn label(&self, label: &str) {
        self.directory
            .write(&format!("dev/disk/by-label/{label}"), "");
    }

    pub(super) fn has(&mut self, entry: &str, text: impl AsRef<[u8]>) {
        let base64 = Base64::encode_string(text.as_ref());
        self.entries[entry] = json!({"state": "present", "base64": base64});
    }

    /// Every file of every disk is absent.
    pub(super) fn nothing_on_disks(&mut self) {
        for (label, files) in volumes::VOLUMES {
            for file in files {
                self.lacks(&[&volumes::name(label, file)]);
            }
        }
    }

    fn lacks(&mut self, entries: &[&str]) {
        for entry in entries {
            self.entries[*entry] = json!({"state": "absent"});
        }
    }

    fn drive(vendor_data: &str, user_data: &str) -> Self {
        let mut machine = Self::new();
        machine.label("config-2");
        machine.has("config-2:openstack/latest/vendor_data2.json", vendor_data);
        machine.has("config-2:openstack/latest/user_data", user_data);
        machine.has(
            "config-2:openstack/latest/meta_data.json",
            "{\"uuid\": \"83679162\"}",
        );
        machine
    }

    fn seed_disk(user_data: &str, vendor_data: &str) -> Self {
        let mut machine = Self::new();
        machine.label("CIDATA");
        machine.has("cidata:user-data", user_data);
        machine.has("cidata:vendor-data", vendor_data);
        machine
    }

    fn sources(&self, order: &[SourceName]) -> Sources {
        sources(&self.directory, NOWHERE, order)
    }

    /// One round, and how often it pulled.
    async fn walk(&self, sources: &mut Sources) -> (Reading, u32) {
        let path = self.directory.path().join("inputs.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut pulls = 0;
        let serve = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                pulls += 1;
                let text = self.entries.to_string();
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        };
        let mut readings = tokio::select! {
            readings = sources.walk() => readings,
            () = serve => Vec::new(),
        };
        std::fs::remove_file(path).unwrap();
        (readings.pop().unwrap().1, pulls)
    }

    pub(super) async fn only(&self, name: SourceName) -> Reading {
        self.walk(&mut self.sources(&[name])).await.0
    }
}

pub(super) fn cloud_config(port: u16) -> String {
    format!("#cloud-config\n{}", yaml(port))
}

#[tokio::test]
async fn a_drive_holds_it_in_vendor_data_or_user_data() {
    let in_vendor_data = json!({"join": {}, "vmagent": json(1)}).to_string();
    let both = Machine::drive(&in_vendor_data, &cloud_config(2));
    let mut sources = both.sources(&[ConfigDrive]);
    assert_eq!(
        both.walk(&mut sources).await,
        (Reading::Found(document(1)), 1)
    );
    let facts = sources.facts(Facts::default()).await;
    assert_eq!(facts.instance_id.as_deref(), Some("83679162"));

    let user_data = Machine::drive("{}", &cloud_config(2));
    assert_eq!(
        user_data.only(ConfigDrive).await,
        Reading::Found(document(2))
    );
    let none = Machine::drive("{}", "#!/bin/sh\n");
    assert_eq!(none.only(ConfigDrive).await, Reading::Absent);
    let mut bare = Machine::drive("{}", "");
    bare.nothing_on_disks();
    assert_eq!(bare.only(ConfigDrive).await, Reading::Absent);
}

#[tokio::test]
async fn a_seed_disk_holds_it_in_user_data_or_vendor_data() {
    let both = Machine::seed_disk(&cloud_config(1), &cloud_config(2));
    assert_eq!(both.only(Nocloud).await, Reading::Found(document(1)));
    let vendor_data = Machine::seed_disk("#cloud-config\nusers: []\n", &cloud_config(2));
    assert_eq!(vendor_data.only(Nocloud).await, Reading::Found(document(2)));
}

#[tokio::test]
async fn where_cloud_init_runs_user_data_is_its_own() {
    let vendor_data = json!({"vmagent": json(1)}).to_string();
    for (machine, name, expected) in [
        (
            Machine::drive("{}", &cloud_config(2)),
            ConfigDrive,
            Reading::Absent,
        ),
        (
            Machine::drive(&vendor_data, ""),
            ConfigDrive,
            Reading::Found(document(1)),
        ),
        (
            Machine::seed_disk(&cloud_config(1), ""),
            Nocloud,
            Reading::Absent,
        ),
    ] {
        machine.directory.write("run/cloud-init/enabled", "");
        assert_eq!(machine.only(name).await, expected, "{name:?}");
    }
}

#[tokio::test]
async fn a_seed_in_a_directory_goes_before_disks() {
    let machine = Machine::seed_disk(&cloud_config(1), "");
    machine.directory.write(
        "var/lib/cloud/seed/nocloud-net/vendor-data",
        cloud_config(3),
    );
    assert_eq!(machine.only(Nocloud).await, Reading::Found(document(3)));
    machine
        .directory
        .write("var/lib/cloud/seed/nocloud/user-data", cloud_config(4));
    assert_eq!(machine.only(Nocloud).await, Reading::Found(document(4)));
}

#[tokio::test]
async fn the_machine_may_name_a_server_and_is_asked_once() {
    let user_data = cloud_config(12345);
    let server = Server::new(move |head| match head.split(' ').nth(1) {
        Some("/seed/vendor-data") => Say::ok(&user_data),
        _ => Say::status(404),
    })
    .await;
    for entry in ["kernel-command-line", "product-serial"] {
        let mut machine = Machine::new();
        machine.has(entry, format!("quiet ds=nocloud;s={}/seed/\n", server.url));
        let mut sources = machine.sources(&[Nocloud]);
        let found = Reading::Found(document(12345));
        assert_eq!(machine.walk(&mut sources).await, (found.clone(), 1));
        assert_eq!(machine.walk(&mut sources).await, (found.clone(), 0));
        sources.forget();
        assert_eq!(machine.walk(&mut sources).await, (found, 1));
    }
    let requests = server.requests();
    assert_eq!(
        requests[..2],
        ["get /seed/user-data", "get /seed/vendor-data"]
    );
}

#[tokio::test]
async fn the_machine_may_name_a_directory_and_nothing_else() {
    let mut machine = Machine::new();
    machine.has("kernel-command-line", "ds=nocloud;s=/seed/");
    machine.directory.write("seed/user-data", cloud_config(5));
    assert_eq!(machine.only(Nocloud).await, Reading::Found(document(5)));
    machine.has("kernel-command-line", "ds=nocloud;s=ftp://10.0.2.2/");
    let Reading::Failed(fault) = machine.only(Nocloud).await else {
        panic!()
    };
    assert!(
        fault
            .to_string()
            .starts_with("/proc/cmdline can't be read: its NoCloud seed"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_server_that_is_away_does_not_speak_for_the_metadata_service() {
    let server = Server::new(|_| Say::ok(json!({"vmagent": json(1)}).to_string())).await;
    let mut machine = Machine::new();
    machine.has("kernel-command-line", format!("ds=nocloud;s={NOWHERE}/"));
    let mut sources = sources(&machine.directory, &server.url, &[Nocloud, Openstack]);
    assert_eq!(
        machine.walk(&mut sources).await.0,
        Reading::Found(document(1))
    );
}

#[tokio::test]
async fn without_a_disk_nobody_is_asked_and_without_the_socket_the_disk_is_named() {
    let machine = Machine::new();
    let mut sources = machine.sources(&[ConfigDrive]);
    assert_eq!(machine.walk(&mut sources).await, (Reading::Absent, 0));
    // A machine without the socket has no hint either.
    assert_eq!(only(&machine.directory, Nocloud).await, Reading::Absent);
    for (name, label) in [(ConfigDrive, "config-2"), (Nocloud, "cidata")] {
        machine.label(label);
        let Reading::Failed(fault) = only(&machine.directory, name).await else {
            panic!()
        };
        assert_eq!(fault.code(), "input-unreadable");
        let said = fault.to_string();
        assert!(
            said.contains(label) && said.contains("does not serve"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_on_a_disk_is_named() {
    let wrong = cloud_config(1).replace("port: 1\n", "port: 70000\n");
    let drive = Machine::drive("{}", &wrong);
    let Reading::Failed(fault) = drive.only(ConfigDrive).await else {
        panic!()
    };
    let said = fault.to_string();
    assert!(
        said.ends_with("by-label/config-2: openstack/latest/user_data: tunnel.port: found 70000, expected 0 to 65535"),
        "{said}"
    );
    let mut hangs = Machine::seed_disk("", "");
    hangs.entries["cidata:user-data"] = json!({"state": "failed", "problem": "it is torn"});
    let Reading::Failed(fault) = hangs.only(Nocloud).await else {
        panic!()
    };
    assert!(
        fault
            .to_string()
            .ends_with("CIDATA can't be read: it is torn"),
        "{fault}"
    );
}

#[test]
fn the_disks_and_directories_are_watched() {
    let machine = Machine::new();
    let watched = machine.sources(&[ConfigDrive, Nocloud]).watched();
    for path in [
        "dev/disk/by-label/config-2",
        "dev/disk/by-label/CIDATA",
        "var/lib/cloud/seed/nocloud/user-data",
    ] {
        assert!(
            watched.contains(&machine.directory.path().join(Path::new(path))),
            "{path}"
        );
    }
}
