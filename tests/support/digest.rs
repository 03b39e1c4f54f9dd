//! Checks a digest answer as the far end would (RFC 2617 §3.2.2.1, MD5 and qop=auth).

use md5::{Digest, Md5};

/// True if the value of an (Proxy-)Authorization field proves this password for `method`.
pub fn proves(field: &str, method: &str, password: &str) -> bool {
    let get = |name: &str| parameter(field, name);
    let (Some(user), Some(realm), Some(nonce), Some(uri)) =
        (get("username"), get("realm"), get("nonce"), get("uri"))
    else {
        return false;
    };
    let ha1 = md5(&format!("{user}:{realm}:{password}"));
    let ha2 = md5(&format!("{method}:{uri}"));
    let expected = match (get("qop"), get("nc"), get("cnonce")) {
        (Some(qop), Some(nc), Some(cnonce)) => md5(&format!("{ha1}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}")),
        _ => md5(&format!("{ha1}:{nonce}:{ha2}")),
    };
    get("response").is_some_and(|response| response.eq_ignore_ascii_case(&expected))
}

/// A parameter of a digest field, without its quotes.
pub fn parameter(field: &str, name: &str) -> Option<String> {
    let rest = field.trim().strip_prefix("Digest").unwrap_or(field);
    rest.split(',').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// What answers a challenge: the value of the Authorization field, with the given nonce count.
pub fn answer(challenge: &str, user: &str, password: &str, method: &str, uri: &str, count: u32) -> String {
    let realm = parameter(challenge, "realm").unwrap_or_default();
    let nonce = parameter(challenge, "nonce").unwrap_or_default();
    let nc = format!("{count:08x}");
    let ha1 = md5(&format!("{user}:{realm}:{password}"));
    let ha2 = md5(&format!("{method}:{uri}"));
    let response = md5(&format!("{ha1}:{nonce}:{nc}:0a4f113b:auth:{ha2}"));
    format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", \
         algorithm=MD5, qop=auth, nc={nc}, cnonce=\"0a4f113b\""
    )
}

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
