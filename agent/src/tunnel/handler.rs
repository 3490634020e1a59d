//! What the proxy may do to us: prove who it is, and open channels for our forwards. Nothing else.
//!
//! These methods run on the session's own loop, so none of them waits for anything.

use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::HashAlg;
use russh::{Channel, ChannelOpenFailure};
use tokio::sync::mpsc;

use super::fault::Fault;
use crate::metadata::document::Proxy;

/// A connection that the proxy took on one of our forwards.
pub(super) struct Incoming {
    pub(super) channel: Channel<Msg>,
    pub(super) reply: ChannelOpenHandle,
    /// Where it was taken: the address as we asked for it, and the port.
    pub(super) at: (String, u32),
    /// Who connected, as the proxy saw them.
    pub(super) from: (String, u32),
}

/// One session's view of the proxy.
pub(super) struct Gate {
    pub(super) proxy: Proxy,
    /// Full when the session is too busy to take more; they are refused then.
    pub(super) incoming: mpsc::Sender<Incoming>,
    /// Takes the reason of the session's end.
    pub(super) ended: mpsc::Sender<Fault>,
}

impl Gate {
    fn closed(&self, detail: impl ToString) -> Fault {
        Fault::ClosedByProxy {
            proxy: self.proxy.to_string(),
            detail: detail.to_string(),
        }
    }
}

/// What ends a session from within: a fault of ours, or the library's own error.
#[derive(Debug, thiserror::Error)]
pub(super) enum GateError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

impl Handler for Gate {
    type Error = GateError;

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> Result<bool, GateError> {
        if self.proxy.host_keys.accept(&self.proxy.host, offered) {
            return Ok(true);
        }
        let offered = match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
            }
            PublicKeyOrCertificate::Certificate(certificate) => format!(
                "{} certificate by {}",
                certificate.algorithm(),
                certificate.signature_key().fingerprint(HashAlg::Sha256)
            ),
        };
        Err(Fault::HostKeyMismatch {
            proxy: self.proxy.to_string(),
            offered,
        }
        .into())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), GateError> {
        let incoming = Incoming {
            channel,
            reply,
            at: (connected_address.to_owned(), connected_port),
            from: (originator_address.to_owned(), originator_port),
        };
        if let Err(full) = self.incoming.try_send(incoming) {
            let reason = ChannelOpenFailure::ResourceShortage;
            full.into_inner().reply.reject(reason).await;
        }
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), GateError> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), GateError> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), GateError> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), GateError> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), GateError> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), GateError> {
        refuse(reply).await
    }

    async fn disconnected(&mut self, reason: DisconnectReason<GateError>) -> Result<(), GateError> {
        let fault = match reason {
            DisconnectReason::ReceivedDisconnect(info) => self.closed(info.message),
            DisconnectReason::Error(GateError::Fault(fault)) => fault,
            DisconnectReason::Error(GateError::Ssh(error)) => self.closed(error),
        };
        let _ = self.ended.try_send(fault);
        Ok(())
    }
}

async fn refuse(reply: ChannelOpenHandle) -> Result<(), GateError> {
    reply
        .reject(ChannelOpenFailure::AdministrativelyProhibited)
        .await;
    Ok(())
}
