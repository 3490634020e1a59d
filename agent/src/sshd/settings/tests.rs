use proptest::prelude::*;

use super::*;

/// The settings in these files below `/etc/ssh`.
fn read(files: &[(&str, &str)]) -> Settings {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/ssh");
    for (name, text) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Settings::read(root.path())
}

fn addresses(files: &[(&str, &str)]) -> Vec<String> {
    let addresses = read(files).addresses();
    addresses.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn each_form_of_an_address_is_read() {
    for (text, expected) in [
        ("", &[] as &[&str]),
        ("#Port 22\n#ListenAddress 0.0.0.0\n", &[]),
        ("Port 2222\n", &["127.0.0.1:2222", "[::1]:2222"]),
        ("port=2222 # moved\n", &["127.0.0.1:2222", "[::1]:2222"]),
        ("  PORT\t= \"2222\"\r\n", &["127.0.0.1:2222", "[::1]:2222"]),
        ("ListenAddress 10.0.2.15\n", &["10.0.2.15:22"]),
        ("ListenAddress ::1\n", &["[::1]:22"]),
        ("ListenAddress [::1]\n", &["[::1]:22"]),
        ("ListenAddress [::]:2222\n", &["[::1]:2222"]),
        ("ListenAddress 0.0.0.0:2222\n", &["127.0.0.1:2222"]),
        (
            "ListenAddress fd00::1\nPort 2222\nPort 22\nListenAddress 10.0.2.15\nListenAddress 127.0.0.1:24\n",
            &[
                "127.0.0.1:24",
                "10.0.2.15:2222",
                "10.0.2.15:22",
                "[fd00::1]:2222",
                "[fd00::1]:22",
            ],
        ),
        // Neither of these names an address.
        ("ListenAddress guest.example.org\nPort none\nPort\n", &[]),
        ("Match LocalPort 2222\nPort 2222\n", &[]),
    ] {
        assert_eq!(addresses(&[("sshd_config", text)]), expected, "{text:?}");
    }
}

#[test]
fn included_files_count_where_they_are_included() {
    let files = [
        (
            "sshd_config",
            "Include /etc/ssh/sshd_config.d/*.conf\nMatch all\nPort 1\nInclude other\n",
        ),
        (
            "sshd_config.d/50-a.conf",
            "Port 2222\nMatch User x\nPort 3\n",
        ),
        ("sshd_config.d/60-b.conf", "Include extra\n"),
        (
            "extra",
            "ListenAddress 127.0.0.1\nHostKey /etc/ssh/key\nHostKey \"/a b\"\n",
        ),
        ("sshd_config.d/.hidden.conf", "Port 4\n"),
        ("sshd_config.d/60-b.conf.bak", "Port 5\n"),
        ("other", "Port 6\n"),
    ];
    assert_eq!(addresses(&files), ["127.0.0.1:2222"]);
    let keys = ["/etc/ssh/key", "/a b"].map(PathBuf::from);
    assert_eq!(read(&files).host_keys, keys);
}

#[test]
fn files_that_include_each_other_come_to_an_end() {
    let files = [("sshd_config", "Include sshd_*\nInclude sshd_*\nPort 2222\n")];
    let settings = read(&files);
    assert!(settings.addresses().len() == 2, "{settings:?}");
}

#[test]
fn nothing_to_read_is_nothing_said() {
    assert_eq!(
        read(&[]),
        Settings {
            files: 1,
            unread: true,
            ..Settings::default()
        }
    );
}

proptest! {
    #[test]
    fn any_text_is_read_to_its_end(text: String) {
        let settings = read(&[("sshd_config", &text)]);
        prop_assert!(settings.addresses().len() <= 2 * text.lines().count().max(1));
    }

    #[test]
    fn a_pattern_without_wildcards_fits_itself_alone(name in "[a-z.]{1,8}", other in "[a-z.]{1,8}") {
        prop_assert!(fits(name.as_bytes(), name.as_bytes()));
        prop_assert_eq!(fits(name.as_bytes(), other.as_bytes()), name == other);
        prop_assert!(fits(b"*", name.as_bytes()));
    }
}

#[test]
fn the_first_value_of_use_dns_counts_also_one_that_is_included() {
    let dir = tempfile::tempdir().unwrap();
    let (file, included) = (
        dir.path().join("sshd_config"),
        dir.path().join("sshd_config.d"),
    );
    fs::create_dir(&included).unwrap();
    for (part, main, expected) in [
        ("", "UseDNS yes", true),
        ("", "  usedns=\"yes\"  # or not", true),
        ("", "#UseDNS yes", false),
        ("", "", false),
        ("", "UseDNS no\nUseDNS yes", false),
        ("UseDNS yes", "UseDNS no", false),
        (
            "UseDNS yes",
            "Include sshd_config.d/*.conf\nUseDNS no",
            true,
        ),
        ("Port 22", "Include sshd_config.d/*.conf\nUseDNS yes", true),
        (
            "Match all",
            "Include sshd_config.d/10.conf\nUseDNS yes",
            true,
        ),
        ("", "Match User a\n    UseDNS yes", false),
        ("", "Include absent.d/*.conf absent\nUseDNS yes", true),
    ] {
        fs::write(included.join("10.conf"), part).unwrap();
        fs::write(&file, main).unwrap();
        assert_eq!(use_dns(dir.path()), Some(expected), "{part:?} {main:?}");
    }
}

#[test]
fn use_dns_is_unknown_where_a_file_before_it_can_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sshd_config");
    let keys = Path::new("/keys");
    assert_eq!(use_dns_below(dir.path(), keys), None);
    for text in [
        "Include sshd_config",
        "Include *.d/a.conf\nUseDNS yes",
        "Include [ab].conf",
        "Include .\nUseDNS no",
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!(use_dns(dir.path()), None, "{text}");
    }
    fs::write(&file, "UseDNS no\nInclude .").unwrap();
    assert_eq!(use_dns(dir.path()), Some(false));
}

#[test]
fn use_dns_of_a_directory_that_has_only_keys_is_that_of_etc_ssh() {
    let root = tempfile::tempdir().unwrap();
    for directory in ["etc/ssh", "keys"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let keys = Path::new("/keys");
    fs::write(root.path().join("etc/ssh/sshd_config"), "UseDNS yes").unwrap();
    assert_eq!(use_dns_below(root.path(), keys), Some(true));
    fs::write(root.path().join("keys/sshd_config"), "UseDNS no").unwrap();
    assert_eq!(use_dns_below(root.path(), keys), Some(false));
}
