//! Connections that outlive the agent.
//!
//! The service manager keeps descriptors for its services (sd_notify(3), `FDSTORE`) and gives
//! them to whoever is started next. So both sockets of a connection are left with it once the
//! connection has lasted a moment: a process that is killed takes none of them along. One that
//! is told to stop leaves the bytes that it has read and not yet written there as well.
//!
//! | name there | what |
//! |---|---|
//! | `ledger` | a byte for each connection: whether some of its bytes are in the process's memory |
//! | `relay-7` | the origin's socket, sshd's if it was reached, a file of undelivered bytes if any |
//!
//! Bytes that were in the memory of a process that was killed are lost. The ledger says whose,
//! and those connections are cut, not continued with a hole.

use std::collections::BTreeMap;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{
    AtomicBool, AtomicU8,
    Ordering::{self, Relaxed},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use sd_notify::NotifyState::{Custom, FdName, FdStore, FdStoreRemove};
use sd_notify::{NotifyState, notify, notify_with_fds};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::host::{self, Inherited};
use crate::relay::sockets::Undelivered;

/// The ledger's name, and the beginning of a connection's.
const LEDGER: &str = "ledger";
const RELAY: &str = "relay-";

/// Connections that can be kept. Each has up to three descriptors there, so it is the unit's
/// `FileDescriptorStoreMax=` that must not be smaller. And that has a bound itself: the next agent
/// is given all names in one variable, which can't be longer than 128 KiB (execve(2)).
const SLOTS: u16 = 2730;

/// How long the service manager may take to see what was left with it: it reads its messages in
/// order, and is done in milliseconds.
const BARRIER: Duration = Duration::from_secs(3);

/// Without it, a socket that hangs up is thrown away while bytes can still be read from it.
const NOT_WATCHED: NotifyState<'_> = Custom("FDPOLL=0");

/// The service manager's store of descriptors, as far as it is ours.
#[derive(Debug)]
pub(super) struct Store {
    ledger: &'static [AtomicU8],
    free: Mutex<Free>,
}

/// Slots that nobody has.
#[derive(Debug)]
struct Free {
    returned: Vec<u16>,
    /// It and all above were never taken.
    next: u16,
}

/// A connection's place in the store.
#[derive(Debug)]
pub(super) struct Slot {
    store: Arc<Store>,
    number: u16,
    /// The store has something under its name.
    kept: AtomicBool,
}

/// A connection that a former agent has left.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) slot: Slot,
    pub(super) origin: OwnedFd,
    /// Not there if sshd had not answered yet.
    pub(super) service: Option<OwnedFd>,
    pub(super) undelivered: Undelivered,
}

/// Takes over what a former agent has left among `inherited`. No store, if there is no service
/// manager that keeps descriptors.
pub(super) fn take_over(inherited: &mut Vec<Inherited>) -> Option<(Arc<Store>, Vec<Left>)> {
    let is_ours = |given: &mut Inherited| given.name == LEDGER || given.name.starts_with(RELAY);
    let given: Vec<_> = inherited.extract_if(.., is_ours).collect();
    let kept = std::env::var_os("NOTIFY_SOCKET").is_some()
        // Said by systemd 254 and later; an older one keeps them, too, and does not say so.
        && std::env::var("FDSTORE").map_or(true, |most| most != "0");
    if !kept {
        return None;
    }
    Store::open(given)
        .inspect_err(|error| warn!(%error, "a restart will cut connections"))
        .ok()
}

impl Store {
    fn open(given: Vec<Inherited>) -> io::Result<(Arc<Self>, Vec<Left>)> {
        let mut groups: BTreeMap<u16, Vec<OwnedFd>> = BTreeMap::new();
        let mut ledger = None;
        for Inherited { name, fd } in given {
            match name.strip_prefix(RELAY).map(str::parse) {
                Some(Ok(number)) if number < SLOTS => groups.entry(number).or_default().push(fd),
                Some(_) => drop(forget(&name)),
                None => {
                    ledger = host::map_shared(&fd)
                        .ok()
                        .filter(|it| it.len() == usize::from(SLOTS))
                }
            }
        }
        let ledger = match ledger {
            Some(ledger) => ledger,
            None => new_ledger()?,
        };
        let next = groups.keys().last().map_or(0, |last| last + 1);
        let returned = (0..next).filter(|number| !groups.contains_key(number));
        let store = Arc::new(Self {
            ledger,
            free: Mutex::new(Free {
                returned: returned.collect(),
                next,
            }),
        });
        let left = groups.into_iter().filter_map(|(number, fds)| {
            let slot = Slot {
                store: Arc::clone(&store),
                number,
                kept: AtomicBool::new(true),
            };
            // Refused ones are closed here, and taken out of the store.
            left(slot, fds)
                .inspect_err(|why| warn!(number, why, "can't continue a connection"))
                .ok()
        });
        let left = left.collect();
        Ok((store, left))
    }

    /// A place for one more connection; none if there are too many.
    pub(super) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let number = self.free().take()?;
        self.ledger[usize::from(number)].store(0, Ordering::Release);
        Some(Slot {
            store: Arc::clone(self),
            number,
            kept: AtomicBool::new(false),
        })
    }

    /// Waits until the service manager has seen all that was left with it.
    pub(super) async fn settle(&self) {
        let seen = async {
            let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
            notify_with_fds(&[Custom("BARRIER=1")], &[theirs.as_fd()])?;
            drop(theirs);
            pipe::Receiver::from_owned_fd(ours)?.read(&mut [0]).await
        };
        match timeout(BARRIER, seen).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "can't ask the service manager for its descriptors"),
            Err(_) => warn!("the service manager is slow to take the descriptors"),
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    fn take(&mut self) -> Option<u16> {
        if let Some(number) = self.returned.pop() {
            return Some(number);
        }
        let number = (self.next < SLOTS).then_some(self.next)?;
        self.next += 1;
        Some(number)
    }
}

/// Sorts a connection's descriptors: sshd is reached by TCP, an origin never is.
fn left(slot: Slot, fds: Vec<OwnedFd>) -> Result<Left, &'static str> {
    let (mut origin, mut service, mut undelivered) = (None, None, None);
    for fd in fds {
        let address = SockRef::from(&fd).local_addr();
        match address.map(|address| address.as_socket().is_some()) {
            Ok(true) => service = Some(fd),
            Ok(false) => origin = Some(fd),
            Err(_) => undelivered = Some(fd),
        }
    }
    if slot.mark().load(Ordering::Acquire) != 0 {
        return Err("the agent was killed with bytes of it in memory");
    }
    let origin = origin.ok_or("its origin is missing")?;
    let undelivered = match undelivered {
        None => Undelivered::default(),
        Some(file) => {
            // From now on in memory, and in the store no more: not to be delivered twice.
            let read =
                Undelivered::read(file).map_err(|_| "its undelivered bytes can't be read")?;
            read.mark(slot.mark());
            slot.forget();
            read
        }
    };
    let left = Left {
        slot,
        origin,
        service,
        undelivered,
    };
    left.slot.keep(&left.sockets());
    Ok(left)
}

fn new_ledger() -> io::Result<&'static [AtomicU8]> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(LEDGER, flags)?;
    ftruncate(&file, SLOTS.into())?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    // One that is there is of another version, and no use.
    forget(LEDGER)?;
    notify_with_fds(&[FdStore, FdName(LEDGER), NOT_WATCHED], &[file.as_fd()])?;
    host::map_shared(&file)
}

fn forget(name: &str) -> io::Result<()> {
    notify(&[FdStoreRemove, FdName(name)])
}

impl Slot {
    /// Not 0 while bytes of this connection are in this process's memory.
    pub(super) fn mark(&self) -> &AtomicU8 {
        &self.store.ledger[usize::from(self.number)]
    }

    /// Leaves copies of a connection's sockets with the service manager, unless they are there.
    pub(super) fn keep(&self, sockets: &[BorrowedFd<'_>]) {
        if !self.kept.load(Relaxed) {
            self.kept.store(self.put(sockets).is_ok(), Relaxed);
        }
    }

    /// Takes out of the store again what is there.
    pub(super) fn forget(&self) {
        if self.kept.swap(false, Relaxed) {
            // Whatever becomes of this: a socket that has ended is no use to the next agent.
            let _ = forget(&self.name());
        }
    }

    /// Leaves the connection to the next agent.
    ///
    /// # Errors
    /// When the service manager can't be told; the connection is lost then.
    pub(super) fn hand_over(
        self,
        sockets: &[BorrowedFd<'_>],
        undelivered: &Undelivered,
    ) -> io::Result<()> {
        self.keep(sockets);
        if !self.kept.load(Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !undelivered.is_empty() {
            self.put(&[undelivered.write()?.as_fd()])?;
        }
        // Whole without this process; and the slot stays taken.
        let slot = ManuallyDrop::new(self);
        slot.mark().store(0, Ordering::Release);
        Ok(())
    }

    fn name(&self) -> String {
        format!("{RELAY}{}", self.number)
    }

    fn put(&self, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        notify_with_fds(&[FdStore, FdName(&self.name()), NOT_WATCHED], fds)
            .inspect_err(|error| debug!(%error, "the service manager keeps no descriptors"))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.forget();
        self.store.free().returned.push(self.number);
    }
}

impl Left {
    /// The sockets that there are.
    fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        let service = self.service.as_ref().map(AsFd::as_fd);
        [self.origin.as_fd()].into_iter().chain(service).collect()
    }
}

#[cfg(test)]
mod tests;
