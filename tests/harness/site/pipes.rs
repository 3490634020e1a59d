//! A program of a user of the tunnel, with pipes to it and from it.

use std::fs::File;
use std::process::{ChildStdin, ChildStdout, Stdio};

use super::Site;
use crate::failure::{Context, Failure, Result};
use crate::netns::mortal;
use crate::process::Process;

impl Site {
    /// Runs a script in the guest through the tunnel. It ends with the process that is returned,
    /// which logs to `NAME.log`.
    ///
    /// # Errors
    ///
    /// If ssh can't be started.
    pub(super) fn piped(
        &self,
        name: &str,
        script: &str,
    ) -> Result<(Process, ChildStdin, ChildStdout)> {
        let path = self.dir().join(format!("{name}.log"));
        let mut ssh = self.client.command("ssh");
        ssh.args(["tunnel", "--", script]);
        let mut command = mortal(&ssh);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&path)?);
        let child = self.outside.enter(move || command.spawn());
        let mut child = child.during(format!("starting {name}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let process = Process::new(name, child, path);
        let (stdin, stdout) = pipes.ok_or_else(|| Failure::new(format!("{name} has no pipes")))?;
        Ok((process, stdin, stdout))
    }
}
