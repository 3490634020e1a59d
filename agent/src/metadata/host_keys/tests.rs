use russh::keys::ssh_key::PrivateKey;

use super::*;
use crate::metadata::fixtures::{key, public};

mod certificates;

const RSA: &str = include_str!("../key/fixtures/rsa.pkcs1");
const P256: &str = include_str!("../key/fixtures/p256.sec1");

fn pins(lines: &[&str]) -> HostKeys {
    let pins = lines.iter().filter_map(|line| pin(line).unwrap()).collect();
    HostKeys::new(pins).unwrap()
}

fn shows(key: &PrivateKey) -> PublicKeyOrCertificate {
    PublicKeyOrCertificate::from(key.public_key().clone())
}

fn other(text: &str) -> PrivateKey {
    crate::metadata::key::private(text).unwrap()
}

#[test]
fn every_way_to_write_a_key_pins_that_key() {
    let bare = public(1);
    for written in [
        bare.clone(),
        format!("{bare} root@proxy of the site"),
        format!("  {bare}\r"),
        format!("proxy.example.org {bare}"),
        format!("proxy.example.org,192.0.2.1 {bare}"),
        format!("[proxy.example.org]:2222 {bare} # and why"),
        format!("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {bare}"),
    ] {
        let keys = pins(&[&written]);
        assert!(keys.accept("proxy", &shows(&key(1))), "{written}");
        assert!(!keys.accept("proxy", &shows(&key(2))), "{written}");
    }
}

#[test]
fn a_fingerprint_pins_the_key_that_has_it() {
    for one in [key(1), other(RSA), other(P256)] {
        let print = one.fingerprint(HashAlg::Sha256).to_string();
        for written in [
            print.clone(),
            format!("{print}="),
            format!("256 {print} root@proxy (X)"),
        ] {
            let keys = pins(&[&written]);
            assert!(keys.accept("proxy", &shows(&one)), "{written}");
            assert!(!keys.accept("proxy", &shows(&key(2))), "{written}");
        }
    }
}

#[test]
fn comments_are_passed_over() {
    assert_eq!(pin(""), Ok(None));
    assert_eq!(
        pin("  # proxy.example.org:22 SSH-2.0-OpenSSH_10.0"),
        Ok(None)
    );
}

#[test]
fn a_line_that_is_no_pin_is_named_for_what_it_is() {
    let line = public(1);
    let cases = [
        (format!("@revoked * {line}"), PinFault::Revoked),
        (
            format!("@trusted * {line}"),
            PinFault::Marker("@trusted".to_owned()),
        ),
        ("SHA256:short".to_owned(), PinFault::Fingerprint),
        ("MD5:00:11".to_owned(), PinFault::Fingerprint),
        ("SHA512:AAAA".to_owned(), PinFault::Fingerprint),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
            PinFault::Private,
        ),
        (
            "ssh-ed25519-cert-v01@openssh.com AAAA".to_owned(),
            PinFault::Certificate,
        ),
        ("proxy.example.org".to_owned(), PinFault::NotAKey),
        ("ssh-dss AAAA".to_owned(), PinFault::NotAKey),
        ("x".repeat(1 << 20), PinFault::NotAKey),
    ];
    for (line, fault) in cases {
        assert_eq!(pin(&line), Err(fault), "{line}");
    }
    for line in [
        "ssh-ed25519",
        "ssh-ed25519 !",
        "ssh-ed25519 AAAA",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5",
    ] {
        let fault = pin(line).unwrap_err();
        assert!(
            matches!(fault, PinFault::Undecodable { .. }),
            "{line}: {fault:?}"
        );
    }
}

#[test]
fn a_key_is_asked_for_by_its_own_algorithms() {
    let rsa = other(RSA).public_key().to_openssh().unwrap();
    let offers = pins(&[&rsa]).offers();
    let [offer] = &offers[..] else {
        panic!("{offers:?}")
    };
    assert_eq!(offer.certificates, []);
    let names: Vec<_> = offer.keys.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["rsa-sha2-512", "rsa-sha2-256"]);
    let offers = pins(&[&rsa, &public(1)]).offers();
    assert_eq!(offers[0].keys[0], Algorithm::Ed25519);
    assert_eq!(offers[0].keys.len(), 3);
}

#[test]
fn behind_a_fingerprint_every_family_has_its_turn() {
    let print = key(1).fingerprint(HashAlg::Sha256).to_string();
    let offers = pins(&[&print]).offers();
    assert_eq!(offers.len(), FAMILIES.len());
    assert!(
        offers
            .iter()
            .all(|offer| offer.certificates.is_empty() && !offer.keys.is_empty())
    );
}

#[test]
fn an_authority_asks_for_certificates_first() {
    let offers = pins(&[&public(1), &certificates::authority()]).offers();
    assert_eq!(offers.len(), 2);
    assert_eq!(offers[0].certificates, FAMILIES.concat());
    assert_eq!(offers[0].keys, [Algorithm::Ed25519]);
    assert!(offers[1].certificates.is_empty());
}
