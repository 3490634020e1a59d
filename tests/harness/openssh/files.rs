//! Files of this machine that one server sees with other contents.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::Sshd;
use crate::failure::{Context, Result};

/// Bind mounts for one server: the file with the contents, and the path where the server sees it.
#[derive(Default)]
pub(super) struct Files(Vec<(PathBuf, String)>);

impl Files {
    /// The same command in a mount namespace of its own, with these files.
    pub(super) fn wrap(&self, command: &Command) -> Command {
        let script = r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done
            shift; exec "$@""#;
        let mut wrapped = Command::new("unshare");
        wrapped.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        for (file, at) in &self.0 {
            wrapped.arg(file).arg(at);
        }
        wrapped
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        wrapped
    }
}

impl Sshd {
    /// Shows `text` in place of the machine's file at `path`, which must be there. A start of the
    /// server reads it.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn show(&mut self, path: &str, text: &str) -> Result<()> {
        let file = self.dir.join(path.replace('/', "_"));
        fs::write(&file, text).during(file.display())?;
        self.files.0.retain(|(_, shown)| shown != path);
        self.files.0.push((file, path.to_owned()));
        Ok(())
    }
}
