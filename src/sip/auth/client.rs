//! Answers the challenges of a far end for one leg or registration, and stops before it becomes a loop.

use super::digest::{Algorithm, AlgorithmChoice, Computation, DigestParams, Protection, ha1, quote};
use crate::sip::message::{HeaderName, Method, Request, Response, Typed, Uri};
use crate::types::Secret;
use std::fmt::Write;

/// What we prove ourselves with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: Secret,
}

/// Why a challenge is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefused {
    #[error("the far end asks for credentials without a challenge")]
    NoChallenge,
    #[error("the challenge uses a scheme or algorithm we don't know")]
    Unsupported,
    /// The same credentials must not be sent again (RFC 3261 §22.2).
    #[error("the far end refused our credentials")]
    Rejected,
    #[error("too many requests with credentials")]
    TooMany,
}

/// Challenges of one realm that are met before the far end is given up: the second is for a nonce that expired.
const MET_PER_REALM: u8 = 2;
/// Challenges to one request that are met in all, so that it is sent five times at most.
const MET: u8 = 4;
/// Proxies that may each ask for credentials of their own.
const MAX_REALMS: usize = 4;

/// One challenge, read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// `None` where the parameter was left out; then it is left out of the answer too.
    algorithm: Option<AlgorithmChoice>,
    quality: Quality,
    stale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// RFC 2069.
    None,
    Auth,
    /// The only protection offered covers the body.
    AuthInt,
}

impl Challenge {
    fn parse(value: &str) -> Option<Challenge> {
        let params = DigestParams::parse(value)?;
        let algorithm = match params.get("algorithm") {
            Some(name) => Some(AlgorithmChoice::parse(Some(name))?),
            None => None,
        };
        let offers = |qop: &str, wanted: &str| qop.split(',').any(|q| q.trim().eq_ignore_ascii_case(wanted));
        let quality = match params.get("qop") {
            None => Quality::None,
            Some(qop) if offers(qop, "auth") => Quality::Auth,
            Some(qop) if offers(qop, "auth-int") => Quality::AuthInt,
            // An empty value is met in the field and means none.
            Some(qop) if qop.trim().is_empty() => Quality::None,
            Some(_) => return None,
        };
        Some(Challenge {
            realm: params.get("realm")?.to_owned(),
            nonce: params.get("nonce")?.to_owned(),
            opaque: params.get("opaque").map(str::to_owned),
            algorithm,
            quality,
            stale: params.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    fn strength(&self) -> u8 {
        match self.algorithm.map_or(Algorithm::Md5, |choice| choice.algorithm) {
            Algorithm::Md5 => 0,
            // Some far ends that list both only know the first well; SHA-256 is what RFC 8760 asks for.
            Algorithm::Sha512_256 => 1,
            Algorithm::Sha256 => 2,
        }
    }

    fn answer(
        &self,
        credentials: &Credentials,
        method: &Method,
        uri: &str,
        nc: u32,
        cnonce: &str,
        body: &[u8],
    ) -> String {
        let choice = self.algorithm.unwrap_or(AlgorithmChoice { algorithm: Algorithm::Md5, session: false });
        let nc = format!("{nc:08x}");
        let protection = match self.quality {
            Quality::None => Protection::None,
            Quality::Auth => Protection::Auth { nc: &nc, cnonce },
            Quality::AuthInt => Protection::AuthInt { nc: &nc, cnonce, body },
        };
        let response = Computation {
            choice,
            ha1: &ha1(choice.algorithm, &credentials.user, &self.realm, credentials.password.expose()),
            nonce: &self.nonce,
            method: method.as_str(),
            uri,
            protection,
        }
        .response();
        let mut value = format!(
            "Digest username=\"{}\",realm=\"{}\",nonce=\"{}\",uri=\"{uri}\",response=\"{response}\"",
            quote(&credentials.user),
            quote(&self.realm),
            quote(&self.nonce),
        );
        // Writing to a String can't fail.
        if let Some(algorithm) = self.algorithm {
            let _ = write!(value, ",algorithm={algorithm}");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(value, ",opaque=\"{}\"", quote(opaque));
        }
        let _ = match self.quality {
            Quality::None => Ok(()),
            Quality::Auth => write!(value, ",qop=auth,nc={nc},cnonce=\"{cnonce}\""),
            Quality::AuthInt => write!(value, ",qop=auth-int,nc={nc},cnonce=\"{cnonce}\""),
        };
        value
    }
}

/// Answers the best of several challenges of one realm: the value for Authorization or Proxy-Authorization.
/// `cnonce` is random text without quotes; `nc` counts from 1 for each nonce.
pub fn answer<'a>(
    challenges: impl IntoIterator<Item = &'a str>,
    credentials: &Credentials,
    method: &Method,
    uri: &Uri,
    nc: u32,
    cnonce: &str,
    body: &[u8],
) -> Result<String, AuthRefused> {
    let mut challenges = challenges.into_iter().peekable();
    if challenges.peek().is_none() {
        return Err(AuthRefused::NoChallenge);
    }
    let best = best_of(challenges.filter_map(Challenge::parse)).ok_or(AuthRefused::Unsupported)?;
    Ok(best.answer(credentials, method, &uri.to_string(), nc, cnonce, body))
}

/// The strongest; of equals the first.
fn best_of(challenges: impl Iterator<Item = Challenge>) -> Option<Challenge> {
    challenges.reduce(|best, other| if other.strength() > best.strength() { other } else { best })
}

/// The challenges one far end gave us and what we owe it: credentials for the next request, and an end to
/// trying. Requests of one kind are counted apart from those of another: a BYE must get through whatever the call before
/// it was asked.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    credentials: Credentials,
    /// Challenges of any other realm are not answered.
    only_realm: Option<String>,
    realms: Vec<Realm>,
}

#[derive(Debug, Clone)]
struct Realm {
    /// True for 407: the answer goes to Proxy-Authorization.
    proxy: bool,
    challenge: Challenge,
    nc: u32,
    /// How many of its challenges to requests of a method were met since one was answered. A nonce from before that is
    /// no reason to refuse our credentials.
    met: Vec<(Method, u8)>,
}

impl Realm {
    fn met(&self, method: &Method) -> u8 {
        self.met.iter().find(|(known, _)| known == method).map_or(0, |(_, met)| *met)
    }

    fn note(&mut self, method: Method) {
        match self.met.iter_mut().find(|(known, _)| *known == method) {
            Some((_, met)) => *met += 1,
            None => self.met.push((method, 1)),
        }
    }
}

impl ClientAuth {
    pub fn new(credentials: Credentials) -> ClientAuth {
        ClientAuth { credentials, only_realm: None, realms: Vec::new() }
    }

    /// Answers challenges of this realm only; `None`: of any.
    pub fn only_realm(mut self, realm: Option<String>) -> ClientAuth {
        self.only_realm = realm;
        self
    }

    /// Puts credentials for every realm known so far on a request that is about to be sent.
    pub fn authorize(&mut self, request: &mut Request, cnonce: &str) {
        request.headers.remove(&HeaderName::Authorization);
        request.headers.remove(&HeaderName::ProxyAuthorization);
        let uri = request.uri.to_string();
        for realm in &mut self.realms {
            realm.nc = realm.nc.saturating_add(1);
            let (credentials, body) = (&self.credentials, &request.body);
            let value = realm.challenge.answer(credentials, &request.method, &uri, realm.nc, cnonce, body);
            let name = if realm.proxy { HeaderName::ProxyAuthorization } else { HeaderName::Authorization };
            request.headers.push(name, value);
        }
    }

    /// Takes a 401 or 407. `Ok` means: send the request again with the next CSeq after
    /// [`authorize`](Self::authorize). The caller has made sure that the response comes from the peer the
    /// credentials are for.
    pub fn challenged(&mut self, response: &Response) -> Result<(), AuthRefused> {
        let (field, proxy) = match response.status {
            407 => (HeaderName::ProxyAuthenticate, true),
            _ => (HeaderName::WwwAuthenticate, false),
        };
        let mut asked = false;
        let mut best: Vec<Challenge> = Vec::new();
        for value in response.headers.all(&field) {
            asked = true;
            let Some(challenge) = Challenge::parse(value) else { continue };
            if self.only_realm.as_ref().is_some_and(|realm| *realm != challenge.realm) {
                continue;
            }
            match best.iter_mut().find(|other| other.realm == challenge.realm) {
                Some(other) if challenge.strength() > other.strength() => *other = challenge,
                Some(_) => {}
                None => best.push(challenge),
            }
        }
        if !asked {
            return Err(AuthRefused::NoChallenge);
        }
        if best.is_empty() {
            return Err(AuthRefused::Unsupported);
        }
        // A response without CSeq is none to a request of ours.
        let method = response.cseq().map_err(|_| AuthRefused::NoChallenge)?.method;
        if self.realms.iter().map(|realm| realm.met(&method)).sum::<u8>() >= MET {
            return Err(AuthRefused::TooMany);
        }
        for challenge in best {
            let full = self.realms.len() >= MAX_REALMS;
            let known = self
                .realms
                .iter_mut()
                .find(|old| old.proxy == proxy && old.challenge.realm == challenge.realm);
            match known {
                Some(old) => {
                    let met = old.met(&method);
                    if met >= MET_PER_REALM {
                        return Err(AuthRefused::TooMany);
                    }
                    if met > 0 && !challenge.stale {
                        return Err(AuthRefused::Rejected);
                    }
                    if old.challenge.nonce != challenge.nonce {
                        old.nc = 0;
                    }
                    old.challenge = challenge;
                    old.note(method.clone());
                }
                None if full => return Err(AuthRefused::TooMany),
                None => self.realms.push(Realm { proxy, challenge, nc: 0, met: vec![(method.clone(), 1)] }),
            }
        }
        Ok(())
    }

    /// The far end took our credentials: counting starts anew, and the realms' nonces serve the next requests.
    pub fn succeeded(&mut self) {
        self.realms.iter_mut().for_each(|realm| realm.met = Vec::new());
    }

    /// A request of this method has an answer that is no challenge: the next of its kind may be challenged anew.
    pub fn answered(&mut self, method: &Method) {
        self.realms.iter_mut().for_each(|realm| realm.met.retain(|(known, _)| known != method));
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
