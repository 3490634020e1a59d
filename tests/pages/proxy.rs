//! The commands and files in the README's section on the proxy, and in docs/proxy.md.

use std::fs;
use std::sync::Arc;

use harness::agent::{self, Agent};
use harness::failure::Result;
use harness::limits::SOON;
use harness::netns::Namespace;
use harness::openssh::{Sshd, TUNNEL_USER, make_key};
use harness::pid1::{Debian, Machine, Plan};
use harness::scene::Scene;
use harness::ssh::{Client, Key};

use super::{block, replaced};

/// A system whose sshd becomes a proxy, with a VM's agent and sshd beside it.
struct Proxy {
    namespace: Arc<Namespace>,
    key: Key,
    person: Key,
    client: Client,
    _sshd: Sshd,
    dir: tempfile::TempDir,
    machine: Machine,
}

impl Proxy {
    fn new(debian: Debian) -> Self {
        let machine = Plan::new(debian).boot();
        machine.check("ssh-keygen -A && systemctl start ssh");
        let namespace = Namespace::join(&machine.network()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for name in ["sshd", "agent"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let key = make_key(&dir.path().join("vm-12345"), "ed25519").unwrap();
        let person = make_key(&dir.path().join("person"), "ed25519").unwrap();
        let address = ([127, 0, 0, 1], 2200).into();
        let sshd = Sshd::new(&namespace, &dir.path().join("sshd"), address, "").unwrap();
        sshd.authorize("", &person.public().unwrap()).unwrap();
        let client = Client::new(dir.path(), &person).unwrap();
        let ways = [
            ("proxy", "HostName 127.0.0.1"),
            ("tunnel", "HostName 127.0.0.1\nPort 12345\nHostKeyAlias vm"),
            (
                "jump",
                "HostName 127.0.0.1\nPort 12345\nHostKeyAlias vm\nProxyJump jump@proxy",
            ),
        ];
        for (name, lines) in ways {
            let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
            client.add(name, &lines).unwrap();
        }
        Self {
            namespace,
            key,
            person,
            client,
            _sshd: sshd,
            dir,
            machine,
        }
    }

    /// Adds the page's line for `authorized_keys`, with a real key in it.
    fn authorize(&self, path: &str, line: &str, key: &Key) {
        let public = key.public().unwrap();
        let words: Vec<_> = public.split(' ').take(2).collect();
        let line = replaced(line, "ssh-ed25519 AAAA...", &words.join(" "));
        self.append(path, &line);
    }

    fn append(&self, path: &str, text: &str) {
        let script = format!("cat >>{path} <<'END'\n{text}\nEND");
        self.machine.check(&script);
    }

    /// An agent whose tunnel is up and proven.
    fn agent(&self, bind: &str) -> Agent {
        let host_key = self.machine.check("cat /etc/ssh/ssh_host_ed25519_key.pub");
        let private = self.key.private().unwrap().replace('\n', "\n    ");
        let document = format!(
            "version: 1\ntunnel:\n  proxies:\n  - {{host: 127.0.0.1, user: rev-tunnel-user, \
             host_keys: ['{host_key}']}}\n  bind: '{bind}'\n  port: 12345\n  \
             private_key: |\n    {private}\n"
        );
        let dir = self.dir.path().join("agent");
        agent::write_document(&dir, &document).unwrap();
        let sshd = ("bridge", "sshd = \"127.0.0.1:2200\"");
        let agent = Agent::start(&self.namespace, &dir, &[sshd]).unwrap();
        let proven = |status: &serde_json::Value| {
            status["tunnel"]["state"] == "up" && status["tunnel"]["proven"] == true
        };
        agent.wait_for("a proven tunnel", SOON, proven).unwrap();
        agent
    }

    fn login(&self, way: &str) -> Result<String> {
        self.client.run(&self.namespace, way, "echo inside")
    }
}

#[test]
fn the_readmes_proxy_is_set_up_by_its_commands() {
    for debian in Debian::ALL {
        let proxy = Proxy::new(debian);
        proxy.machine.check(&block("README.md", "sh"));
        let line = block("README.md", "authorized_keys");
        let keys = "~rev-tunnel-user/.ssh/authorized_keys";
        proxy.authorize(keys, line.trim_end(), &proxy.key);
        let _agent = proxy.agent("0.0.0.0");
        assert_eq!(proxy.login("tunnel").unwrap(), "inside\n");
    }
}

#[test]
fn the_proxy_page_is_true_from_its_first_command_to_its_last() {
    let page = "docs/proxy.md";
    for debian in Debian::ALL {
        let proxy = Proxy::new(debian);
        let machine = &proxy.machine;
        let reload = || machine.check("sshd -t && systemctl reload ssh");
        let config = "/etc/ssh/sshd_config.d/50-vmagent.conf";
        machine.check(&block(page, "sh"));
        proxy.append(config, &block(page, "sshd_config"));
        reload();
        let line = block(page, "authorized_keys");
        let keys = "~rev-tunnel-user/.ssh/authorized_keys";
        proxy.authorize(keys, line.trim_end(), &proxy.key);
        let agent = proxy.agent("0.0.0.0");
        assert_eq!(proxy.login("tunnel").unwrap(), "inside\n");
        drop(agent);

        // `AuthorizedKeysFile`, and a port for users of the account `jump`.
        machine.check(&format!("rm {keys}"));
        let local = replaced(&line, "0.0.0.0:", "127.0.0.1:");
        proxy.authorize("/etc/ssh/vm_keys", local.trim_end(), &proxy.key);
        // sshd uses the first value of a setting.
        let before = "/etc/ssh/sshd_config.d/40-keys.conf";
        proxy.append(before, &block(page, "sshd_config akc"));
        machine.check(&block(page, "sh jump"));
        proxy.append(config, &block(page, "sshd_config jump"));
        reload();
        let line = block(page, "authorized_keys jump");
        let keys = "~jump/.ssh/authorized_keys";
        proxy.authorize(keys, line.trim_end(), &proxy.person);
        let _agent = proxy.agent("127.0.0.1");
        assert_eq!(proxy.login("jump").unwrap(), "inside\n");
        let refused = proxy.login("jump@proxy").unwrap_err().to_string();
        assert!(refused.contains("exit status: 255"), "{refused}");
        let mut other = proxy.client.command("ssh");
        other.args(["-W", "127.0.0.1:22", "jump@proxy"]);
        let said = proxy.namespace.run(&other, SOON).unwrap_err().to_string();
        assert!(said.contains("stdio forwarding failed"), "{said}");
    }
}

#[test]
fn patterns_of_permitlisten_admit_what_the_page_says() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    let admits = |options: &str, forward: &str| {
        scene.proxy.revoke_all().unwrap();
        let options = format!("restrict,port-forwarding,permitlisten=\"{options}\"");
        scene.proxy.authorize(&options, &public).unwrap();
        let mut ssh = scene.ssh("ssh");
        ssh.arg("-i").arg(&scene.key.path);
        ssh.args(["-p", "2222", "-o", "ExitOnForwardFailure=yes"]);
        ssh.args(["-o", "LogLevel=VERBOSE"]);
        // `MaxSessions 0` ends the session, which cancels a granted forward.
        ssh.args(["-R", &format!("{forward}:127.0.0.1:22")]);
        ssh.args([&format!("{TUNNEL_USER}@127.0.0.1"), "true"]);
        let said = scene.namespace.run(&ssh, SOON).unwrap_err().to_string();
        let denied = said.contains("remote port forwarding failed");
        assert!(denied || said.contains("open failed"), "{said}");
        !denied
    };
    for (options, forward, wanted) in [
        ("*:12345", "0.0.0.0:12345", true),
        ("12345", "0.0.0.0:12345", true),
        ("0.0.0.0:12345", "0.0.0.0:12345", true),
        ("0.0.0.0:12345", "*:12345", false),
        ("localhost:12345", "0.0.0.0:12345", false),
        ("localhost:12345", "127.0.0.1:12345", false),
        ("0.0.0.0:*", "0.0.0.0:0", true),
        ("0.0.0.0:*", "127.0.0.1:0", false),
    ] {
        assert_eq!(admits(options, forward), wanted, "{options} {forward}");
    }
}
