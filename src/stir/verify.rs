//! Checks who calls (RFC 8224 §6.2): what can be known before the certificate is here, and the rest with it.

use super::certificate::Certificate;
use super::field::IdentityField;
use super::passport::{Extension, Party, Passport, Signed};
use super::replay::ReplayGuard;
use super::sign::verifies;
use super::url::{Hosts, Location};
use crate::types::{Attestation, StirResult};
use std::sync::Arc;

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

/// One PASSporT that is fine so far, and waits for its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    url: String,
    signed: Signed,
    /// The number for which its certificate must speak.
    speaks_for: String,
}

/// What was signed of a call, by who began it first and by those who sent it on; it waits for the certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    parts: Vec<Part>,
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
    let read: Vec<_> = fields.take(MOST_FIELDS).map(IdentityField::parse).collect();
    let known = read.iter().flatten().map(|field| (field, Extension::of(field.ppt.as_deref())));
    // RFC 8224 §6.2: what nobody here understands is as if it were not there.
    let main = known
        .clone()
        .find(|(_, extension)| *extension == Extension::Shaken)
        .or_else(|| known.clone().find(|(_, extension)| *extension == Extension::Base));
    let Some((field, extension)) = main else {
        let junk = read.iter().any(Result::is_err);
        return Err(if junk { StirResult::Malformed } else { StirResult::NoIdentity });
    };
    let main = part(field, &extension, claim, policy, now)?;
    if !is_number(&main.signed.passport.orig, &claim.orig) {
        return Err(StirResult::OrigMismatch);
    }
    let diversions = known.filter(|(_, extension)| *extension == Extension::Div);
    let diversions: Vec<Part> = diversions
        .filter_map(|(field, extension)| part(field, &extension, claim, policy, now).ok())
        .filter(|part| is_number(&part.signed.passport.orig, &claim.orig))
        .collect();
    let parts = lead(main, diversions, claim).ok_or(StirResult::DestMismatch)?;
    Ok(Examined { parts, call_id: claim.call_id.clone() })
}

/// From whom the caller meant to whom the call is for now, by those who sent it on (RFC 8946 §6); `None` where that
/// leads nowhere.
fn lead(main: Part, mut diversions: Vec<Part>, claim: &Claim) -> Option<Vec<Part>> {
    let mut parts = vec![main];
    loop {
        let dest = &parts.last()?.signed.passport.dest;
        if dest.iter().any(|signed| claim.dest.iter().any(|dest| is_number(signed, dest))) {
            return Some(parts);
        }
        let next = diversions.iter().position(|part| {
            dest.iter().any(|dest| matches!(dest, Party::Number(digits) if *digits == part.speaks_for))
        })?;
        parts.push(diversions.swap_remove(next));
    }
}

/// Reads one PASSporT and checks what can be known of it alone.
fn part(
    field: &IdentityField,
    extension: &Extension,
    claim: &Claim,
    policy: &Policy,
    now: i64,
) -> Result<Part, StirResult> {
    if field.alg.as_deref().is_some_and(|alg| alg != "ES256") {
        return Err(StirResult::Malformed);
    }
    // RFC 8224 §8.2: the place of the certificate is what an attacker chooses.
    let location = Location::parse(&field.info).ok_or(StirResult::BadInfo)?;
    if !policy.hosts.allow(&location) {
        return Err(StirResult::BadInfo);
    }
    let signed = token(field, extension, claim)?;
    let passport = &signed.passport;
    if passport.x5u != field.info || passport.extension != *extension {
        return Err(StirResult::Malformed);
    }
    // Any number may stand there: the distance of the farthest two has no place in an i64.
    if now.abs_diff(passport.iat) > policy.freshness.unsigned_abs() {
        return Err(StirResult::Stale);
    }
    let speaks_for = match &passport.div {
        None => claim.orig.clone(),
        Some(Party::Number(digits)) => digits.clone(),
        Some(Party::Uri(_)) => return Err(StirResult::Malformed),
    };
    Ok(Part { url: field.info.clone(), signed, speaks_for })
}

fn token(field: &IdentityField, extension: &Extension, claim: &Claim) -> Result<Signed, StirResult> {
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
                div: None,
            };
            Signed::read_compact(&field.token, expected).map_err(malformed)
        }
        Extension::Base | Extension::Shaken | Extension::Div | Extension::Other(_) => {
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
    /// Where the certificates are, in the order in which [`conclude`](Self::conclude) wants them.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.url.as_str())
    }

    /// The rest of the check, with certificates that lead to a trusted authority.
    pub fn conclude(
        &self,
        certificates: &[Arc<Certificate>],
        policy: &Policy,
        now: i64,
        seen: &mut ReplayGuard,
    ) -> Verdict {
        for (part, certificate) in self.parts.iter().zip(certificates) {
            if let Err(result) = part.conclude(certificate, now) {
                return result.into();
            }
        }
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else {
            return StirResult::NoIdentity.into();
        };
        if certificates.len() < self.parts.len() {
            return StirResult::Unreachable.into();
        }
        // A call that rings several numbers has one signature of its caller, and another for each way it was sent on.
        let keep = last.signed.passport.iat.saturating_add(policy.freshness);
        let signature = last.signed.signature.first_chunk();
        if !signature.is_some_and(|signature| seen.admit(now, keep, signature, &self.call_id)) {
            return StirResult::Replayed.into();
        }
        let attestation = first.signed.passport.shaken.as_ref().map(|shaken| shaken.attestation);
        Verdict { result: StirResult::Passed, attestation }
    }
}

impl Part {
    fn conclude(&self, certificate: &Certificate, now: i64) -> Result<(), StirResult> {
        if !certificate.is_valid(now) {
            return Err(StirResult::Expired);
        }
        if !verifies(&certificate.key, self.signed.input.as_bytes(), &self.signed.signature) {
            return Err(StirResult::BadSignature);
        }
        if !certificate.covers(&self.speaks_for) || !certificate.allows(&self.signed.claims()) {
            return Err(StirResult::NotCovered);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
