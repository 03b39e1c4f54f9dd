//! What we answer to a far end's challenges, and when we stop.

use super::super::server::Challenger;
use super::*;
use std::time::Duration;

fn credentials() -> Credentials {
    Credentials { user: "gw".into(), password: Secret::new("pa\"ss") }
}

fn invite() -> Request {
    request(Method::Invite)
}

fn request(method: Method) -> Request {
    let cseq = format!("1 {method}");
    let uri = Uri::parse("sip:+3225550001@sbc.example:5080").unwrap();
    Request::new(method, uri).with_header(HeaderName::CSeq, cseq)
}

fn challenge(status: u16, values: &[&str]) -> Response {
    challenge_to(&invite(), status, values)
}

fn challenge_to(request: &Request, status: u16, values: &[&str]) -> Response {
    let name = if status == 407 { HeaderName::ProxyAuthenticate } else { HeaderName::WwwAuthenticate };
    let mut response = Response::to_request(request, status);
    values.iter().for_each(|value| response.headers.push(name.clone(), *value));
    response
}

fn value<'a>(request: &'a Request, name: &HeaderName) -> &'a str {
    assert_eq!(request.headers.all(name).count(), 1);
    request.headers.get(name).unwrap()
}

#[test]
fn the_example_of_rfc_7616_section_3_9_1_is_answered_with_sha_256() {
    let md5 = r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5,
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
        .replace('\n', " ");
    let sha = md5.replace("MD5", "SHA-256");
    let credentials = Credentials { user: "Mufasa".into(), password: Secret::new("Circle of Life") };
    let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    let get = Method::Other("GET".into());
    // The URI of the example is no SIP URI, so the computation below the header is asked.
    for (challenges, response) in [
        (vec![md5.as_str(), &sha], "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        (vec![md5.as_str()], "8ca523f5e9506fed4657c9700eebdbec"),
    ] {
        let best = best_of(challenges.into_iter().filter_map(Challenge::parse)).unwrap();
        let answer = best.answer(&credentials, &get, "/dir/index.html", 1, cnonce, b"");
        let params = DigestParams::parse(&answer).unwrap();
        assert_eq!(params.get("response"), Some(response));
        assert_eq!(params.get("opaque"), Some("FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"));
        assert_eq!((params.get("nc"), params.get("qop")), (Some("00000001"), Some("auth")));
    }
}

#[test]
fn our_own_challenger_takes_our_answers() {
    let mut challenger = Challenger::new([1; 32], "sbc \"one\"", Duration::from_secs(60));
    let mut used = Vec::new();
    for offer in [2, 1] {
        let challenges = challenger.challenge(0, false);
        let offered: Vec<_> = challenges[..offer].iter().map(String::as_str).collect();
        let mut auth = ClientAuth::new(credentials());
        auth.challenged(&challenge(407, &offered)).unwrap();
        for cnonce in ["abc", "def"] {
            let mut request = invite();
            auth.authorize(&mut request, cnonce);
            let verified = challenger.verify_request(0, &request, |user, algorithm| {
                used.push(algorithm);
                (user == "gw").then(|| ha1(algorithm, "gw", "sbc \"one\"", "pa\"ss"))
            });
            assert!(verified.is_ok(), "{verified:?}");
        }
    }
    assert_eq!(used, [Algorithm::Sha256, Algorithm::Sha256, Algorithm::Md5, Algorithm::Md5]);
}

#[test]
fn a_401_is_answered_in_authorization_and_a_407_in_proxy_authorization() {
    let mut auth = ClientAuth::new(credentials());
    auth.challenged(&challenge(401, &[r#"Digest realm="a", nonce="n1""#])).unwrap();
    let mut request = invite();
    auth.authorize(&mut request, "abc");
    let answer = value(&request, &HeaderName::Authorization).to_owned();
    assert!(!request.headers.contains(&HeaderName::ProxyAuthorization));
    // A challenge of RFC 2069: no qop, no nc, no cnonce, no algorithm.
    for absent in ["qop", "nc", "cnonce", "algorithm", "opaque"] {
        assert_eq!(DigestParams::parse(&answer).unwrap().get(absent), None, "{absent}");
    }
    assert!(answer.contains("uri=\"sip:+3225550001@sbc.example:5080\""), "{answer}");

    // The proxy on the way asks as well: both answers go on the next request.
    auth.challenged(&challenge(407, &[r#"Digest realm="p", nonce="n2", qop="auth", algorithm=MD5"#]))
        .unwrap();
    auth.authorize(&mut request, "def");
    value(&request, &HeaderName::Authorization);
    assert!(value(&request, &HeaderName::ProxyAuthorization).contains("realm=\"p\""));
}

#[test]
fn refused_credentials_are_not_sent_again() {
    let mut auth = ClientAuth::new(credentials());
    auth.challenged(&challenge(401, &[r#"Digest realm="a", nonce="n1""#])).unwrap();
    auth.authorize(&mut invite(), "x");
    let again = challenge(401, &[r#"Digest realm="a", nonce="n2""#]);
    assert_eq!(auth.challenged(&again), Err(AuthRefused::Rejected));
}

#[test]
fn a_stale_nonce_is_answered_once_more_and_no_further() {
    let mut auth = ClientAuth::new(credentials());
    let stale =
        |n: u32| challenge(401, &[&format!(r#"Digest realm="a", nonce="n{n}", stale=TRUE, qop="auth""#)]);
    auth.challenged(&stale(1)).unwrap();
    auth.authorize(&mut invite(), "x");
    auth.challenged(&stale(2)).unwrap();
    let mut request = invite();
    auth.authorize(&mut request, "x");
    let answer = value(&request, &HeaderName::Authorization);
    assert!(answer.contains("nonce=\"n2\"") && answer.contains("nc=00000001"), "{answer}");
    assert_eq!(
        auth.challenged(&stale(3)),
        Err(AuthRefused::TooMany),
        "two requests with credentials per realm"
    );
}

#[test]
fn requests_that_nobody_challenged_use_nothing_up() {
    let mut auth = ClientAuth::new(credentials());
    (0..20).for_each(|_| auth.authorize(&mut invite(), "x"));
    auth.challenged(&challenge(401, &[r#"Digest realm="a", nonce="n1""#])).unwrap();
}

#[test]
fn each_kind_of_request_is_counted_by_itself_until_it_is_answered() {
    let stale = |method, n: u32| {
        let value = format!(r#"Digest realm="a", nonce="n{n}", stale=true, qop="auth""#);
        challenge_to(&request(method), 401, &[&value])
    };
    let mut auth = ClientAuth::new(credentials());
    for n in [1, 2] {
        auth.challenged(&stale(Method::Update, n)).unwrap();
    }
    assert_eq!(auth.challenged(&stale(Method::Update, 3)), Err(AuthRefused::TooMany));
    // The BYE has its own tries, and the nonce that is known.
    auth.challenged(&stale(Method::Bye, 4)).unwrap();
    let mut bye = request(Method::Bye);
    auth.authorize(&mut bye, "x");
    assert!(value(&bye, &HeaderName::Authorization).contains("nonce=\"n4\""));
    auth.answered(&Method::Bye);
    assert_eq!(auth.challenged(&stale(Method::Update, 5)), Err(AuthRefused::TooMany));
    auth.answered(&Method::Update);
    assert_eq!(auth.challenged(&stale(Method::Update, 6)), Ok(()));
}

#[test]
fn a_loop_of_realms_ends() {
    let mut auth = ClientAuth::new(credentials());
    let mut sent = 0;
    for n in 0..100 {
        auth.authorize(&mut invite(), "x");
        sent += 1;
        if auth.challenged(&challenge(407, &[&format!(r#"Digest realm="r{n}", nonce="n""#)])).is_err() {
            break;
        }
    }
    assert!(sent <= 5, "{sent}");
}

#[test]
fn after_a_success_the_nonce_serves_on_with_a_growing_counter_until_it_is_refused() {
    let mut auth = ClientAuth::new(credentials());
    auth.challenged(&challenge(401, &[r#"Digest realm="a", nonce="n1", qop="auth""#])).unwrap();
    for n in 1..=20 {
        let mut request = invite();
        auth.authorize(&mut request, "x");
        assert!(value(&request, &HeaderName::Authorization).contains(&format!("nc={n:08x}")));
        auth.succeeded();
    }
    // Many registrars forget nonces and never say stale: that is no refusal of the password.
    auth.authorize(&mut invite(), "x");
    let fresh = challenge(401, &[r#"Digest realm="a", nonce="n2", qop="auth""#]);
    assert_eq!(auth.challenged(&fresh), Ok(()));
    auth.authorize(&mut invite(), "x");
    assert!(auth.challenged(&fresh).is_err());
}

#[test]
fn what_we_can_not_answer_is_refused() {
    let refused = |values: &[&str]| ClientAuth::new(credentials()).challenged(&challenge(401, values));
    assert_eq!(refused(&[]), Err(AuthRefused::NoChallenge));
    for unsupported in [
        "Basic realm=\"a\"",
        "Digest realm=\"a\"",
        "Digest nonce=\"n\"",
        "Digest realm=\"a\", nonce=\"n\", algorithm=AKAv1-MD5",
        "Digest realm=\"a\", nonce=\"n\", qop=\"future\"",
    ] {
        assert_eq!(refused(&[unsupported]), Err(AuthRefused::Unsupported), "{unsupported}");
    }
    assert_eq!(refused(&["Basic realm=\"a\"", "Digest realm=\"a\", nonce=\"n\""]), Ok(()));
}

#[test]
fn a_nonce_can_not_break_out_of_its_quotes() {
    let evil = r#"Digest realm="a\"b", nonce="n\", uri=\"sip:evil", opaque="o\\""#;
    let uri = Uri::parse("sip:bob@example.org").unwrap();
    let answer = answer([evil], &credentials(), &Method::Bye, &uri, 1, "x", b"").unwrap();
    let params = DigestParams::parse(&answer).unwrap();
    assert_eq!(params.get("uri"), Some("sip:bob@example.org"));
    assert_eq!(params.get("realm"), Some("a\"b"));
    assert_eq!(params.get("nonce"), Some("n\", uri=\"sip:evil"));
    assert_eq!(params.get("opaque"), Some("o\\"));
}

#[test]
fn where_only_auth_int_is_offered_the_body_is_covered() {
    let only = r#"Digest realm="a", nonce="n", qop="auth-int", algorithm=SHA-256"#;
    let uri = Uri::parse("sip:bob@example.org").unwrap();
    let with = |body: &[u8]| {
        let answer = answer([only], &credentials(), &Method::Invite, &uri, 1, "x", body).unwrap();
        DigestParams::parse(&answer).unwrap().get("response").unwrap().to_owned()
    };
    assert_ne!(with(b"one"), with(b"two"));
}
