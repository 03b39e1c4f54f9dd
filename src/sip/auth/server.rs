//! Challenges a far end and checks its credentials (RFC 3261 §22.4, RFC 7616 §3, RFC 8760).

use super::digest::{Algorithm, AlgorithmChoice, Computation, DigestParams, Protection, hex, quote};
use super::nonces::{NonceId, UsedNonces};
use crate::sip::message::{HeaderName, Method, Request, Scheme, Uri};
use crate::types::{HostPort, UnixMillis};
use hmac::{Hmac, Mac, digest::KeyInit};
use sha2::Sha256;
use std::time::Duration;

/// Who a request comes from, proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The user name as the credentials give it.
    pub user: String,
}

/// Why credentials were not taken. All of it is answered with a new challenge of the same form and size, so
/// that a far end can't tell an unknown user from a wrong password; the difference is for counters and bans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailure {
    #[error("no credentials for this realm")]
    Missing,
    #[error("the credentials can't be read or leave out what they need")]
    Malformed,
    #[error("the credentials are for another realm")]
    UnknownRealm,
    #[error("the credentials use an algorithm that was not offered")]
    UnknownAlgorithm,
    /// The password is right, the nonce is not ours or too old.
    #[error("the nonce has expired")]
    Stale,
    /// The password is right, the nonce was used with this counter before.
    #[error("the credentials were used before")]
    Replayed,
    /// The password is right, but the credentials were made for another request.
    #[error("the credentials were made for another Request-URI")]
    WrongUri,
    #[error("the password is wrong")]
    Wrong,
    #[error("there is no such user")]
    UnknownUser,
}

impl AuthFailure {
    /// True where the password was right: the next challenge says `stale=true`, and the far end tries again
    /// without asking its user (RFC 7616 §3.3).
    pub fn is_stale(self) -> bool {
        match self {
            AuthFailure::Stale | AuthFailure::Replayed => true,
            AuthFailure::Missing
            | AuthFailure::Malformed
            | AuthFailure::UnknownRealm
            | AuthFailure::UnknownAlgorithm
            | AuthFailure::WrongUri
            | AuthFailure::Wrong
            | AuthFailure::UnknownUser => false,
        }
    }

    /// True where somebody guessed: what a ban may count.
    pub fn is_guess(self) -> bool {
        match self {
            AuthFailure::Wrong | AuthFailure::UnknownUser => true,
            AuthFailure::Missing
            | AuthFailure::Malformed
            | AuthFailure::UnknownRealm
            | AuthFailure::UnknownAlgorithm
            | AuthFailure::Stale
            | AuthFailure::Replayed
            | AuthFailure::WrongUri => false,
        }
    }
}

/// Makes nonces and checks what comes back. A nonce costs no memory until somebody proves a password with it.
pub struct Challenger {
    key: Hmac<Sha256>,
    realm: String,
    lifetime_ms: i64,
    algorithms: Vec<Algorithm>,
    serial: u64,
    used: UsedNonces,
    /// What an unknown user's password is compared with, per algorithm, so that the work is the same.
    nobody: [String; 3],
}

/// SHA-256 belongs beside MD5 (RFC 8760 §2.3). MD5 stands first, since a far end that reads only the first challenge
/// is an old one (SIPp 3.6 gives up on SHA-256 there); one that knows SHA-256 reads them all.
const DEFAULT_ALGORITHMS: [Algorithm; 2] = [Algorithm::Md5, Algorithm::Sha256];
/// Users that may be at work with one nonce each before the oldest has to ask again: about 6 MB.
const REMEMBERED_NONCES: usize = 65_536;
/// 96 bits of HMAC can't be guessed within a nonce's life.
const MAC_BYTES: usize = 12;

impl Challenger {
    /// `secret` is random and new at each start: the counters used with a nonce don't outlive the process
    /// either. `lifetime` is how long a nonce is good.
    pub fn new(secret: [u8; 32], realm: &str, lifetime: Duration) -> Challenger {
        let nobody = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256]
            .map(|algorithm| algorithm.hash(&format!("nobody:{realm}:{}", hex(&secret))));
        // HMAC pads a short key with zeros (RFC 2104 §2); done here, it can't fail.
        let mut key = [0; 64];
        key[..32].copy_from_slice(&secret);
        Challenger {
            key: <Hmac<Sha256> as KeyInit>::new(&key.into()),
            realm: realm.to_owned(),
            lifetime_ms: lifetime.as_millis() as i64,
            algorithms: DEFAULT_ALGORITHMS.to_vec(),
            serial: 0,
            used: UsedNonces::new(REMEMBERED_NONCES),
            nobody,
        }
    }

    /// Offers these algorithms, in the order of preference, in place of MD5 and SHA-256. A far end should take the
    /// first it knows (RFC 8760 §2.4).
    pub fn with_algorithms(mut self, algorithms: &[Algorithm]) -> Challenger {
        self.algorithms = algorithms.to_vec();
        self
    }

    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Nonces whose counters are remembered; bounded.
    pub fn remembered(&self) -> usize {
        self.used.len()
    }

    /// The values of the WWW-Authenticate or Proxy-Authenticate fields of one 401 or 407, one field per algorithm.
    /// `stale` is [`AuthFailure::is_stale`].
    pub fn challenge(&mut self, now_unix_ms: UnixMillis, stale: bool) -> Vec<String> {
        self.serial += 1;
        let nonce = self.nonce(NonceId { serial: self.serial, made_at: now_unix_ms });
        let realm = quote(&self.realm);
        let stale = if stale { ",stale=true" } else { "" };
        self.algorithms
            .iter()
            .map(|algorithm| {
                format!(
                    "Digest realm=\"{realm}\",nonce=\"{nonce}\",algorithm={algorithm},qop=\"auth\"{stale}"
                )
            })
            .collect()
    }

    /// Checks the credentials a request carries for this realm in Authorization or Proxy-Authorization.
    /// See [`verify`](Self::verify).
    pub fn verify_request(
        &mut self,
        now_unix_ms: UnixMillis,
        request: &Request,
        lookup: impl FnOnce(&str, Algorithm) -> Option<String>,
    ) -> Result<Verified, AuthFailure> {
        let mut failure = AuthFailure::Missing;
        for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
            for value in request.headers.all(&name) {
                match DigestParams::parse(value) {
                    Some(params) if params.get("realm") == Some(&self.realm) => {
                        return self.check(now_unix_ms, &request.method, &request.uri, &params, lookup);
                    }
                    Some(_) => failure = AuthFailure::UnknownRealm,
                    None => failure = AuthFailure::Malformed,
                }
            }
        }
        Err(failure)
    }

    /// Checks one header value. `lookup` gives the stored HA1 of a user for an algorithm; it is called once
    /// for everything that can be read, and an unknown user costs what a wrong password costs.
    pub fn verify(
        &mut self,
        now_unix_ms: UnixMillis,
        method: &Method,
        request_uri: &Uri,
        header_value: &str,
        lookup: impl FnOnce(&str, Algorithm) -> Option<String>,
    ) -> Result<Verified, AuthFailure> {
        let params = DigestParams::parse(header_value).ok_or(AuthFailure::Malformed)?;
        self.check(now_unix_ms, method, request_uri, &params, lookup)
    }

    fn check(
        &mut self,
        now_unix_ms: UnixMillis,
        method: &Method,
        request_uri: &Uri,
        params: &DigestParams,
        lookup: impl FnOnce(&str, Algorithm) -> Option<String>,
    ) -> Result<Verified, AuthFailure> {
        let needed = |name: &str| params.get(name).ok_or(AuthFailure::Malformed);
        let user = needed("username")?;
        let (nonce, uri, response) = (needed("nonce")?, needed("uri")?, needed("response")?);
        if needed("realm")? != self.realm {
            return Err(AuthFailure::UnknownRealm);
        }
        let choice = AlgorithmChoice::parse(params.get("algorithm")).ok_or(AuthFailure::UnknownAlgorithm)?;
        if choice.session || !self.algorithms.contains(&choice.algorithm) {
            return Err(AuthFailure::UnknownAlgorithm);
        }
        let (protection, counter) = match params.get("qop") {
            // A far end of RFC 2069 has no counter: its nonce is good for one request.
            None => (Protection::None, 1),
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let (nc, cnonce) = (needed("nc")?, needed("cnonce")?);
                (Protection::Auth { nc, cnonce }, counter(nc).ok_or(AuthFailure::Malformed)?)
            }
            Some(_) => return Err(AuthFailure::Malformed),
        };

        let stored = lookup(user, choice.algorithm);
        let known = stored.is_some();
        let nobody = match choice.algorithm {
            Algorithm::Md5 => &self.nobody[0],
            Algorithm::Sha256 => &self.nobody[1],
            Algorithm::Sha512_256 => &self.nobody[2],
        };
        let ha1 = stored.as_deref().unwrap_or(nobody);
        let expected =
            Computation { choice, ha1, nonce, method: method.as_str(), uri, protection }.response();
        let right = equal_in_constant_time(&expected, response);
        let age = self.read_nonce(nonce).map(|id| (id, now_unix_ms.saturating_sub(id.made_at)));

        if !known {
            return Err(AuthFailure::UnknownUser);
        }
        if !right {
            return Err(AuthFailure::Wrong);
        }
        if !same_target(uri, request_uri) {
            return Err(AuthFailure::WrongUri);
        }
        let id = match age {
            // A clock that was set back makes nonces of the future; they age by the same measure.
            Some((id, age)) if age.saturating_abs() <= self.lifetime_ms => id,
            Some(_) | None => return Err(AuthFailure::Stale),
        };
        self.used.forget_before(now_unix_ms.saturating_sub(self.lifetime_ms));
        if !self.used.take(id, counter) {
            return Err(AuthFailure::Replayed);
        }
        Ok(Verified { user: user.to_owned() })
    }

    fn nonce(&self, id: NonceId) -> String {
        let mut mac = self.key.clone();
        mac.update(&id.made_at.to_be_bytes());
        mac.update(&id.serial.to_be_bytes());
        format!("{:016x}{:016x}{}", id.made_at, id.serial, hex(&mac.finalize().into_bytes()[..MAC_BYTES]))
    }

    /// Time and serial number of a nonce of ours; `None` for any other text.
    fn read_nonce(&self, nonce: &str) -> Option<NonceId> {
        if nonce.len() != 32 + 2 * MAC_BYTES || !nonce.is_ascii() {
            return None;
        }
        let made_at = u64::from_str_radix(&nonce[..16], 16).ok()? as i64;
        let serial = u64::from_str_radix(&nonce[16..32], 16).ok()?;
        let id = NonceId { serial, made_at };
        // Comparing the whole text leaves one spelling of each nonce: no capitals, no signs.
        equal_in_constant_time(&self.nonce(id), nonce).then_some(id)
    }
}

/// `nc-value = 8LHEX`, never zero (RFC 7616 §3.4).
fn counter(nc: &str) -> Option<u32> {
    let well_formed = nc.len() == 8 && nc.bytes().all(|b| b.is_ascii_hexdigit());
    well_formed.then(|| u32::from_str_radix(nc, 16).ok()).flatten().filter(|counter| *counter > 0)
}

fn equal_in_constant_time(expected: &str, given: &str) -> bool {
    expected.len() == given.len()
        && expected.bytes().zip(given.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// True if the `uri` of the credentials names what the request asks for (RFC 7616 §3.4.6). What decides where
/// a request goes must agree; parameters may differ, since phones leave them out of `uri`.
fn same_target(uri: &str, request_uri: &Uri) -> bool {
    let Ok(uri) = uri.parse::<Uri>() else { return false };
    let place = |uri: &Uri| HostPort {
        host: uri.host.host.to_ascii_lowercase(),
        port: uri.host.port.filter(|port| *port != if uri.scheme == Scheme::Sips { 5061 } else { 5060 }),
    };
    uri.scheme == request_uri.scheme && uri.user == request_uri.user && place(&uri) == place(request_uri)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
