//! The commands and files in docs/hosts.md.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use harness::agent::Agent;
use harness::guest::Guest;
use harness::limits::SOON;
use harness::netns::Namespace;
use harness::process;
use harness::scene::Scene;

use super::{block, replaced};

/// The directives of a page's only `Host` block, for [`Client::add`].
fn stanza(info: &str) -> Vec<String> {
    let text = block("docs/hosts.md", info);
    let lines = text.lines().filter(|line| !line.starts_with("Host "));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// A command of the page for the host, with the agent's socket in place of vsock.
fn on_the_host(text: &str, agent: &Agent) -> String {
    let socket = format!("UNIX-CONNECT:{}", agent.bridge().display());
    let text = replaced(text, "VSOCK-CONNECT:", &socket);
    // The port, and the CID or the variable that contains it.
    text.replace(&format!("{socket}42:22"), &socket)
        .replace(&format!("{socket}$cid:22"), &socket)
}

/// Adds the host and the page's stanza for the VM behind it.
fn add_host(scene: &Scene, account: &str, vm: &str) {
    let host = "HostName 127.0.0.1\nPort 2222\nUser root";
    let host: Vec<_> = host.lines().map(str::to_owned).collect();
    scene.client.add("host", &host).unwrap();
    let config = scene.client.config.display();
    let ssh = format!("ssh -F {config} -T host");
    let line = |line: String| line.replace(&format!("ssh -T {account}@host.example.org"), &ssh);
    let mut lines: Vec<_> = stanza("ssh_config bridge").into_iter().map(line).collect();
    if vm == "vm1" {
        lines.pop();
        lines.push(format!("ProxyCommand {ssh} %n"));
    }
    scene.client.add(vm, &lines).unwrap();
}

/// Logs in to the VM and copies a file, through the host.
fn enters(scene: &Scene, vm: &str) {
    assert_eq!(scene.login(vm, "echo inside").unwrap(), "inside\n");
    let file = scene.agent_dir().join("copy");
    let mut scp = scene.ssh("scp");
    scp.arg(&scene.client.config)
        .arg(format!("{vm}:{}", file.display()));
    scene.namespace.run(&scp, SOON).unwrap();
    assert_eq!(
        fs::read(&file).unwrap(),
        fs::read(&scene.client.config).unwrap()
    );
    // The account allows nothing else.
    let mut other = scene.ssh("ssh");
    other.args(["-W", "127.0.0.1:22", "host"]);
    let said = scene.namespace.run(&other, SOON).unwrap_err().to_string();
    assert!(said.contains("stdio forwarding failed"), "{said}");
    let mut shell = scene.ssh("ssh");
    shell.args(["host", "echo a shell"]);
    let output = scene.namespace.output(&shell, b"", SOON).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("a shell"), "{said}");
}

/// Writes a script of the page to a place where the host's sshd can run it.
fn script(scene: &Scene, name: &str, text: &str) -> String {
    let path = scene.agent_dir().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn the_bridge_as_a_forced_command_gives_the_vm_and_nothing_else() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    add_host(&scene, "gate", "vm");
    let line = on_the_host(&block("docs/hosts.md", "authorized_keys bridge"), &agent);
    let options = line.split(" ssh-ed25519").next().unwrap();
    let person = scene.person.public().unwrap();
    scene.proxy.authorize(options, &person).unwrap();
    enters(&scene, "vm");
}

#[test]
fn an_account_with_forcecommand_gives_the_vm_to_any_key() {
    let mut scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let config = on_the_host(&block("docs/hosts.md", "sshd_config match"), &agent);
    let config = replaced(&config, "Match User vm42", "Match User root");
    let before_all = format!("{config}Match all");
    scene.proxy.configure("Match all", &before_all).unwrap();
    scene.proxy.stop();
    scene.proxy.start().unwrap();
    add_host(&scene, "gate", "vm");
    let person = scene.person.public().unwrap();
    scene.proxy.authorize("", &person).unwrap();
    enters(&scene, "vm");
}

#[test]
fn a_gate_leads_to_the_vms_that_it_knows() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    add_host(&scene, "gate", "vm1");
    let gate = on_the_host(&block("docs/hosts.md", "sh gate"), &agent);
    let path = script(&scene, "vm-gate", &gate);
    let person = scene.person.public().unwrap();
    let options = format!("restrict,command=\"{path}\"");
    scene.proxy.authorize(&options, &person).unwrap();
    enters(&scene, "vm1");
    let said = scene.login("host", "vm1; id").unwrap_err().to_string();
    assert!(said.contains("vm-gate: no such VM: vm1; id"), "{said}");
}

#[test]
fn a_forced_login_passes_commands_terminals_and_exit_codes() {
    let scene = Scene::new().unwrap();
    let _agent = scene.up().unwrap();
    add_host(&scene, "gate", "vm");
    let config = scene.client.config.display();
    let text = block("docs/hosts.md", "sh shell");
    let text = replaced(&text, "root@vsock/42", &format!("-F {config} direct"));
    let path = script(&scene, "vm-shell", &text);
    let person = scene.person.public().unwrap();
    let options = format!("restrict,pty,command=\"{path}\"");
    scene.proxy.authorize(&options, &person).unwrap();
    let run = |options: &[&str], command: &[&str], input: &[u8]| {
        let mut ssh = scene.ssh("ssh");
        ssh.args(options).arg("host").args(command);
        let output = scene.namespace.output(&ssh, input, SOON).unwrap();
        (output.stdout, output.status.code())
    };
    let terminal = "test -t 0 && echo terminal || echo none";
    assert_eq!(run(&[], &[terminal], b"").0, b"none\n");
    assert_eq!(run(&["-tt"], &[terminal], b"").0, b"terminal\r\n");
    assert_eq!(
        run(&[], &["echo 'one  two'; exit 7"], b""),
        (b"one  two\n".to_vec(), Some(7))
    );
    assert_eq!(run(&[], &["cat"], b"a\0b").0, b"a\0b");
    let (said, code) = run(&["-T"], &[], b"echo from stdin; exit 3\n");
    assert!(String::from_utf8_lossy(&said).contains("from stdin"));
    assert_eq!(code, Some(3));
}

#[test]
fn the_stanza_for_a_vmms_socket_gets_in_each_time() {
    let namespace = Namespace::new().unwrap();
    let guest = Guest::restore(&namespace).unwrap();
    let socket = guest.vsock.socket.display().to_string();
    let line = |line: String| line.replace("/run/vm.sock", &socket);
    let lines: Vec<_> = stanza("ssh_config mux").into_iter().map(line).collect();
    guest.client.add("page", &lines).unwrap();
    for attempt in 0..10 {
        let said = guest.client.run(&namespace, "page", "echo inside");
        assert_eq!(said.unwrap(), "inside\n", "attempt {attempt}");
    }
    let mut scp = guest.client.command("scp");
    scp.arg(&guest.client.config).arg("page:/tmp/copy");
    namespace.run(&scp, SOON).unwrap();
    let copied = guest.run("cat /tmp/copy").unwrap();
    assert_eq!(copied, fs::read_to_string(&guest.client.config).unwrap());
}

#[test]
fn the_stanzas_of_ssh_config_are_ones() {
    for info in ["libvirt", "systemd", "socat", "mux", "bridge"] {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        fs::write(
            &config,
            block("docs/hosts.md", &format!("ssh_config {info}")),
        )
        .unwrap();
        let said = parsed(&config);
        assert!(said.contains("proxycommand"), "{info}: {said}");
        assert!(said.contains("user root"), "{info}: {said}");
    }
}

/// The options that ssh reads from the stanza for `vm`.
fn parsed(config: &Path) -> String {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(config).args(["-G", "vm"]);
    process::run(&mut ssh).unwrap()
}
