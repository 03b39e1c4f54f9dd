//! Who may ask: bearer tokens and their roles.

use super::{Problem, Shared};
use crate::config::AdminConfig;
use crate::types::Secret;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What a token allows. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything but whole phone numbers.
    Read,
    /// Sees numbers; hangs up, blocks, drains, reloads, changes the log level.
    Operate,
    /// Changes users too.
    Admin,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Read, Role::Operate, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

/// The tokens the API accepts. Only keyed hashes are kept.
#[derive(Clone, Default)]
pub struct Tokens {
    known: Vec<Token>,
}

#[derive(Clone)]
struct Token {
    name: String,
    role: Role,
    hash: [u8; 32],
}

/// Who sends a request; the audit log names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub token: String,
    pub role: Role,
}

impl Caller {
    /// Whole phone numbers take more than looking.
    pub fn sees_numbers(&self) -> bool {
        self.role >= Role::Operate
    }
}

impl Tokens {
    /// The tokens of the configuration, each called by its role.
    pub fn configured(config: &AdminConfig) -> Tokens {
        let tokens = [
            (&config.token, Role::Admin),
            (&config.operate_token, Role::Operate),
            (&config.read_token, Role::Read),
        ];
        Tokens::new(
            tokens.into_iter().filter_map(|(secret, role)| Some((role.as_str(), secret.as_ref()?, role))),
        )
    }

    /// Takes name, secret and role of each token. An empty secret would admit everybody and is left out.
    pub fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, &'a Secret, Role)>) -> Tokens {
        let known = tokens.into_iter().filter(|(_, secret, _)| !secret.expose().is_empty());
        let known = known.map(|(name, secret, role)| Token {
            name: name.to_owned(),
            role,
            hash: keyed(secret.expose()).finalize().into_bytes().into(),
        });
        Tokens { known: known.collect() }
    }

    /// Compares with every token, each in constant time, so that the time tells nothing of a near miss.
    fn find(&self, presented: &str) -> Option<Caller> {
        let presented = keyed(presented);
        self.known.iter().fold(None, |found, token| match presented.clone().verify_slice(&token.hash) {
            Ok(()) => Some(Caller { token: token.name.clone(), role: token.role }),
            Err(_) => found,
        })
    }
}

/// Hashing both sides makes their lengths equal; the key only has to differ from what others hash.
fn keyed(secret: &str) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(b"tandem admin token").expect("HMAC takes keys of any length");
    mac.update(secret.as_bytes());
    mac
}

/// Lets a request through whose token has at least `needed`, and notes the caller in its extensions.
pub(super) async fn guard(
    State((admin, needed)): State<(Shared, Role)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let presented =
        bearer(&request).ok_or_else(|| Problem::unauthenticated("send Authorization: Bearer TOKEN"))?;
    let caller =
        admin.tokens.find(presented).ok_or_else(|| Problem::unauthenticated("this token is not known"))?;
    if caller.role < needed {
        let (needed, has) = (needed.as_str(), caller.role.as_str());
        return Err(Problem::forbidden(format!("this needs the role {needed}, the token has {has}")));
    }
    if !request.method().is_safe() {
        let (method, path) = (request.method().as_str(), request.uri().path());
        tracing::info!(target: "tandem::audit", token = %caller.token, method, path, "admin request");
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// The scheme's name is case-insensitive (RFC 9110 §11.1).
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_whole_value_and_an_empty_one_never() {
        let (secret, empty) = (Secret::new("s3cret"), Secret::default());
        let tokens = Tokens::new([("ops", &secret, Role::Operate), ("unset", &empty, Role::Admin)]);
        assert_eq!(tokens.find("s3cret").map(|caller| caller.token), Some("ops".to_owned()));
        for wrong in ["", "s3cre", "s3cret ", "S3cret"] {
            assert_eq!(tokens.find(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_configured_token_has_its_role() {
        let config = AdminConfig {
            token: Some(Secret::new("a")),
            read_token: Some(Secret::new("r")),
            ..AdminConfig::default()
        };
        let tokens = Tokens::configured(&config);
        assert_eq!(tokens.find("a").map(|caller| caller.role), Some(Role::Admin));
        assert_eq!(tokens.find("r").map(|caller| caller.role), Some(Role::Read));
        assert_eq!(tokens.find("o"), None);
    }

    #[test]
    fn roles_include_those_below() {
        assert!(Role::Admin > Role::Operate && Role::Operate > Role::Read);
    }
}
