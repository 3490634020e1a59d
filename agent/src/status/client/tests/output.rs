//! Outputs that fail, and the forms for ssh.

use super::*;

/// An output that fails in this way.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_enough_changes_no_exit_status() {
    for watch in [false, true] {
        for (ok, exit) in [(true, Exit::Ok), (false, Exit::NotOk)] {
            let dir = tempfile::tempdir().unwrap();
            let (path, _) = agent(dir.path(), &[status(ok)], true);
            let look = Look { watch, ..SCRIPT };
            let mut out = Broken(io::ErrorKind::BrokenPipe);
            let result = follow(&path, Goal::default(), &look, &mut out, &mut io::sink());
            assert_eq!(result.unwrap(), exit, "{watch}");
        }
    }
}

#[test]
fn an_output_that_fails_is_an_error_of_its_own() {
    for watch in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = agent(dir.path(), &[status(true)], true);
        let look = Look { watch, ..SCRIPT };
        let mut out = Broken(io::ErrorKind::StorageFull);
        let result = follow(&path, Goal::default(), &look, &mut out, &mut io::sink());
        assert!(matches!(result, Err(Failure::Output(_))), "{result:?}");
    }
}

#[test]
fn an_alias_has_one_line_for_each_key_and_a_stanza_for_each_way() {
    let board = Board::new("127.0.0.1:22");
    board
        .host_name()
        .update(|name| *name = Some("web1.example.org".to_owned()));
    board
        .host_keys()
        .update(|keys| *keys = vec!["ssh-ed25519 AAAA".to_owned(), "ssh-rsa BBBB".to_owned()]);
    board.bridge().update(|bridge| {
        bridge.state = BridgeState::Ready;
        bridge.listen = Some("vsock:22".to_owned());
        bridge.cid = Some(42);
    });
    let shown = |form: Form| {
        let dir = tempfile::tempdir().unwrap();
        let line = serde_json::to_string(&*board.subscribe().borrow()).unwrap() + "\n";
        let (path, _) = agent(dir.path(), &[line], true);
        ask(&path, None, Look { form, ..SCRIPT }).1
    };
    let alias: Option<Alias> = Some("Web_2.x".parse().unwrap());
    assert_eq!(
        shown(Form::KnownHosts(alias.clone())),
        "Web_2.x ssh-ed25519 AAAA\nWeb_2.x ssh-rsa BBBB\n"
    );
    let vsock = "    ProxyCommand /usr/lib/systemd/systemd-ssh-proxy vsock/42 22\n    \
                 ProxyUseFdpass yes\n    User root\n    HostKeyAlias";
    assert_eq!(
        shown(Form::SshConfig(None)),
        format!("Host web1 web1-vsock\n{vsock} web1\n")
    );
    board.tunnel().update(|tunnel| {
        tunnel.state = TunnelState::Up;
        tunnel.proxy = Some("10.0.2.2:2222".to_owned());
        tunnel.public_host = Some("gate.example.org".to_owned());
        tunnel.bind = Some("0.0.0.0".to_owned());
        tunnel.port = Some(12345);
    });
    let expected = format!(
        "Host Web_2.x-vsock\n{vsock} Web_2.x\nHost Web_2.x Web_2.x-tunnel\n    HostName \
         gate.example.org\n    Port 12345\n    User root\n    HostKeyAlias Web_2.x\n"
    );
    assert_eq!(shown(Form::SshConfig(alias)), expected);
}

#[test]
fn an_alias_has_no_character_that_ssh_or_a_shell_acts_on() {
    for text in [
        "",
        "-x",
        "a b",
        "a*",
        "!a",
        "a?",
        "a,b",
        "@cert-authority",
        "#a",
        "|1|",
        "ä",
        "a\n",
    ] {
        assert!(text.parse::<Alias>().is_err(), "{text:?}");
    }
    for (host_name, alias) in [
        (None, "vm"),
        (Some("localhost"), "vm"),
        (Some("(none)"), "vm"),
        (Some("web1"), "web1"),
        (Some("web1.example.org"), "web1"),
    ] {
        assert_eq!(Alias::of(host_name).to_string(), alias);
    }
}
