use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::metadata::document::{ServiceForward, TunnelSpec};
use crate::metadata::fixtures::{self, Directory};
use crate::origin::Origins;

fn keeper(directory: &Directory, machine: &str) -> Keeper {
    directory.write("machine-id", format!("{machine}\n"));
    let id = directory.path().join("machine-id");
    Keeper::at(Some(directory.path().to_owned()), &id)
}

fn found(port: u16) -> Found {
    Found {
        document: fixtures::document(port),
        source: SourceName::Ec2,
    }
}

/// Names by cloud-init and by the service.
fn named(cloud_init: Option<&str>, service: Option<&str>) -> Identity {
    let mut identity = Identity::default();
    for (who, name) in [
        (SourceName::CloudInit, cloud_init),
        (SourceName::Ec2, service),
    ] {
        if let Some(name) = name {
            identity.note(who, name.to_owned());
        }
    }
    identity
}

/// The names that are in the directory beside the machine id.
fn names(directory: &Directory) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "machine-id").collect()
}

#[test]
fn the_next_agent_finds_the_document_and_nobody_else_reads_it() {
    let directory = Directory::new();
    keeper(&directory, "m").keep(&found(1), &named(None, Some("i-1")));
    keeper(&directory, "m").keep(&found(2), &named(None, Some("i-1")));
    assert_eq!(names(&directory), [NAME]);
    let mode = fs::metadata(directory.path().join(NAME)).unwrap();
    assert_eq!(mode.permissions().mode() & 0o7777, 0o600);
    let kept = keeper(&directory, "m").load(&Identity::default()).unwrap();
    assert_eq!(kept.found, found(2));
    assert_eq!(kept.identity, named(None, Some("i-1")));
    assert!(kept.fetched_at.age().as_secs() < 60);
}

#[test]
fn a_document_of_an_older_agent_that_asks_twice_for_a_port_is_still_used() {
    let mut document = Document::clone(&fixtures::document(1));
    let mut tunnel = TunnelSpec::clone(document.tunnel.as_ref().unwrap());
    tunnel.forwards = vec![ServiceForward {
        at: tunnel.forward.clone(),
        to: "127.0.0.1:80".parse().unwrap(),
        origins: Origins::One,
    }];
    document.tunnel = Some(Arc::new(tunnel));
    let found = Found {
        document: Arc::new(document),
        source: SourceName::Ec2,
    };
    let directory = Directory::new();
    keeper(&directory, "m").keep(&found, &Identity::default());
    let kept = keeper(&directory, "m").load(&Identity::default()).unwrap();
    assert_eq!(kept.found, found);
}

#[test]
fn a_clone_does_not_use_it_and_takes_it_away() {
    let service = named(None, Some("i-1"));
    let both = named(Some("c-1"), Some("i-1"));
    for (written, machine, asked, good) in [
        // The same name is enough; without one that can be compared, the machine id is.
        (&both, "m", named(Some("c-1"), None), true),
        (&both, "n", named(Some("c-1"), None), true),
        (&service, "m", Identity::default(), true),
        (&service, "m", named(Some("c-1"), None), true),
        (&service, "n", Identity::default(), false),
        (&both, "n", Identity::default(), false),
        // Another name is enough to refuse, whatever the machine id.
        (&both, "m", named(Some("c-2"), None), false),
        (&service, "m", named(None, Some("i-2")), false),
        (&both, "m", named(Some("c-1"), Some("i-2")), false),
    ] {
        let directory = Directory::new();
        keeper(&directory, "m").keep(&found(1), written);
        let kept = keeper(&directory, machine).load(&asked);
        assert_eq!(kept.is_some(), good, "{written:?} {machine} {asked:?}");
        assert_eq!(names(&directory).is_empty(), !good);
    }
}

#[test]
fn no_machine_id_is_no_name() {
    let directory = Directory::new();
    let nameless = || {
        let path = directory.path().to_owned();
        Keeper::at(Some(path), &directory.path().join("nowhere"))
    };
    nameless().keep(&found(1), &Identity::default());
    assert_eq!(nameless().load(&Identity::default()), None);
}

#[test]
fn a_file_that_others_could_touch_or_that_is_broken_is_not_used() {
    let spoil: [fn(&Path); 5] = [
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap(),
        |path| fs::write(path, "{").unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replace("\"form\":1", "\"form\":2")).unwrap();
        },
        |path| {
            let moved = path.with_extension("moved");
            fs::rename(path, &moved).unwrap();
            std::os::unix::fs::symlink(&moved, path).unwrap();
        },
    ];
    for (index, spoil) in spoil.into_iter().enumerate() {
        let directory = Directory::new();
        keeper(&directory, "m").keep(&found(1), &Identity::default());
        spoil(&directory.path().join(NAME));
        let kept = keeper(&directory, "m").load(&Identity::default());
        assert_eq!(kept, None, "{index}");
        assert!(!directory.path().join(NAME).exists(), "{index}");
    }
}

#[test]
fn it_goes_with_the_document_and_is_written_once() {
    let directory = Directory::new();
    let mut keeper = keeper(&directory, "m");
    let path = directory.path().join(NAME);
    keeper.keep(&found(1), &Identity::default());
    fs::remove_file(&path).unwrap();
    keeper.keep(&found(1), &Identity::default());
    assert!(!path.exists(), "the same again is not written");
    keeper.keep(&found(1), &named(None, Some("i-1")));
    assert!(path.exists(), "the name has become known");
    directory.write(&fresh(), "left by one that was killed");
    keeper.discard();
    assert!(names(&directory).is_empty());
    // Without a place nothing happens.
    let mut nowhere = Keeper::at(None, &path);
    nowhere.keep(&found(1), &Identity::default());
    assert_eq!(nowhere.load(&Identity::default()), None);
}

#[test]
fn a_directory_that_is_gone_stops_nobody() {
    let directory = Directory::new();
    let place = directory.path().join("gone");
    let mut keeper = Keeper::at(Some(place), &directory.path().join("machine-id"));
    keeper.keep(&found(1), &Identity::default());
    assert_eq!(keeper.load(&Identity::default()), None);
    keeper.discard();
}
