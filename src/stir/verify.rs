//! Checks who calls (RFC 8224 §6.2): what can be known before the certificate is here, and the rest with it.

use super::certificate::Certificate;
use super::field::IdentityField;
use super::passport::{Extension, Party, Passport, Signed};
use super::replay::ReplayGuard;
use super::sign::verifies;
use super::url::{Hosts, Location};
use crate::types::{Attestation, StirResult};

/// Identity fields of one call that are looked at.
const MOST_FIELDS: usize = 8;

/// What a call says of itself. Numbers are digits alone (RFC 8224 §8.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// The calling number that will be shown.
    pub orig: String,
    /// The called numbers that may have been signed, the one that the request asks for first.
    pub dest: Vec<String>,
    pub call_id: String,
    /// Its Date, in seconds since the epoch: the compact form is signed over it.
    pub date: Option<i64>,
}

/// What holds for all calls.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub hosts: Hosts,
    /// Seconds for which a signature is fresh, either way of now: clocks differ.
    pub freshness: i64,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub result: StirResult,
    /// Only of what passed: nobody vouches for the rest.
    pub attestation: Option<Attestation>,
}

impl From<StirResult> for Verdict {
    fn from(result: StirResult) -> Verdict {
        Verdict { result, attestation: None }
    }
}

/// A PASSporT that is fine so far, and waits for its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Where its certificate is.
    pub url: String,
    signed: Signed,
    orig: String,
    call_id: String,
}

/// Finds the PASSporT among the Identity fields of a call, and holds it against the call.
///
/// # Errors
/// The result, where that is certain without the certificate.
pub fn examine<'a>(
    fields: impl Iterator<Item = &'a str>,
    claim: &Claim,
    policy: &Policy,
    now: i64,
) -> Result<Examined, StirResult> {
    let (field, extension) = choose(fields)?;
    if field.alg.as_deref().is_some_and(|alg| alg != "ES256") {
        return Err(StirResult::Malformed);
    }
    // RFC 8224 §8.2: the place of the certificate is what an attacker chooses.
    let location = Location::parse(&field.info).ok_or(StirResult::BadInfo)?;
    if !policy.hosts.allow(&location) {
        return Err(StirResult::BadInfo);
    }
    let signed = read(&field, &extension, claim)?;
    let passport = &signed.passport;
    if passport.x5u != field.info || passport.extension != extension {
        return Err(StirResult::Malformed);
    }
    if (now - passport.iat).abs() > policy.freshness {
        return Err(StirResult::Stale);
    }
    if !is_number(&passport.orig, &claim.orig) {
        return Err(StirResult::OrigMismatch);
    }
    if !passport.dest.iter().any(|signed| claim.dest.iter().any(|dest| is_number(signed, dest))) {
        return Err(StirResult::DestMismatch);
    }
    Ok(Examined { url: field.info, signed, orig: claim.orig.clone(), call_id: claim.call_id.clone() })
}

/// SHAKEN where there is one, else a plain one. RFC 8224 §6.2: what nobody here understands is as if it were not there.
fn choose<'a>(fields: impl Iterator<Item = &'a str>) -> Result<(IdentityField, Extension), StirResult> {
    let (mut plain, mut fault) = (None, StirResult::NoIdentity);
    for value in fields.take(MOST_FIELDS) {
        let Ok(field) = IdentityField::parse(value) else {
            fault = StirResult::Malformed;
            continue;
        };
        let extension = Extension::of(field.ppt.as_deref());
        match extension {
            Extension::Shaken => return Ok((field, extension)),
            Extension::Base => plain = plain.or(Some((field, extension))),
            Extension::Other(_) => {}
        }
    }
    plain.ok_or(fault)
}

fn read(field: &IdentityField, extension: &Extension, claim: &Claim) -> Result<Signed, StirResult> {
    let malformed = |_| StirResult::Malformed;
    match extension {
        // RFC 8588 §7: SHAKEN has no compact form.
        Extension::Base if field.token.starts_with("..") => {
            let expected = Passport {
                x5u: field.info.clone(),
                extension: Extension::Base,
                orig: Party::Number(claim.orig.clone()),
                dest: vec![Party::Number(claim.dest.first().cloned().unwrap_or_default())],
                iat: claim.date.ok_or(StirResult::Malformed)?,
                shaken: None,
            };
            Signed::read_compact(&field.token, expected).map_err(malformed)
        }
        Extension::Base | Extension::Shaken | Extension::Other(_) => {
            Signed::read(&field.token).map_err(malformed)
        }
    }
}

fn is_number(party: &Party, digits: &str) -> bool {
    match party {
        // A plus is against RFC 8224 §8.3, and harmless.
        Party::Number(number) => !digits.is_empty() && number.strip_prefix('+').unwrap_or(number) == digits,
        Party::Uri(_) => false,
    }
}

impl Examined {
    /// The rest of the check, with a certificate that leads to a trusted authority.
    pub fn conclude(
        &self,
        certificate: &Certificate,
        policy: &Policy,
        now: i64,
        seen: &mut ReplayGuard,
    ) -> Verdict {
        let passport = &self.signed.passport;
        if !certificate.is_valid(now) {
            return StirResult::Expired.into();
        }
        if !verifies(&certificate.key, self.signed.input.as_bytes(), &self.signed.signature) {
            return StirResult::BadSignature.into();
        }
        if !certificate.covers(&self.orig) || !certificate.allows(&self.signed.claims()) {
            return StirResult::NotCovered.into();
        }
        let keep = passport.iat + policy.freshness;
        let fresh = self
            .signed
            .signature
            .first_chunk()
            .is_some_and(|signature| seen.admit(now, keep, signature, &self.call_id));
        if !fresh {
            return StirResult::Replayed.into();
        }
        let attestation = passport.shaken.as_ref().map(|shaken| shaken.attestation);
        Verdict { result: StirResult::Passed, attestation }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
