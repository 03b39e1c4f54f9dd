//! What a far end may do with our challenges.

use super::super::digest::{HASHES, ha1};
use super::*;

const NOW: UnixMillis = 1_700_000_000_000;
const REALM: &str = "example.org";

fn challenger() -> Challenger {
    Challenger::new([7; 32], REALM, Duration::from_secs(60))
}

/// Reads one parameter of a challenge.
fn param(challenge: &str, name: &str) -> Option<String> {
    DigestParams::parse(challenge).unwrap().get(name).map(str::to_owned)
}

/// A phone that answers challenges, with each part in reach of the test.
struct Phone<'a> {
    user: &'a str,
    password: &'a str,
    algorithm: Algorithm,
    uri: &'a str,
    nc: u32,
}

impl Default for Phone<'_> {
    fn default() -> Self {
        Phone {
            user: "alice",
            password: "secret",
            algorithm: Algorithm::Sha256,
            uri: "sip:+3225550001@example.org",
            nc: 1,
        }
    }
}

impl Phone<'_> {
    fn answer(&self, nonce: &str) -> String {
        let nc = format!("{:08x}", self.nc);
        let Phone { user, algorithm, uri, .. } = self;
        let response = Computation {
            choice: AlgorithmChoice { algorithm: *algorithm, session: false },
            ha1: &ha1(*algorithm, user, REALM, self.password),
            nonce,
            method: "INVITE",
            uri,
            protection: Protection::Auth { nc: &nc, cnonce: "c0ffee" },
        }
        .response();
        format!(
            "Digest username=\"{user}\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={algorithm}, cnonce=\"c0ffee\", qop=auth, nc={nc}"
        )
    }
}

fn users(user: &str, algorithm: Algorithm) -> Option<String> {
    (user == "alice").then(|| ha1(algorithm, "alice", REALM, "secret"))
}

fn target() -> Uri {
    Uri::parse("sip:+3225550001@example.org").unwrap()
}

fn verify(challenger: &mut Challenger, now: UnixMillis, value: &str) -> Result<Verified, AuthFailure> {
    challenger.verify(now, &Method::Invite, &target(), value, users)
}

fn nonce(challenger: &mut Challenger, now: UnixMillis) -> String {
    param(&challenger.challenge(now, false)[0], "nonce").unwrap()
}

#[test]
fn sha_256_is_offered_beside_md5_on_one_nonce() {
    let challenges = challenger().challenge(NOW, false);
    let algorithms: Vec<_> = challenges.iter().map(|c| param(c, "algorithm").unwrap()).collect();
    assert_eq!(algorithms, ["MD5", "SHA-256"]);
    assert_eq!(param(&challenges[0], "nonce"), param(&challenges[1], "nonce"));
    assert!(challenges.iter().all(|c| c.contains("qop=\"auth\"") && param(c, "stale").is_none()));
    let stale = challenger().challenge(NOW, true);
    assert_eq!(param(&stale[0], "stale").as_deref(), Some("true"));
    let only = challenger().with_algorithms(&[Algorithm::Md5]).challenge(NOW, false);
    assert_eq!(only.len(), 1);
}

#[test]
fn every_offered_algorithm_is_accepted() {
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let mut challenger = challenger();
        let nonce = nonce(&mut challenger, NOW);
        let value = Phone { algorithm, ..Phone::default() }.answer(&nonce);
        assert_eq!(verify(&mut challenger, NOW, &value), Ok(Verified { user: "alice".into() }));
    }
    let mut challenger = challenger().with_algorithms(&[Algorithm::Sha256]);
    let nonce = nonce(&mut challenger, NOW);
    let value = Phone { algorithm: Algorithm::Md5, ..Phone::default() }.answer(&nonce);
    assert_eq!(verify(&mut challenger, NOW, &value), Err(AuthFailure::UnknownAlgorithm), "no downgrade");
}

#[test]
fn a_wrong_password_and_an_unknown_user_fail_and_cost_the_same_hashing() {
    let mut challenger = challenger();
    let nonce = nonce(&mut challenger, NOW);
    let mut cost = |phone: Phone, expected: AuthFailure| {
        let value = phone.answer(&nonce);
        HASHES.set(0);
        // The look-up's own cost is the directory's; here it is a stored string in both cases.
        let stored = (phone.user == "alice").then(|| "0".repeat(64));
        let result = challenger.verify(NOW, &Method::Invite, &target(), &value, |_, _| stored);
        assert_eq!(result, Err(expected));
        HASHES.get()
    };
    let wrong = cost(Phone { password: "guess", ..Phone::default() }, AuthFailure::Wrong);
    let unknown = cost(Phone { user: "mallory", ..Phone::default() }, AuthFailure::UnknownUser);
    assert_eq!(wrong, unknown);
    assert!(wrong > 0);
    for failure in [AuthFailure::Wrong, AuthFailure::UnknownUser] {
        assert!(failure.is_guess() && !failure.is_stale());
    }
}

#[test]
fn the_secret_stand_in_of_unknown_users_is_not_accepted() {
    let mut challenger = challenger();
    let nonce = nonce(&mut challenger, NOW);
    let nobody = challenger.nobody[1].clone();
    let mut value = Phone { user: "ghost", ..Phone::default() }.answer(&nonce);
    let forged = Computation {
        choice: AlgorithmChoice { algorithm: Algorithm::Sha256, session: false },
        ha1: &nobody,
        nonce: &nonce,
        method: "INVITE",
        uri: "sip:+3225550001@example.org",
        protection: Protection::Auth { nc: "00000001", cnonce: "c0ffee" },
    }
    .response();
    let old = param(&value, "response").unwrap();
    value = value.replace(&old, &forged);
    assert_eq!(verify(&mut challenger, NOW, &value), Err(AuthFailure::UnknownUser));
}

#[test]
fn a_nonce_expires_and_says_so_only_to_who_knows_the_password() {
    let mut challenger = challenger();
    let nonce = nonce(&mut challenger, NOW);
    let right = Phone::default().answer(&nonce);
    let wrong = Phone { password: "guess", ..Phone::default() }.answer(&nonce);
    assert_eq!(verify(&mut challenger, NOW + 60_001, &right), Err(AuthFailure::Stale));
    assert_eq!(verify(&mut challenger, NOW + 60_001, &wrong), Err(AuthFailure::Wrong));
    assert!(AuthFailure::Stale.is_stale());
    assert!(verify(&mut challenger, NOW + 60_000, &right).is_ok());
}

#[test]
fn a_nonce_of_our_own_making_only_is_taken() {
    let mut challenger = challenger();
    let good = nonce(&mut challenger, NOW);
    let mut other = Challenger::new([8; 32], REALM, Duration::from_secs(60));
    let foreign = nonce(&mut other, NOW);
    let later = format!("{:016x}{}", NOW + 59_000, &good[16..]);
    let next = format!("{}{:016x}{}", &good[..16], 2, &good[32..]);
    let capitals = good.to_ascii_uppercase();
    assert_ne!(capitals, good);
    for forged in [foreign.as_str(), &later, &next, &capitals, "", "0", &good[..55], "é"] {
        let value = Phone::default().answer(forged);
        assert_eq!(verify(&mut challenger, NOW, &value), Err(AuthFailure::Stale), "{forged}");
    }
    assert!(verify(&mut challenger, NOW, &Phone::default().answer(&good)).is_ok());
}

#[test]
fn credentials_count_once_and_the_counter_goes_on() {
    let mut challenger = challenger();
    let nonce = nonce(&mut challenger, NOW);
    let nth = |nc| Phone { nc, ..Phone::default() }.answer(&nonce);
    assert!(verify(&mut challenger, NOW, &nth(1)).is_ok());
    assert_eq!(verify(&mut challenger, NOW, &nth(1)), Err(AuthFailure::Replayed));
    assert!(AuthFailure::Replayed.is_stale());
    // UDP may let one request overtake another.
    assert!(verify(&mut challenger, NOW, &nth(3)).is_ok());
    assert!(verify(&mut challenger, NOW, &nth(2)).is_ok());
    assert_eq!(verify(&mut challenger, NOW, &nth(3)), Err(AuthFailure::Replayed));
    assert_eq!(verify(&mut challenger, NOW, &nth(0)), Err(AuthFailure::Malformed));
}

#[test]
fn failed_tries_take_no_memory_and_expired_nonces_give_theirs_back() {
    let mut challenger = challenger();
    for n in 0..100 {
        let nonce = nonce(&mut challenger, NOW + n);
        let wrong = Phone { password: "guess", ..Phone::default() }.answer(&nonce);
        assert!(verify(&mut challenger, NOW + n, &wrong).is_err());
    }
    assert_eq!(challenger.remembered(), 0);
    for n in 0..100 {
        let nonce = nonce(&mut challenger, NOW + n);
        assert!(verify(&mut challenger, NOW + n, &Phone::default().answer(&nonce)).is_ok());
    }
    assert_eq!(challenger.remembered(), 100);
    let late = NOW + 120_000;
    let nonce = nonce(&mut challenger, late);
    assert!(verify(&mut challenger, late, &Phone::default().answer(&nonce)).is_ok());
    assert_eq!(challenger.remembered(), 1);
}

#[test]
fn two_phones_challenged_in_the_same_millisecond_do_not_replay_each_other() {
    let mut challenger = challenger();
    let nonces = [nonce(&mut challenger, NOW), nonce(&mut challenger, NOW)];
    assert_ne!(nonces[0], nonces[1]);
    for nonce in nonces {
        assert!(verify(&mut challenger, NOW, &Phone::default().answer(&nonce)).is_ok());
    }
}

#[test]
fn a_clock_that_jumps_costs_at_most_one_more_challenge() {
    for jump in [-3_600_000, 3_600_000] {
        let mut challenger = challenger();
        let before = nonce(&mut challenger, NOW);
        assert!(verify(&mut challenger, NOW, &Phone::default().answer(&before)).is_ok());
        let second = Phone { nc: 2, ..Phone::default() }.answer(&before);
        assert_eq!(verify(&mut challenger, NOW + jump, &second), Err(AuthFailure::Stale));
        let after = nonce(&mut challenger, NOW + jump);
        assert!(verify(&mut challenger, NOW + jump, &Phone::default().answer(&after)).is_ok());
        // Back again: what was used stays used.
        let first = Phone::default().answer(&before);
        assert!(verify(&mut challenger, NOW, &first).is_err());
    }
}

#[test]
fn credentials_are_bound_to_the_request_uri_and_the_method() {
    let mut challenger = challenger();
    let nonce = nonce(&mut challenger, NOW);
    let value = Phone { uri: "sip:+3290012345@example.org", ..Phone::default() }.answer(&nonce);
    assert_eq!(verify(&mut challenger, NOW, &value), Err(AuthFailure::WrongUri));
    let value = Phone::default().answer(&nonce);
    let other = challenger.verify(NOW, &Method::Register, &target(), &value, users);
    assert_eq!(other, Err(AuthFailure::Wrong));
    for spelled in [
        "sip:+3225550001@EXAMPLE.org",
        "sip:+3225550001@example.org:5060",
        "sip:+3225550001@example.org;transport=tcp",
        "sip:%2B3225550001@example.org",
    ] {
        let nonce = self::nonce(&mut challenger, NOW);
        let value = Phone { uri: spelled, ..Phone::default() }.answer(&nonce);
        assert!(verify(&mut challenger, NOW, &value).is_ok(), "{spelled}");
    }
    for other in
        ["sips:+3225550001@example.org", "sip:example.org", "sip:+3225550001@example.org:5070", "", "*"]
    {
        let nonce = self::nonce(&mut challenger, NOW);
        let value = Phone { uri: other, ..Phone::default() }.answer(&nonce);
        assert_eq!(verify(&mut challenger, NOW, &value), Err(AuthFailure::WrongUri), "{other}");
    }
}

#[test]
fn what_can_not_be_read_is_malformed_and_another_realm_is_not_ours() {
    let mut challenger = challenger();
    let nonce = nonce(&mut challenger, NOW);
    let good = Phone::default().answer(&nonce);
    for (from, to, expected) in [
        ("username=", "user=", AuthFailure::Malformed),
        ("nonce=", "once=", AuthFailure::Malformed),
        (", uri=", ", url=", AuthFailure::Malformed),
        ("response=", "reply=", AuthFailure::Malformed),
        ("cnonce=", "conce=", AuthFailure::Malformed),
        ("nc=00000001", "nc=1", AuthFailure::Malformed),
        ("nc=00000001", "nc=+0000001", AuthFailure::Malformed),
        ("qop=auth", "qop=auth-int", AuthFailure::Malformed),
        ("realm=\"example.org\"", "realm=\"other.org\"", AuthFailure::UnknownRealm),
        ("SHA-256", "SHA-256-sess", AuthFailure::UnknownAlgorithm),
        ("SHA-256", "SHA-512-256", AuthFailure::UnknownAlgorithm),
        ("SHA-256", "MD4", AuthFailure::UnknownAlgorithm),
        ("Digest ", "Basic ", AuthFailure::Malformed),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert_eq!(verify(&mut challenger, NOW, &bad), Err(expected), "{to}");
    }
    assert!(verify(&mut challenger, NOW, &good).is_ok());
}

#[test]
fn a_phone_of_rfc_2069_may_use_a_nonce_once() {
    let mut challenger = challenger();
    let nonce = nonce(&mut challenger, NOW);
    let response = Computation {
        choice: AlgorithmChoice { algorithm: Algorithm::Md5, session: false },
        ha1: &ha1(Algorithm::Md5, "alice", REALM, "secret"),
        nonce: &nonce,
        method: "INVITE",
        uri: "sip:+3225550001@example.org",
        protection: Protection::None,
    }
    .response();
    let value = format!(
        "Digest username=\"alice\",realm=\"{REALM}\",nonce=\"{nonce}\",\
         uri=\"sip:+3225550001@example.org\",response=\"{response}\""
    );
    assert!(verify(&mut challenger, NOW, &value).is_ok());
    assert_eq!(verify(&mut challenger, NOW, &value), Err(AuthFailure::Replayed));
}

#[test]
fn a_request_may_carry_credentials_of_other_realms_beside_ours() {
    let mut challenger = challenger();
    let nonce = nonce(&mut challenger, NOW);
    let mut request = Request::new(Method::Invite, target());
    assert_eq!(challenger.verify_request(NOW, &request, users), Err(AuthFailure::Missing));
    request.headers.push(HeaderName::Authorization, "Bearer abc");
    assert_eq!(challenger.verify_request(NOW, &request, users), Err(AuthFailure::Malformed));
    let other = Phone::default().answer(&nonce).replace(REALM, "other.org");
    request.headers.push(HeaderName::Authorization, other);
    assert_eq!(challenger.verify_request(NOW, &request, users), Err(AuthFailure::UnknownRealm));
    request.headers.push(HeaderName::ProxyAuthorization, Phone::default().answer(&nonce));
    assert!(challenger.verify_request(NOW, &request, users).is_ok());
}
