use std::fs;
use std::net::{SocketAddr, TcpListener};

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
    assert!(finder.pass_over(&first, None, now));
    assert!(!finder.pass_over(&first, None, now));
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
    finder.pass_over(&place, Some(SILENT), now);
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
        Choice::Ask(..) | Choice::Wait(_) | Choice::Stay => false,
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
        (&place.address, place.by),
        (&Address::Unix(path), FoundBy::SshSocket)
    );
    // It stays excluded, though the list of TCP sockets does not have it.
    for excluded in [true, false, false] {
        assert_eq!(finder.pass_over(&place, None, now), excluded);
        assert!(!matches!(finder.choose(now), Choice::Check(_)));
    }
}

/// A socket of root's.
fn a_socket(address: &str, cgroup: Option<u64>) -> Listener {
    let address: SocketAddr = address.parse().unwrap();
    Listener {
        address,
        owner: listening::Owner {
            uid: 0,
            inode: u32::MAX - u32::from(address.port()),
        },
        cgroup,
    }
}

/// Without `sock_diag`, only a failed check selects another place, and a ready sshd stays selected.
#[test]
fn where_the_kernel_lists_no_sockets_the_next_place_follows_a_failed_check() {
    let root = root("ListenAddress 127.0.0.1:2222\nListenAddress [::1]:2222\n");
    let mut finder = Finder::new(root.path());
    finder.all = || Err(Errno::ENOENT.into());
    let now = Instant::now();
    let chosen = |finder: &mut Finder| match finder.choose(now) {
        Choice::Check(place) => place.address,
        choice @ (Choice::Ask(..) | Choice::Wait(_) | Choice::Stay) => panic!("{choice:?}"),
    };
    let mut turns = Vec::new();
    for _ in 0..5 {
        let address = chosen(&mut finder);
        for _ in 0..3 {
            assert!(!finder.has_better(&address, now));
            assert_eq!(chosen(&mut finder), address);
        }
        turns.push(address.to_string());
        finder.failed();
    }
    let expected = [
        "127.0.0.1:2222",
        "[::1]:2222",
        "127.0.0.1:22",
        "[::1]:22",
        "127.0.0.1:2222",
    ];
    assert_eq!(turns, expected);
}

#[test]
fn a_lack_of_descriptors_changes_no_place() {
    let root = root("");
    let mut finder = Finder::new(root.path());
    finder.all = || Err(Errno::EMFILE.into());
    let now = Instant::now();
    assert_eq!(finder.choose(now), Choice::Stay);
    assert!(!finder.has_better(&SocketAddr::from(([127, 0, 0, 1], 2222)).into(), now));
}

/// Two sockets of one port, as sshd opens them, are one server: the check waits for its banner for
/// as long as it takes.
#[test]
fn the_sockets_of_one_port_are_one_server() {
    let place = |text: &str| {
        let address: SocketAddr = text.parse().unwrap();
        at(address.into(), FoundBy::ListeningSocket)
    };
    let (v4, v6, other) = (
        place("127.0.0.1:2222"),
        place("[::1]:2222"),
        place("127.0.0.1:2223"),
    );
    assert_eq!(sole(&[v4.clone(), v6]), Some(v4.clone()));
    assert_eq!(sole(&[v4, other]), None);
    assert_eq!(sole(&[]), None);
}

/// `ssh -R` leaves sockets of root's in sshd's unit, which stay while sshd restarts.
#[test]
fn the_sockets_of_sshds_units_are_dialled_later() {
    let root = root("Port 1\n");
    let mut finder = Finder::new(root.path());
    finder.all = || Ok(vec![a_socket("192.0.2.1:2222", Some(7))]);
    finder.openers = || Openers {
        sshd: vec![7],
        ..Openers::default()
    };
    let now = Instant::now();
    assert!(matches!(finder.choose(now), Choice::Wait(_)));
    let late = finder.choose(now + EARLY);
    let expected = SocketAddr::from(([192, 0, 2, 1], 2222)).into();
    assert!(
        matches!(&late, Choice::Check(place) if place.address == expected),
        "{late:?}"
    );
    finder.all = || {
        Ok(vec![
            a_socket("192.0.2.1:2222", Some(7)),
            a_socket("192.0.2.1:2223", Some(7)),
        ])
    };
    let late = finder.choose(now + EARLY);
    assert!(
        matches!(&late, Choice::Ask(list, SLOW) if list.len() == 2),
        "{late:?}"
    );
}

/// Before Linux 5.9 the kernel names no cgroup: the port of a container looks like that of sshd.
#[test]
fn without_cgroups_only_port_22_is_a_candidate() {
    let finder = Finder::new(root("Port 1\n").path());
    let sockets = ["192.0.2.1:2222", "192.0.2.1:22"].map(|text| a_socket(text, None));
    let openers = Openers::default();
    let found = finder.sockets(&sockets, &openers, Opener::Unknown, Instant::now());
    assert_eq!(list(found.iter()), "192.0.2.1:22 (listening socket)");
}

/// systemd opens `ListenStream=[::]:PORT` for both families.
#[test]
fn a_socket_of_both_families_is_found_at_its_ipv4_address() {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    socket.set_only_v6(false).unwrap();
    let any: SocketAddr = "[::]:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().unwrap().port();
    let root = root("");
    socket_unit(root.path(), &format!("ListenStream=[::]:{port}\n"), true);
    let mut finder = Finder::new(root.path());
    let now = Instant::now();
    let found = SocketAddr::from(([127, 0, 0, 1], port)).into();
    let choice = finder.choose(now);
    assert!(
        matches!(&choice, Choice::Check(place) if place.address == found && place.by == FoundBy::SshSocket),
        "{choice:?}"
    );
    assert!(!finder.has_better(&found, now));
    let listed = listening::all().unwrap();
    let openers = Openers::default();
    let sockets: Vec<_> = listed
        .into_iter()
        .filter(|listener| listener.address.port() == port)
        .collect();
    let places = finder.sockets(&sockets, &openers, Opener::Other, now);
    assert_eq!(places.len(), 1);
    assert_eq!(places[0].address, found);
}
