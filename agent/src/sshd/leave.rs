//! Disconnects after a check.

use tokio::net::TcpStream;

/// Disconnects with the fewest lines in sshd's log: one line, at the default `LogLevel INFO`.
///
/// Before OpenSSH 10, sshd logs an error for a client that sends nothing, and a line at INFO for a
/// client that sends its version. OpenSSH 10 logs the line at INFO for both, but fail2ban's
/// aggressive mode counts it for a client that sent its version. An `SSH_MSG_DISCONNECT` would log
/// two lines, of which fail2ban counts one.
pub(super) fn take_leave(stream: &TcpStream, banner: &str) {
    if !takes_silence(banner) {
        let farewell = concat!("SSH-2.0-vmagent_", env!("CARGO_PKG_VERSION"), "\r\n");
        // The send buffer of a new connection has room for this line.
        let _ = stream.try_write(farewell.as_bytes());
    }
}

/// Whether the server with this banner logs no error for a client that sends nothing.
pub(super) fn takes_silence(banner: &str) -> bool {
    let version = banner.strip_prefix("SSH-2.0-OpenSSH_");
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major >= 10)
}
