//! Parts of MIME messages: the agent takes the same parts for a cloud-config as the cloud-init of
//! both releases.

use std::collections::BTreeMap;
use std::fmt::Write;

use harness::limits::SOON;
use harness::pid1::{Debian, Machine};
use harness::wait;
use serde_json::Value;

use crate::units::plan;

const SEED: &str = "/var/lib/cloud/seed/nocloud/user-data";

/// A part that is a document to cloud-init and to the agent.
const CONTROL: &str = "#cloud-config\nvmagent: {version: 1}\n";

/// The types of parts. The last part has no type.
const TYPES: [&str; 9] = [
    "text/cloud-config; charset=\"us-ascii\"",
    "text/plain",
    "text/x-shellscript; charset=\"us-ascii\"",
    "TEXT/X-Not-Multipart",
    "text/jinja2",
    "text/cloud-boothook",
    "text/part-handler",
    "image/png",
    "cloud-config",
];

/// The contents of a part.
const CONTENTS: [&str; 4] = [
    CONTROL,
    "\n  #Cloud-Config\nvmagent: {version: 1}\n",
    "#cloud-boothook\n#!/bin/sh\n# vmagent: {version: 1}\n",
    "#!/bin/sh\n# vmagent: {version: 1}\n",
];

/// Prints for each file whether cloud-init finds a cloud-config with our key in one of its parts.
const VERDICTS: &str = r#"
import json, os
from cloudinit import helpers, util
from cloudinit.user_data import UserDataProcessor
paths = helpers.Paths({"cloud_dir": "/tmp/cloud", "run_dir": "/tmp/run", "templates_dir": "/tmp"})
verdicts = {}
for name in os.listdir("/root/parts"):
    with open("/root/parts/" + name, "rb") as file:
        message = UserDataProcessor(paths).process(file.read())
    configs = [p for p in message.walk() if p.get_content_type() == "text/cloud-config"]
    verdicts[name] = any("vmagent:" in util.fully_decoded_payload(p) for p in configs)
print(json.dumps(verdicts))
"#;

fn message(kind: &str, content: &str) -> String {
    let mut text =
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==B==\"\n".to_owned();
    let name = "Content-Disposition: attachment; filename=\"part-001\"";
    let _ = write!(
        text,
        "\n--==B==\nContent-Type: {kind}\n{name}\n\n{content}\n--==B==--\n"
    );
    text
}

/// Passes this file to the agent as user-data, and waits until the status has this state.
fn hand_over(machine: &Machine, file: &str, state: &str, what: &str) {
    machine.check(&format!(
        "mkdir -p $(dirname {SEED}); cp {file} {SEED}.new; mv {SEED}.new {SEED}"
    ));
    let says_so = || {
        let output = machine.run("vmagent status --json");
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        (status["metadata"]["state"] == state).then_some(())
    };
    if let Err(failure) = wait::until(what, SOON, says_so) {
        let status = machine.check("vmagent status --json");
        panic!("{what}, {state} expected: {failure}\n{status}");
    }
}

#[test]
fn the_parts_that_cloud_init_takes_are_taken() {
    for debian in Debian::ALL {
        let mut plan = plan(debian)
            .file("/root/verdicts.py", 0o644, VERDICTS)
            .file("/root/control", 0o644, CONTROL)
            .file("/root/other", 0o644, "#!/bin/sh\n")
            .file(
                "/etc/vmagent/config.toml",
                0o644,
                "[metadata]\nsources = [\"nocloud\"]\n",
            );
        let mut cases = BTreeMap::new();
        for (number, (kind, content)) in TYPES
            .iter()
            .flat_map(|kind| CONTENTS.map(|content| (*kind, content)))
            .filter(|(kind, content)| !kind.starts_with("text/cloud-config") || *content == CONTROL)
            .enumerate()
        {
            let name = format!("{number:02}");
            plan = plan.file(
                &format!("/root/parts/{name}"),
                0o644,
                &message(kind, content),
            );
            cases.insert(name, format!("{kind}: {content:?}"));
        }
        let machine = plan.boot();
        let verdicts = machine.check("python3 /root/verdicts.py");
        let verdicts: BTreeMap<String, bool> = serde_json::from_str(&verdicts).unwrap();
        assert_eq!(verdicts.len(), cases.len());
        let taken = verdicts.values().filter(|taken| **taken).count();
        println!("{debian:?}: cloud-init takes {taken} of {}", cases.len());
        assert!(taken > 0 && taken < cases.len());
        for (name, taken) in verdicts {
            let (before, state) = match taken {
                true => ("/root/other", "found"),
                false => ("/root/control", "absent"),
            };
            let opposite = if taken { "absent" } else { "found" };
            hand_over(&machine, before, opposite, "the opposite");
            let case = format!("{debian:?}, {}", cases[&name]);
            hand_over(&machine, &format!("/root/parts/{name}"), state, &case);
        }
    }
}
