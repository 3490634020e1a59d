//! P-256 keys with a short scalar, which ssh-key takes for damaged.
//!
//! OpenSSH writes the scalar as an mpint (RFC 4251, section 5), without the zero bytes in front,
//! so that one key in 512 has fewer than 32 bytes there. ssh-key (0.7.0-rc.11) fills those of
//! the longer curves up and refuses what is shorter than 32, so to it no P-256 key may be short.

use russh::keys::ssh_key::PrivateKey;
use russh::keys::ssh_key::encoding::Decode;
use russh::keys::ssh_key::encoding::base64::{Base64, Encoding};
use russh::keys::ssh_key::private::{EcdsaKeypair, EcdsaPrivateKey};
use russh::keys::ssh_key::public::EcdsaPublicKey;
use zeroize::Zeroizing;

/// What an unencrypted key file starts with; OpenSSH's PROTOCOL.key gives the format.
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Bytes of a scalar of P-256.
const SIZE: usize = 32;

/// The key in `armoured` if it is an unencrypted one for P-256 in OpenSSH's format.
pub(super) fn decode(armoured: &str) -> Option<PrivateKey> {
    let body = armoured
        .strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----\n")?
        .lines()
        .next()?;
    let mut bytes = Zeroizing::new(vec![0; body.len()]);
    let mut file = Base64::decode(body, &mut bytes).ok()?.strip_prefix(MAGIC)?;
    let file = &mut file;
    for unencrypted in ["none", "none", ""] {
        is(file, unencrypted)?;
    }
    let keys = u32::decode(file).ok()?;
    let _public = take(file)?;
    let private = take(file)?;
    let private = &mut private.as_slice();
    let checks = (u32::decode(private).ok()?, u32::decode(private).ok()?);
    if keys != 1 || checks.0 != checks.1 {
        return None;
    }
    is(private, "ecdsa-sha2-nistp256")?;
    is(private, "nistp256")?;
    let point = EcdsaPublicKey::from_sec1_bytes(&take(private)?).ok()?;
    let EcdsaPublicKey::NistP256(public) = point else {
        return None;
    };
    let scalar = take(private)?;
    // With that bit it would be negative.
    if *scalar.first()? >= 0x80 {
        return None;
    }
    let mut whole = Zeroizing::new([0; SIZE]);
    whole[SIZE.checked_sub(scalar.len())?..].copy_from_slice(&scalar);
    let private = EcdsaPrivateKey::from(*whole);
    Some(EcdsaKeypair::NistP256 { public, private }.into())
}

/// Takes the next string.
fn take(reader: &mut &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    Vec::decode(reader).ok().map(Zeroizing::new)
}

/// Takes the next string, which has to be this.
fn is(reader: &mut &[u8], text: &str) -> Option<()> {
    (take(reader)?.as_slice() == text.as_bytes()).then_some(())
}
