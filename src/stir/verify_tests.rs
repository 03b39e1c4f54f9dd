//! Each way in which a signed identity can be wrong, and what is said of it.

use super::*;
use crate::stir::certificate::tests::{Authority, Issued, NOW};
use crate::stir::io::Key;
use crate::stir::sign::{Sign, Signer, Statement};
use crate::stir::tn_auth_list::Entry;
use data_encoding::BASE64URL_NOPAD;
use std::sync::Arc;

const X5U: &str = "https://cert.example.org/shaken.pem";
const CALLING: &str = "33140205050";
const CALLED: &str = "3225550001";

/// A signer, its certificate, and one who checks.
struct World {
    authority: Authority,
    key: Arc<Key>,
    certificate: Certificate,
    policy: Policy,
    seen: ReplayGuard,
}

fn world() -> World {
    let authority = Authority::new();
    let issued = authority.issue(&[Entry::Provider("1234".into())]);
    let certificate = Certificate::trusted(issued.pem.as_bytes(), &authority.trust(), NOW).unwrap();
    let key = Arc::new(key(&issued));
    let policy = Policy { hosts: Hosts::default(), freshness: 60 };
    World { authority, key, certificate, policy, seen: ReplayGuard::new(100) }
}

fn key(issued: &Issued) -> Key {
    let certificate = Certificate::read(issued.pem.as_bytes()).unwrap();
    Key::read(issued.key.as_bytes(), &certificate).unwrap()
}

fn statement() -> Statement<'static> {
    Statement { orig: CALLING, dest: CALLED, attestation: Attestation::A, origid: "o-1", iat: NOW }
}

fn claim() -> Claim {
    Claim { orig: CALLING.into(), dest: vec![CALLED.into()], call_id: "call-1".into(), date: None }
}

impl World {
    fn field(&self, statement: Statement<'_>) -> String {
        let signer = Signer::new(self.key.clone(), X5U.into(), NOW + 100_000);
        signer.identity(statement).unwrap().to_string()
    }

    /// A field over any header and claims, well signed.
    fn forge(&self, header: &str, claims: &str, parameters: &str) -> String {
        let part = |json: &str| BASE64URL_NOPAD.encode(json.as_bytes());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(input.as_bytes()).unwrap();
        format!("{input}.{};{parameters}", BASE64URL_NOPAD.encode(&signature))
    }

    fn check(&mut self, field: &str, claim: &Claim, now: i64) -> Verdict {
        self.check_all(&[field], claim, now)
    }

    fn check_all(&mut self, fields: &[&str], claim: &Claim, now: i64) -> Verdict {
        match examine(fields.iter().copied(), claim, &self.policy, now) {
            Ok(examined) => {
                let certificate = Arc::new(self.certificate.clone());
                let certificates = vec![certificate; examined.urls().count()];
                examined.conclude(&certificates, &self.policy, now, &mut self.seen)
            }
            Err(result) => result.into(),
        }
    }
}

#[test]
fn what_was_signed_passes_with_its_attestation() {
    for attestation in Attestation::ALL {
        let mut world = world();
        let field = world.field(Statement { attestation, ..statement() });
        let verdict = world.check(&field, &claim(), NOW + 2);
        assert_eq!(verdict, Verdict { result: StirResult::Passed, attestation: Some(attestation) });
    }
}

#[test]
fn no_time_is_too_far_away_to_be_told_apart() {
    for iat in [i64::MIN, NOW + i64::MIN] {
        let mut world = world();
        let field = world.field(Statement { iat, ..statement() });
        assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::Stale, "{iat}");
    }
}

#[test]
fn a_change_of_any_claim_or_of_the_header_is_found() {
    let header = format!(r#"{{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"{X5U}"}}"#);
    let claims = format!(
        r#"{{"attest":"C","dest":{{"tn":["{CALLED}"]}},"iat":{NOW},"orig":{{"tn":"{CALLING}"}},"origid":"o"}}"#
    );
    let mut world = world();
    let parameters = format!("info=<{X5U}>;alg=ES256;ppt=shaken");
    let field = world.forge(&header, &claims, &parameters);
    assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::Passed);
    let signature = field.splitn(3, '.').nth(2).unwrap();
    let part = |json: &str| BASE64URL_NOPAD.encode(json.as_bytes());
    let tampered = |header: &str, claims: &str| format!("{}.{}.{signature}", part(header), part(claims));
    for (from, to) in [
        ("\"C\"", "\"A\""),
        (CALLED, &format!("{CALLED}\",\"{CALLED}")),
        (&NOW.to_string()[..], &(NOW + 1).to_string()),
        ("\"o\"", "\"p\""),
        ("{\"attest\"", "{ \"attest\""),
    ] {
        let field = tampered(&header, &claims.replace(from, to));
        assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::BadSignature, "{to}");
    }
    let other = tampered(&header.replace("\"alg\"", " \"alg\""), &claims);
    assert_eq!(world.check(&other, &claim(), NOW).result, StirResult::BadSignature);
    // The numbers are found out without the certificate.
    let other = tampered(&header, &claims.replace(CALLING, "33140205051"));
    let shown = Claim { orig: "33140205051".into(), ..claim() };
    assert_eq!(world.check(&other, &shown, NOW).result, StirResult::BadSignature);
}

#[test]
fn numbers_of_another_call_are_refused() {
    let mut world = world();
    let field = world.field(statement());
    let orig = Claim { orig: "33140205051".into(), ..claim() };
    assert_eq!(world.check(&field, &orig, NOW).result, StirResult::OrigMismatch);
    let dest = Claim { dest: vec!["3225550002".into()], ..claim() };
    assert_eq!(world.check(&field, &dest, NOW).result, StirResult::DestMismatch);
    let either = Claim { dest: vec!["3225550002".into(), CALLED.into()], ..claim() };
    assert_eq!(world.check(&field, &either, NOW).result, StirResult::Passed);
    let nobody = Claim { orig: String::new(), ..claim() };
    assert_eq!(world.check(&field, &nobody, NOW).result, StirResult::OrigMismatch);
}

#[test]
fn a_signature_is_fresh_for_a_minute_either_way() {
    for (age, result) in [
        (60, StirResult::Passed),
        (61, StirResult::Stale),
        (-60, StirResult::Passed),
        (-61, StirResult::Stale),
        (1_000_000, StirResult::Stale),
    ] {
        let mut world = world();
        let field = world.field(Statement { iat: NOW - age, ..statement() });
        assert_eq!(world.check(&field, &claim(), NOW).result, result, "{age} s old");
    }
}

#[test]
fn a_signature_serves_one_call() {
    let mut world = world();
    let field = world.field(statement());
    assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::Passed);
    assert_eq!(world.check(&field, &claim(), NOW + 1).result, StirResult::Passed, "the same call again");
    let other = Claim { call_id: "call-2".into(), ..claim() };
    assert_eq!(world.check(&field, &other, NOW + 60).result, StirResult::Replayed);
}

#[test]
fn a_certificate_has_to_be_valid_and_to_speak_for_the_caller() {
    let mut world = world();
    let field = world.field(statement());
    world.certificate.not_after = NOW - 1;
    assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::Expired);
    let issued = world.authority.issue(&[Entry::Range { start: "3225550000".into(), count: 10 }]);
    world.key = Arc::new(key(&issued));
    world.certificate = Certificate::read(issued.pem.as_bytes()).unwrap();
    let field = world.field(statement());
    assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::NotCovered);
    let field = world.field(Statement { orig: "3225550009", ..statement() });
    let own = Claim { orig: "3225550009".into(), ..claim() };
    assert_eq!(world.check(&field, &own, NOW).result, StirResult::Passed);
}

#[test]
fn a_certificate_says_what_may_be_claimed_with_it() {
    for (attestation, result) in
        [(Attestation::A, StirResult::NotCovered), (Attestation::B, StirResult::Passed)]
    {
        let mut world = world();
        let issued = world.authority.issue_constrained(&[Entry::Provider("1234".into())], &["B", "C"]);
        world.key = Arc::new(key(&issued));
        world.certificate =
            Certificate::trusted(issued.pem.as_bytes(), &world.authority.trust(), NOW).unwrap();
        let field = world.field(Statement { attestation, ..statement() });
        assert_eq!(world.check(&field, &claim(), NOW).result, result, "{attestation:?}");
    }
}

#[test]
fn the_place_of_a_certificate_has_to_be_allowed() {
    let mut world = world();
    let field = world.field(statement());
    for place in
        ["http://cert.example.org/shaken.pem", "https://127.0.0.1/c", "https://10.0.0.1/c", "ftp://x/c"]
    {
        let field = field.replace(&format!("info=<{X5U}>"), &format!("info=<{place}>"));
        assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::BadInfo, "{place}");
    }
    world.policy.hosts = Hosts::new(&["other.example.org".into()]);
    assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::BadInfo);
    // What the field names and what was signed must be the same place.
    world.policy.hosts = Hosts::default();
    let field = field.replace(&format!("info=<{X5U}>"), "info=<https://else.example.org/c.pem>");
    assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::Malformed);
}

#[test]
fn what_can_not_be_read_or_is_not_there_says_so() {
    let mut world = world();
    let field = world.field(statement());
    for (bad, result) in [
        ("nonsense".to_owned(), StirResult::Malformed),
        (format!("abc;info=<{X5U}>;ppt=shaken"), StirResult::Malformed),
        (field.replace("alg=ES256", "alg=RS256"), StirResult::Malformed),
        (field.replace(";ppt=shaken", ""), StirResult::Malformed),
        (field.replace("ppt=shaken", "ppt=rph"), StirResult::NoIdentity),
    ] {
        assert_eq!(world.check(&bad, &claim(), NOW).result, result, "{bad}");
    }
    assert_eq!(world.check_all(&[], &claim(), NOW).result, StirResult::NoIdentity);
}

#[test]
fn shaken_is_found_among_other_fields() {
    let mut world = world();
    let field = world.field(statement());
    let rph = field.replace("ppt=shaken", "ppt=rph");
    assert_eq!(world.check_all(&[&rph, "junk", &field], &claim(), NOW).result, StirResult::Passed);
}

#[test]
fn a_call_that_was_sent_on_passes_where_each_step_is_signed() {
    const MEANT: &str = "33140000000";
    const BETWEEN: &str = "33140000001";
    let step = |world: &World, from: &str, to: &str, iat: i64| {
        let passport = Passport {
            x5u: X5U.into(),
            extension: Extension::Div,
            orig: Party::Number(CALLING.into()),
            dest: vec![Party::Number(to.into())],
            iat,
            shaken: None,
            div: Some(Party::Number(from.into())),
        };
        let signature = world.key.sign(passport.signing_input().as_bytes()).unwrap();
        IdentityField::new(passport.full_form(&signature), X5U, &Extension::Div).to_string()
    };
    let mut world = world();
    let field = world.field(Statement { dest: MEANT, ..statement() });
    let (first, second) = (step(&world, MEANT, BETWEEN, NOW), step(&world, BETWEEN, CALLED, NOW));
    assert_eq!(world.check(&field, &claim(), NOW).result, StirResult::DestMismatch);
    assert_eq!(
        world.check_all(&[&field, &second], &claim(), NOW).result,
        StirResult::DestMismatch,
        "a step is missing"
    );
    let verdict = world.check_all(&[&second, &field, &first], &claim(), NOW);
    assert_eq!(verdict, Verdict { result: StirResult::Passed, attestation: Some(Attestation::A) });
    let stale = step(&world, MEANT, CALLED, NOW - 61);
    assert_eq!(world.check_all(&[&field, &stale], &claim(), NOW).result, StirResult::DestMismatch);
    // Who sends a call on must have the number it was for.
    let entries = vec![Entry::One(CALLING.into()), Entry::One(MEANT.into())];
    world.certificate.entries = Some(entries.clone());
    let other = Claim { call_id: "call-2".into(), ..claim() };
    assert_eq!(world.check_all(&[&field, &first, &second], &other, NOW).result, StirResult::NotCovered);
    let own = step(&world, MEANT, CALLED, NOW);
    assert_eq!(world.check_all(&[&field, &own], &other, NOW).result, StirResult::Passed);
    let bad = own.replacen(&own[own.len() / 2..own.len() / 2 + 4], "AAAA", 1);
    assert_ne!(world.check_all(&[&field, &bad], &other, NOW).result, StirResult::Passed);
}

#[test]
fn a_plain_passport_passes_without_attestation_in_both_forms() {
    let mut world = world();
    let passport = Passport {
        x5u: X5U.into(),
        extension: Extension::Base,
        orig: Party::Number(CALLING.into()),
        dest: vec![Party::Number(CALLED.into())],
        iat: NOW,
        shaken: None,
        div: None,
    };
    let signature = world.key.sign(passport.signing_input().as_bytes()).unwrap();
    let full = IdentityField::new(passport.full_form(&signature), X5U, &Extension::Base).to_string();
    assert_eq!(world.check(&full, &claim(), NOW), StirResult::Passed.into());
    let compact = IdentityField::new(Passport::compact_form(&signature), X5U, &Extension::Base).to_string();
    assert_eq!(world.check(&compact, &claim(), NOW).result, StirResult::Malformed, "without a Date");
    let dated = Claim { date: Some(NOW), ..claim() };
    assert_eq!(world.check(&compact, &dated, NOW), StirResult::Passed.into());
    let later = Claim { date: Some(NOW + 1), ..claim() };
    assert_eq!(world.check(&compact, &later, NOW).result, StirResult::BadSignature);
}

#[test]
fn an_ended_certificate_of_ours_signs_nothing() {
    let world = world();
    let signer = Signer::new(world.key, X5U.into(), NOW - 1);
    assert!(signer.identity(statement()).is_none());
}
