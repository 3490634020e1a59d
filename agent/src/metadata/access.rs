//! Whether other users may read or replace the file with the private key.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Permissions of the group and of others. ssh refuses a private key with any of them.
const OTHERS: u32 = 0o077;
/// Group read on a file of root's is allowed: root chose the group, such as the agent's.
const GROUP_READ: u32 = 0o040;
/// Write permission for the group and for others, and the sticky bit, which lets only owners
/// replace files in a directory.
const WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// A warning for a regular file that other users may read or replace, with the command that
/// corrects the permissions. A credential does not have the mode of its source, so the path itself
/// is checked: stat(2) needs no permission to read the file.
pub(super) fn exposed(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok().filter(Metadata::is_file)?;
    let mode = file.permissions().mode() & 0o7777;
    let shown = path.display();
    if mode & OTHERS != 0 && !(file.uid() == 0 && mode & OTHERS == GROUP_READ) {
        return Some(format!(
            "{shown}: mode {mode:04o} lets other users {} the file with the private key; run `chmod 600 {shown}`",
            rights(mode)
        ));
    }
    // The directory of the file itself, and not that of a symbolic link to it.
    let path = fs::canonicalize(path).ok()?;
    let directory = path.parent()?;
    let found = fs::metadata(directory).ok()?;
    let mode = found.permissions().mode() & 0o7777;
    // In a sticky directory, only the owners of the file and of the directory replace the file.
    let open = mode & WRITE != 0 && mode & STICKY == 0 && !is_private_group(&found);
    open.then(|| {
        let directory = directory.display();
        format!(
            "{directory}: mode {mode:04o} lets other users replace {shown}, which has the private \
             key; run `chmod go-w {directory}`"
        )
    })
}

/// Whether only a group with the owner's number may write: the private group of that user.
fn is_private_group(found: &Metadata) -> bool {
    found.mode() & 0o002 == 0 && found.uid() == found.gid()
}

fn rights(mode: u32) -> &'static str {
    match (mode & 0o044 != 0, mode & WRITE != 0) {
        (true, true) => "read and write",
        (false, true) => "write",
        (true, false) | (false, false) => "read",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::metadata::fixtures::Directory;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_others_may_read_or_write_is_named_with_the_command() {
        let directory = Directory::new();
        chmod(directory.path(), 0o755);
        directory.write("tunnel.yaml", "");
        let path = directory.path().join("tunnel.yaml");
        let by_root = fs::metadata(&path).unwrap().uid() == 0;
        for (mode, expected) in [
            (0o600, None),
            (0o400, None),
            (0o700, None),
            (0o644, Some("mode 0644 lets other users read the file")),
            (
                0o640,
                Some("mode 0640 lets other users read the file").filter(|_| !by_root),
            ),
            (0o604, Some("mode 0604 lets other users read the file")),
            (0o620, Some("mode 0620 lets other users write the file")),
            (
                0o666,
                Some("mode 0666 lets other users read and write the file"),
            ),
            (0o4755, Some("mode 4755 lets other users read the file")),
        ] {
            chmod(&path, mode);
            let said = exposed(&path);
            assert_eq!(said.is_some(), expected.is_some(), "{mode:o}: {said:?}");
            if let (Some(said), Some(expected)) = (said, expected) {
                assert!(said.contains(expected), "{said}");
                assert!(said.ends_with(&format!("run `chmod 600 {}`", path.display())));
            }
        }
        assert_eq!(exposed(&directory.path().join("none")), None);
        assert_eq!(exposed(Path::new("/dev/null")), None);
    }

    #[test]
    fn a_directory_that_others_may_write_is_named() {
        let directory = Directory::new();
        directory.write("tunnel.yaml", "");
        let path = directory.path().join("tunnel.yaml");
        chmod(&path, 0o600);
        let links = Directory::new();
        chmod(links.path(), 0o755);
        let link = links.path().join("tunnel.yaml");
        symlink(&path, &link).unwrap();
        for (mode, warns) in [
            (0o755, false),
            (0o777, true),
            (0o1777, false),
            (0o757, true),
        ] {
            chmod(directory.path(), mode);
            for path in [&path, &link] {
                let said = exposed(path);
                assert_eq!(said.is_some(), warns, "{mode:o}: {said:?}");
                if let Some(said) = said {
                    assert!(said.contains("chmod go-w"), "{said}");
                }
            }
        }
    }
}
