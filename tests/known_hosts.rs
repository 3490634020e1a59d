//! Nobody has to turn host-key checking off: status has the lines, and ssh takes them.

use std::path::PathBuf;
use std::process::Command;

use harness::agent::{self, Agent};
use harness::limits::SOON;
use harness::netns::Namespace;
use harness::scene::{OPTIONS, PORT, Scene};
use harness::wait;

/// An agent whose tunnel is up, and which knows the host keys of the scene's sshd.
fn agent(scene: &Scene, document: &str) -> Agent {
    let dir = scene.agent_dir();
    agent::write_document(&dir, document).unwrap();
    let keys = scene.sshd.key_directory().unwrap();
    let keys = format!("host_keys = \"{}\"", keys.display());
    let agent = Agent::start(&scene.namespace, &dir, &[("bridge", &keys)]).unwrap();
    agent.tunnel("up", SOON).unwrap();
    agent
}

/// What `vmagent status --known-hosts` prints.
fn lines(agent: &Agent) -> String {
    let output = agent.ask(&["--known-hosts"]).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// ssh, which knows these lines and nothing else, and asks nobody.
struct Strict<'a> {
    scene: &'a Scene,
    file: PathBuf,
}

impl<'a> Strict<'a> {
    fn new(scene: &'a Scene, lines: &str) -> Self {
        let file = scene.agent_dir().join("strict_known_hosts");
        std::fs::write(&file, lines).unwrap();
        Self { scene, file }
    }

    /// Logs in by this way; what ssh says if it does not come to that.
    fn login(&self, way: &[&str]) -> Result<(), String> {
        self.login_with("", way)
    }

    /// A login with these stanzas before all other lines.
    fn login_with(&self, stanzas: &str, way: &[&str]) -> Result<(), String> {
        // A configuration of its own: options on the command line do not reach a jump.
        let config = self.file.with_extension("config");
        let text = format!(
            "{stanzas}Host *\nStrictHostKeyChecking yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n\
             IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\nBatchMode yes\n",
            self.file.display(),
            self.scene.person.path.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&config).args(way).arg("echo inside");
        let output = Namespace::output(&self.scene.namespace, &command, b"", SOON).unwrap();
        if output.stdout == b"inside\n" {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The output of `vmagent status` with these options.
fn printed(agent: &Agent, options: &[&str]) -> String {
    let output = agent.ask(options).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The command of a way in, as words for ssh.
fn command(agent: &Agent, via: &str) -> Vec<String> {
    let status = agent.status().unwrap();
    let ways = status["ways_in"].as_array().unwrap();
    let way = ways.iter().find(|way| way["via"] == via).unwrap();
    let words = way["command"].as_str().unwrap().split(' ').skip(1);
    words.map(str::to_owned).collect()
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn a_login_through_a_public_port_needs_only_the_lines_of_the_status() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let agent = agent(&scene, &scene.document().unwrap());
    let lines = lines(&agent);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let name = format!("[127.0.0.1]:{PORT} ");
    assert!(lines.lines().all(|line| line.starts_with(&name)), "{lines}");
    let way = command(&agent, "tunnel");
    Strict::new(&scene, &lines).login(&borrowed(&way)).unwrap();
    // Each kind of key is enough.
    for line in lines.lines() {
        Strict::new(&scene, line).login(&borrowed(&way)).unwrap();
    }
    // Another guest's key behind that port would be found out.
    let stranger = scene.proxy.host_key("ed25519").unwrap();
    let refused = Strict::new(&scene, &format!("{name}{stranger}"));
    let said = refused.login(&borrowed(&way)).unwrap_err();
    assert!(said.contains("Host key verification failed"), "{said}");
    // People are told where the lines are.
    let text = agent.ask(&[]).unwrap().stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("vmagent status --known-hosts"), "{text}");
    assert!(!text.contains("ssh-ed25519 AAAA"), "{text}");
}

#[test]
fn a_login_by_way_of_the_proxy_needs_the_proxys_own_line_as_well() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let options = "restrict,port-forwarding,permitlisten=\"127.0.0.1:12345\",\
                   permitopen=\"127.0.0.1:12345\"";
    scene.proxy.authorize(options, &public).unwrap();
    // The person who logs in to the proxy on the way.
    let person = scene.person.public().unwrap();
    scene.proxy.authorize("", &person).unwrap();
    let document = scene
        .document_with("127.0.0.1", PORT, &host_key, &scene.key, "")
        .unwrap();
    let agent = agent(&scene, &document);
    let way = command(&agent, "tunnel");
    assert_eq!(way[0], "-J");
    let own = format!("[127.0.0.1]:2222 {host_key}\n");
    let lines = lines(&agent);
    Strict::new(&scene, &format!("{own}{lines}"))
        .login(&borrowed(&way))
        .unwrap();
    let said = Strict::new(&scene, &own)
        .login(&borrowed(&way))
        .unwrap_err();
    assert!(said.contains("No ED25519 host key is known"), "{said}");
}

/// The document with a `public_host` of its proxy.
fn with_public_host(document: &str, name: &str) -> String {
    let host = "host: 127.0.0.1,";
    assert!(document.contains(host));
    document.replace(host, &format!("{host} public_host: {name},"))
}

#[test]
fn a_pasted_stanza_and_its_lines_log_in_by_the_name_that_users_dial() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    // An address of the proxy that differs from the one that the agent dials.
    let document = with_public_host(&scene.document().unwrap(), "127.0.0.2");
    let agent = agent(&scene, &document);
    let status = agent.status().unwrap();
    assert_eq!(status["tunnel"]["proxy"], "127.0.0.1:2222");
    assert_eq!(status["tunnel"]["public_host"], "127.0.0.2");
    let way = command(&agent, "tunnel");
    assert_eq!(way, ["-p", "12345", "root@127.0.0.2"]);
    Strict::new(&scene, &lines(&agent))
        .login(&borrowed(&way))
        .unwrap();
    let stanza = printed(&agent, &["--ssh-config", "Web-1"]);
    assert!(stanza.contains("HostName 127.0.0.2\n"), "{stanza}");
    let known = printed(&agent, &["--known-hosts", "--as", "Web-1"]);
    assert_eq!(known.lines().count(), 3, "{known}");
    let strict = Strict::new(&scene, &known);
    for name in ["Web-1", "Web-1-tunnel"] {
        strict.login_with(&stanza, &[name]).unwrap();
    }
    // ssh detects another guest behind the same port.
    let stranger = scene.proxy.host_key("ed25519").unwrap();
    let strict = Strict::new(&scene, &format!("Web-1 {stranger}\n"));
    let said = strict.login_with(&stanza, &["Web-1"]).unwrap_err();
    assert!(said.contains("Host key verification failed"), "{said}");
    // The default alias is the host name.
    let host_name = status["host_name"].as_str().unwrap();
    let stanza = printed(&agent, &["--ssh-config"]);
    let label = host_name.split('.').next().unwrap();
    assert!(
        stanza.starts_with(&format!("Host {label} {label}-tunnel\n")),
        "{stanza}"
    );
    for wrong in [
        &["--ssh-config", "a b"][..],
        &["--known-hosts", "--as", "*"],
        &["--as", "web1"],
    ] {
        assert_eq!(
            agent.ask(wrong).unwrap().status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_pasted_stanza_goes_by_way_of_the_proxy_where_the_port_is_inside() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let options = OPTIONS.replace("0.0.0.0", "127.0.0.1");
    scene.proxy.authorize(&options, &public).unwrap();
    let person = scene.person.public().unwrap();
    scene.proxy.authorize("", &person).unwrap();
    let document = scene
        .document_with("127.0.0.1", PORT, &host_key, &scene.key, "")
        .unwrap();
    let agent = agent(&scene, &with_public_host(&document, "localhost"));
    let stanza = printed(&agent, &["--ssh-config", "web1"]);
    assert!(stanza.contains("ProxyJump localhost:2222\n"), "{stanza}");
    let known = printed(&agent, &["--known-hosts", "--as", "web1"]);
    let known = format!("[localhost]:2222 {host_key}\n{known}");
    let strict = Strict::new(&scene, &known);
    strict.login_with(&stanza, &["web1"]).unwrap();
}

#[test]
fn a_stanza_for_vsock_checks_the_host_key_in_spite_of_systemds_own() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let agent = agent(&scene, &scene.document().unwrap());
    // The stanza as the agent prints it where it knows its CID, with a Unix socket in place of
    // vsock. After it comes the drop-in that systemd 256 and later install in
    // /etc/ssh/ssh_config.d.
    let stanza = format!(
        "Host web1 web1-vsock\n    ProxyCommand socat - UNIX-CONNECT:{}\n    User root\n    \
         HostKeyAlias web1\n\
         Host unix/* vsock/* vsock-mux/*\n    StrictHostKeyChecking no\n    \
         UserKnownHostsFile /dev/null\n",
        agent.bridge().display()
    );
    let known = printed(&agent, &["--known-hosts", "--as", "web1"]);
    let strict = Strict::new(&scene, &known);
    strict.login_with(&stanza, &["web1-vsock"]).unwrap();
    let stranger = scene.proxy.host_key("ed25519").unwrap();
    let strict = Strict::new(&scene, &format!("web1 {stranger}\n"));
    let said = strict.login_with(&stanza, &["web1-vsock"]).unwrap_err();
    assert!(said.contains("Host key verification failed"), "{said}");
}

#[test]
fn ssh_finds_the_name_of_a_vsock_address() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let agent = agent(&scene, &scene.document().unwrap());
    let status = agent.status().unwrap();
    let key = status["host_keys"][0].as_str().unwrap();
    // As the agent writes them where it knows its CID; a Unix socket stands in for vsock.
    let strict = Strict::new(&scene, &format!("vsock/42,vsock%42 {key}\n"));
    let socket = format!(
        "ProxyCommand=socat - UNIX-CONNECT:{}",
        agent.bridge().display()
    );
    for host in ["root@vsock/42", "root@vsock%42"] {
        strict.login(&["-o", &socket, host]).unwrap();
    }
    let said = strict.login(&["-o", &socket, "root@vsock/43"]).unwrap_err();
    assert!(said.contains("host key is known"), "{said}");
}

#[test]
fn keys_that_are_made_late_are_shown_then() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let directory = scene.sshd.key_directory().unwrap();
    let late = directory.join("ssh_host_rsa_key.pub");
    let key = std::fs::read(&late).unwrap();
    std::fs::remove_file(&late).unwrap();
    let keys = format!("host_keys = \"{}\"", directory.display());
    agent::write_document(&scene.agent_dir(), &scene.document().unwrap()).unwrap();
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[("bridge", &keys)]).unwrap();
    agent.tunnel("up", SOON).unwrap();
    let shown = || lines(&agent).lines().count();
    wait::until("two keys", SOON, || (shown() == 2).then_some(())).unwrap();
    std::fs::write(&late, key).unwrap();
    let three = |status: &serde_json::Value| {
        status["host_keys"]
            .as_array()
            .is_some_and(|keys| keys.len() == 3)
    };
    agent.wait_for("the third key", SOON, three).unwrap();
    assert_eq!(shown(), 3);
}
