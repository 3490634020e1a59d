//! Whether sshd looks up the name of each client's address: `UseDNS yes` in sshd_config(5).
//!
//! sshd waits for the name server before it checks a key, so that a dead one delays each login by
//! 10 s or more. 127.0.0.1 has a name in /etc/hosts; the addresses of origins have none.

use std::path::PathBuf;

use tracing::warn;

use crate::aside::aside;
use crate::relay::dial::Dialer;
use crate::sshd::{self, Sshd};
use crate::status::board::Slice;
use crate::status::model;

/// Reads sshd's configuration in `directory` at the start, and each time sshd comes up. Never ends.
pub(crate) async fn watch(
    directory: PathBuf,
    mut watched: Sshd,
    dialer: Dialer,
    slice: Slice<model::Sshd>,
) {
    loop {
        let directory = directory.clone();
        let found = aside("sshd_config", move || sshd::use_dns(&directory)).await;
        let yes = found == Some(true);
        if yes && slice.get().use_dns != found {
            warn!(
                "sshd has UseDNS yes: the host connects from 127.0.0.1, users of the proxy wait for \
                 the name servers"
            );
        }
        dialer.set_looks_up_names(yes);
        slice.update(|sshd| sshd.use_dns = found);
        watched.becomes_ready().await;
    }
}
