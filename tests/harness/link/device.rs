//! TUN devices (the kernel's Documentation/networking/tuntap.rst).

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc::{self, c_char, c_int, c_short};

use crate::failure::{Context, Failure, Result};

nix::ioctl_write_ptr_bad!(
    /// Makes the descriptor a queue of the device that the request names, and makes the device.
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<c_int>()),
    libc::ifreq
);

/// Makes a TUN device in the namespace of the calling thread. Reading takes a packet that the
/// namespace sends, writing hands it one; neither blocks. The device goes with the file.
///
/// # Errors
///
/// If the name is too long, or the kernel refuses.
pub(super) fn open(name: &str) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .during("/dev/net/tun")?;
    let mut bytes: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    // The last one stays zero and ends the name.
    if name.len() >= bytes.len() {
        return Err(Failure::new(format!("{name} is too long for a device")));
    }
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    let request = libc::ifreq {
        ifr_name: bytes,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_TUN | libc::IFF_NO_PI) as c_short,
        },
    };
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives on this stack frame, and keeps
    // no pointer to it; the descriptor is open for the length of the call.
    unsafe { set_interface(file.as_raw_fd(), &raw const request) }
        .during(format!("making the TUN device {name}"))?;
    Ok(file)
}
