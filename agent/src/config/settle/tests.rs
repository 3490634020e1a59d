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
const BAD: &str = "[bridge]\nmax_rate = 8\nlissen = \"vsock:22\"\n";

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
    let broken = Place::new().read("[bridge]\nmax_rate = 8\nlissen = \"off\"\n");
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
        cache: Cache::Off,
        guest_attributes: GuestAttributes::Never,
        report_url: ReportUrl::Off,
        ..Config::default()
    };
    let missing = place.read_again();
    assert_eq!(
        (missing.state, &missing.config),
        (ConfigState::Partial, &expected)
    );
    assert_eq!(missing.broken.as_ref().unwrap().code(), "config-unreadable");
    fs::create_dir(place.file()).unwrap();
    assert_eq!(place.read_again().state, ConfigState::Partial);
}

/// A Latin-1 byte, or more than 1 MiB: the rest of the file counts.
#[test]
fn a_file_that_is_no_text_is_read_as_far_as_it_is() {
    let off = &b"[bridge]\nlisten = \"off\"\nmax_rate = 8\n# caf\xe9\n"[..];
    let large = [&off[..off.len() - 2], &vec![b'#'; 2 << 20]].concat();
    for (bytes, flaw) in [(off, "line 4: found a byte"), (&large, "more than 1 MiB")] {
        let place = Place::new();
        fs::write(place.file(), bytes).unwrap();
        let settled = place.read_again();
        assert_eq!(settled.state, ConfigState::Partial);
        assert_eq!(settled.config.listen, Listen::Off);
        assert_eq!(settled.config.max_rate, 8);
        let broken = settled.broken.unwrap();
        assert_eq!(broken.code(), "config-invalid");
        assert!(broken.to_string().contains(flaw), "{broken}");
        assert!(!broken.advice().contains("chmod"), "{broken:?}");
        let error = Config::load(Some(&place.file())).unwrap_err().to_string();
        assert!(error.contains(flaw), "{error}");
    }
}

/// The copy may be an older one: a directory that has become read-only keeps it.
#[test]
fn what_the_broken_file_switches_off_is_off_beside_the_last_good_one() {
    for (text, listen, when) in [
        ("[bridge]\nlisten = \"off\"\nx = 1", true, false),
        ("[bridge]\nlissen = \"off\"", true, false),
        ("[bridge]\nlisten off", true, false),
        ("[tunnel]\nwhen = \"never\"\nx = 1", false, true),
        ("[tunnel]\nwhen = never", false, true),
        ("[bridge]\nmax_rate = many", false, false),
        ("[tunnel]\nwhen = \"always\"\nx = 1", false, false),
    ] {
        let place = Place::new();
        let good = place.read(GOOD).config;
        let settled = place.read(text);
        assert_eq!(settled.state, ConfigState::LastGood, "{text}");
        let expected = Config {
            listen: if listen { Listen::Off } else { good.listen },
            when: if when { Some(When::Never) } else { good.when },
            ..good
        };
        assert_eq!(settled.config, expected, "{text}");
        let said = settled.broken.unwrap().to_string();
        assert_eq!(said.contains(LAST_GOOD_LESS), listen || when, "{said}");
    }
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
    assert_eq!(settled.config.cache, Cache::Runtime);
    assert_eq!(settled.config.report_url, ReportUrl::Document);
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
