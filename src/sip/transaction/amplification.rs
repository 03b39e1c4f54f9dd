//! Nobody is made an amplifier of: an answer that costs no memory may be sent to a forged address, so it is at most
//! one and a half times as long as the request it answers.

use crate::sip::message::{HeaderName, Response};
use bytes::Bytes;

/// What may be left out of an answer, the least missed first.
const DISPENSABLE: [HeaderName; 6] = [
    HeaderName::AcceptLanguage,
    HeaderName::AcceptEncoding,
    HeaderName::Server,
    HeaderName::Supported,
    HeaderName::Accept,
    HeaderName::Allow,
];

/// The longest an answer to `received` octets may be.
pub fn bound(received: usize) -> usize {
    received + received / 2
}

/// The answer as it may go to somebody who has proven nothing with a request of `received` octets: whole, or without what
/// is not needed, or with one challenge in place of two. `None` where it is too long all the same.
pub(super) fn bounded(mut response: Response, received: usize) -> Option<Bytes> {
    let most = bound(received);
    let mut bytes = response.to_bytes();
    for name in DISPENSABLE {
        if bytes.len() <= most {
            return Some(bytes);
        }
        if response.headers.remove(&name) {
            bytes = response.to_bytes();
        }
    }
    for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
        let challenges: Vec<&str> = response.headers.all(&name).collect();
        if bytes.len() > most && challenges.len() > 1 {
            // The one that every device can answer.
            let md5 = challenges.iter().find(|challenge| challenge.contains("algorithm=MD5"));
            let kept = md5.unwrap_or(&challenges[0]).to_string();
            response.headers.set(name, kept);
            bytes = response.to_bytes();
        }
    }
    (bytes.len() <= most).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::{Method, Request};

    fn refusal() -> Response {
        let mut response =
            Response::to_request(&Request::new(Method::Register, "sip:a".parse().unwrap()), 401);
        for (name, value) in [
            (HeaderName::Via, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"),
            (HeaderName::Allow, "INVITE, ACK, BYE"),
            (HeaderName::WwwAuthenticate, "Digest realm=\"a\",algorithm=SHA-256"),
            (HeaderName::WwwAuthenticate, "Digest realm=\"a\",algorithm=MD5"),
            (HeaderName::Server, "Tandem"),
            (HeaderName::AcceptLanguage, "en"),
        ] {
            response.headers.push(name, value);
        }
        response
    }

    #[test]
    fn an_answer_loses_what_is_not_needed_until_it_is_short_enough_or_is_not_given() {
        let whole = refusal().to_bytes();
        let text = |received: usize| {
            bounded(refusal(), received).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        assert_eq!(bounded(refusal(), whole.len()), Some(whole.clone()));
        let mut before = whole.len() + 1;
        let mut steps = Vec::new();
        for received in (0..whole.len()).rev() {
            let Some(text) = text(received) else { break };
            assert!(text.len() <= received + received / 2);
            assert!(text.contains("algorithm=MD5") && text.contains("Via"));
            if text.len() < before {
                before = text.len();
                let has = |part: &str| text.contains(part);
                steps.push((has("Accept-Language"), has("Server"), has("Allow"), has("SHA-256")));
            }
        }
        assert_eq!(
            steps,
            [
                (true, true, true, true),
                (false, true, true, true),
                (false, false, true, true),
                (false, false, false, true),
                (false, false, false, false)
            ]
        );
        assert_eq!(text(60), None);
    }
}
