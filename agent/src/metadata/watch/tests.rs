use std::os::unix::fs::symlink;

use super::*;
use crate::metadata::fixtures::Directory;

/// Far more than a change takes to be told: a test that reaches it has failed.
const LONG: Duration = Duration::from_secs(60);

async fn told(watch: &mut Watch) -> bool {
    timeout_at(Instant::now() + LONG, watch.changed())
        .await
        .is_ok()
}

#[tokio::test]
async fn a_file_that_appears_changes_and_goes_is_told() {
    let directory = Directory::new();
    let file = directory.path().join("tunnel.yaml");
    let mut watch = Watch::new(vec![file.clone()]);
    directory.write("tunnel.yaml", "1");
    assert!(told(&mut watch).await, "appeared");
    directory.write("tunnel.yaml", "2");
    assert!(told(&mut watch).await, "changed");
    directory.write("new", "3");
    std::fs::rename(directory.path().join("new"), &file).unwrap();
    assert!(told(&mut watch).await, "replaced");
    std::fs::remove_file(&file).unwrap();
    assert!(told(&mut watch).await, "gone");
}

#[tokio::test]
async fn directories_may_come_later_and_go_again() {
    let directory = Directory::new();
    let file = directory.path().join("run/cloud-init/combined.json");
    let mut watch = Watch::new(vec![file.clone()]);
    directory.write("run/cloud-init/combined.json", "1");
    assert!(told(&mut watch).await, "appeared with its directories");
    directory.write("run/cloud-init/combined.json", "2");
    assert!(told(&mut watch).await, "changed");
    std::fs::remove_dir_all(directory.path().join("run")).unwrap();
    assert!(told(&mut watch).await, "gone with its directories");
    directory.write("run/cloud-init/combined.json", "3");
    assert!(told(&mut watch).await, "back");
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_told() {
    let directory = Directory::new();
    directory.write("instances/one/config.txt", "1");
    directory.write("instances/two/config.txt", "2");
    let link = directory.path().join("instance");
    symlink(directory.path().join("instances/one"), &link).unwrap();
    let mut watch = Watch::new(vec![link.join("config.txt")]);
    directory.write("instances/one/config.txt", "3");
    assert!(told(&mut watch).await, "changed behind the link");
    std::fs::remove_file(&link).unwrap();
    symlink(directory.path().join("instances/two"), &link).unwrap();
    assert!(told(&mut watch).await, "the link changed");
    directory.write("instances/two/config.txt", "4");
    assert!(told(&mut watch).await, "changed behind the new link");
}

#[tokio::test]
async fn what_happens_to_other_files_is_no_news() {
    let directory = Directory::new();
    let mut watch = Watch::new(vec![directory.path().join("tunnel.yaml")]);
    directory.write("other", "1");
    directory.write("tunnel.yaml.swp", "1");
    let soon = Instant::now() + QUIET * 2;
    assert!(timeout_at(soon, watch.changed()).await.is_err());
}

#[tokio::test]
async fn a_change_outlives_the_one_who_waits_for_it() {
    let directory = Directory::new();
    let mut watch = Watch::new(vec![directory.path().join("tunnel.yaml")]);
    directory.write("tunnel.yaml", "1");
    // Dropped after the event has been read and before things have settled.
    let soon = Instant::now() + QUIET / 2;
    assert!(timeout_at(soon, watch.changed()).await.is_err());
    assert!(told(&mut watch).await);
}
