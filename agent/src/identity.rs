//! The names of this guest: its host name, and the account that printed commands log in to.
//!
//! The account is `[status] user`, else the default user of cloud-init's configuration if the
//! account exists, else root.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::host;
use crate::metadata::{self, Watch};
use crate::status::board::Slice;
use crate::status::model::{Login, LoginSource};

/// Between two reads. The kernel's host name is no file that inotify reports.
const LOOK: Duration = Duration::from_secs(30);

/// The longest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// The files that the default account follows from.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    passwd: PathBuf,
    cloud: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            passwd: PathBuf::from("/etc/passwd"),
            cloud: PathBuf::from("/etc/cloud"),
        }
    }
}

/// Publishes both for as long as it is polled. `configured` is `[status] user`.
pub(crate) async fn run(
    configured: Option<String>,
    host_name: Slice<Option<String>>,
    login: Slice<Login>,
) {
    let places = Places::default();
    let mut watch = Watch::new(vec![
        places.passwd.clone(),
        places.cloud.join("cloud.cfg"),
        PathBuf::from("/etc/hostname"),
    ]);
    loop {
        host_name.update(|name| *name = host::host_name());
        login.update(|login| *login = places.login(configured.as_deref()));
        tokio::select! {
            () = watch.changed() => {}
            () = sleep(LOOK) => {}
        }
    }
}

impl Places {
    fn login(&self, configured: Option<&str>) -> Login {
        if let Some(user) = configured {
            return Login {
                user: user.to_owned(),
                source: LoginSource::Configuration,
            };
        }
        match self.default_user().filter(|user| self.exists(user)) {
            Some(user) => Login {
                user,
                source: LoginSource::CloudInit,
            },
            None => Login::default(),
        }
    }

    fn exists(&self, user: &str) -> bool {
        let accounts = read(&self.passwd).unwrap_or_default();
        let mut names = accounts.lines().filter_map(|line| line.split(':').next());
        names.any(|name| name == user)
    }

    /// `system_info.default_user.name`. As in cloud-init, files in cloud.cfg.d win over cloud.cfg,
    /// and later names over earlier ones.
    fn default_user(&self) -> Option<String> {
        let mut files = vec![self.cloud.join("cloud.cfg")];
        let entries = fs::read_dir(self.cloud.join("cloud.cfg.d"));
        let entries = entries.into_iter().flatten().flatten();
        let mut more: Vec<_> = entries.map(|entry| entry.path()).collect();
        more.retain(|path| path.extension().is_some_and(|suffix| suffix == "cfg"));
        more.sort();
        files.append(&mut more);
        let name = |path: &PathBuf| metadata::default_user(&read(path)?);
        let name = files.iter().rev().find_map(name);
        name.filter(|name| is_account(name))
    }
}

/// Whether `name` can stand before the `@` of a command without quotes. It does not begin with a
/// dash, which ssh would take for an option.
pub(crate) fn is_account(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 64 && !name.starts_with('-') && name.chars().all(plain)
}

fn read(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
