use std::fs;
use std::net::TcpListener;

use super::*;

/// A root with these lines in sshd_config(5).
fn root(config: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/ssh");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("sshd_config"), config).unwrap();
    root
}

fn listener(bind: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(bind).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn socket_unit(root: &Path, text: &str, enabled: bool) {
    let units = root.join("etc/systemd/system");
    let wants = units.join("sockets.target.wants");
    fs::create_dir_all(&wants).unwrap();
    fs::write(units.join("ssh.socket"), text).unwrap();
    if enabled {
        fs::write(wants.join("ssh.socket"), "").unwrap();
    }
}

#[test]
fn a_place_counts_when_a_socket_listens_there() {
    let (held, v4) = listener("127.0.0.1:0");
    let (_other, v6) = listener("[::1]:0");
    let root = root(&format!("ListenAddress {v4}\nListenAddress {v6}\n"));
    let now = Instant::now();
    let mut finder = Finder::new(root.path());
    let Choice::Check(first) = finder.choose(now) else {
        panic!("{finder:?}");
    };
    assert_eq!(
        (&first.address, first.by),
        (&v4.into(), FoundBy::SshdConfig)
    );
    // A socket of another server stays excluded until another socket has its address.
    assert!(finder.pass_over(&first, false, now));
    assert!(!finder.pass_over(&first, false, now));
    let Choice::Check(second) = finder.choose(now) else {
        panic!("{finder:?}");
    };
    assert_eq!(second.address, v6.into());
    assert!(!finder.has_better(&v6.into(), now));
    drop(held);
    let _again = TcpListener::bind(v4).unwrap();
    assert!(finder.has_better(&v6.into(), now));
    assert!(matches!(finder.choose(now), Choice::Check(place) if place.address == v4.into()));
}

#[test]
fn a_silent_socket_is_asked_again_later() {
    let (_held, address) = listener("127.0.0.1:0");
    let root = root(&format!("ListenAddress {address}\n"));
    let mut finder = Finder::new(root.path());
    let now = Instant::now();
    let Choice::Check(place) = finder.choose(now) else {
        panic!("{finder:?}");
    };
    finder.pass_over(&place, true, now);
    assert!(!matches!(finder.choose(now), Choice::Check(_)));
    assert_eq!(finder.choose(now + SILENT), Choice::Check(place));
}

/// A socket unit that is not enabled, and port 22 where sshd_config names another port, may belong
/// to another server.
#[test]
fn what_is_not_said_is_looked_at_later() {
    let (held, address) = listener("127.0.0.1:0");
    let root = root("Port 1\n");
    let unit = format!("[Socket]\nListenStream={address}\n");
    socket_unit(root.path(), &unit, false);
    let mut finder = Finder::new(root.path());
    let now = Instant::now();
    let expected = "127.0.0.1:1".parse::<SocketAddr>().unwrap();
    let early = finder.choose(now);
    assert!(
        matches!(&early, Choice::Wait(place) if place.address == expected.into()),
        "{early:?}"
    );
    let looked = finder.looked_at();
    assert!(looked.contains("127.0.0.1:1 (sshd_config)"), "{looked}");
    assert!(!looked.contains(&address.to_string()), "{looked}");
    let late = finder.choose(now + LATE);
    let found = |choice: &Choice| match choice {
        // A server may listen on port 22 of the machine that runs the test.
        Choice::Check(place) if place.by != FoundBy::Port22 => {
            assert_eq!(
                (&place.address, place.by),
                (&address.into(), FoundBy::SshSocket)
            );
            true
        }
        Choice::Check(_) => true,
        Choice::Ask(_) | Choice::Wait(_) => false,
    };
    assert!(found(&late), "{late:?}");
    assert!(finder.looked_at().contains(&address.to_string()));
    socket_unit(root.path(), &unit, true);
    let mut finder = Finder::new(root.path());
    fs::write(root.path().join("etc/ssh/sshd_config"), "").unwrap();
    let at_once = finder.choose(now);
    assert!(matches!(&at_once, Choice::Check(place) if place.address == address.into()));
    drop(held);
}

#[test]
fn a_unix_socket_comes_after_tcp() {
    let root = root("");
    let path = root.path().join("sshd.sock");
    let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (held, tcp) = listener("127.0.0.1:0");
    let unit = format!("ListenStream={}\nListenStream={tcp}\n", path.display());
    socket_unit(root.path(), &unit, true);
    let mut finder = Finder::new(root.path());
    let now = Instant::now();
    assert!(matches!(finder.choose(now), Choice::Check(place) if place.address == tcp.into()));
    drop(held);
    let Choice::Check(place) = finder.choose(now) else {
        panic!("{finder:?}");
    };
    assert_eq!(
        (place.address, place.by),
        (Address::Unix(path), FoundBy::SshSocket)
    );
}

#[test]
fn port_22_is_where_anybody_looks() {
    let (first, later) = places(root("").path());
    let names = |places: &[Place]| list(places.iter());
    assert_eq!(names(&first), "127.0.0.1:22 (port 22), [::1]:22 (port 22)");
    assert_eq!(later, []);
    let (first, later) = places(root("Port 22\nPort 2222\nListenAddress 127.0.0.1\n").path());
    assert_eq!(
        names(&first),
        "127.0.0.1:22 (port 22), 127.0.0.1:2222 (sshd_config)"
    );
    assert_eq!(names(&later), "[::1]:22 (port 22)");
}
