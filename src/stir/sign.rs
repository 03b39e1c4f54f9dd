//! Signs who calls (RFC 8224 §6.1, RFC 8588): the Identity field of a call, and the arithmetic of ES256.

use super::field::IdentityField;
use super::passport::{Extension, Party, Passport, Shaken};
use crate::types::Attestation;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use std::fmt;
use std::sync::Arc;

/// Octets of a signature (RFC 7518 §3.4).
pub const ES256_LENGTH: usize = 64;

/// Signs with a key that nobody here sees: it stays in the shell, with the randomness that ES256 wants.
pub trait Sign: Send + Sync {
    /// `None` where the system has no randomness.
    fn sign(&self, input: &[u8]) -> Option<[u8; ES256_LENGTH]>;
}

/// True if `signature` is that of `input` by the key of this point.
pub fn verifies(key: &[u8], input: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(input, signature).is_ok()
}

/// Our signing identity.
#[derive(Clone)]
pub struct Signer {
    key: Arc<dyn Sign>,
    /// Where our certificate is published.
    x5u: String,
    /// When our certificate ends, in seconds since the epoch.
    not_after: i64,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.x5u)
    }
}

/// What is signed of a call. Numbers are digits alone (RFC 8224 §8.3).
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    pub orig: &'a str,
    pub dest: &'a str,
    pub attestation: Attestation,
    pub origid: &'a str,
    /// Seconds since the epoch.
    pub iat: i64,
}

impl Signer {
    pub fn new(key: Arc<dyn Sign>, x5u: String, not_after: i64) -> Signer {
        Signer { key, x5u, not_after }
    }

    /// The Identity field; `None` where nothing good can be signed: our certificate has ended.
    pub fn identity(&self, statement: Statement<'_>) -> Option<IdentityField> {
        if statement.iat > self.not_after {
            return None;
        }
        let passport = Passport {
            x5u: self.x5u.clone(),
            extension: Extension::Shaken,
            orig: Party::Number(statement.orig.to_owned()),
            dest: vec![Party::Number(statement.dest.to_owned())],
            iat: statement.iat,
            shaken: Some(Shaken { attestation: statement.attestation, origid: statement.origid.to_owned() }),
            div: None,
        };
        let signature = self.key.sign(passport.signing_input().as_bytes())?;
        // RFC 8588 §7: SHAKEN always uses the full form.
        Some(IdentityField::new(passport.full_form(&signature), &self.x5u, &passport.extension))
    }
}
