//! What is built does not depend on where.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use harness::{package, paths, turn};

/// The libraries are not compiled again, which takes minutes: their part in the program is searched
/// for the folders' names.
#[test]
fn two_folders_build_the_same_bits_that_name_neither() {
    let _turn = turn::take();
    let deb = package::deb();
    let built = paths::target().join("deb");
    let scratch = tempfile::tempdir().unwrap();
    let sources = scratch.path().join("somewhere/else");
    package::copy_sources(&sources);
    let (out, target) = (scratch.path().join("out"), scratch.path().join("target"));
    let mut copy = Command::new("cp");
    copy.arg("--archive").args([&built, &target]);
    assert!(copy.status().unwrap().success(), "{copy:?}");
    let program = target.join("release/vmagent");
    fs::remove_file(&program).unwrap();
    forget_our_own(&target);

    package::build(&sources, &out, &target);
    let other = package::find(&out);
    assert_eq!(other.file_name(), deb.file_name());
    assert!(
        fs::read(other).unwrap() == fs::read(deb).unwrap(),
        "they differ"
    );

    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.unwrap_or_else(|| env::home_dir().unwrap().join(".cargo"));
    let names = |folder: &Path| {
        let mut grep = Command::new("grep");
        grep.args(["-qaF", "-e"]).arg(folder).arg(&program);
        grep.status().unwrap().success()
    };
    for folder in [&paths::top(), &built, scratch.path(), &cargo_home] {
        assert!(!names(folder), "it names {}", folder.display());
    }
    assert!(names(Path::new("/usr/src/cargo")), "it names nothing");
}

/// What cargo has of the agent itself: it would take it for that of the other folder's sources.
fn forget_our_own(target: &Path) {
    let mut forgotten = 0;
    for folder in ["release/deps", "release/.fingerprint"] {
        for entry in fs::read_dir(target.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if !name.trim_start_matches("lib").starts_with("vmagent") {
                continue;
            }
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            forgotten += 1;
        }
    }
    assert!(forgotten > 0, "it had nothing of the agent");
}
