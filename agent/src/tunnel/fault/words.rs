//! A fault's code for programs, and its advice for people.

use super::Fault;
use crate::explain::Explain;

impl Explain for Fault {
    fn code(&self) -> &'static str {
        match self {
            Self::NameNotResolved { .. } => "name-not-resolved",
            Self::NameTimeout { .. } => "name-timeout",
            Self::DialFailed { .. } => "dial-failed",
            Self::DialTimeout { .. } => "dial-timeout",
            Self::NoBanner { .. } => "no-banner",
            Self::KexFailed { .. } => "kex-failed",
            Self::HostKeyMismatch { .. } => "host-key-mismatch",
            Self::AuthRejected { .. } => "auth-rejected",
            Self::AuthMoreWanted { .. } => "auth-more-wanted",
            Self::CertificateInvalid { lapse, .. } => lapse.code(),
            Self::AuthTimeout { .. } => "auth-timeout",
            Self::PortHeld { .. } => "port-held",
            Self::ForwardDenied { .. } => "forward-denied",
            Self::ForwardingDisabled { .. } => "forwarding-disabled",
            Self::ForwardTimeout { .. } => "forward-timeout",
            Self::NotReachable { .. } => "not-reachable",
            Self::Unproven { .. } => "unproven",
            Self::WrongGuest { .. } => "wrong-guest",
            Self::SshdDown { .. } => "sshd-down",
            Self::KeepaliveLost { .. } => "keepalive-lost",
            Self::PathMtu { .. } => "path-mtu",
            Self::ClosedByProxy { .. } => "closed-by-proxy",
            Self::AddressGone { .. } => "address-gone",
            Self::AttemptTimeout { .. } => "attempt-timeout",
            Self::Stopped => "stopped",
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NameNotResolved { .. } => {
                "Check this guest's DNS (resolvectl query), or put an address in the tunnel \
                 document."
            }
            Self::NameTimeout { .. } => {
                "This guest's nameservers do not answer: check /etc/resolv.conf and resolvectl \
                 status, or put an address in the tunnel document."
            }
            Self::DialFailed { .. } | Self::DialTimeout { .. } => {
                "Check that the proxy runs and that this guest's network and the firewalls \
                 between let it connect there."
            }
            Self::NoBanner { .. } => {
                "Check that sshd runs on that port. A busy proxy drops logins over its \
                 MaxStartups, and OpenSSH 9.8 and later refuse penalised addresses this way."
            }
            Self::KexFailed { .. } => {
                "Check the proxy's Ciphers, MACs, KexAlgorithms and HostKeyAlgorithms; its log names \
                 what was missing."
            }
            Self::HostKeyMismatch { .. } => {
                "If the proxy's key was changed on purpose, put the new one under host_keys in \
                 the tunnel document; if not, somebody stands between. Nothing was sent to it."
            }
            Self::AuthRejected { .. } => {
                "Check that the proxy's authorized_keys for that account holds this guest's \
                 public key, or rotate the key in the metadata, which is read again after each \
                 rejection."
            }
            Self::AuthMoreWanted { .. } => {
                "The agent has nothing but its key: in the proxy's sshd_config, let publickey alone \
                 be enough for that account (Match User, AuthenticationMethods, \
                 PubkeyAuthentication)."
            }
            Self::CertificateInvalid { lapse, .. } => return lapse.advice(),
            Self::AuthTimeout { .. }
            | Self::ForwardTimeout { .. }
            | Self::AttemptTimeout { .. } => {
                "The proxy or the way there is overloaded; it is tried again."
            }
            Self::PortHeld { .. } => {
                "A stale session frees it by itself (set ClientAliveInterval 15 on the proxy); \
                 otherwise see who holds it there (ss -ltnp), and compare permitlisten in \
                 authorized_keys with bind and port, character by character."
            }
            Self::ForwardDenied { .. } => {
                "Compare permitlisten in the key's line of authorized_keys, and PermitListen in \
                 sshd_config, with bind and port, character by character; ports below 1024 are \
                 for root alone. The proxy reads them at each login."
            }
            Self::ForwardingDisabled { .. } => {
                "Check AllowTcpForwarding and DisableForwarding in the proxy's sshd_config, and \
                 that the key's line of authorized_keys has port-forwarding after restrict. If \
                 its permitlisten and permitopen are for another port, so should the document be."
            }
            Self::NotReachable { .. } => {
                "Log in through that port from where users are. If that works, a firewall or a \
                 router lets them in and not this guest, and nothing needs to be done. If not, \
                 check GatewayPorts clientspecified on the proxy for a public bind, and the \
                 firewall in front of that port."
            }
            Self::Unproven { .. } => {
                "Nothing needs to be done while logins work. For a proof without a login, allow \
                 the key to connect to its own port (permitopen in authorized_keys, and \
                 AllowTcpForwarding yes)."
            }
            Self::WrongGuest { .. } => {
                "If users come in through that port all the same, a box between this guest and the \
                 proxy answers in its place, and nothing needs to be done. If not, two guests were \
                 given one port, or a clone kept its original's document: allocate another port."
            }
            Self::SshdDown { .. } => "Start sshd in this guest: systemctl start ssh.",
            Self::KeepaliveLost { .. } | Self::ClosedByProxy { .. } => {
                "It is dialled again; if this goes on, look into the proxy's sshd log."
            }
            Self::PathMtu { .. } => {
                "The agent dials again with smaller packets. Users need a path that carries theirs: \
                 let ICMP \"fragmentation needed\" and \"packet too big\" pass on the routers \
                 between, or lower the MTU of this guest's interface to theirs."
            }
            Self::AddressGone { .. } => "It is dialled again from the address that there is now.",
            Self::Stopped => "Nothing needs to be done.",
        }
        .to_owned()
    }
}
