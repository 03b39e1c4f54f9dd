//! Reads what the configuration names: our certificate and key, and the authorities that are believed.

use super::key::{Key, KeyFault};
use crate::stir::certificate::{Authorities, Certificate, CertificateFault};
use crate::stir::sign::Signer;
use crate::stir::url::Location;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which files; those that are not named are not needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Where the certificate is published.
    pub x5u: Option<String>,
    pub authorities: Option<PathBuf>,
}

/// What they hold.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// `None` where we do not sign.
    pub signer: Option<Signer>,
    pub authorities: Authorities,
    /// Our certificate has ended: calls go unsigned.
    pub ended: bool,
}

/// Why one of them can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadFault {
    #[error("stir.certificate: {path}: {fault}", path = .path.display())]
    Certificate { path: PathBuf, fault: CertificateFault },
    #[error("stir.key: {path}: {fault}", path = .path.display())]
    Key { path: PathBuf, fault: KeyFault },
    #[error("stir.ca: {path}: {fault}", path = .path.display())]
    Authorities { path: PathBuf, fault: CertificateFault },
    #[error("stir.{key}: {path}: {error}", path = .path.display())]
    File { key: &'static str, path: PathBuf, error: io::Error },
    #[error("stir.x5u: \"{0}\" is no https URL")]
    X5u(String),
}

/// Reads them all; `now` is in seconds since the epoch.
///
/// # Errors
/// The first that can't be used.
pub fn load(files: &Files, now: i64) -> Result<Loaded, LoadFault> {
    let mut loaded = Loaded::default();
    if let (Some(path), Some(key_path), Some(x5u)) = (&files.certificate, &files.key, &files.x5u) {
        if Location::parse(x5u).is_none() {
            return Err(LoadFault::X5u(x5u.clone()));
        }
        let of = |fault| LoadFault::Certificate { path: path.clone(), fault };
        let certificate = Certificate::read(&read("certificate", path)?).map_err(of)?;
        // One that has ended signs nothing any more, which is no reason to take no calls at all.
        if now < certificate.not_before {
            return Err(of(CertificateFault::Expired));
        }
        let key = Key::read(&read("key", key_path)?, &certificate)
            .map_err(|fault| LoadFault::Key { path: key_path.clone(), fault })?;
        loaded.ended = now > certificate.not_after;
        loaded.signer = Some(Signer::new(Arc::new(key), x5u.clone(), certificate.not_after));
    }
    if let Some(path) = &files.authorities {
        loaded.authorities = Authorities::read(&read("ca", path)?)
            .map_err(|fault| LoadFault::Authorities { path: path.clone(), fault })?;
    }
    Ok(loaded)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, LoadFault> {
    std::fs::read(path).map_err(|error| LoadFault::File { key, path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stir::certificate::tests::{Authority, NOW};
    use crate::stir::sign::Statement;
    use crate::types::Attestation;

    #[test]
    fn a_certificate_that_has_ended_signs_nothing_and_keeps_nobody_from_calling() {
        let folder = std::env::temp_dir().join(format!("tandem-stir-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        let with = |from: i64, until: i64| {
            let issued = Authority::new().issue_between(&[], from, until);
            std::fs::write(&certificate, issued.pem).unwrap();
            std::fs::write(&key, issued.key).unwrap();
            let x5u = Some("https://cert.example.org/a.pem".to_owned());
            load(
                &Files {
                    certificate: Some(certificate.clone()),
                    key: Some(key.clone()),
                    x5u,
                    authorities: None,
                },
                NOW,
            )
        };
        let signs = |loaded: &Loaded| {
            let statement = Statement {
                orig: "3225550001",
                dest: "33140000000",
                attestation: Attestation::A,
                origid: "a",
                iat: NOW,
            };
            loaded.signer.as_ref().and_then(|signer| signer.identity(statement)).is_some()
        };
        let good = with(NOW - 10, NOW + 10).unwrap();
        assert!(!good.ended && signs(&good));
        let ended = with(NOW - 10, NOW - 1).unwrap();
        assert!(ended.ended && !signs(&ended));
        assert!(with(NOW + 5, NOW + 10).is_err(), "one that has not begun is a mistake");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
