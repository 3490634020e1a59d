//! What is not a document, in every place on this machine that could have one: the fault names
//! the place and the key.

use super::seeds::Machine;
use super::*;
use crate::config::SourceName::{ConfigDrive, Nocloud};
use crate::metadata::fixtures::{private, public};
use crate::metadata::reading::LIMIT;

/// What is to come of it.
#[derive(Clone, Copy)]
enum Is {
    Absent,
    Empty,
    /// An empty answer, as after a failure.
    Blank,
    /// Found, with this port and a warning.
    Twice(u16),
    /// The code, and what stands in the sentence.
    Fault(&'static str, &'static str),
}

/// A place that could have a document.
struct Place {
    source: SourceName,
    /// A file below the root, or what `vmagent inputs` passes on of a disk.
    at: &'static str,
    /// How a fault names it.
    named: &'static str,
    /// Whether it is ours alone.
    own: bool,
}

const PLACES: [Place; 8] = [
    Place {
        source: Credential,
        at: "credentials/vmagent.tunnel",
        named: "the credential vmagent.tunnel",
        own: true,
    },
    Place {
        source: File,
        at: "etc/vmagent/tunnel.yaml",
        named: "/etc/vmagent/tunnel.yaml",
        own: true,
    },
    Place {
        source: CloudInit,
        at: COMBINED,
        named: "/run/cloud-init/combined-cloud-config.json",
        own: false,
    },
    Place {
        source: CloudInit,
        at: VENDOR,
        named: "/instance/vendor-cloud-config.txt",
        own: false,
    },
    Place {
        source: Nocloud,
        at: "var/lib/cloud/seed/nocloud/user-data",
        named: "/seed/nocloud/user-data",
        own: false,
    },
    Place {
        source: Nocloud,
        at: "cidata:vendor-data",
        named: "by-label/cidata: vendor-data",
        own: false,
    },
    Place {
        source: ConfigDrive,
        at: "config-2:openstack/latest/user_data",
        named: "by-label/config-2: openstack/latest/user_data",
        own: false,
    },
    Place {
        source: ConfigDrive,
        at: "config-2:openstack/latest/vendor_data2.json",
        named: "by-label/config-2: openstack/latest/vendor_data2.json",
        own: false,
    },
];

impl Place {
    fn disk(&self) -> Option<&'static str> {
        self.at.split_once(':').map(|(label, _)| label)
    }

    async fn reading(&self, bytes: &[u8]) -> Reading {
        let mut machine = Machine::new();
        match self.disk() {
            None => machine.directory.write(self.at, bytes),
            Some(label) => {
                machine.label(label);
                machine.nothing_on_disks();
                machine.has(self.at, bytes);
            }
        }
        machine.only(self.source).await
    }

    async fn check(&self, bytes: &[u8], expected: Is) {
        let reading = self.reading(bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        let what = format!("{shown:?} at {}: {reading:?}", self.named);
        match (expected, &reading) {
            (Is::Absent, Reading::Absent) | (Is::Empty, Reading::Empty(_)) => {}
            (Is::Blank, Reading::Silent { blank: Some(_), .. }) => {}
            // The reading of OpenStack's answer does not depend on this.
            (Is::Blank, Reading::Empty(_)) if self.at.ends_with("vendor_data2.json") => {}
            (Is::Twice(port), Reading::Found(found)) => {
                assert_eq!(found.tunnel, document(port).tunnel, "{what}");
                assert!(
                    found.warnings[0].contains("tunnel.port: written more"),
                    "{what}"
                );
            }
            (Is::Fault(code, problem), Reading::Failed(fault)) => {
                let said = fault.to_string();
                assert_eq!(fault.code(), code, "{what}");
                let named = code == "metadata-too-large" && self.own || said.contains(self.named);
                assert!(named && said.contains(problem), "{what}");
            }
            _ => panic!("{what}"),
        }
    }
}

/// A cloud-config with our document, one text in it replaced.
fn with(from: &str, to: &str) -> Vec<u8> {
    let text = yaml(12345);
    assert!(text.contains(from), "{from}");
    format!("#cloud-config\n{}", text.replace(from, to)).into()
}

const INVALID: &str = "document-invalid";

#[tokio::test]
async fn what_is_wrong_in_our_document_is_named_everywhere() {
    let key = private(1).replace('\n', "\n      ");
    let good = public(2);
    let pins = |bad: &str| format!("[\"{good}\", \"{good}\", {bad}, \"{good}\"]");
    let one = format!("[\"{good}\"]");
    let encrypted = include_str!("../../key/fixtures/encrypted.openssh");
    let deep = format!("vmagent: {}\n", "[".repeat(100_000));
    let deep_json = format!("{{\"vmagent\": {}", "{\"a\":".repeat(100_000));
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*a{},", level - 1).repeat(9);
        bomb += &format!("a{level}: &a{level} [{before}]\n");
    }
    bomb += "vmagent:\n  tunnel: *a8\n";
    let many_lines = yaml(12345).replace(&one, &format!("\"{good}\\nx\\n{good}\""));
    for (bytes, expected) in [
        (
            with("port: 12345", "port: 65536"),
            Is::Fault(INVALID, "tunnel.port: found 65536"),
        ),
        (
            with("port: 12345", "port: [12345]"),
            Is::Fault(INVALID, "tunnel.port: found a list"),
        ),
        (
            with("version: 1", "version: ~\n  tunnel: 7\nx:"),
            Is::Fault(INVALID, "tunnel: found 7"),
        ),
        (
            with(&key, &encrypted.replace('\n', "\n      ")),
            Is::Fault(INVALID, "tunnel.private_key: is encrypted"),
        ),
        (
            with(&key, &good),
            Is::Fault(INVALID, "tunnel.private_key: found a public key"),
        ),
        (
            with(&one, &pins("nonsense")),
            Is::Fault(INVALID, "tunnel.proxies[0].host_keys[2]: found no key"),
        ),
        (
            with(&one, &pins("\"ssh-ed25519 AAAA\"")),
            Is::Fault(
                INVALID,
                "tunnel.proxies[0].host_keys[2]: the ssh-ed25519 key can't",
            ),
        ),
        (
            many_lines.into(),
            Is::Fault(INVALID, "host_keys: line 2: found no key"),
        ),
        (
            deep.into(),
            Is::Fault(INVALID, "it is neither JSON nor YAML"),
        ),
        (
            deep_json.into(),
            Is::Fault(INVALID, "it is neither JSON nor YAML"),
        ),
        (bomb.into(), Is::Fault(INVALID, "its aliases expanded")),
        (
            b"vmagent: 7\n".to_vec(),
            Is::Fault(INVALID, "found 7, expected a mapping"),
        ),
        (
            b"vmagent: [1]\n".to_vec(),
            Is::Fault(INVALID, "found a list, expected a mapping"),
        ),
        (
            b"vmagent: {\xff}".to_vec(),
            Is::Fault("metadata-not-text", "binary"),
        ),
        (with("port: 12345", "port: 1\n    port: 2"), Is::Twice(2)),
        (b"vmagent: ~\n".to_vec(), Is::Empty),
        (b"{\"vmagent\": null}".to_vec(), Is::Empty),
        (b"{\"vmagent\": {}}".to_vec(), Is::Blank),
        (b"vmagent:  # null\n".to_vec(), Is::Blank),
        (b"vmagent:\nlocale: null\n".to_vec(), Is::Blank),
        (
            b"vmagent: {version: 1, tunnel: }".to_vec(),
            Is::Fault(INVALID, "tunnel: found no value"),
        ),
    ] {
        for place in &PLACES {
            // cloud-init writes a key without a value as `null`.
            let blank = matches!((&expected, place.source), (Is::Empty, CloudInit));
            let expected = if blank { Is::Blank } else { expected };
            place.check(&bytes, expected).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_document_at_all_is_wrong_only_where_nothing_else_belongs() {
    let deep = format!("a: {}\n", "[".repeat(100_000));
    for (text, own) in [
        ("", Is::Blank),
        (" \r\n\t\n", Is::Blank),
        ("# null\n", Is::Blank),
        ("null", Is::Empty),
        ("{}", Is::Blank),
        ("7", Is::Fault(INVALID, "found 7, expected a mapping")),
        (
            "words",
            Is::Fault(INVALID, "found \"words\", expected a mapping"),
        ),
        (
            "[1, 2]",
            Is::Fault(INVALID, "found a list, expected a mapping"),
        ),
        (&deep, Is::Fault(INVALID, "it is neither JSON nor YAML")),
    ] {
        for place in &PLACES {
            let expected = match (place.own, text) {
                (true, _) => own,
                (false, _) if !place.at.ends_with(".json") || place.disk().is_none() => Is::Absent,
                // OpenStack has a mapping there, and no other service writes to it.
                (false, "{}") => Is::Absent,
                (false, _) => Is::Fault(INVALID, ""),
            };
            place.check(text.as_bytes(), expected).await;
        }
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_read_to_the_end() {
    let mut text = yaml(12345).into_bytes();
    text.resize(2 * LIMIT, b'\n');
    // Of a disk no more than the limit is passed on, which metadata::volume tests.
    for place in PLACES.iter().filter(|place| place.disk().is_none()) {
        let expected = Is::Fault("metadata-too-large", "larger than 1048576 bytes");
        place.check(&text, expected).await;
    }
}
