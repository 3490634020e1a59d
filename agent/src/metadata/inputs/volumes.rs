//! Files of disks that are known by their label, read within a bounded time.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Entry;
use crate::metadata::reading::LIMIT;
use crate::metadata::volume::{Volume, VolumeFault};

/// The labels, and the files that are passed on of such a disk.
pub const VOLUMES: [(&str, [&str; 3]); 2] = [
    (
        "config-2",
        [
            "openstack/latest/vendor_data2.json",
            "openstack/latest/user_data",
            "openstack/latest/meta_data.json",
        ],
    ),
    ("cidata", ["user-data", "vendor-data", "meta-data"]),
];

/// Where udev keeps links to disks, by their label.
pub const LABELS: &str = "/dev/disk/by-label";

/// How long disks are waited for; a drive that hangs must not hold up the other inputs.
const DEADLINE: Duration = Duration::from_secs(3);

/// The name under which a file of a disk is passed on.
pub(in crate::metadata) fn name(label: &str, file: &str) -> String {
    format!("{label}:{file}")
}

/// The link to the disk with that label, in either case, as FAT has no lower one.
pub(in crate::metadata) fn find(labels: &Path, label: &str) -> Option<PathBuf> {
    // The link itself: who asks may not see where it leads.
    [label.to_owned(), label.to_ascii_uppercase()]
        .map(|label| labels.join(label))
        .into_iter()
        .find(|link| link.symlink_metadata().is_ok())
}

/// An entry for every file of every volume.
pub(super) fn entries(labels: &Path) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for (label, files) in VOLUMES {
        let found = find(labels, label).map(|disk| within_deadline(disk, files));
        for (index, file) in files.into_iter().enumerate() {
            let entry = match &found {
                None => Entry::absent(),
                Some(Ok(contents)) => match contents.get(index) {
                    Some(Some(bytes)) => Entry::present(bytes),
                    Some(None) | None => Entry::absent(),
                },
                Some(Err(problem)) => Entry::failed(problem),
            };
            entries.insert(name(label, file), entry);
        }
    }
    entries
}

type Contents = Vec<Option<super::Secret>>;

fn within_deadline(disk: PathBuf, files: [&'static str; 3]) -> Result<Contents, String> {
    let (send, receive) = mpsc::channel();
    // Never joined: the kernel may not let go of it.
    thread::spawn(move || send.send(read(&disk, files)));
    match receive.recv_timeout(DEADLINE) {
        Ok(contents) => contents.map_err(|fault| fault.to_string()),
        Err(_) => Err(format!(
            "it does not answer within {} s",
            DEADLINE.as_secs()
        )),
    }
}

fn read(disk: &Path, files: [&str; 3]) -> Result<Contents, VolumeFault> {
    let mut volume = Volume::open(File::open(disk)?)?;
    let mut contents = Vec::new();
    let mut size = 0;
    for file in files {
        let content = volume.file(file)?;
        size += content.as_ref().map_or(0, |bytes| bytes.len());
        if size > LIMIT {
            return Err(VolumeFault::TooLarge);
        }
        contents.push(content);
    }
    Ok(contents)
}
