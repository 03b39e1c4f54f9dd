//! The users of the database in a file of `data_dir`: with it a gateway starts while the database is away.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{error::StoreError, users::StoredUser};
use crate::{
    access::{Credentials, User, UserSource},
    types::E164,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    version: u32,
    users: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    realm: String,
    ha1_md5: String,
    ha1_sha256: String,
    caller_ids: Vec<E164>,
    dids: Vec<E164>,
    account: String,
    max_calls: Option<u32>,
}

const VERSION: u32 = 1;

/// Writes the users, whole or not at all, for the gateway's eyes only.
///
/// # Errors
/// The file can't be written.
pub fn write_snapshot(path: &Path, users: &[StoredUser]) -> Result<(), StoreError> {
    let entries = users.iter().map(|StoredUser { user, realm }| Entry {
        name: user.name.to_string(),
        realm: realm.clone(),
        ha1_md5: user.credentials.md5.clone(),
        ha1_sha256: user.credentials.sha256.clone(),
        caller_ids: user.caller_ids.clone(),
        dids: user.dids.clone(),
        account: user.account.clone(),
        max_calls: user.max_calls,
    });
    let snapshot = Snapshot { version: VERSION, users: entries.collect() };
    let new = path.with_extension("new");
    let written = || -> io::Result<()> {
        let bytes = serde_json::to_vec(&snapshot)?;
        // A file left by a crash may have other rights.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    written().map_err(|error| StoreError::File(path.to_owned(), error.to_string()))
}

/// Reads the users of the last snapshot; none if there never was one.
///
/// # Errors
/// The file can't be read, or is not a snapshot.
pub fn read_snapshot(path: &Path) -> Result<Vec<StoredUser>, StoreError> {
    let failed = |error: String| StoreError::File(path.to_owned(), error);
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let snapshot: Snapshot = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    if snapshot.version != VERSION {
        return Err(failed(format!("version {} is not known", snapshot.version)));
    }
    let user = |entry: Entry| StoredUser {
        realm: entry.realm,
        user: User {
            name: entry.name.into(),
            credentials: Credentials { md5: entry.ha1_md5, sha256: entry.ha1_sha256 },
            caller_ids: entry.caller_ids,
            dids: entry.dids,
            account: entry.account,
            max_calls: entry.max_calls,
            place: Default::default(),
            source: UserSource::Database,
        },
    };
    Ok(snapshot.users.into_iter().map(user).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Secret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn users_come_back_as_they_were_and_the_file_is_private() {
        let folder = std::env::temp_dir().join(format!("tandem-snapshot-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("users.json");
        assert_eq!(read_snapshot(&path).unwrap(), []);
        let user = User {
            name: "alice".into(),
            credentials: Credentials::new("alice", "example.org", &Secret::new("secret")),
            caller_ids: vec!["+3225550001".parse().unwrap()],
            dids: Vec::new(),
            account: "default".into(),
            max_calls: Some(2),
            place: Default::default(),
            source: UserSource::Database,
        };
        let users = [StoredUser { user, realm: "example.org".into() }];
        write_snapshot(&path, &users).unwrap();
        write_snapshot(&path, &users).unwrap();
        assert_eq!(read_snapshot(&path).unwrap(), users);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "{}").unwrap();
        assert!(read_snapshot(&path).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
