//! What is built does not depend on where. By its name among the first: it takes minutes, of which
//! the last leaves a processor to the others.

use harness::{package, turn};

#[test]
fn two_folders_build_the_same_bits() {
    let _turn = turn::take();
    let scratch = tempfile::tempdir().unwrap();
    let sources = scratch.path().join("somewhere/else");
    package::copy_sources(&sources);
    let out = scratch.path().join("out");
    package::build(&sources, &out, &scratch.path().join("target"));
    let other = package::find(&out);
    assert_eq!(other.file_name(), package::deb().file_name());
    assert!(
        std::fs::read(other).unwrap() == std::fs::read(package::deb()).unwrap(),
        "they differ"
    );
}
