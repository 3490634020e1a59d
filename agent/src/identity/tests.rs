use super::*;

/// The beginning of Debian 13's own file, and its `system_info`.
const DEBIAN: &str = "\
# cloud-config
users:
   - default
disable_root: true
system_info:
   # This will affect which distro class gets used
   distro: debian
   default_user:
     name: debian
     lock_passwd: True
     gecos: Debian
     sudo: [\"ALL=(ALL) NOPASSWD:ALL\"]
     shell: /bin/bash
   paths:
      cloud_dir: /var/lib/cloud/
";

struct Etc {
    dir: tempfile::TempDir,
    places: Places,
}

impl Etc {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            passwd: dir.path().join("passwd"),
            cloud: dir.path().join("cloud"),
        };
        fs::create_dir_all(places.cloud.join("cloud.cfg.d")).unwrap();
        let etc = Self { dir, places };
        etc.write("passwd", "root:x:0:0:root:/root:/bin/bash\n");
        etc
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.dir.path().join(path), text).unwrap();
    }

    fn user(&self) -> (String, LoginSource) {
        let login = self.places.login(None);
        (login.user, login.source)
    }
}

const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash\ndebian:x:1000:1000::/home/debian:/bin/bash\n\
                        ops:x:1001:1001::/home/ops:/bin/sh\n";

#[test]
fn the_default_user_of_the_image_counts_once_its_account_exists() {
    let etc = Etc::new();
    let root = ("root".to_owned(), LoginSource::Default);
    assert_eq!(etc.user(), root);
    etc.write("cloud/cloud.cfg", DEBIAN);
    // cloud-init has not run: it makes the account at the first boot.
    assert_eq!(etc.user(), root);
    etc.write("passwd", ACCOUNTS);
    assert_eq!(etc.user(), ("debian".to_owned(), LoginSource::CloudInit));
}

#[test]
fn the_last_file_that_names_a_default_user_wins() {
    let etc = Etc::new();
    etc.write("passwd", ACCOUNTS);
    etc.write("cloud/cloud.cfg", DEBIAN);
    let other = "system_info: {default_user: {name: ops}}\n";
    etc.write("cloud/cloud.cfg.d/50-user.cfg", other);
    etc.write(
        "cloud/cloud.cfg.d/05_logging.cfg",
        "output: {all: '| tee'}\n",
    );
    etc.write(
        "cloud/cloud.cfg.d/90_dpkg.cfg",
        "system_info: {distro: debian}\n",
    );
    etc.write("cloud/cloud.cfg.d/99-user.cfg.disabled", DEBIAN);
    assert_eq!(etc.user(), ("ops".to_owned(), LoginSource::CloudInit));
    // A file that can't be parsed is ignored.
    etc.write("cloud/cloud.cfg.d/60-bad.cfg", "system_info: [");
    assert_eq!(etc.user().0, "ops");
}

#[test]
fn the_configuration_wins() {
    let etc = Etc::new();
    etc.write("passwd", ACCOUNTS);
    etc.write("cloud/cloud.cfg", DEBIAN);
    let login = etc.places.login(Some("admin"));
    assert_eq!(
        (login.user.as_str(), login.source),
        ("admin", LoginSource::Configuration)
    );
}

#[test]
fn a_name_that_a_shell_or_ssh_would_act_on_is_none() {
    let etc = Etc::new();
    for name in ["-oProxyCommand=x", "a b", "a;b", "$HOME", "", "x@y"] {
        etc.write("passwd", &format!("{name}:x:0:0:::\n"));
        let text = format!("system_info: {{default_user: {{name: '{name}'}}}}\n");
        etc.write("cloud/cloud.cfg", &text);
        assert_eq!(etc.user().0, "root", "{name}");
    }
}
