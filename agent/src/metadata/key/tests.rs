use proptest::prelude::*;
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::encoding::base64::{Base64, Encoding};

use russh::keys::ssh_key::PublicKey;
use signature::{Signer, Verifier};

use super::*;
use crate::metadata::fixtures;

const GOOD: [(&str, &str); 8] = [
    ("ssh-ed25519", include_str!("fixtures/ed25519.openssh")),
    ("ssh-ed25519", include_str!("fixtures/ed25519.pkcs8")),
    ("ecdsa-sha2-nistp256", include_str!("fixtures/p256.openssh")),
    ("ecdsa-sha2-nistp256", include_str!("fixtures/p256.sec1")),
    (
        "ecdsa-sha2-nistp384",
        include_str!("fixtures/p384.parameters.sec1"),
    ),
    ("ecdsa-sha2-nistp521", include_str!("fixtures/p521.pkcs8")),
    ("ssh-rsa", include_str!("fixtures/rsa.openssh")),
    ("ssh-rsa", include_str!("fixtures/rsa.pkcs1")),
];
/// Its scalar has 31 bytes, as that of one key in 512.
const SHORT: &str = include_str!("fixtures/p256.short.openssh");
const RSA_PKCS8: &str = include_str!("fixtures/rsa.pkcs8");

/// What carriers do to a key.
fn ways(text: &str) -> Vec<(&'static str, String)> {
    let joined: String = text.lines().collect();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let mut ways = vec![
        ("raw", text.to_owned()),
        ("no final newline", text.trim_end().to_owned()),
        ("CRLF", text.replace('\n', "\r\n")),
        ("escapes", text.replace('\n', "\\n")),
        ("escapes twice", text.replace('\n', "\\\\n")),
        ("escapes of CRLF", text.replace('\n', "\\r\\n")),
        ("spaces", text.replace('\n', " ")),
        ("nothing between the lines", joined),
        (
            "indented",
            text.lines().map(|line| format!("    {line}\n")).collect(),
        ),
        ("words around it", format!("# the key\n{text}\n# the end\n")),
        ("base64", Base64::encode_string(text.as_bytes())),
        (
            "base64 of CRLF",
            Base64::encode_string(text.replace('\n', "\r\n").as_bytes()),
        ),
        ("byte order mark", format!("\u{feff}{text}")),
    ];
    let wrapped = Base64::encode_string(text.as_bytes());
    let lines: Vec<_> = wrapped
        .as_bytes()
        .chunks(76)
        .map(String::from_utf8_lossy)
        .collect();
    ways.push(("base64 in lines", lines.join("\n")));
    ways.push((
        "base64 without padding",
        wrapped.trim_end_matches('=').to_owned(),
    ));
    if text.contains("OPENSSH") {
        ways.push(("without armour", body));
    }
    ways
}

#[test]
fn every_kind_is_read_however_it_was_carried() {
    for (kind, text) in GOOD
        .into_iter()
        .chain([("ssh-rsa", RSA_PKCS8), ("ecdsa-sha2-nistp256", SHORT)])
    {
        let plain = private(text).unwrap();
        assert_eq!(plain.algorithm().as_str(), kind);
        for (way, carried) in ways(text) {
            let key = private(&carried).unwrap_or_else(|fault| panic!("{kind}, {way}: {fault}"));
            assert_eq!(key.key_data(), plain.key_data(), "{kind}, {way}");
        }
    }
}

#[test]
fn a_short_scalar_signs_as_ssh_keygens_public_half_says() {
    let key = private(SHORT).unwrap();
    let line = include_str!("fixtures/p256.short.pub");
    let public = PublicKey::from_openssh(line).unwrap();
    let signature = key.try_sign(b"words").unwrap();
    public.key_data().verify(b"words", &signature).unwrap();
    assert!(public.key_data().verify(b"others", &signature).is_err());
}

#[test]
fn a_short_scalar_in_a_damaged_key_can_not_be_decoded() {
    // Check words that differ, and the lengths of the point and of the scalar.
    for (was, is) in [
        ("HxEUhV8", "HxEUhV9"),
        ("bmlzdHAyNTYAAABBBGcm", "bmlzdHAyNTYAAABABGcm"),
        ("AAAfWnz", "AAAvWnz"),
    ] {
        let damaged = SHORT.replace('\n', "").replacen(was, is, 1);
        assert_ne!(damaged, SHORT.replace('\n', ""), "{was}");
        assert!(
            matches!(private(&damaged), Err(KeyFault::Undecodable(_))),
            "{was}"
        );
    }
}

#[test]
fn an_encrypted_key_is_named_as_such() {
    for text in [
        include_str!("fixtures/encrypted.openssh"),
        include_str!("fixtures/encrypted.pkcs1"),
        include_str!("fixtures/encrypted.pkcs8"),
    ] {
        for (way, carried) in ways(text) {
            // A header needs its line; without lines it is only known to be there.
            assert_eq!(private(&carried), Err(KeyFault::Encrypted), "{way}");
        }
    }
}

#[test]
fn what_is_not_a_private_key_is_named_for_what_it_is() {
    let openssh = fixtures::private(1);
    let (start, _) = openssh.split_at(200);
    let cases = [
        (fixtures::public(1), KeyFault::Public),
        (
            "PuTTY-User-Key-File-3: ssh-ed25519".to_owned(),
            KeyFault::Putty,
        ),
        (start.to_owned(), KeyFault::CutOff),
        (String::new(), KeyFault::NotAKey),
        ("correct horse battery staple".to_owned(), KeyFault::NotAKey),
        (Base64::encode_string(b"correct horse"), KeyFault::NotAKey),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".to_owned(),
            KeyFault::NotAKey,
        ),
    ];
    for (text, fault) in cases {
        assert_eq!(private(&text), Err(fault), "{text}");
    }
    let kind = private(include_str!("fixtures/dsa.openssh"));
    assert!(
        matches!(
            kind,
            Err(KeyFault::Unsupported(_) | KeyFault::Undecodable(_))
        ),
        "{kind:?}"
    );
}

#[test]
fn a_damaged_key_can_not_be_decoded() {
    let text = fixtures::private(1);
    let damaged = text.replacen("b3BlbnNz", "b3BlbnNx", 1);
    assert!(matches!(private(&damaged), Err(KeyFault::Undecodable(_))));
}

proptest! {
    #[test]
    fn nothing_that_can_be_written_breaks_it(text: String) {
        let _ = private(&text);
    }

    #[test]
    fn nothing_inside_the_armour_breaks_it(body in "[ -~\n]{0,200}") {
        for label in ["OPENSSH PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY"] {
            let _ = private(&format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----"));
        }
    }

    #[test]
    fn a_complaint_repeats_nothing_of_the_key(at in 40_usize..300, with in "[A-Za-z0-9+/]") {
        let mut text = fixtures::private(1);
        let at = at.min(text.len() - 40);
        text.replace_range(at..=at, &with);
        if let Err(fault) = private(&text) {
            let said = format!("{fault} {} {fault:?}", fault.advice());
            for line in text.lines().filter(|line| !line.starts_with('-')) {
                let start: String = line.chars().take(12).collect();
                prop_assert!(!said.contains(&start), "{said}");
            }
        }
    }
}

fn certified(kind: CertType, subject: u8) -> String {
    let public = fixtures::key(subject).public_key().key_data().clone();
    let mut builder = Builder::new([7; 16], public, 0, 10).unwrap();
    builder.cert_type(kind).unwrap();
    builder.valid_principal("rev-tunnel-user").unwrap();
    builder
        .sign(&fixtures::key(9))
        .unwrap()
        .to_openssh()
        .unwrap()
}

#[test]
fn a_certificate_has_to_be_for_this_key_and_for_users() {
    let key = fixtures::key(1);
    // Expired long ago: the proxy says so, not we.
    let good = certificate(&format!("  {}\n", certified(CertType::User, 1)), &key).unwrap();
    assert_eq!(good.valid_principals(), ["rev-tunnel-user"]);
    let host = certificate(&certified(CertType::Host, 1), &key);
    assert_eq!(host, Err(KeyFault::HostCertificate));
    let foreign = certificate(&certified(CertType::User, 2), &key);
    assert_eq!(foreign, Err(KeyFault::ForeignCertificate));
    for text in [
        "",
        "ssh-ed25519",
        &fixtures::public(1),
        &"x".repeat(1 << 20),
    ] {
        let bad = certificate(text, &key);
        assert!(matches!(bad, Err(KeyFault::BadCertificate(_))), "{bad:?}");
    }
}
