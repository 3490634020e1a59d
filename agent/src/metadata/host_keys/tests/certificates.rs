//! Host certificates, good and bad.

use russh::keys::ssh_key::certificate::Builder;

use super::*;

/// The authority of the tests is key 9.
pub(super) fn authority() -> String {
    format!("@cert-authority *.example.org {}", public(9))
}

struct Certified {
    kind: CertType,
    names: &'static [&'static str],
    after: u64,
    before: u64,
    critical: bool,
    by: PrivateKey,
}

impl Default for Certified {
    fn default() -> Self {
        Self {
            kind: CertType::Host,
            names: &["other.example.org", "proxy.example.org"],
            after: 0,
            before: u64::from(u32::MAX),
            critical: false,
            by: key(9),
        }
    }
}

impl Certified {
    fn sign(self) -> PublicKeyOrCertificate {
        let public = key(1).public_key().key_data().clone();
        let mut builder = Builder::new([7; 16], public, self.after, self.before).unwrap();
        builder.cert_type(self.kind).unwrap();
        for name in self.names {
            builder.valid_principal(*name).unwrap();
        }
        if self.names.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        if self.critical {
            builder.critical_option("verify-required", "").unwrap();
        }
        builder.sign(&self.by).unwrap().into()
    }
}

#[test]
fn a_certificate_by_the_authority_for_the_name_is_accepted() {
    let keys = pins(&[&authority()]);
    assert!(keys.accept("proxy.example.org", &Certified::default().sign()));
    assert!(keys.accept("PROXY.example.ORG", &Certified::default().sign()));
    let names = &["*.example.org"];
    assert!(
        keys.accept(
            "proxy.example.org",
            &Certified {
                names,
                ..Certified::default()
            }
            .sign()
        )
    );
    for by in [other(P256), other(RSA)] {
        let keys = pins(&[&format!(
            "@cert-authority {}",
            by.public_key().to_openssh().unwrap()
        )]);
        let certificate = Certified {
            by,
            ..Certified::default()
        };
        assert!(keys.accept("proxy.example.org", &certificate.sign()));
    }
}

#[test]
fn any_other_certificate_is_refused() {
    let keys = pins(&[&authority()]);
    let default = Certified::default;
    let refused = [
        (
            "another authority",
            Certified {
                by: key(8),
                ..default()
            },
        ),
        (
            "signed by itself",
            Certified {
                by: key(1),
                ..default()
            },
        ),
        (
            "for users",
            Certified {
                kind: CertType::User,
                ..default()
            },
        ),
        (
            "expired",
            Certified {
                before: 1_000,
                ..default()
            },
        ),
        (
            "not yet valid",
            Certified {
                after: u64::from(u32::MAX) - 1,
                ..default()
            },
        ),
        (
            "another name",
            Certified {
                names: &["other.example.org"],
                ..default()
            },
        ),
        (
            "no name",
            Certified {
                names: &[],
                ..default()
            },
        ),
        (
            "an option we don't know",
            Certified {
                critical: true,
                ..default()
            },
        ),
    ];
    for (what, certificate) in refused {
        assert!(
            !keys.accept("proxy.example.org", &certificate.sign()),
            "{what}"
        );
    }
}

#[test]
fn an_authority_does_not_vouch_for_bare_keys_nor_a_pin_for_certificates() {
    let keys = pins(&[&authority()]);
    assert!(!keys.accept("proxy.example.org", &shows(&key(1))));
    assert!(!keys.accept("proxy.example.org", &shows(&key(9))));
    let keys = pins(&[&public(1), &key(9).fingerprint(HashAlg::Sha256).to_string()]);
    assert!(!keys.accept("proxy.example.org", &Certified::default().sign()));
}

#[test]
fn patterns_fit_as_those_of_openssh() {
    let fit = |pattern: &str, name: &str| fits(pattern.as_bytes(), name.as_bytes());
    for (pattern, name) in [
        ("a", "a"),
        ("A", "a"),
        ("*", ""),
        ("*", "abc"),
        ("a*c", "ac"),
        ("a*c", "abcbc"),
        ("?b?", "abc"),
        ("*.example.org", "a.b.example.org"),
        ("**", "a"),
    ] {
        assert!(fit(pattern, name), "{pattern} {name}");
    }
    for (pattern, name) in [
        ("", "a"),
        ("a", ""),
        ("a", "b"),
        ("a*c", "abd"),
        ("?", ""),
        ("*.example.org", "example.org"),
    ] {
        assert!(!fit(pattern, name), "{pattern} {name}");
    }
}
