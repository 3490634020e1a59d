use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use super::*;
use crate::relay::sockets::Rest;

// No service manager is told anything here: the tests run without one.

fn given(name: &str, fd: impl Into<OwnedFd>) -> Inherited {
    let (name, fd) = (name.to_owned(), fd.into());
    Inherited { name, fd }
}

fn origin() -> UnixStream {
    UnixStream::pair().unwrap().0
}

fn service() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap()
}

fn file(text: &[u8]) -> OwnedFd {
    let file = memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::write(&file, text).unwrap();
    file
}

fn ledger(length: i64, seals: SealFlag) -> OwnedFd {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create("test", flags).unwrap();
    ftruncate(&file, length).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

#[test]
fn a_connection_is_found_by_its_descriptors_in_any_order() {
    let undelivered = Undelivered {
        inward: Rest::from(&b"asked"[..]),
        outward: Rest::default(),
    };
    let (_store, left) = Store::open(vec![
        given("relay-3", undelivered.write().unwrap()),
        given("relay-7", origin()),
        given("relay-3", service()),
        given("relay-3", origin()),
    ])
    .unwrap();
    let [third, seventh] = &left[..] else {
        panic!("{left:?}")
    };
    assert_eq!((third.slot.number, seventh.slot.number), (3, 7));
    assert!(third.service.is_some() && seventh.service.is_none());
    assert_eq!(third.undelivered, undelivered);
    // The bytes are in memory now.
    assert_eq!(third.slot.mark().load(Ordering::Relaxed), 1);
    assert_eq!(seventh.slot.mark().load(Ordering::Relaxed), 0);
}

#[test]
fn what_can_not_be_continued_is_cut_and_its_slot_is_free() {
    let sealed = ledger(SLOTS.into(), SealFlag::F_SEAL_SHRINK);
    host::map_shared(&sealed).unwrap()[1].store(2, Ordering::Relaxed);
    let (far, near) = UnixStream::pair().unwrap();
    let (store, left) = Store::open(vec![
        given("ledger", sealed),
        given("relay-0", service()),
        given("relay-1", near),
        given("relay-1", service()),
        given("relay-2", origin()),
        given("relay-2", file(b"nonsense")),
        given("relay-3", origin()),
        given("relay-x", origin()),
        given("relay-99999", origin()),
    ])
    .unwrap();
    let numbers = |left: &[Left]| left.iter().map(|left| left.slot.number).collect::<Vec<_>>();
    assert_eq!(numbers(&left), [3]);
    let end = nix::sys::socket::recv(
        std::os::fd::AsRawFd::as_raw_fd(&far),
        &mut [0],
        nix::sys::socket::MsgFlags::MSG_DONTWAIT,
    );
    assert_eq!(end, Ok(0), "the connection with a hole is not closed");
    let mut taken: Vec<_> = (0..4).map(|_| store.slot().unwrap()).collect();
    taken.sort_by_key(|slot| slot.number);
    let numbers: Vec<_> = taken.iter().map(|slot| slot.number).collect();
    assert_eq!(numbers, [0, 1, 2, 4]);
    // A mark is of one connection, not of the next in its place.
    assert_eq!(taken[1].mark().load(Ordering::Relaxed), 0);
}

#[test]
fn a_ledger_of_another_version_is_not_used() {
    for wrong in [
        ledger(100, SealFlag::F_SEAL_SHRINK),
        ledger(0, SealFlag::F_SEAL_SHRINK),
        // It could shrink, and take the memory away.
        ledger(SLOTS.into(), SealFlag::F_SEAL_GROW),
    ] {
        let copy = wrong.try_clone().unwrap();
        let given = vec![given("ledger", wrong), given("relay-0", origin())];
        let (store, left) = Store::open(given).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(store.ledger.len(), usize::from(SLOTS));
        let length = nix::sys::stat::fstat(&copy).unwrap().st_size;
        assert!(length != i64::from(SLOTS) || host::map_shared(&copy).is_err());
    }
}

#[test]
fn all_that_can_be_kept_fits_into_the_store_and_into_a_variable() {
    let (store, _) = Store::open(Vec::new()).unwrap();
    let unit = include_str!("../../../../systemd/vmagent.service");
    let most: usize = unit
        .lines()
        .find_map(|line| line.strip_prefix("FileDescriptorStoreMax=")?.parse().ok())
        .unwrap();
    let slots = usize::from(SLOTS);
    assert!(3 * slots < most);
    store.free().next = SLOTS - 1;
    let longest = store.slot().unwrap().name().len() + ":".len();
    // With room for the names of what else there is.
    assert!(most * longest < (128 << 10) - 1024);
}

#[test]
fn there_are_only_so_many_slots() {
    let (store, _) = Store::open(Vec::new()).unwrap();
    let mut taken: Vec<_> = std::iter::from_fn(|| store.slot()).collect();
    assert_eq!(taken.len(), usize::from(SLOTS));
    taken.truncate(5);
    assert!(store.slot().is_some());
}
