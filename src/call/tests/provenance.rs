//! Signed caller identities in calls: what is signed towards trunks, what is made of their signatures, and how long a
//! call waits for a certificate.

use super::far::Side;
use super::world::*;
use crate::call::Settings;
use crate::call::event::{Event, Input};
use crate::call::settings::StirMaterial;
use crate::config::{Config, IdentityHeader, StirVerify, parse_dialplan};
use crate::routing::{Screening, ScreeningAction};
use crate::sip::message::{HeaderName, Request, Typed};
use crate::stir::certificate::Certificate;
use crate::stir::certificate::tests::{Authority, Issued};
use crate::stir::field::IdentityField;
use crate::stir::io::Key;
use crate::stir::passport::{Extension, Party, Passport, Signed};
use crate::stir::sign::verifies;
use crate::stir::tn_auth_list::Entry;
use crate::stir::{Authorities, Signer, Statement, date};
use crate::types::{Attestation, EndCause, StirResult};
use std::path::Path;
use std::sync::Arc;

const X5U: &str = "https://cert.example.org/shaken.pem";
/// 2026-01-05 12:00 UTC, when a world begins.
const NOW: i64 = 1_767_614_400;
const CALLING: &str = "33123456789";
const ALICES: &str = "3225550001";

/// A world whose gateway signs with a certificate of `authority`, and believes that authority.
struct Signing {
    w: World,
    /// The PEM of the authority that is believed.
    authority: String,
    issued: Issued,
    signer: Signer,
}

fn signing(change: impl FnOnce(&mut Config)) -> Signing {
    let authority = Authority::new();
    let issued = authority.issue_between(&[Entry::Provider("1234".into())], NOW - 1_000, NOW + 100_000);
    let certificate = Certificate::read(issued.pem.as_bytes()).unwrap();
    let key = Arc::new(Key::read(issued.key.as_bytes(), &certificate).unwrap());
    let signer = Signer::new(key, X5U.into(), certificate.not_after);
    let material = StirMaterial { signer: Some(signer.clone()), authorities: authority.trust() };
    let mut config = config();
    change(&mut config);
    let mut w = World::seeded(config.clone(), 1);
    let settings = Arc::new(Settings::new(config.clone()).with_stir(material));
    w.exchange.reload(w.now, settings, directory(&config), dialplan(&config));
    w.resolve();
    Signing { w, authority: authority.pem, issued, signer }
}

fn signs_to_a(config: &mut Config) {
    config.trunks[0].stir_sign = true;
}

impl Signing {
    /// Checks the signature of an INVITE as its receiver would, and gives what it says.
    fn signed(&self, invite: &Request) -> Passport {
        let field =
            IdentityField::parse(invite.headers.get(&HeaderName::Identity).expect("an Identity")).unwrap();
        assert_eq!((field.info.as_str(), field.ppt.as_deref()), (X5U, Some("shaken")));
        let signed = Signed::read(&field.token).unwrap();
        let certificate = Certificate::read(self.issued.pem.as_bytes()).unwrap();
        assert!(verifies(&certificate.key, signed.input.as_bytes(), &signed.signature));
        let dated = invite.headers.get(&HeaderName::Date).and_then(date::read);
        assert_eq!(dated, Some(signed.passport.iat), "Date and iat are one");
        signed.passport
    }

    fn field(&self, orig: &str, dest: &str, iat: i64) -> String {
        let statement = Statement { orig, dest, attestation: Attestation::B, origid: "far", iat };
        self.signer.identity(statement).unwrap().to_string()
    }

    /// Trunk `a` calls alice with these fields, and a moment passes.
    fn call_alice(&mut self, fields: &[&str]) -> Side {
        self.w.register("alice", ALICE);
        self.w.call_in_with(A, "+3225550001", OFFER, |invite| {
            fields.iter().for_each(|field| invite.headers.push(HeaderName::Identity, *field));
        })
    }

    fn certificate_comes(&mut self, fetched: Result<(), StirResult>) {
        let fetched = fetched.map(|()| (self.issued.pem.clone().into_bytes(), None));
        self.w.input(Input::CertificateFetched { url: X5U.into(), fetched });
    }

    fn results(&self) -> Vec<StirResult> {
        let of = |event: &Event| match event {
            Event::StirVerified { result, .. } => Some(*result),
            _ => None,
        };
        self.w.events.iter().filter_map(of).collect()
    }
}

fn checks(verify: StirVerify) -> impl FnOnce(&mut Config) {
    move |config| config.trunks[0].stir_verify = verify
}

fn digits(party: &Party) -> &str {
    match party {
        Party::Number(digits) => digits,
        Party::Uri(uri) => uri,
    }
}

#[test]
fn a_users_own_number_is_attested_in_full_and_the_records_id_leads_back() {
    let mut s = signing(signs_to_a);
    s.w.dial("alice", "0470123456");
    let callee = s.w.invited(A);
    let passport = s.signed(&callee.invite);
    assert_eq!((digits(&passport.orig), digits(&passport.dest[0])), (ALICES, "32470123456"));
    let shaken = passport.shaken.unwrap();
    assert_eq!((shaken.attestation, passport.iat), (Attestation::A, NOW));
    s.w.reply(&callee, 486);
    let cdr = s.w.finish();
    assert_eq!((cdr.attestation, cdr.id.to_string()), (Some(Attestation::A), shaken.origid));
    let counted = s.w.events.iter().any(
        |event| matches!(event, Event::StirSigned { trunk, attestation: Attestation::A } if &**trunk == "a"),
    );
    assert!(counted);
}

#[test]
fn a_number_the_dialplan_gives_to_a_user_is_attested_in_part() {
    let mut s = signing(signs_to_a);
    let config = s.w.exchange.settings().config.clone();
    let text = "country_code = \"32\"\n[[rule]]\nname = \"all\"\nmatch = \"+32\"\ntrunks = [\"a\"]\n\
                calling = \"+3225559999\"\n";
    let loaded = parse_dialplan(Path::new("d.toml"), text, config.trunk_forms());
    let plan = Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems:?}")).dialplan);
    let settings = s.w.exchange.settings().clone();
    s.w.exchange.reload(s.w.now, settings, directory(&config), plan);
    s.w.resolve();
    s.w.dial("alice", "0470123456");
    let passport = s.signed(&s.w.last_request(A.parse().unwrap(), &crate::sip::message::Method::Invite));
    assert_eq!(digits(&passport.orig), "3225559999");
    assert_eq!(passport.shaken.unwrap().attestation, Attestation::B);
}

#[test]
fn a_call_that_a_user_sends_on_is_signed_for_the_number_that_is_shown() {
    for (diversion, identity, orig, attestation) in [
        (true, IdentityHeader::Off, CALLING, Attestation::B),
        (false, IdentityHeader::Off, "3225550002", Attestation::A),
        (true, IdentityHeader::Asserted, "3225550002", Attestation::A),
    ] {
        let mut s = signing(|config| {
            signs_to_a(config);
            (config.trunks[0].diversion, config.trunks[0].identity) = (diversion, identity);
        });
        s.w.register("bob", BOB);
        // What its caller's network has signed names bob, and goes no further.
        let theirs = s.field(CALLING, "3225550002", NOW);
        let caller = s.w.call_in_with(B, "+3225550002", OFFER, |invite| {
            invite.headers.push(HeaderName::Identity, theirs.as_str());
        });
        let bob = s.w.invited(BOB);
        super::forward::send_on_saying(&mut s.w, &bob, "<sip:0470123456@example.org>", &[]);
        let callee = s.w.invited(A);
        assert_eq!(callee.invite.headers.all(&HeaderName::Identity).count(), 1);
        let passport = s.signed(&callee.invite);
        assert_eq!((digits(&passport.orig), digits(&passport.dest[0])), (orig, "32470123456"));
        assert_eq!(passport.shaken.unwrap().attestation, attestation);
        s.w.cancel(&caller);
        s.w.finish_all();
    }
}

#[test]
fn only_trunks_that_want_it_are_signed_to() {
    let mut s = signing(|_| {});
    s.w.dial("alice", "0470123456");
    let invite = s.w.invited(A).invite;
    assert!(!invite.headers.contains(&HeaderName::Identity) && !invite.headers.contains(&HeaderName::Date));
}

#[test]
fn a_transit_call_is_attested_as_a_gateways_unless_it_brings_a_signature_of_its_own() {
    let to_b = |config: &mut Config| config.trunks[1].stir_sign = true;
    let mut s = signing(to_b);
    s.w.call_in(A, "+31201234567");
    let invite = s.w.invited(B).invite;
    let passport = s.signed(&invite);
    assert_eq!((digits(&passport.orig), digits(&passport.dest[0])), (CALLING, "31201234567"));
    assert_eq!(passport.shaken.unwrap().attestation, Attestation::C);

    let mut s = signing(to_b);
    let theirs =
        ["a.b.c;info=<https://far.example/1>;ppt=shaken", "d.e.f;info=<https://far.example/2>;ppt=div"];
    s.w.call_in_with(A, "+31201234567", OFFER, |invite| {
        theirs.iter().for_each(|field| invite.headers.push(HeaderName::Identity, *field));
        invite.headers.push(HeaderName::Date, "Mon, 05 Jan 2026 11:59:58 GMT");
    });
    let invite = s.w.invited(B).invite;
    assert_eq!(invite.headers.all(&HeaderName::Identity).collect::<Vec<_>>(), theirs);
    assert_eq!(invite.headers.get(&HeaderName::Date), Some("Mon, 05 Jan 2026 11:59:58 GMT"));
}

#[test]
fn anothers_signature_goes_no_further_where_a_number_was_changed() {
    let rule = "country_code = \"32\"\n[[rule]]\nname = \"r\"\nfrom = \"trunk:a\"\nmatch = \"+31\"\n\
                trunks = [\"b\"]\n";
    let other = "+3225559999";
    for (replaces, change, orig, dest) in [
        (true, String::new(), &other[1..], "31201234567"),
        (false, format!("calling = \"{other}\""), &other[1..], "31201234567"),
        (false, "called = \"+31209999999\"".to_owned(), CALLING, "31209999999"),
        // The same number in other words is the same number.
        (false, "called = { pattern = \"^\\\\+31\", replace = \"0031\" }".to_owned(), "", ""),
    ] {
        let mut s = signing(|config| {
            config.trunks[1].stir_sign = true;
            if replaces {
                config.trunks[0].screening = Screening {
                    ranges: vec!["+3225".into()],
                    default: Some(other.parse().unwrap()),
                    action: ScreeningAction::Replace,
                };
            }
        });
        let (config, settings) = (s.w.exchange.settings().config.clone(), s.w.exchange.settings().clone());
        let plan = parse_dialplan(Path::new("d.toml"), &format!("{rule}{change}\n"), config.trunk_forms());
        let plan = Arc::new(plan.unwrap_or_else(|problems| panic!("{problems:?}")).dialplan);
        s.w.exchange.reload(s.w.now, settings, directory(&config), plan);
        s.w.resolve();
        let theirs = s.field(CALLING, "31201234567", NOW - 5);
        s.w.call_in_with(A, "+31201234567", OFFER, |invite| {
            invite.headers.push(HeaderName::Identity, theirs.as_str());
        });
        let invite = s.w.invited(B).invite;
        assert_eq!(invite.headers.all(&HeaderName::Identity).count(), 1);
        if orig.is_empty() {
            assert_eq!(invite.headers.get(&HeaderName::Identity), Some(theirs.as_str()));
            continue;
        }
        let passport = s.signed(&invite);
        assert_eq!((digits(&passport.orig), digits(&passport.dest[0])), (orig, dest));
        assert_eq!(passport.shaken.unwrap().attestation, Attestation::C);
    }
}

#[test]
fn nor_does_anothers_signature_that_goes_on() {
    for (trusted, told) in [(false, false), (true, true)] {
        let mut s = signing(|config| {
            config.trunks[0].trusted = true;
            config.trunks[1].stir_sign = true;
            config.trunks[1].trusted = trusted;
            config.trunks[1].identity = IdentityHeader::Asserted;
        });
        let theirs = s.field(CALLING, "31201234567", NOW);
        s.w.call_in_with(A, "+31201234567", OFFER, |invite| {
            invite.headers.push(HeaderName::Identity, theirs.as_str());
            invite.headers.push(HeaderName::Privacy, "id");
            invite.headers.push(HeaderName::PAssertedIdentity, format!("<sip:+{CALLING}@far.example>"));
        });
        let invite = s.w.invited(B).invite;
        assert_eq!(invite.headers.contains(&HeaderName::Identity), told, "{trusted}");
    }
}

#[test]
fn a_signature_tells_no_number_that_the_trunk_may_not_know() {
    for (trusted, identity, told) in [
        (false, IdentityHeader::Asserted, false),
        (true, IdentityHeader::Off, false),
        (true, IdentityHeader::Asserted, true),
    ] {
        let mut s = signing(|config| {
            signs_to_a(config);
            config.trunks[0].trusted = trusted;
            config.trunks[0].identity = identity;
        });
        s.w.dial_with("alice", "0470123456", OFFER, |invite| invite.headers.push(HeaderName::Privacy, "id"));
        let invite = s.w.invited(A).invite;
        assert_eq!(invite.headers.contains(&HeaderName::Identity), told, "{trusted} {identity:?}");
        if told {
            assert_eq!(digits(&s.signed(&invite).orig), ALICES);
        }
    }
}

#[test]
fn the_next_trunk_gets_a_signature_of_its_own() {
    let mut s = signing(|config| config.trunks.iter_mut().for_each(|trunk| trunk.stir_sign = true));
    s.w.dial("alice", "0470123456");
    let first = s.w.invited(A);
    let before = first.invite.headers.get(&HeaderName::Identity).unwrap().to_owned();
    s.w.pass(secs(3));
    s.w.reply(&first, 503);
    let second = s.w.invited(B).invite;
    assert_eq!(s.signed(&second).iat, NOW + 3);
    assert_ne!(second.headers.get(&HeaderName::Identity), Some(before.as_str()));
}

#[test]
fn a_signed_call_waits_for_its_certificate_and_the_phone_hears_that_it_passed() {
    let mut s = signing(checks(StirVerify::Mark));
    let field = s.field(CALLING, ALICES, NOW);
    s.call_alice(&[&field]);
    assert_eq!(s.w.fetches, [X5U]);
    assert!(s.w.inbox(ALICE.parse().unwrap()).is_empty(), "nobody rings before it is known who calls");
    s.w.pass(ms(300));
    s.certificate_comes(Ok(()));
    let phone = s.w.invited(ALICE);
    let asserted = phone.invite.headers.get(&HeaderName::PAssertedIdentity).unwrap();
    assert!(asserted.starts_with("<sip:+33123456789;verstat=TN-Validation-Passed@"), "{asserted}");
    assert!(asserted.ends_with(";user=phone>"), "{asserted}");
    let level = HeaderName::new("Attestation-Info");
    assert_eq!(phone.invite.headers.get(&level), Some("B"));
    assert_eq!(phone.invite.from().unwrap().uri.user(), "+33123456789");
    s.w.reply(&phone, 486);
    let cdr = s.w.finish();
    assert_eq!((cdr.stir_result, cdr.attestation), (Some(StirResult::Passed), Some(Attestation::B)));
    assert_eq!(s.results(), [StirResult::Passed]);
}

#[test]
fn a_known_certificate_holds_nobody_up_and_a_replay_is_found() {
    let mut s = signing(checks(StirVerify::Mark));
    let field = s.field(CALLING, ALICES, NOW);
    s.call_alice(&[&field]);
    s.certificate_comes(Ok(()));
    let phone = s.w.invited(ALICE);
    s.w.reply(&phone, 486);
    s.w.pass(secs(1));
    s.call_alice(&[&field]);
    assert_eq!(s.w.fetches.len(), 1, "fetched once");
    let phone = s.w.invited(ALICE);
    let asserted = phone.invite.headers.get(&HeaderName::PAssertedIdentity).unwrap();
    assert!(asserted.contains("verstat=TN-Validation-Failed"), "{asserted}");
    assert_eq!(s.results(), [StirResult::Passed, StirResult::Replayed]);
    s.w.reply(&phone, 486);
    s.w.finish_all();
}

#[test]
fn a_dead_server_delays_a_marked_call_no_longer_than_it_may() {
    let mut s = signing(checks(StirVerify::Mark));
    let field = s.field(CALLING, ALICES, NOW);
    s.call_alice(&[&field]);
    s.w.pass(ms(999));
    assert!(s.w.inbox(ALICE.parse().unwrap()).is_empty());
    s.w.pass(ms(2));
    let phone = s.w.invited(ALICE);
    let asserted = phone.invite.headers.get(&HeaderName::PAssertedIdentity).unwrap();
    assert!(asserted.contains("verstat=No-TN-Validation"), "{asserted}");
    // What comes later serves the next call.
    s.certificate_comes(Ok(()));
    s.w.reply(&phone, 486);
    assert_eq!(s.results(), [StirResult::Unreachable]);
    let field = s.field(CALLING, ALICES, NOW + 1);
    s.call_alice(&[&field]);
    let phone = s.w.invited(ALICE);
    assert_eq!(s.results(), [StirResult::Unreachable, StirResult::Passed]);
    s.w.reply(&phone, 486);
    s.w.finish_all();
}

#[test]
fn a_call_that_needs_its_check_waits_for_the_end_of_the_fetch() {
    let mut s = signing(checks(StirVerify::Require));
    let field = s.field(CALLING, ALICES, NOW);
    let caller = s.call_alice(&[&field]);
    s.w.pass(ms(2_900));
    assert!(s.w.inbox(ALICE.parse().unwrap()).is_empty());
    s.certificate_comes(Err(StirResult::Unreachable));
    let refusal = s.w.refused(&caller, 436);
    assert_eq!(refusal.reason, "Bad Identity Info");
    let cdr = s.w.finish();
    assert_eq!(
        (cdr.end_cause, cdr.stir_result),
        (Some(EndCause::IdentityUnreachable), Some(StirResult::Unreachable))
    );
}

#[test]
fn a_caller_that_gives_up_while_it_is_checked_leaves_nothing_behind() {
    let mut s = signing(checks(StirVerify::Require));
    let field = s.field(CALLING, ALICES, NOW);
    let caller = s.call_alice(&[&field]);
    s.w.pass(ms(100));
    s.w.cancel(&caller);
    s.w.response(caller.at, 200);
    s.w.refused(&caller, 487);
    s.certificate_comes(Ok(()));
    assert_eq!(s.w.finish().end_cause, Some(EndCause::CallerCancelled));
    assert!(s.results().is_empty());
}

#[test]
fn what_does_not_pass_is_refused_as_rfc_8224_says_where_it_must_pass() {
    let good = |s: &Signing| s.field(CALLING, ALICES, NOW);
    type Made = fn(&Signing) -> Vec<String>;
    let cases: [(Made, u16, &str, StirResult, EndCause); 6] = [
        (|_| vec![], 428, "Use Identity Header", StirResult::NoIdentity, EndCause::IdentityMissing),
        (
            |s| vec![s.field(CALLING, ALICES, NOW).replace("<https:", "<http:")],
            436,
            "Bad Identity Info",
            StirResult::BadInfo,
            EndCause::IdentityUnreachable,
        ),
        (
            |s| vec![s.field("33199999999", ALICES, NOW)],
            438,
            "Invalid Identity Header",
            StirResult::OrigMismatch,
            EndCause::IdentityInvalid,
        ),
        (
            |s| vec![s.field(CALLING, "3225550002", NOW)],
            438,
            "Invalid Identity Header",
            StirResult::DestMismatch,
            EndCause::IdentityInvalid,
        ),
        (
            |s| vec![s.field(CALLING, ALICES, NOW - 61)],
            403,
            "Stale Date",
            StirResult::Stale,
            EndCause::IdentityStale,
        ),
        (
            |_| vec!["junk".into()],
            438,
            "Invalid Identity Header",
            StirResult::Malformed,
            EndCause::IdentityInvalid,
        ),
    ];
    for (made, status, phrase, result, cause) in cases {
        let mut s = signing(checks(StirVerify::Require));
        let fields = made(&s);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let caller = s.call_alice(&fields);
        assert_eq!(s.w.refused(&caller, status).reason, phrase);
        assert!(s.w.fetches.is_empty(), "nothing is fetched for what is wrong anyway");
        let cdr = s.w.finish();
        assert_eq!((cdr.stir_result, cdr.end_cause), (Some(result), Some(cause)));
        assert_eq!(s.results(), [result]);
    }
    let mut s = signing(checks(StirVerify::Require));
    let field = good(&s);
    let caller = s.call_alice(&[&field]);
    s.certificate_comes(Err(StirResult::Untrusted));
    assert_eq!(s.w.refused(&caller, 437).reason, "Unsupported Credential");
    assert_eq!(s.w.finish().end_cause, Some(EndCause::IdentityUntrusted));
}

#[test]
fn a_signature_of_an_authority_that_is_not_believed_fails_with_437() {
    let mut s = signing(checks(StirVerify::Require));
    let field = s.field(CALLING, ALICES, NOW);
    let caller = s.call_alice(&[&field]);
    let other = Authority::new().issue_between(&[Entry::Provider("1".into())], NOW - 10, NOW + 10);
    let fetched = Ok((other.pem.into_bytes(), None));
    s.w.input(Input::CertificateFetched { url: X5U.into(), fetched });
    s.w.refused(&caller, 437);
    assert_eq!(s.w.finish().stir_result, Some(StirResult::Untrusted));
}

#[test]
fn the_asserted_number_of_a_trusted_trunk_is_the_one_that_must_be_signed() {
    for (trusted, result) in [(true, StirResult::Passed), (false, StirResult::OrigMismatch)] {
        let mut s = signing(|config| {
            config.trunks[0].stir_verify = StirVerify::Mark;
            config.trunks[0].trusted = trusted;
        });
        let field = s.field("33140205050", ALICES, NOW);
        s.w.register("alice", ALICE);
        s.w.call_in_with(A, "+3225550001", OFFER, |invite| {
            invite.headers.push(HeaderName::PAssertedIdentity, "<sip:+33140205050@far>");
            invite.headers.push(HeaderName::Identity, field.as_str());
        });
        if trusted {
            s.certificate_comes(Ok(()));
        }
        let phone = s.w.invited(ALICE);
        assert_eq!(s.results(), [result]);
        s.w.reply(&phone, 486);
        s.w.finish_all();
    }
}

#[test]
fn a_withheld_number_does_not_reach_the_phone_by_way_of_its_check() {
    let mut s = signing(checks(StirVerify::Mark));
    let field = s.field(CALLING, ALICES, NOW);
    s.w.register("alice", ALICE);
    s.w.call_in_with(A, "+3225550001", OFFER, |invite| {
        invite.headers.push(HeaderName::Privacy, "id");
        invite.headers.push(HeaderName::Identity, field.as_str());
    });
    s.certificate_comes(Ok(()));
    let phone = s.w.invited(ALICE);
    let text = String::from_utf8_lossy(&phone.invite.to_bytes()).into_owned();
    assert!(!text.contains("33123456789"), "{text}");
    assert_eq!(phone.invite.headers.get(&HeaderName::new("Attestation-Info")), Some("B"));
    s.w.reply(&phone, 486);
    s.w.finish_all();
}

#[test]
fn a_plain_passport_passes_without_an_attestation() {
    let mut s = signing(checks(StirVerify::Mark));
    let passport = Passport {
        x5u: X5U.into(),
        extension: Extension::Base,
        orig: Party::Number(CALLING.into()),
        dest: vec![Party::Number(ALICES.into())],
        iat: NOW,
        shaken: None,
        div: None,
    };
    let certificate = Certificate::read(s.issued.pem.as_bytes()).unwrap();
    let key = Key::read(s.issued.key.as_bytes(), &certificate).unwrap();
    let signature = crate::stir::sign::Sign::sign(&key, passport.signing_input().as_bytes()).unwrap();
    let field = IdentityField::new(Passport::compact_form(&signature), X5U, &Extension::Base).to_string();
    s.w.register("alice", ALICE);
    s.w.call_in_with(A, "+3225550001", OFFER, |invite| {
        invite.headers.push(HeaderName::Date, date::write(NOW));
        invite.headers.push(HeaderName::Identity, field.as_str());
    });
    s.certificate_comes(Ok(()));
    let phone = s.w.invited(ALICE);
    assert!(!phone.invite.headers.contains(&HeaderName::new("Attestation-Info")));
    assert_eq!(s.results(), [StirResult::Passed]);
    s.w.reply(&phone, 486);
    assert_eq!(s.w.finish().attestation, None);
}

#[test]
fn how_old_a_signature_may_be_is_configured() {
    for (freshness, result) in [(10, StirResult::Stale), (600, StirResult::Passed)] {
        let mut s = signing(|config| {
            config.trunks[0].stir_verify = StirVerify::Mark;
            config.stir.freshness = secs(freshness);
        });
        let field = s.field(CALLING, ALICES, NOW - 20);
        s.call_alice(&[&field]);
        s.certificate_comes(Ok(()));
        let phone = s.w.invited(ALICE);
        assert_eq!(s.results(), [result], "{freshness} s");
        s.w.reply(&phone, 486);
        s.w.finish_all();
    }
}

#[test]
fn a_result_is_told_only_of_the_number_that_is_shown() {
    let mut s = signing(|config| {
        config.trunks[0].stir_verify = StirVerify::Mark;
        config.trunks[0].screening = Screening {
            ranges: vec!["+3225".into()],
            default: Some("+3225559999".parse().unwrap()),
            action: ScreeningAction::Replace,
        };
    });
    let field = s.field(CALLING, ALICES, NOW);
    s.call_alice(&[&field]);
    s.certificate_comes(Ok(()));
    let phone = s.w.invited(ALICE);
    assert_eq!(phone.invite.from().unwrap().uri.user(), "+3225559999", "another number took its place");
    assert!(!phone.invite.headers.contains(&HeaderName::PAssertedIdentity));
    assert!(!phone.invite.headers.contains(&HeaderName::new("Attestation-Info")));
    s.w.reply(&phone, 486);
    assert_eq!(s.w.finish().stir_result, Some(StirResult::Passed));
}

#[test]
fn whom_the_caller_meant_first_counts_only_where_the_trunk_is_trusted() {
    for (trusted, result) in [(true, StirResult::Passed), (false, StirResult::DestMismatch)] {
        let mut s = signing(|config| {
            config.trunks[0].stir_verify = StirVerify::Mark;
            config.trunks[0].trusted = trusted;
        });
        let field = s.field(CALLING, "33140000000", NOW);
        s.w.register("alice", ALICE);
        s.w.call_in_with(A, "+3225550001", OFFER, |invite| {
            invite.headers.set(HeaderName::To, "<sip:+33140000000@far>");
            invite.headers.push(HeaderName::Identity, field.as_str());
        });
        s.certificate_comes(Ok(()));
        let phone = s.w.invited(ALICE);
        assert_eq!(s.results(), [result], "trusted: {trusted}");
        s.w.reply(&phone, 486);
        s.w.finish_all();
    }
}

#[test]
fn a_call_goes_unsigned_and_that_is_told_once_our_certificate_has_ended() {
    let mut s = signing(signs_to_a);
    s.w.pass(secs(100_001));
    s.w.dial("alice", "0470123456");
    let invite = s.w.invited(A).invite;
    assert!(!invite.headers.contains(&HeaderName::Identity));
    assert!(s.w.events.iter().any(|event| matches!(event, Event::StirUnsigned { .. })));
}

#[test]
fn a_call_that_was_sent_on_waits_for_both_certificates() {
    let mut s = signing(checks(StirVerify::Mark));
    let div = "https://cert.example.net/div.pem";
    let authority = Authority::new();
    let own = authority.issue_between(&[Entry::Provider("77".into())], NOW - 10, NOW + 1_000);
    let trust = [s.authority.clone(), authority.pem.clone()].concat();
    let material = StirMaterial { signer: None, authorities: Authorities::read(trust.as_bytes()).unwrap() };
    let config = s.w.exchange.settings().config.clone();
    let settings = Arc::new(Settings::new(config.clone()).with_stir(material));
    s.w.exchange.reload(s.w.now, settings, directory(&config), dialplan(&config));
    s.w.resolve();
    let passport = Passport {
        x5u: div.into(),
        extension: Extension::Div,
        orig: Party::Number(CALLING.into()),
        dest: vec![Party::Number(ALICES.into())],
        iat: NOW,
        shaken: None,
        div: Some(Party::Number("33140000000".into())),
    };
    let certificate = Certificate::read(own.pem.as_bytes()).unwrap();
    let key = Key::read(own.key.as_bytes(), &certificate).unwrap();
    let signature = crate::stir::sign::Sign::sign(&key, passport.signing_input().as_bytes()).unwrap();
    let div_field = IdentityField::new(passport.full_form(&signature), div, &Extension::Div).to_string();
    let field = s.field(CALLING, "33140000000", NOW);
    s.call_alice(&[&field, &div_field]);
    assert_eq!(s.w.fetches, [X5U, div]);
    s.certificate_comes(Ok(()));
    assert!(s.w.inbox(ALICE.parse().unwrap()).is_empty(), "one certificate is still to come");
    s.w.input(Input::CertificateFetched { url: div.into(), fetched: Ok((own.pem.into_bytes(), None)) });
    let phone = s.w.invited(ALICE);
    assert_eq!(s.results(), [StirResult::Passed]);
    s.w.reply(&phone, 486);
    s.w.finish_all();
}

#[test]
fn nobody_who_answers_a_call_for_help_has_to_sign() {
    let mut s = signing(|config| {
        checks(StirVerify::Require)(config);
        config.trunks[0].trusted = true;
    });
    s.w.register("alice", ALICE);
    s.w.call_in_with(A, "+3225550001", OFFER, |invite| {
        invite.headers.push(HeaderName::Priority, "psap-callback");
    });
    s.w.invited(ALICE);
    assert_eq!(s.results(), [StirResult::NoIdentity], "it is marked all the same");
}
