//! Where things are in the repository and its build directory.

use std::env;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// The top of the repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// The build directory, where images, tools and saved guests are too.
pub fn target() -> PathBuf {
    top().join("target")
}

/// A program that `tests/setup --device` or `tests/bench/setup` built.
///
/// # Errors
///
/// If it is not there.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = target().join("tools/bin").join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(Failure::new(format!(
            "no {}: make device or make bench builds it",
            path.display()
        )))
    }
}

/// A program of this package, from the build of the one that is running: each make target builds
/// all that it runs in one build.
///
/// # Errors
///
/// If it is not there.
pub fn helper(name: &str) -> Result<PathBuf> {
    let exe = env::current_exe()?;
    exe.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| {
            Failure::new(format!(
                "no {name} beside {}: make programs builds it",
                exe.display()
            ))
        })
}
