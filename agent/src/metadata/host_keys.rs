//! What a proxy must prove to hold: keys, fingerprints, or a certificate by a known authority.

use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::{
    self, Algorithm, Certificate, EcdsaCurve, Fingerprint, HashAlg, PublicKey,
    certificate::CertType,
};

mod line;

pub use line::{PinFault, pin};

/// The pins of one proxy. Never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct HostKeys {
    pins: Vec<Pin>,
}

/// One accepted proof.
#[derive(Debug, Clone, PartialEq)]
pub enum Pin {
    /// Exactly this key.
    Key(PublicKey),
    /// A key with this SHA-256 fingerprint.
    Fingerprint(Fingerprint),
    /// A host certificate for the proxy's name, signed by this key.
    Authority(PublicKey),
}

impl HostKeys {
    /// The pins, unless there is none.
    #[must_use]
    pub fn new(pins: Vec<Pin>) -> Option<Self> {
        (!pins.is_empty()).then_some(Self { pins })
    }

    /// One line for each pin, as [`pin`] reads them.
    ///
    /// # Errors
    /// A key that can't be encoded.
    pub(super) fn lines(&self) -> Result<Vec<String>, ssh_key::Error> {
        let line = |pin: &Pin| match pin {
            Pin::Key(key) => key.to_openssh(),
            Pin::Fingerprint(fingerprint) => Ok(fingerprint.to_string()),
            Pin::Authority(key) => Ok(format!("@cert-authority {}", key.to_openssh()?)),
        };
        self.pins.iter().map(line).collect()
    }

    /// Whether `offered`, which the proxy `host` proved to hold, is one of the pins.
    ///
    /// The signature over the key exchange has been checked by the caller's library; of a
    /// certificate, everything else is checked here: authority, type, validity and principal.
    #[must_use]
    pub fn accept(&self, host: &str, offered: &PublicKeyOrCertificate) -> bool {
        match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.pins.iter().any(|pin| match pin {
                    Pin::Key(pinned) => pinned.key_data() == key.key_data(),
                    Pin::Fingerprint(pinned) => key.fingerprint(HashAlg::Sha256) == *pinned,
                    Pin::Authority(_) => false,
                })
            }
            PublicKeyOrCertificate::Certificate(certificate) => self.certified(host, certificate),
        }
    }

    /// What OpenSSH checks (`sshkey_cert_check_host`).
    fn certified(&self, host: &str, certificate: &Certificate) -> bool {
        let authorities: Vec<_> = self.authorities().collect();
        // OpenSSH has not taken signatures with SHA-1 since 8.2.
        let sha1 = certificate.signature().algorithm() == Algorithm::Rsa { hash: None };
        certificate.cert_type() == CertType::Host
            && certificate.validate(&authorities).is_ok()
            && !sha1
            && certificate.critical_options().is_empty()
            // An empty list of names fits no name and `*` is a wildcard, as of OpenSSH 10.3;
            // up to 10.2 the former fitted every name.
            && certificate
                .valid_principals()
                .iter()
                .any(|pattern| fits(pattern.as_bytes(), host.as_bytes()))
    }

    fn authorities(&self) -> impl Iterator<Item = Fingerprint> {
        self.pins.iter().filter_map(|pin| match pin {
            Pin::Authority(key) => Some(key.fingerprint(HashAlg::Sha256)),
            Pin::Key(_) | Pin::Fingerprint(_) => None,
        })
    }

    /// What to offer in the key exchange, to be tried one after the other until a pin is met.
    ///
    /// sshd shows one host key only: the first of our algorithms that it has. A key line says
    /// which that must be; behind a fingerprint it may be any, so each family has its turn.
    #[must_use]
    pub fn offers(&self) -> Vec<Offer> {
        let keys: Vec<Algorithm> = FAMILIES
            .iter()
            .filter(|family| {
                self.pins
                    .iter()
                    .any(|pin| matches!(pin, Pin::Key(key) if is_of(key, family)))
            })
            .flat_map(|family| family.iter().cloned())
            .collect();
        let mut offers = Vec::new();
        if self.pins.iter().any(|pin| matches!(pin, Pin::Authority(_))) {
            let certificates = FAMILIES.concat();
            offers.push(Offer {
                certificates,
                keys: keys.clone(),
            });
        }
        if !keys.is_empty() {
            offers.push(Offer {
                certificates: Vec::new(),
                keys,
            });
        }
        if self
            .pins
            .iter()
            .any(|pin| matches!(pin, Pin::Fingerprint(_)))
        {
            offers.extend(FAMILIES.iter().map(|family| Offer {
                certificates: Vec::new(),
                keys: family.to_vec(),
            }));
        }
        offers
    }
}

/// Host key algorithms for one key exchange, most preferred first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Of host certificates.
    pub certificates: Vec<Algorithm>,
    /// Of plain keys.
    pub keys: Vec<Algorithm>,
}

/// The algorithms by kind of key: what one key can sign with stands together.
/// RSA with SHA-1 is left out: OpenSSH has not accepted it since 8.8.
const FAMILIES: [&[Algorithm]; 5] = [
    &[Algorithm::Ed25519],
    &[Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    }],
    &[Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    }],
    &[Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    }],
    &[
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha512),
        },
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha256),
        },
    ],
];

fn is_of(key: &PublicKey, family: &[Algorithm]) -> bool {
    // A key says `Rsa` without a hash; the hash is chosen with the signature.
    let kind = |algorithm: &Algorithm| algorithm.clone().is_rsa();
    let algorithm = key.algorithm();
    family
        .iter()
        .any(|member| *member == algorithm || (kind(member) && kind(&algorithm)))
}

/// Whether `name` fits `pattern`, in which `*` is any run of characters and `?` any one. Names of
/// hosts have no case.
fn fits(mut pattern: &[u8], mut name: &[u8]) -> bool {
    // Where to go on when what follows the last `*` does not fit: it takes one more character.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, name) {
            ([b'*', after @ ..], _) => {
                retry = Some((after, name));
                pattern = after;
            }
            ([p, after @ ..], [n, rest @ ..]) if *p == b'?' || p.eq_ignore_ascii_case(n) => {
                (pattern, name) = (after, rest);
            }
            ([], []) => return true,
            _ => match retry {
                Some((after, [_, rest @ ..])) => {
                    retry = Some((after, rest));
                    (pattern, name) = (after, rest);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests;
