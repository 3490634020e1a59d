//! The Debian package under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};

use crate::paths;

/// The package as `make deb` builds it, or the one that `VMAGENT_DEB` names.
pub fn deb() -> &'static Path {
    static DEB: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(path) = env::var_os("VMAGENT_DEB") {
            return path.into();
        }
        let (out, target) = (paths::target().join("debian"), paths::target().join("deb"));
        build(&paths::top(), &out, &target);
        find(&out)
    });
    &DEB
}

/// Builds the packages of these sources, as `make deb` does.
pub fn build(sources: &Path, out: &Path, target: &Path) {
    let mut build = Command::new(sources.join("agent/debian/build"));
    let status = build
        .args([out, target])
        .env("CARGO_TARGET_DIR", paths::target())
        .status();
    assert!(
        status.expect("agent/debian/build starts").success(),
        "the package was not built"
    );
}

/// Copies the sources, as they are, to another folder.
pub fn copy_sources(to: &Path) {
    fs::create_dir_all(to).unwrap();
    let script = "git ls-files -z --cached --others --exclude-standard | \
        tar --create --null --ignore-failed-read --files-from=- | tar --extract --directory=\"$0\"";
    let mut copy = Command::new("sh");
    let status = copy
        .args(["-c", script])
        .arg(to)
        .current_dir(paths::top())
        .status();
    assert!(status.unwrap().success(), "the sources were not copied");
}

/// The package of these sources, in a directory that may have packages of other versions.
pub fn find(directory: &Path) -> PathBuf {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(paths::top())
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.trim_end().to_owned()
    };
    let version = run(
        "dpkg-parsechangelog",
        &["-l", "agent/debian/changelog", "-S", "Version"],
    );
    let architecture = run("dpkg", &["--print-architecture"]);
    let path = directory.join(format!("vmagent_{version}_{architecture}.deb"));
    assert!(path.exists(), "no {}", path.display());
    path
}

/// The same package with another version number, as an upgrade needs it, in `out`.
pub fn with_version(version: &str, out: &Path) -> PathBuf {
    let tree = out.join("tree");
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("dpkg-deb")
        .arg("--raw-extract")
        .args([deb(), &tree]));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("Version:"))
        .collect();
    let line = format!("Version: {version}");
    lines.insert(1, &line);
    fs::write(&control, lines.join("\n") + "\n").unwrap();
    let changed = out.join(format!("vmagent-{version}.deb"));
    run(Command::new("dpkg-deb")
        .args(["-Znone", "--build"])
        .args([&tree, &changed]));
    changed
}
