//! The algorithms that the proxy is offered.
//!
//! A key exchange runs on the thread that carries the bridge and all connections, so none that
//! holds it for more than 50 ms is offered. The peer chooses it before its host key is checked,
//! and again at each rekey.
//!
//! | key exchange | longest step on a 2.5 GHz core, release build |
//! |---|---|
//! | curve25519, mlkem768x25519, nistp256, nistp384, nistp521 | under 1 ms |
//! | Diffie-Hellman, 2048 bits | 8 ms |
//! | 3072 bits | 17 ms (26 ms for a group whose modulus is even) |
//! | 4096 bits | 41 ms for group 16, whose modulus is fixed (58 ms for an even one, not offered) |
//! | 8192 bits (group 18) | 330 ms (410 ms), not offered |
//!
//! The SSH library has no sntrup761x25519, no umac-* and no hmac-*-96. The agent does not offer
//! these of the library's: key exchanges with SHA-1, groups 17 and 18, CBC ciphers, and RSA
//! signatures with SHA-1. Either OpenSSH has disabled them by default, or the table above has the
//! reason.

use russh::client::GexParams;
use russh::{cipher, kex, mac};

/// The key exchanges, most preferred first. The last two are no key exchange: they announce
/// EXT_INFO (RFC 8308) and strict key exchange.
pub(super) const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G15_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// The sizes in bits of the groups that group exchange (RFC 4419) may use. The peer chooses the
/// modulus, so the bound is below that of the fixed groups.
pub(super) const GROUP: (usize, usize) = (2048, 3072);

/// The group sizes that group exchange asks for, in bits. The library accepts these sizes, as a test checks; its default has
/// up to 8192 bits.
pub(super) fn group_exchange() -> GexParams {
    let (least, most) = GROUP;
    GexParams::for_client_config(least, most, most).unwrap_or_default()
}

/// The MACs for ciphers that need one, most preferred first. The attacks on SHA-1 do not break HMAC
/// with SHA-1, and OpenSSH enables it by default.
pub(super) const MACS: &[mac::Name] = &[
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512,
    mac::HMAC_SHA256,
    mac::HMAC_SHA1_ETM,
    mac::HMAC_SHA1,
];

/// AES in hardware costs half the processor time of ChaCha20; in software it is slower.
pub(super) fn ciphers() -> &'static [cipher::Name] {
    #[cfg(target_arch = "x86_64")]
    let hardware = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let hardware = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let hardware = false;
    if hardware {
        &[
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_192_CTR,
            cipher::AES_128_CTR,
        ]
    } else {
        &[
            cipher::CHACHA20_POLY1305,
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::AES_256_CTR,
            cipher::AES_192_CTR,
            cipher::AES_128_CTR,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_takes_our_bounds_for_group_exchange() {
        let bounds = group_exchange();
        assert_eq!(bounds.min_group_size(), 2048);
        assert_eq!(bounds.max_group_size(), 3072);
    }

    #[test]
    fn no_key_exchange_of_more_than_4096_bits_is_offered() {
        for long in [kex::DH_G17_SHA512, kex::DH_G18_SHA512] {
            assert!(!KEY_EXCHANGES.contains(&long));
        }
    }

    #[test]
    fn group_16_is_offered_after_group_exchange() {
        let place = |of| KEY_EXCHANGES.iter().position(|name| *name == of);
        assert!(place(kex::DH_G16_SHA512) > place(kex::DH_GEX_SHA256));
    }
}
