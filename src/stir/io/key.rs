//! Our private key: it signs, and never leaves here.

use crate::stir::certificate::Certificate;
use crate::stir::sign::{ES256_LENGTH, Sign};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;

/// Why a key can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("it is no private key of the curve P-256 in PEM")]
    Unreadable,
    #[error("it is not the key of the certificate")]
    OfAnother,
}

/// A private key of P-256.
pub struct Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Reads a key in PEM, of PKCS #8 or SEC 1, and makes sure that it is the certificate's.
    ///
    /// # Errors
    /// As [`KeyFault`] says.
    pub fn read(pem: &[u8], certificate: &Certificate) -> Result<Key, KeyFault> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(der)) => {
                EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random)
                    .map_err(|_| KeyFault::Unreadable)?
            }
            Ok(PrivateKeyDer::Sec1(der)) => {
                let scalar = scalar(der.secret_sec1_der()).ok_or(KeyFault::Unreadable)?;
                EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar, &certificate.key, &random)
                    .map_err(|_| KeyFault::OfAnother)?
            }
            Ok(_) | Err(_) => return Err(KeyFault::Unreadable),
        };
        if pair.public_key().as_ref() == certificate.key {
            Ok(Key { pair, random })
        } else {
            Err(KeyFault::OfAnother)
        }
    }
}

impl Sign for Key {
    fn sign(&self, input: &[u8]) -> Option<[u8; ES256_LENGTH]> {
        let signature = self.pair.sign(&self.random, input).ok()?;
        signature.as_ref().try_into().ok()
    }
}

/// The number of an EC key: SEQUENCE, version 1, an OCTET STRING of 32 octets, more (RFC 5915 §3).
fn scalar(der: &[u8]) -> Option<&[u8]> {
    let content = match der {
        [0x30, 0x81, _, content @ ..] | [0x30, 0..=0x7f, content @ ..] => content,
        _ => return None,
    };
    content.strip_prefix(&[0x02, 0x01, 0x01, 0x04, 0x20])?.get(..32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stir::certificate::tests::Authority;
    use crate::stir::tn_auth_list::Entry;

    #[test]
    fn only_the_key_of_the_certificate_is_taken() {
        let authority = Authority::new();
        let entries = [Entry::Provider("1".into())];
        let (own, other) = (authority.issue(&entries), authority.issue(&entries));
        let certificate = Certificate::read(own.pem.as_bytes()).unwrap();
        assert!(Key::read(own.key.as_bytes(), &certificate).is_ok());
        assert_eq!(Key::read(other.key.as_bytes(), &certificate).err(), Some(KeyFault::OfAnother));
        for junk in ["", "x", &own.pem] {
            assert_eq!(Key::read(junk.as_bytes(), &certificate).err(), Some(KeyFault::Unreadable));
        }
    }

    #[test]
    fn a_key_as_openssl_ecparam_writes_it_is_taken() {
        // The key pair that the drafts of RFC 8225 printed.
        let pem = "-----BEGIN EC PRIVATE KEY-----\n\
            MHcCAQEEIFeZ1R208QCvcu5GuYyMfG4W7sH4m99/7eHSDLpdYllFoAoGCCqGSM49\n\
            AwEHoUQDQgAE8HNbQd/TmvCKwPKHkMF9fScavGeH78YTU8qLS8I5HLHSSmlATLcs\n\
            lQMhNC/OhlWBYC626nIlo7XeebYS7Sb37g==\n-----END EC PRIVATE KEY-----\n";
        let point = data_encoding::BASE64
            .decode(
                b"BPBzW0Hf05rwisDyh5DBfX0nGrxnh+/GE1PKi0vCORyx0kppQEy3LJUDITQvzoZVgWAutupyJaO13nm2Eu0m9+4=",
            )
            .unwrap();
        let certificate =
            Certificate { key: point, not_before: 0, not_after: 1, entries: None, constraints: Vec::new() };
        let key = Key::read(pem.as_bytes(), &certificate).unwrap();
        let signature = key.sign(b"x").unwrap();
        assert!(crate::stir::sign::verifies(&certificate.key, b"x", &signature));
        let other = Authority::new().issue(&[]);
        let other = Certificate::read(other.pem.as_bytes()).unwrap();
        assert_eq!(Key::read(pem.as_bytes(), &other).err(), Some(KeyFault::OfAnother));
    }

    #[test]
    #[allow(clippy::print_stdout, reason = "the figure is what one runs it for")]
    fn signing_and_verifying_cost_little() {
        let issued = Authority::new().issue(&[Entry::Provider("1".into())]);
        let certificate = Certificate::read(issued.pem.as_bytes()).unwrap();
        let key = Key::read(issued.key.as_bytes(), &certificate).unwrap();
        let input = [b'x'; 400];
        let signature = key.sign(&input).unwrap();
        let rounds = 200;
        let begun = std::time::Instant::now();
        assert!((0..rounds).all(|_| key.sign(&input).is_some()));
        let signing = begun.elapsed() / rounds;
        let begun = std::time::Instant::now();
        assert!((0..rounds).all(|_| crate::stir::sign::verifies(&certificate.key, &input, &signature)));
        let verifying = begun.elapsed() / rounds;
        println!("one signature {signing:?}, one verification {verifying:?}");
        // A shard that places a thousand calls a second has a millisecond for each.
        assert!(signing.as_millis() < 10 && verifying.as_millis() < 10);
    }
}
