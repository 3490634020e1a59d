//! Whether sshd looks up the name of each client's address: `UseDNS yes` in sshd_config(5).
//!
//! sshd waits for the name server before it checks a key, so that a dead one delays each login by
//! 10 s or more. 127.0.0.1 has a name in /etc/hosts; the addresses of origins have none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::{debug, warn};

use crate::aside::aside;
use crate::relay::dial::Dialer;
use crate::sshd::Sshd;
use crate::status::board::Slice;
use crate::status::model;

/// How deep files may include one another, as in sshd (`SERVCONF_MAX_DEPTH`).
const DEPTH: u32 = 16;

/// Reads the configuration of sshd at the start, and again each time that sshd comes up. Never
/// ends.
pub(crate) async fn watch(
    file: PathBuf,
    mut sshd: Sshd,
    dialer: Dialer,
    slice: Slice<model::Sshd>,
) {
    loop {
        let path = file.clone();
        let found = aside("sshd_config", move || match look(&path, 0) {
            // The default.
            Ok(found) => Some(found.unwrap_or(false)),
            Err(error) => {
                debug!(%error, file = %path.display(), "can't tell UseDNS");
                None
            }
        });
        let found = found.await;
        let yes = found == Some(true);
        if yes && slice.get().use_dns != found {
            warn!(
                "sshd has UseDNS yes: the host connects from 127.0.0.1, users of the proxy wait for \
                 the name servers"
            );
        }
        dialer.set_looks_up_names(yes);
        slice.update(|sshd| sshd.use_dns = found);
        sshd.becomes_ready().await;
    }
}

/// The first value of UseDNS in this file and those that it includes: the first one counts, and
/// sshd does not allow it after a `Match`. None where there is none.
fn look(file: &Path, depth: u32) -> io::Result<Option<bool>> {
    if depth > DEPTH {
        return Err(io::ErrorKind::InvalidData.into());
    }
    for line in fs::read_to_string(file)?.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let is_gap = |c: char| c.is_whitespace() || c == '=' || c == '"';
        let mut words = line.split(is_gap).filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_lowercase();
        match keyword.as_str() {
            "usedns" => return Ok(words.next().map(|value| value.eq_ignore_ascii_case("yes"))),
            "match" => break,
            "include" => {
                for pattern in words {
                    for included in matching(file, pattern)? {
                        if let Some(found) = look(&included, depth + 1)? {
                            return Ok(Some(found));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The files that an `Include` of `file` names, in their order. A `*` in the last part is
/// understood, other patterns of glob(7) are not.
fn matching(file: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let path = file.parent().unwrap_or(Path::new("/")).join(pattern);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_pattern = |text: &str| text.contains(['*', '?', '[']);
    let Some((before, after)) = name.split_once('*') else {
        return if is_pattern(&path.to_string_lossy()) {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            Ok(path.exists().then_some(path.clone()).into_iter().collect())
        };
    };
    if [before, after, &parent.to_string_lossy()]
        .into_iter()
        .any(is_pattern)
    {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && !before.starts_with('.');
        let fits = name
            .strip_prefix(before)
            .is_some_and(|rest| rest.ends_with(after));
        if fits && !hidden {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_also_one_that_is_included() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sshd_config");
        let included = dir.path().join("sshd_config.d");
        fs::create_dir(&included).unwrap();
        for (part, main, expected) in [
            ("", "UseDNS yes", Some(true)),
            ("", "  usedns=\"yes\"  # or not", Some(true)),
            ("", "#UseDNS yes", None),
            ("", "", None),
            ("", "UseDNS no\nUseDNS yes", Some(false)),
            ("UseDNS yes", "UseDNS no", None),
            (
                "UseDNS yes",
                "Include sshd_config.d/*.conf\nUseDNS no",
                Some(true),
            ),
            (
                "Port 22",
                "Include sshd_config.d/*.conf\nUseDNS yes",
                Some(true),
            ),
            (
                "Match all",
                "Include sshd_config.d/10.conf\nUseDNS yes",
                Some(true),
            ),
            ("", "Match User a\n    UseDNS yes", None),
            ("", "Include absent.d/*.conf absent\nUseDNS yes", Some(true)),
        ] {
            fs::write(included.join("10.conf"), part).unwrap();
            fs::write(&file, main).unwrap();
            let expected = expected.or((main == "UseDNS no").then_some(false));
            assert_eq!(look(&file, 0).unwrap(), expected, "{part:?} {main:?}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sshd_config");
        assert!(look(&file, 0).is_err());
        for text in [
            "Include sshd_config",
            "Include *.d/a.conf\nUseDNS yes",
            "Include [ab].conf",
        ] {
            fs::write(&file, text).unwrap();
            assert!(look(&file, 0).is_err(), "{text}");
        }
    }
}
