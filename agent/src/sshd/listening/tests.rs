use std::net::{TcpListener, TcpStream};

use super::*;

#[test]
fn a_listener_is_seen_on_each_address_that_it_serves_and_no_longer() {
    for (bind, dial, seen) in [
        ("127.0.0.1:0", "127.0.0.1", true),
        ("127.0.0.9:0", "127.0.0.9", true),
        ("127.0.0.9:0", "127.0.0.1", false),
        ("0.0.0.0:0", "127.0.0.1", true),
        ("[::1]:0", "::1", true),
        ("[::1]:0", "127.0.0.1", false),
        ("[::]:0", "127.0.0.1", true),
        ("127.0.0.1:0", "192.0.2.1", false),
    ] {
        let listener = TcpListener::bind(bind).unwrap();
        let bound = listener.local_addr().unwrap();
        let address = SocketAddr::new(dial.parse().unwrap(), bound.port());
        let found = look(address);
        assert_eq!(found.is_some(), seen, "{bind} from {dial}");
        let listed: Vec<_> = all().unwrap();
        let listed = listed.iter().find(|listed| listed.address == bound);
        let listed = listed.expect("it is in the list of all");
        assert_eq!(listed.owner.uid, nix::unistd::geteuid().as_raw());
        assert!(found.is_none_or(|owner| owner == listed.owner));
        drop(listener);
        assert_eq!(look(address), None, "{bind}");
        let gone = all().unwrap();
        assert!(!gone.iter().any(|listed| listed.address == bound), "{bind}");
    }
}

/// sshd's sessions outlive its listener and use the same address and port.
#[test]
fn a_connection_is_no_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let near = TcpStream::connect(address).unwrap();
    let far = listener.accept().unwrap();
    assert!(look(address).is_some());
    drop(listener);
    assert_eq!(look(address), None);
    assert!(
        !all()
            .unwrap()
            .iter()
            .any(|listed| listed.address == address)
    );
    drop((near, far));
}

#[test]
fn an_error_and_a_short_answer_are_no_listener() {
    let mut answer = vec![0; HEADER + ANSWER];
    answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    answer[HEADER] = 2; // AF_INET
    answer[HEADER + 1] = LISTENING;
    assert!(listener(&answer).is_some());
    for length in 0..answer.len() {
        assert_eq!(listener(&answer[..length]), None, "{length}");
    }
    answer[4..6].copy_from_slice(&2_u16.to_ne_bytes()); // NLMSG_ERROR
    assert_eq!(listener(&answer), None);
}

#[test]
fn an_attribute_is_found_among_others_and_nonsense_has_none() {
    let mut attributes = Vec::new();
    for (kind, value) in [(8_u16, &[1_u8][..]), (CGROUP, &7_u64.to_ne_bytes())] {
        let length = u16::try_from(4 + value.len()).unwrap();
        attributes.extend(length.to_ne_bytes());
        attributes.extend(kind.to_ne_bytes());
        attributes.extend(value);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
    }
    assert_eq!(attribute(&attributes, CGROUP), Some(7_u64.to_ne_bytes()));
    assert_eq!(attribute(&attributes, 9), None);
    assert_eq!(attribute(&attributes[..12], CGROUP), None);
    assert_eq!(attribute(&[0; 64], CGROUP), None);
}
