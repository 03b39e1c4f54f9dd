//! The app users: who exists, what proves it, which numbers are theirs.

use crate::types::{E164, Place, Secret};
use md5::Md5;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt::{self, Write},
    sync::Arc,
};

/// What a user's password is kept as: never the password itself (RFC 7616 §3.4.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Lower-case hex of MD5(user:realm:password).
    pub md5: String,
    /// Lower-case hex of SHA-256(user:realm:password).
    pub sha256: String,
}

impl Credentials {
    pub fn new(user: &str, realm: &str, password: &Secret) -> Credentials {
        let text = format!("{user}:{realm}:{}", password.expose());
        Credentials { md5: hex(&Md5::digest(&text)), sha256: hex(&Sha256::digest(&text)) }
    }
}

/// An HA1 is as good as the password within its realm, so it is never printed.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where a user is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserSource {
    /// The configuration file: read-only.
    File,
    Database,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: Arc<str>,
    pub credentials: Credentials,
    /// Numbers it may present; the first is the default.
    pub caller_ids: Vec<E164>,
    /// Numbers that ring it.
    pub dids: Vec<E164>,
    pub account: String,
    /// Its own limit of calls at once.
    pub max_calls: Option<u32>,
    /// Where it is, for emergency calls whose device does not say; empty where nobody wrote it down.
    pub place: Place,
    pub source: UserSource,
}

/// Two users that can't both exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    #[error("user \"{0}\" exists in the configuration file and in the database; remove one of the two")]
    InBoth(String),
    #[error("user \"{0}\" exists twice; remove one of the two")]
    Twice(String),
    #[error("{did} rings \"{first}\" and \"{second}\"; a DID rings one user: remove it from one of them")]
    SharedDid { did: E164, first: String, second: String },
}

/// All app users. It is replaced as a whole on a change.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    users: HashMap<Arc<str>, Arc<User>>,
    dids: HashMap<E164, Arc<str>>,
}

impl Directory {
    /// # Errors
    /// Every name and DID that more than one user has. What is right is in the directory beside them: the first
    /// user of a name or DID wins, and those of the file come first.
    pub fn new(users: impl IntoIterator<Item = User>) -> (Directory, Vec<DirectoryError>) {
        let mut users: Vec<User> = users.into_iter().collect();
        users.sort_by_key(|user| match user.source {
            UserSource::File => 0,
            UserSource::Database => 1,
        });
        let mut directory = Directory::default();
        let mut errors = Vec::new();
        for user in users {
            if let Some(known) = directory.users.get(&user.name) {
                let name = user.name.to_string();
                errors.push(if known.source == user.source {
                    DirectoryError::Twice(name)
                } else {
                    DirectoryError::InBoth(name)
                });
                continue;
            }
            for did in &user.dids {
                match directory.dids.get(did) {
                    Some(first) if *first != user.name => errors.push(DirectoryError::SharedDid {
                        did: did.clone(),
                        first: first.to_string(),
                        second: user.name.to_string(),
                    }),
                    Some(_) => {}
                    None => {
                        directory.dids.insert(did.clone(), user.name.clone());
                    }
                }
            }
            directory.users.insert(user.name.clone(), Arc::new(user));
        }
        (directory, errors)
    }

    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// The user a DID rings.
    pub fn by_did(&self, did: &E164) -> Option<&Arc<User>> {
        self.dids.get(did).and_then(|name| self.users.get(name))
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// All users by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        let mut users: Vec<&Arc<User>> = self.users.values().collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, dids: &[&str], source: UserSource) -> User {
        User {
            name: name.into(),
            credentials: Credentials::new(name, "example.org", &Secret::new("secret")),
            caller_ids: Vec::new(),
            dids: dids.iter().map(|did| did.parse().unwrap()).collect(),
            account: "default".into(),
            max_calls: None,
            place: Place::default(),
            source,
        }
    }

    #[test]
    fn ha1_is_that_of_the_rfcs_examples() {
        // RFC 2617 §3.5 (MD5) and RFC 7616 §3.9.1 (both).
        let old = Credentials::new("Mufasa", "testrealm@host.com", &Secret::new("Circle Of Life"));
        assert_eq!(old.md5, "939e7578ed9e3c518a452acee763bce9");
        let new = Credentials::new("Mufasa", "http-auth@example.org", &Secret::new("Circle of Life"));
        assert_eq!(new.md5, "3d78807defe7de2157e2b0b6573a855f");
        assert_eq!(new.sha256, "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232");
        assert_eq!(format!("{new:?}"), "Credentials(…)");
    }

    #[test]
    fn users_are_found_by_name_and_by_did() {
        let (directory, errors) = Directory::new([user("alice", &["+3225550001"], UserSource::File)]);
        assert!(errors.is_empty());
        assert_eq!(&*directory.get("alice").unwrap().name, "alice");
        assert_eq!(&*directory.by_did(&"+3225550001".parse().unwrap()).unwrap().name, "alice");
        assert!(directory.get("Alice").is_none(), "user parts are case-sensitive (RFC 3261 §19.1.4)");
    }

    #[test]
    fn a_name_in_file_and_database_is_an_error_and_the_file_wins() {
        let database = User { account: "other".into(), ..user("alice", &[], UserSource::Database) };
        let (directory, errors) = Directory::new([database, user("alice", &[], UserSource::File)]);
        assert_eq!(errors, [DirectoryError::InBoth("alice".into())]);
        assert_eq!(directory.get("alice").unwrap().account, "default");
    }

    #[test]
    fn a_did_rings_one_user() {
        let (directory, errors) = Directory::new([
            user("alice", &["+3225550001", "+3225550001"], UserSource::File),
            user("bob", &["+3225550001"], UserSource::Database),
        ]);
        assert!(
            matches!(&errors[..], [DirectoryError::SharedDid { first, second, .. }] if first == "alice" && second == "bob")
        );
        assert_eq!(&*directory.by_did(&"+3225550001".parse().unwrap()).unwrap().name, "alice");
        assert_eq!(directory.len(), 2);
    }
}
