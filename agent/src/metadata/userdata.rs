//! User-data of a cloud: mostly for others, perhaps for us.

use crate::metadata::document::Carrier;
use crate::metadata::reading::Reading;

/// How cloud-init tells what is not a cloud-config: a script, an archive, a template, a message.
/// Such user-data is for others, whatever words stand in it.
const FOR_OTHERS: [&str; 10] = [
    "#!",
    "#include",
    "#cloud-boothook",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#part-handler",
    "#upstart-job",
    "## template:",
    "content-type:",
    "mime-version:",
];

/// Reads user-data that was found at `place`.
pub(super) fn read(place: &str, body: &[u8]) -> Reading {
    let start = body[..body.len().min(64)]
        .trim_ascii_start()
        .to_ascii_lowercase();
    let for_others = FOR_OTHERS
        .iter()
        .any(|mark| start.starts_with(mark.as_bytes()));
    // cloud-init takes it compressed as well; we are not meant then.
    let compressed = body.starts_with(&[0x1f, 0x8b]);
    if for_others || compressed {
        return Reading::Absent;
    }
    Reading::of(place, body, Carrier::Shared)
}
