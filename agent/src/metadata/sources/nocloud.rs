//! A NoCloud seed, for machines whose cloud-init does not run: a directory, a disk with the label
//! `cidata`, or a server that the kernel's command line or the machine's serial number names
//! (`ds=nocloud;s=http://host/`). The user's data goes over the vendor's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, Pulled};
use super::http::Http;
use super::{Later, Round, Source};
use crate::config::HttpUrl;
use crate::metadata::reading::{Reading, Secret, SourceFault};
use crate::metadata::userdata;

const LABEL: &str = "cidata";

/// What a seed may hold of ours, in order.
const NAMES: [&str; 2] = ["user-data", "vendor-data"];

/// Where seeds are that came with the image.
const DIRECTORIES: [&str; 2] = [
    "/var/lib/cloud/seed/nocloud",
    "/var/lib/cloud/seed/nocloud-net",
];

/// What may name a seed: the same for as long as the machine runs.
const HINTS: [&str; 2] = ["/proc/cmdline", "/sys/class/dmi/id/product_serial"];

/// The placeholders in a seed's name: cloud-init's name, and the kernel's file in
/// /sys/class/dmi/id.
const DMI: [(&str, &str); 17] = [
    ("baseboard-asset-tag", "board_asset_tag"),
    ("baseboard-manufacturer", "board_vendor"),
    ("baseboard-product-name", "board_name"),
    ("baseboard-serial-number", "board_serial"),
    ("baseboard-version", "board_version"),
    ("bios-release-date", "bios_date"),
    ("bios-vendor", "bios_vendor"),
    ("bios-version", "bios_version"),
    ("chassis-asset-tag", "chassis_asset_tag"),
    ("chassis-manufacturer", "chassis_vendor"),
    ("chassis-serial-number", "chassis_serial"),
    ("chassis-version", "chassis_version"),
    ("system-manufacturer", "sys_vendor"),
    ("system-product-name", "product_name"),
    ("system-serial-number", "product_serial"),
    ("system-uuid", "product_uuid"),
    ("system-version", "product_version"),
];

/// How cloud-init's data source is called there.
const SOURCES: [&str; 2] = ["nocloud", "nocloud-net"];

/// The source, with what it remembers between two rounds.
#[derive(Debug)]
pub(super) struct Nocloud {
    files: Arc<Files>,
    /// None until it is known whether the machine names a seed.
    named: Option<Option<Named>>,
}

#[derive(Debug)]
enum Named {
    /// The URLs of its files, in the order of [`NAMES`].
    Server([Http; 2]),
    Directory(PathBuf),
    Other(SourceFault),
}

impl Nocloud {
    pub(super) fn new(files: Arc<Files>) -> Self {
        Self { files, named: None }
    }

    async fn look(&mut self, pulled: &mut Pulled) -> Reading {
        let files = &self.files;
        if files.is_for_cloud_init() {
            return Reading::Absent;
        }
        for directory in DIRECTORIES {
            let reading = in_directory(files, Path::new(directory)).await;
            if reading != Reading::Absent {
                return reading;
            }
        }
        let reading = on_disk(files, pulled).await;
        if reading != Reading::Absent {
            return reading;
        }
        if self.named.is_none() {
            self.named = named(files, pulled).await;
        }
        match &self.named {
            Some(Some(Named::Server(files))) => at_server(files).await,
            Some(Some(Named::Directory(path))) => in_directory(files, path).await,
            Some(Some(Named::Other(fault))) => fault.clone().into(),
            Some(None) | None => Reading::Absent,
        }
    }
}

impl Source for Nocloud {
    fn read<'a>(&'a mut self, round: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(self.look(&mut round.pulled))
    }

    fn watched(&self) -> Vec<PathBuf> {
        let all = |directory| NAMES.map(|name| self.files.below(&Path::new(directory).join(name)));
        let mut files = self.files.disks(LABEL);
        files.extend(DIRECTORIES.into_iter().flat_map(all));
        files
    }

    fn service(&self) -> Option<&Http> {
        match &self.named {
            Some(Some(Named::Server([http, _]))) => Some(http),
            Some(Some(Named::Directory(_) | Named::Other(_)) | None) | None => None,
        }
    }
}

async fn in_directory(files: &Files, directory: &Path) -> Reading {
    for name in NAMES {
        let path = files.below(&directory.join(name));
        let reading = match files.read(&path).await {
            Ok(Some(bytes)) => userdata::read(&path.display().to_string(), &bytes),
            Ok(None) => Reading::Absent,
            Err(fault) => fault.into(),
        };
        if reading != Reading::Absent {
            return reading;
        }
    }
    Reading::Absent
}

async fn on_disk(files: &Files, pulled: &mut Pulled) -> Reading {
    for name in NAMES {
        let reading = match files.on_disk(LABEL, name, pulled).await {
            Ok(Some((place, bytes))) => userdata::read(&place, &bytes),
            Ok(None) => Reading::Absent,
            Err(fault) => fault.into(),
        };
        if reading != Reading::Absent {
            return reading;
        }
    }
    Reading::Absent
}

/// Reads a seed from a server. An empty page counts as absent where the next page has a document,
/// since user-data is often empty.
async fn at_server(files: &[Http]) -> Reading {
    let mut none = Reading::Absent;
    for http in files {
        let url = http.url("");
        let reading = match http.page("", &[]).await {
            Ok(Some(page)) => userdata::read(&url, &page.body).or_nothing(&url, &page.body),
            Ok(None) => Reading::Absent,
            Err(fault) => fault.into(),
        };
        match reading {
            Reading::Absent => {}
            Reading::Silent { blank: None, .. } => none = reading,
            Reading::Found(_) | Reading::Empty(_) | Reading::Silent { .. } | Reading::Failed(_) => {
                return reading;
            }
        }
    }
    none
}

/// What the machine names; none if that can't be read now.
async fn named(files: &Files, pulled: &mut Pulled) -> Option<Option<Named>> {
    for path in HINTS {
        let text: Option<Secret> = files.shown_to_us(Path::new(path), pulled).await.ok()?;
        let text = String::from_utf8_lossy(text.as_deref().map_or(&[], Vec::as_slice)).into_owned();
        if let Some(seed) = seed(&text) {
            let seed = with_dmi(seed, files, pulled).await?;
            let directory = seed.strip_prefix("file://").unwrap_or(&seed);
            return Some(Some(if directory.starts_with('/') {
                Named::Directory(directory.into())
            } else {
                match server(&seed) {
                    Ok(files) => Named::Server(files),
                    Err(problem) => Named::Other(SourceFault::Unreadable {
                        place: path.to_owned(),
                        problem: format!(
                            "its NoCloud seed is no directory, and as a URL: {problem}"
                        ),
                    }),
                }
            }));
        }
    }
    Some(None)
}

/// The seed with the firmware's value for each `__dmi.NAME__`; `None` if a value can't be read now.
/// As in cloud-init, an unknown name stays, and a missing value becomes empty.
async fn with_dmi(seed: &str, files: &Files, pulled: &mut Pulled) -> Option<String> {
    let mut filled = seed.to_owned();
    for (name, file) in DMI {
        let placeholder = format!("__dmi.{name}__");
        if !filled.contains(&placeholder) {
            continue;
        }
        let path = format!("/sys/class/dmi/id/{file}");
        let bytes = files.shown_to_us(Path::new(&path), pulled).await.ok()?;
        let bytes = bytes.as_deref().map_or(&[][..], |bytes| bytes.trim_ascii());
        // Firmware has 0xff bytes in a field that was never set.
        let unset = bytes.iter().all(|byte| *byte == 0xff);
        let value = if unset {
            "".into()
        } else {
            String::from_utf8_lossy(bytes)
        };
        // Product names may contain blanks, which a URL can't.
        filled = filled.replace(&placeholder, &value.replace(' ', "%20"));
    }
    Some(filled)
}

/// The URLs of a seed's files, formed as by cloud-init: the file's name replaces `%s`, or is
/// appended, after a slash unless the seed has a query.
fn server(seed: &str) -> Result<[Http; 2], String> {
    let http = |name: &str| {
        let url = match seed {
            seed if seed.contains("%s") => seed.replace("%s", name),
            seed if seed.ends_with('/') || seed.contains('?') => format!("{seed}{name}"),
            seed => format!("{seed}/{name}"),
        };
        HttpUrl::parse(&url).map(|url| Http::new(&url))
    };
    let [user, vendor] = NAMES;
    Ok([http(user)?, http(vendor)?])
}

/// `ds=nocloud;s=SEED`, one word among others.
fn seed(text: &str) -> Option<&str> {
    let words = text
        .split_ascii_whitespace()
        .map(|word| word.trim_matches('"'));
    words
        .filter_map(|word| word.strip_prefix("ci.").unwrap_or(word).strip_prefix("ds="))
        .find_map(|value| {
            let mut fields = value.trim_start_matches('"').split(';');
            let source = fields.next()?;
            let ours = SOURCES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(source));
            let named = |field: &&str| field.starts_with("s=") || field.starts_with("seedfrom=");
            let field = fields.find(named).filter(|_| ours)?;
            field.split_once('=').map(|(_, seed)| seed)
        })
}

#[cfg(test)]
mod tests;
