//! Keyed hashes that numbers are found by once they have lost their last digits.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::error::StoreError;
use crate::types::E164;

/// The keys of number hashes. With the key file and a shortened number the missing four digits can be tried out, so
/// the file is worth as much as the numbers.
pub struct NumberKeys {
    /// The last one hashes; all of them search.
    keys: Vec<Key>,
}

struct Key {
    id: String,
    secret: [u8; 32],
}

impl NumberKeys {
    /// Reads `path`: one key a line, `id` and 64 hexadecimal digits; a new last line rotates the key, and old lines keep
    /// old calls findable. A missing file is made with one random key, readable by its owner alone. Gateways that share
    /// a database share this file.
    ///
    /// # Errors
    /// The file can't be read or made, or a line is not a key.
    pub fn load(path: &Path) -> Result<NumberKeys, StoreError> {
        let failed = |error: std::io::Error| StoreError::File(path.to_owned(), error.to_string());
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = parse(line).ok_or_else(|| {
                let message = format!("line {}: write an id and 64 hexadecimal digits", number + 1);
                StoreError::File(path.to_owned(), message)
            })?;
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(StoreError::File(path.to_owned(), "no key in it".into()));
        }
        Ok(NumberKeys { keys })
    }

    /// The hash under the newest key: `id:hex`.
    pub fn hash(&self, number: &E164) -> Option<String> {
        self.keys.last().map(|key| key.hash(number))
    }

    /// The hashes under all keys, to search with.
    pub fn hashes(&self, number: &E164) -> Vec<String> {
        self.keys.iter().map(|key| key.hash(number)).collect()
    }

    /// What tells each key from another of the same name, without giving it away: (id, fingerprint).
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = (&str, String)> {
        self.keys.iter().map(|key| (key.id.as_str(), key.fingerprint()))
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> NumberKeys {
        NumberKeys { keys: vec![Key { id: "t1".into(), secret: [7; 32] }] }
    }
}

impl fmt::Debug for NumberKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl Key {
    fn hash(&self, number: &E164) -> String {
        format!("{}:{}", self.id, self.mac(number.as_str()))
    }

    fn fingerprint(&self) -> String {
        // No number begins with a letter, so that this is the hash of none.
        self.mac("fingerprint of a number key")
    }

    fn mac(&self, text: &str) -> String {
        // Any key length is valid for HMAC (RFC 2104 §2).
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else { return String::new() };
        mac.update(text.as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

fn parse(line: &str) -> Option<Key> {
    let (id, digits) = line.trim().split_once(char::is_whitespace)?;
    let digits = digits.trim();
    if digits.len() != 64 || !digits.is_ascii() || id.contains(':') {
        return None;
    }
    let mut secret = [0; 32];
    for (index, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(Key { id: id.to_owned(), secret })
}

fn create(path: &Path) -> std::io::Result<String> {
    let mut secret = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let text = format!("k1 {}\n", hex(&secret));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    // A key that a power cut takes would leave its hashes useless.
    file.sync_all()?;
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number() -> E164 {
        "+32470123456".parse().unwrap()
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("tandem-numbers-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn the_hash_depends_on_the_key_and_names_it() {
        let one = NumberKeys { keys: vec![parse(&format!("a {}", "01".repeat(32))).unwrap()] };
        let other = NumberKeys { keys: vec![parse(&format!("b {}", "02".repeat(32))).unwrap()] };
        let (a, b) = (one.hash(&number()).unwrap(), other.hash(&number()).unwrap());
        assert!(a.starts_with("a:") && b.starts_with("b:") && a[2..] != b[2..]);
        assert!(!a.contains("470"));
    }

    #[test]
    fn a_missing_file_is_made_once_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder("made");
        let path = folder.join("number.keys");
        let first = NumberKeys::load(&path).unwrap().hash(&number());
        assert_eq!(NumberKeys::load(&path).unwrap().hash(&number()), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn rotation_keeps_old_hashes_findable() {
        let folder = folder("rotated");
        let path = folder.join("number.keys");
        let old = NumberKeys::load(&path).unwrap().hash(&number()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}k2 {}\n", "ab".repeat(32))).unwrap();
        let rotated = NumberKeys::load(&path).unwrap();
        assert!(rotated.hash(&number()).unwrap().starts_with("k2:"));
        assert!(rotated.hashes(&number()).contains(&old));
        assert_eq!(format!("{rotated:?}"), r#"["k1", "k2"]"#, "no secret is printed");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_broken_line_is_named() {
        let folder = folder("broken");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("number.keys");
        fs::write(&path, format!("k1 {}\n\nk2 abc\n", "ab".repeat(32))).unwrap();
        let error = NumberKeys::load(&path).unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
        fs::write(&path, "").unwrap();
        assert!(NumberKeys::load(&path).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
