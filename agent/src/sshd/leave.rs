//! How a check ends.

use tokio::net::TcpStream;

/// Leaves with the fewest lines in the log of sshd, by default (`LogLevel INFO`) one.
///
/// Before OpenSSH 10, a client that says nothing is an error, and one that sends its version is a
/// line at INFO. OpenSSH 10 has that line for both, but fail2ban's aggressive mode counts it for
/// the latter. An `SSH_MSG_DISCONNECT` would be two lines, of which fail2ban counts one.
pub(super) fn take_leave(stream: &TcpStream, banner: &str) {
    if !takes_silence(banner) {
        let farewell = concat!("SSH-2.0-vmagent_", env!("CARGO_PKG_VERSION"), "\r\n");
        // The send buffer of a new connection has room for it.
        let _ = stream.try_write(farewell.as_bytes());
    }
}

/// Whether a client that leaves without a word is no error to the server with this banner.
pub(super) fn takes_silence(banner: &str) -> bool {
    let version = banner.strip_prefix("SSH-2.0-OpenSSH_");
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major >= 10)
}
