//! Sources on this machine: a credential, a file of our own, and what cloud-init has merged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::facts::is_id;
use super::{Later, Round, Source};
use crate::metadata::access::exposed;
use crate::metadata::content::{Content, read_bounded, shown, unreadable};
use crate::metadata::document::Carrier;
use crate::metadata::inputs::{self, Delivered, volumes};
use crate::metadata::reading::{Reading, Secret, SourceFault};

/// The credential of the service that may hold the document.
const CREDENTIAL: &str = "vmagent.tunnel";

/// The merge of everything, which cloud-init 23.1 and later write.
const COMBINED: &str = "/run/cloud-init/combined-cloud-config.json";

/// What older ones leave instead; the user's goes over the vendor's.
const PARTS: [&str; 3] = [
    "/var/lib/cloud/instance/cloud-config.txt",
    "/var/lib/cloud/instance/vendor-cloud-config.txt",
    "/var/lib/cloud/instance/vendor2-cloud-config.txt",
];

/// What its generator writes at boot where cloud-init is to run.
const ENABLED: &str = "/run/cloud-init/enabled";

/// The name that cloud-init knows this machine by; readable for all.
const INSTANCE_ID: &str = "/var/lib/cloud/data/instance-id";

/// Where the local sources are looked for.
#[derive(Debug, Clone)]
pub struct Places {
    /// Above the fixed paths of cloud-init and the kernel: `/`.
    pub root: PathBuf,
    /// `$CREDENTIALS_DIRECTORY`, where systemd set one.
    pub credentials: Option<PathBuf>,
    /// The socket behind which `vmagent inputs` runs.
    pub inputs: PathBuf,
}

impl Places {
    /// Those of a running system.
    #[must_use]
    pub fn system() -> Self {
        Self {
            root: PathBuf::from("/"),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            inputs: PathBuf::from(inputs::SOCKET),
        }
    }

    /// Where a fixed path is.
    pub(in crate::metadata) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

#[derive(Debug)]
pub(super) struct Files {
    places: Places,
    file: PathBuf,
}

/// The answer of a round's one pull for the disks and the hidden files.
pub(super) type Pulled = Option<Result<Delivered, String>>;

impl Files {
    pub(super) fn new(places: Places, file: PathBuf) -> Self {
        Self { places, file }
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    fn credential(&self) -> Reading {
        let Some(directory) = &self.places.credentials else {
            return Reading::Absent;
        };
        let path = directory.join(CREDENTIAL);
        let place = format!("the credential {CREDENTIAL}");
        match read_bounded(&path).map(Content::of_credential) {
            Ok(Content::Bytes(bytes)) => Reading::of(&place, &bytes, Carrier::Own),
            Ok(Content::Missing) => Reading::Absent,
            Ok(Content::Denied) => unreadable(&path, "permission denied").into(),
            Err(fault) => fault.into(),
        }
    }

    async fn file(&self) -> Reading {
        match self.read(&self.file).await {
            Ok(Some(bytes)) => {
                let mut reading = Reading::of(&shown(&self.file), &bytes, Carrier::Own);
                if let Reading::Found(document) = &mut reading {
                    Arc::make_mut(document).warnings.extend(exposed(&self.file));
                }
                reading
            }
            Ok(None) => Reading::Absent,
            Err(fault) => fault.into(),
        }
    }

    async fn cloud_init(&self) -> Reading {
        let combined = self.at(COMBINED);
        match self.read(&combined).await {
            Ok(Some(bytes)) => return Reading::of_merge(&shown(&combined), &bytes),
            Ok(None) => {}
            Err(fault) => return fault.into(),
        }
        for path in PARTS.map(|path| self.at(path)) {
            let reading = match self.read(&path).await {
                Ok(Some(bytes)) => Reading::of_merge(&shown(&path), &bytes),
                Ok(None) => Reading::Absent,
                Err(fault) => fault.into(),
            };
            if reading != Reading::Absent {
                return reading;
            }
        }
        Reading::Absent
    }

    pub(super) fn instance_id(&self) -> Option<String> {
        let Ok(Content::Bytes(bytes)) = read_bounded(&self.at(INSTANCE_ID)) else {
            return None;
        };
        let id = std::str::from_utf8(&bytes).ok()?.trim();
        // What cloud-init writes while it does not know.
        (is_id(id) && id != "NO_PREVIOUS_INSTANCE_ID").then(|| id.to_owned())
    }

    /// What udev makes where there is a disk of this label: with some file systems all of them are
    /// upper case.
    pub(super) fn disks(&self, label: &str) -> Vec<PathBuf> {
        let labels = self.at(volumes::LABELS);
        [label.to_owned(), label.to_ascii_uppercase()]
            .map(|label| labels.join(label))
            .into()
    }

    /// Whether cloud-init reads what is there for it.
    pub(super) fn is_for_cloud_init(&self) -> bool {
        self.at(ENABLED).exists()
    }

    /// Reads a file, through its own socket of `vmagent inputs` if only root may read it.
    pub(super) async fn read(&self, path: &Path) -> Result<Option<Secret>, SourceFault> {
        match read_bounded(path)? {
            Content::Bytes(bytes) => return Ok(Some(bytes)),
            Content::Missing => return Ok(None),
            Content::Denied => {}
        }
        // Not requested: systemd would not start the unit with so large a credential.
        if fs::metadata(path).is_ok_and(|found| found.len() > inputs::LARGEST) {
            return Err(SourceFault::TooLarge { place: shown(path) });
        }
        let sockets = self.places.inputs.with_extension("");
        let file = path.strip_prefix(&self.places.root).unwrap_or(path);
        let pulled = inputs::pull_file(&sockets, file).await;
        pulled.map_err(|problem| unreadable(path, &format!("permission denied, and {problem}")))
    }

    /// Reads a file that our sandbox may hide: what seems to be missing is asked for as well.
    pub(super) async fn shown_to_us(
        &self,
        path: &Path,
        pulled: &mut Pulled,
    ) -> Result<Option<Secret>, SourceFault> {
        let path = self.below(path);
        if let Content::Bytes(bytes) = read_bounded(&path)? {
            return Ok(Some(bytes));
        }
        let Some(name) = self.input_of(&path) else {
            return Ok(None);
        };
        let delivered = self.pull(pulled).await.map_err(|e| unreadable(&path, e))?;
        delivered.get(name).map_err(|e| unreadable(&path, &e))
    }

    /// Reads a file of the disk with that label, and says where it was.
    pub(super) async fn on_disk(
        &self,
        label: &str,
        file: &str,
        pulled: &mut Pulled,
    ) -> Result<Option<(String, Secret)>, SourceFault> {
        let Some(disk) = volumes::find(&self.at(volumes::LABELS), label) else {
            return Ok(None);
        };
        let delivered = self.pull(pulled).await.map_err(|e| unreadable(&disk, e))?;
        let found = delivered.get(&volumes::name(label, file));
        let bytes = found.map_err(|e| unreadable(&disk, &e))?;
        Ok(bytes.map(|bytes| (format!("{}: {file}", shown(&disk)), bytes)))
    }

    /// What the socket has, asked for once in a round.
    async fn pull<'p>(&self, pulled: &'p mut Pulled) -> Result<&'p Delivered, &'p str> {
        if pulled.is_none() {
            *pulled = Some(inputs::pull(&self.places.inputs).await);
        }
        match pulled {
            Some(Ok(delivered)) => Ok(delivered),
            Some(Err(problem)) => Err(problem),
            None => Err(""),
        }
    }

    /// The name under which systemd passes this file on.
    fn input_of(&self, path: &Path) -> Option<&'static str> {
        let known = inputs::FILES
            .iter()
            .find(|(_, file)| path == Path::new(file) || path == self.at(file));
        known.map(|(name, _)| *name)
    }

    /// A path as it is below the root.
    pub(super) fn below(&self, path: &Path) -> PathBuf {
        self.places
            .root
            .join(path.strip_prefix("/").unwrap_or(path))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.below(Path::new(path))
    }
}

/// A systemd credential.
#[derive(Debug)]
pub(super) struct Credential(pub(super) Arc<Files>);

impl Source for Credential {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async { self.0.credential() })
    }
}

/// A file of our own.
#[derive(Debug)]
pub(super) struct File(pub(super) Arc<Files>);

impl Source for File {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(self.0.file())
    }

    fn watched(&self) -> Vec<PathBuf> {
        vec![self.0.file.clone()]
    }
}

/// What cloud-init has merged.
#[derive(Debug)]
pub(super) struct CloudInit(pub(super) Arc<Files>);

impl Source for CloudInit {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(self.0.cloud_init())
    }

    fn watched(&self) -> Vec<PathBuf> {
        let mut files = vec![self.0.at(COMBINED)];
        files.extend(PARTS.map(|path| self.0.at(path)));
        files
    }
}
