//! The edge to the operating system: what this process was given, and what it must not leak.
//!
//! The only `unsafe` of this program is here.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::slice;
use std::sync::atomic::AtomicU8;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::ifaddrs::getifaddrs;
use nix::libc::{VMADDR_CID_ANY, VMADDR_CID_HOST, VMADDR_CID_LOCAL};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::fstat;
use nix::sys::utsname::uname;
use tokio::io::unix::AsyncFd;

/// Descriptors that are enough for the connections that are allowed, many times over.
const DESCRIPTORS: u64 = 65_536;

/// Keeps this process's memory, where the keys are, out of core dumps and other processes.
///
/// # Errors
/// What the kernel says; nothing that should stop an agent.
pub fn keep_secrets() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // A core that is piped to a handler ignores the limit, but not this (prctl(2)).
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// Raises the limit of open descriptors as far as it may go; where it may not, it stays.
pub fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(DESCRIPTORS);
        if soft < wanted {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
        }
    }
}

/// How much the allocator keeps of what it was given back, in bytes: what waits in a channel and
/// in the library, some times over.
#[cfg(target_env = "gnu")]
const KEPT: nix::libc::c_int = 1 << 20;

/// Has the allocator keep some of what it was given back. glibc returns all over 128 KiB to the
/// kernel, and each packet of a fast connection would be paid for with fresh pages: measured, a
/// tenth of the processor time of an upload through the tunnel.
pub fn keep_heap() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(
            unsafe_code,
            reason = "it changes a number under the allocator's own lock; refused, nothing is lost"
        )]
        unsafe {
            nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, KEPT);
            // The few short-lived threads need no heaps of their own, of 64 MiB of addresses each.
            nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
        }
    }
}

/// How many descriptors this process may have open.
#[must_use]
pub fn descriptor_limit() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((DESCRIPTORS, 0));
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// The kernel's view of a TCP connection (`TCP_INFO`, tcp(7)); none if the kernel does not tell.
/// Fields that an older kernel does not have are zero.
#[must_use]
pub fn tcp_info(socket: &impl AsRawFd) -> Option<nix::libc::tcp_info> {
    let mut info = std::mem::MaybeUninit::<nix::libc::tcp_info>::zeroed();
    let mut length = u32::try_from(size_of::<nix::libc::tcp_info>()).ok()?;
    #[expect(
        unsafe_code,
        reason = "the kernel writes at most `length` bytes into `info`, in which every pattern of \
                  bits, and all zeros, is a value"
    )]
    let (result, info) = unsafe {
        let result = nix::libc::getsockopt(
            socket.as_raw_fd(),
            nix::libc::IPPROTO_TCP,
            nix::libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        (result, info.assume_init())
    };
    (result == 0).then_some(info)
}

/// A descriptor that the service manager handed over.
#[derive(Debug)]
pub struct Inherited {
    /// Its name (`FileDescriptorName=`), or `unknown`.
    pub name: String,
    /// The descriptor; it is closed when another program is executed.
    pub fd: OwnedFd,
}

/// Takes the descriptors that the service manager handed over (`sd_listen_fds(3)`).
///
/// To be called once, first thing in `main`: whoever calls it again gets the same ones, and
/// closes them under the first one's feet.
///
/// # Errors
/// When the environment speaks of descriptors that are not there.
pub fn inherited() -> io::Result<Vec<Inherited>> {
    let fds = sd_notify::listen_fds_with_names()?;
    #[expect(
        unsafe_code,
        reason = "sd_listen_fds has seen that each is open; they were made for this process, \
                  and main takes them before anything else opens one"
    )]
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(fds
        .map(|(fd, name)| Inherited { name, fd: own(fd) })
        .collect())
}

/// Has the runtime watch a descriptor, for reading and writing.
///
/// # Errors
/// When it can't be watched; it is closed then.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        unsafe_code,
        reason = "an OwnedFd stands for the same open descriptor for as long as it lives, and \
                  AsyncFd hands out no way to replace it without ending the watch"
    )]
    let watched = unsafe { AsyncFd::register(fd) };
    Ok(watched?)
}

/// Maps a file that lives in memory, for the rest of this process's life.
///
/// # Errors
/// When it is not sealed against shrinking (`F_SEAL_SHRINK`), is empty, or can't be mapped.
pub fn map_shared(file: &OwnedFd) -> io::Result<&'static [AtomicU8]> {
    let seals = SealFlag::from_bits_truncate(fcntl(file, FcntlArg::F_GET_SEALS)?);
    let length = usize::try_from(fstat(file)?.st_size).unwrap_or_default();
    let length = NonZeroUsize::new(length)
        .filter(|_| seals.contains(SealFlag::F_SEAL_SHRINK))
        .ok_or(io::ErrorKind::InvalidData)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    #[expect(
        unsafe_code,
        reason = "a new mapping, which is never unmapped, of a file that can't shrink; whoever \
                  else maps it, an agent that has ended, can only have used atomics, too"
    )]
    let bytes = unsafe {
        let address = mmap(None, length, access, MapFlags::MAP_SHARED, file, 0)?;
        slice::from_raw_parts(address.cast::<AtomicU8>().as_ptr(), length.get())
    };
    Ok(bytes)
}

/// What the kernel says of this guest's own context ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalCid {
    /// This is it.
    Known(u32),
    /// There is vsock, but no device behind it, or not yet.
    NoDevice,
    /// The kernel does not tell this process.
    Unknown,
}

/// This guest's own context ID. It changes when a snapshot is restored.
#[must_use]
pub fn local_cid() -> LocalCid {
    let Ok(device) = File::open("/dev/vsock") else {
        return LocalCid::Unknown;
    };
    let mut cid = u32::MAX;
    #[expect(
        unsafe_code,
        reason = "this ioctl writes one unsigned int (include/uapi/linux/vm_sockets.h)"
    )]
    let result = unsafe { get_local_cid(device.as_raw_fd(), &raw mut cid) };
    match (result, cid) {
        (Err(_), _) => LocalCid::Unknown,
        // Without a device the kernel names what else there is: its loopback, or itself as a host.
        (Ok(_), VMADDR_CID_ANY | VMADDR_CID_LOCAL | VMADDR_CID_HOST) => LocalCid::NoDevice,
        (Ok(_), cid) => LocalCid::Known(cid),
    }
}

// IOCTL_VM_SOCKETS_GET_LOCAL_CID.
nix::ioctl_read_bad!(
    /// Reads this machine's own context ID.
    get_local_cid,
    nix::request_code_none!(7, 0xb9),
    u32
);

/// Whether one of this machine's interfaces has `address`; true if the kernel does not tell.
#[must_use]
pub fn has_address(address: IpAddr) -> bool {
    let Ok(mut entries) = getifaddrs() else {
        return true;
    };
    entries.any(|entry| {
        let own = entry.address.and_then(|own| {
            let v4 = own.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| own.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        own == Some(address.to_canonical())
    })
}

/// The cloud's name for this machine, as cloud-init noted it down.
#[must_use]
pub fn instance_id() -> Option<String> {
    read_line(Path::new("/var/lib/cloud/data/instance-id"))
}

/// The host name of this guest: hostname(5), or else uname(2).
///
/// The file goes first: the unit's `ProtectHostname=` gives the agent the kernel's name of its start,
/// and cloud-init sets the name later.
#[must_use]
pub fn host_name() -> Option<String> {
    let kernel = || uname().ok()?.nodename().to_str().map(str::to_owned);
    let named = |name: &String| !name.is_empty() && !name.starts_with('#') && name != "localhost";
    let file = read_line(Path::new("/etc/hostname")).filter(named);
    file.or_else(|| kernel().filter(|name| !name.is_empty() && name != "(none)"))
}

/// The first line of a small file, if it says anything.
fn read_line(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(256).read_to_end(&mut text))
        .ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Whether the program on disk is no longer the one that runs, as after an upgrade.
#[must_use]
pub fn restart_pending() -> bool {
    let running = Path::new("/proc/self/exe");
    let Ok(path) = std::fs::read_link(running) else {
        return false;
    };
    // Following the link leads to the running file itself, whatever its name is by now.
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    match (identity(running), identity(&path)) {
        (Ok(running), Ok(on_disk)) => running != on_disk,
        (Ok(_), Err(e)) => e.kind() == io::ErrorKind::NotFound,
        (Err(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_has_not_been_replaced() {
        assert!(!restart_pending());
    }

    #[test]
    fn an_address_is_known_by_its_interface() {
        // Every address in 127.0.0.0/8 answers, but one is on the interface.
        assert!(has_address([127, 0, 0, 1].into()));
        assert!(!has_address([192, 0, 2, 1].into()));
    }

    #[test]
    fn a_line_is_taken_without_its_end_and_nothing_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("instance-id");
        assert_eq!(read_line(&path), None);
        for (text, expected) in [
            ("i-0abc\n", Some("i-0abc")),
            ("i-0abc", Some("i-0abc")),
            ("\n", None),
            ("", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_line(&path).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn nothing_is_inherited_without_a_service_manager() {
        assert!(inherited().unwrap().is_empty());
    }
}
