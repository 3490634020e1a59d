use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::config::Listen;

/// A file, and two directories of a service.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["run", "state"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    fn read(&self, text: &str) -> Settled {
        fs::write(self.file(), text).unwrap();
        self.read_again()
    }

    fn read_again(&self) -> Settled {
        let places = ["run", "state"].map(|name| self.dir.path().join(name));
        Settled::read_in(Some(&self.file()), &places)
    }

    fn copy(&self, name: &str) -> PathBuf {
        self.dir.path().join(name).join("config.toml")
    }
}

const GOOD: &str = "[bridge]\nmax_rate = 7\n[tunnel]\nwhen = \"always\"\n";
const BAD: &str = "[bridge]\nmax_rate = 8\nlissen = \"off\"\n";

#[test]
fn the_last_good_one_stays() {
    let place = Place::new();
    let good = place.read(GOOD);
    assert_eq!((good.state, &good.broken), (ConfigState::Good, &None));
    for name in ["run", "state"] {
        let mode = fs::metadata(place.copy(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let broken = place.read(BAD);
    assert_eq!(broken.state, ConfigState::LastGood);
    assert_eq!(broken.config, good.config);
    let fault = broken.show().fault.unwrap();
    assert_eq!(fault.code, "config-invalid");
    let file = place.file().display().to_string();
    for part in [
        &file,
        "[bridge] lissen is unknown",
        "did you mean \"listen\"?",
        "the last good configuration is in force",
    ] {
        assert!(fault.message.contains(part), "{part}: {}", fault.message);
    }
    // A reboot empties the runtime directory.
    fs::remove_file(place.copy("run")).unwrap();
    assert_eq!(place.read_again().config, good.config);
    // The corrected file is in force at the next start.
    let mended = place.read("[bridge]\nmax_rate = 9\n");
    assert_eq!(
        (mended.state, mended.config.max_rate),
        (ConfigState::Good, 9)
    );
    assert_eq!(place.read(BAD).config.max_rate, 9);
}

#[test]
fn without_a_good_one_its_valid_keys_count_and_the_tunnel_is_off() {
    let broken = Place::new().read(BAD);
    let expected = Config {
        max_rate: 8,
        listen: Listen::Off,
        when: Some(When::Never),
        ..Config::default()
    };
    assert_eq!(
        (broken.state, broken.config),
        (ConfigState::Partial, expected)
    );
}

#[test]
fn an_unreadable_one_is_the_defaults_without_a_tunnel() {
    let place = Place::new();
    let expected = Config {
        when: Some(When::Never),
        guest_attributes: GuestAttributes::Never,
        ..Config::default()
    };
    let missing = place.read_again();
    assert_eq!(
        (missing.state, &missing.config),
        (ConfigState::Partial, &expected)
    );
    assert_eq!(missing.broken.as_ref().unwrap().code(), "config-unreadable");
    for bytes in [&b"\xff\xfe"[..], &vec![b'#'; 2 << 20]] {
        fs::write(place.file(), bytes).unwrap();
        let unreadable = place.read_again();
        assert_eq!(unreadable.config, expected);
        assert_eq!(unreadable.broken.unwrap().code(), "config-unreadable");
    }
    fs::remove_file(place.file()).unwrap();
    fs::create_dir(place.file()).unwrap();
    assert_eq!(place.read_again().state, ConfigState::Partial);
}

/// After a downgrade: the newer version kept its file with a key that is unknown here.
#[test]
fn a_key_of_another_version_costs_nothing_if_the_file_was_good_once() {
    let place = Place::new();
    place.read(GOOD);
    let newer = GOOD.to_owned() + "[future]\nkey = 1\n";
    for name in ["run", "state"] {
        fs::write(place.copy(name), &newer).unwrap();
    }
    let settled = place.read(&newer);
    assert_eq!(settled.state, ConfigState::LastGood);
    assert_eq!(settled.config.max_rate, 7);
    assert_eq!(settled.config.when, Some(When::Always));
    assert!(settled.broken.unwrap().to_string().contains("[future]"));
}

#[test]
fn a_copy_that_others_may_have_written_is_none() {
    let place = Place::new();
    place.read(GOOD);
    for name in ["run", "state"] {
        fs::set_permissions(place.copy(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    assert_eq!(place.read(BAD).state, ConfigState::Partial);
}

#[test]
fn an_older_copy_does_not_outlive_a_newer_configuration() {
    let place = Place::new();
    place.read(GOOD);
    // A directory with the temporary file's name makes each write fail.
    let blocked = place.dir.path().join("run/.config.toml.new");
    fs::create_dir(&blocked).unwrap();
    place.read("[bridge]\nmax_rate = 9\n");
    assert!(!place.copy("run").exists());
    assert_eq!(place.read(BAD).config.max_rate, 9);
}
