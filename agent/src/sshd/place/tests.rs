use std::fs;
use std::net::TcpListener;

use super::super::settings::inside;
use super::*;

fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = inside(root.path(), Path::new(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn named(files: &[(&str, &str)]) -> (String, String) {
    let (first, later) = places(root(files).path());
    (list(first.iter()), list(later.iter()))
}

const SSHD_CONFIG: &str = "/etc/ssh/sshd_config";

#[test]
fn port_22_is_where_anybody_looks() {
    let (first, later) = named(&[]);
    assert_eq!(first, "127.0.0.1:22 (port 22), [::1]:22 (port 22)");
    assert_eq!(later, "");
    let config = "Port 22\nPort 2222\nListenAddress 127.0.0.1\n";
    let (first, later) = named(&[(SSHD_CONFIG, config)]);
    assert_eq!(
        first,
        "127.0.0.1:22 (port 22), 127.0.0.1:2222 (sshd_config)"
    );
    assert_eq!(later, "[::1]:22 (port 22)");
}

/// sshd_config names a port, and the stock socket unit names port 22 as the default does.
#[test]
fn no_address_is_named_twice() {
    let unit = "/usr/lib/systemd/system/ssh.socket";
    let (first, later) = named(&[(SSHD_CONFIG, "Port 2222\n"), (unit, "ListenStream=22\n")]);
    assert_eq!(
        first,
        "127.0.0.1:2222 (sshd_config), [::1]:2222 (sshd_config)"
    );
    assert_eq!(later, "127.0.0.1:22 (port 22), [::1]:22 (port 22)");
}

#[test]
fn the_tunnel_does_not_lead_to_the_socket_of_local_logins() {
    let unit = "/usr/lib/systemd/system/sshd-unix-local.socket";
    let root = root(&[(unit, "ListenStream=/run/ssh-unix-local/socket\n")]);
    let (first, later) = places(root.path());
    let client = Origin::Client {
        address: V4,
        port: 5,
    };
    for origin in [client, Origin::Named("a".to_owned())] {
        assert_eq!(later[0].refusal(&origin).as_deref(), Some(LOCAL_ONLY));
        assert_eq!(first[0].refusal(&origin), None);
    }
    for origin in [Origin::Cid(2), Origin::Unix, Origin::Check] {
        assert_eq!(later[0].refusal(&origin), None);
    }
}

/// Any user may listen on a high port that a file names. A configured address, and port 22, are
/// dialled for any listener.
#[test]
fn a_socket_of_another_user_is_no_sshd() {
    let stranger = Owner {
        uid: geteuid().as_raw() + 1000,
        inode: 1,
    };
    let own = Owner {
        uid: geteuid().as_raw(),
        ..stranger
    };
    let root = Owner { uid: 0, ..stranger };
    let address = Address::Tcp(SocketAddr::new(V4, 2222));
    for (by, admitted) in [
        (FoundBy::SshdConfig, false),
        (FoundBy::SshSocket, false),
        (FoundBy::ListeningSocket, false),
        (FoundBy::Port22, true),
        (FoundBy::Configuration, true),
    ] {
        let place = at(address.clone(), by);
        assert_eq!(place.admits(stranger), admitted, "{by}");
        assert!(place.admits(own) && place.admits(root), "{by}");
    }
}

#[test]
fn a_socket_of_both_families_is_dialled_over_ipv4() {
    for (v6only, expected) in [(false, V4), (true, V6)] {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.set_only_v6(v6only).unwrap();
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
        socket.bind(&any.into()).unwrap();
        socket.listen(1).unwrap();
        let listener = TcpListener::from(socket);
        let v6 = SocketAddr::new(V6, listener.local_addr().unwrap().port());
        let inode = listening::look(v6).unwrap().inode;
        assert_eq!(over_ipv4(v6, inode).ip(), expected, "{v6only}");
    }
}
