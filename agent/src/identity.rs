//! The names of this guest: its host name, and the account that printed commands log in to.
//!
//! The account is the first of: `[status] user`; the default user in cloud-init's configuration, if
//! that account exists; root.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::host;
use crate::metadata::{self, Watch};
use crate::status::board::Slice;
use crate::status::model::{Login, LoginSource};

/// The pause between two reads. inotify does not report a change of the kernel's host name.
const LOOK: Duration = Duration::from_secs(30);

/// The longest file that is read, in bytes. A longer one is ignored.
const LIMIT: u64 = 1 << 20;

/// The files that determine the default account.
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

/// Publishes the host name and the account for as long as it is polled. `configured` is `[status]
/// user`.
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

/// Whether `name` needs no quotes before the `@` of a command. A name that begins with a dash is
/// refused: ssh would read it as an option.
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
