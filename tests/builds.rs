//! What is built does not depend on where. By its name among the first: it takes minutes.

use std::path::Path;

use harness::{package, turn};

#[test]
fn two_folders_build_the_same_bits() {
    let _turn = turn::take();
    let scratch = tempfile::tempdir().unwrap();
    let build = |folder: &str| {
        let folder = scratch.path().join(folder);
        let (sources, out) = (folder.join("sources"), folder.join("out"));
        package::copy_sources(&sources);
        package::build_plainly(&sources, &out, &folder.join("target"));
        out
    };
    let [one, other] = ["one", "somewhere/else"].map(build);
    let bits = |out: &Path| {
        let package = package::find(out);
        (
            package.file_name().unwrap().to_owned(),
            std::fs::read(&package).unwrap(),
        )
    };
    let [one, other] = [one, other].map(|out| bits(&out));
    assert_eq!(one.0, package::deb().file_name().unwrap());
    assert!(one == other, "they differ");
}
