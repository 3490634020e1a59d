//! Logging in to the proxy, with a key or with a certificate for it.

use std::sync::Arc;
use std::time::SystemTime;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh::{MethodKind, SendError, Signer};
use tokio::time::{sleep, timeout};

use super::connect::Connection;
use super::fault::Fault;
use super::handler::Gate;
use super::plan::Plan;
use super::timing::Timing;
use crate::metadata::Nudge;
use crate::metadata::document::{Lapse, Login, Proxy};

/// Proves to `proxy` who we are.
pub(super) async fn log_in(
    mut connection: Connection,
    proxy: &Proxy,
    login: &Login,
    timing: &Timing,
) -> Result<Connection, Fault> {
    let result = timeout(timing.auth, offer_key(&mut connection.handle, proxy, login)).await;
    match result {
        Ok(Ok(AuthResult::Success)) => Ok(connection),
        Ok(Ok(AuthResult::Failure {
            remaining_methods,
            partial_success,
        })) => {
            // The library calls it a failure as well where the session ended without an answer.
            let end = if remaining_methods.is_empty() {
                timeout(timing.close, connection.ended.recv()).await
            } else {
                Ok(None)
            };
            let end = end.ok().flatten();
            Err(refusal(
                proxy,
                login,
                &remaining_methods,
                partial_success,
                end,
            ))
        }
        // The library's error says only that the session is gone; the handler knows why.
        Ok(Err(error)) => Err(connection.ended.try_recv().unwrap_or(Fault::ClosedByProxy {
            proxy: proxy.to_string(),
            detail: error.to_string(),
        })),
        Err(_) => Err(Fault::AuthTimeout {
            proxy: proxy.to_string(),
            after: timing.auth,
        }),
    }
}

/// Before a login with an expired certificate: nudges the metadata, and waits for a newer document,
/// which ends this session. Without one the expired certificate is offered all the same, as this
/// guest's clock may be wrong.
pub(super) async fn renew(plan: &Plan) {
    let lapse = plan.spec.login.lapse(SystemTime::now());
    if lapse.is_some_and(|lapse| lapse.is_over()) {
        // Where the queue is full, a nudge in it asks for the same.
        let _ = plan.reread.try_send(Nudge::AuthFault);
        sleep(plan.timing.renew).await;
    }
}

/// Why the proxy answers "no", as far as it says (RFC 4252, 5.1). `end` is why it ended the session,
/// if it did.
fn refusal(
    proxy: &Proxy,
    login: &Login,
    methods: &[MethodKind],
    partial: bool,
    end: Option<Fault>,
) -> Fault {
    let (user, proxy) = (proxy.user.clone(), proxy.to_string());
    let names: Vec<&str> = methods.iter().map(Into::into).collect();
    let wanted = match names[..] {
        [] => "another method".to_owned(),
        _ => names.join(" or "),
    };
    let lapse = login.lapse(SystemTime::now());
    let ours = describe(login);
    if partial {
        let detail = format!("it took {ours}, and wants {wanted} besides");
        Fault::AuthMoreWanted {
            proxy,
            user,
            detail,
        }
    } else if let Some(lapse) = lapse.filter(Lapse::is_unusable) {
        Fault::CertificateInvalid { proxy, user, lapse }
    } else if !methods.is_empty() && !methods.contains(&MethodKind::PublicKey) {
        // A server lists the methods that may go on: one that takes keys lists publickey again.
        let detail = format!("it takes no key now, only {wanted}");
        Fault::AuthMoreWanted {
            proxy,
            user,
            detail,
        }
    } else {
        let end = end.map_or_else(String::new, |end| format!("; {end}"));
        let detail = format!("it does not accept {ours}{end}");
        Fault::AuthRejected {
            proxy,
            user,
            detail,
        }
    }
}

/// Offers the key. An RSA key signs with SHA-512, and again with SHA-256 if the proxy refuses
/// SHA-512 (`PubkeyAcceptedAlgorithms`). The agent does not rely on `server-sig-algs` (RFC 8308): a
/// server need not send it, and may list algorithms that it refuses for this account.
async fn offer_key(
    handle: &mut Handle<Gate>,
    proxy: &Proxy,
    login: &Login,
) -> Result<AuthResult, LoginError> {
    if !login.key.algorithm().is_rsa() {
        return offer_key_with(handle, proxy, login, None).await;
    }
    let result = offer_key_with(handle, proxy, login, Some(HashAlg::Sha512)).await?;
    let goes_on = matches!(&result, AuthResult::Failure { remaining_methods, partial_success: false }
        if remaining_methods.contains(&MethodKind::PublicKey));
    if goes_on {
        return offer_key_with(handle, proxy, login, Some(HashAlg::Sha256)).await;
    }
    Ok(result)
}

async fn offer_key_with(
    handle: &mut Handle<Gate>,
    proxy: &Proxy,
    login: &Login,
    hash: Option<HashAlg>,
) -> Result<AuthResult, LoginError> {
    let key = &login.key;
    match &login.certificate {
        None => {
            let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
            Ok(handle.authenticate_publickey(&proxy.user, key).await?)
        }
        Some(certificate) => {
            let certificate = certificate.clone();
            handle
                .authenticate_certificate_with(&proxy.user, certificate, hash, &mut Pen(key))
                .await
        }
    }
}

fn describe(login: &Login) -> String {
    let key = format!(
        "{} {}",
        login.key.algorithm(),
        login.key.fingerprint(HashAlg::Sha256)
    );
    match &login.certificate {
        Some(certificate) => format!("the certificate {:?} of {key}", certificate.key_id()),
        None => key,
    }
}

/// Why there is no answer to a login.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    #[error(transparent)]
    Gone(#[from] SendError),
    #[error("can't sign: {0}")]
    Unsigned(#[from] signature::Error),
}

/// Signs logins by certificate. The library's own way knows one name for RSA certificates only,
/// the one that stands for SHA-1 and that sshd refuses.
struct Pen<'a>(&'a PrivateKey);

impl Signer for Pen<'_> {
    type Error = LoginError;

    /// Returns what is to be signed with the signature after it (RFC 4252, 7).
    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, LoginError> {
        let signature: Signature = if let KeypairData::Rsa(rsa) = self.0.key_data() {
            signature::Signer::try_sign(&(rsa, hash), &to_sign)?
        } else {
            signature::Signer::try_sign(self.0, &to_sign)?
        };
        let algorithm = signature.algorithm().to_string();
        let mut inner = Vec::new();
        append(&mut inner, algorithm.as_bytes());
        append(&mut inner, signature.as_bytes());
        append(&mut to_sign, &inner);
        Ok(to_sign)
    }
}

/// Appends a string as RFC 4251, 5 has it: its length in four bytes, then its bytes.
fn append(packet: &mut Vec<u8>, string: &[u8]) {
    let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(string);
}
