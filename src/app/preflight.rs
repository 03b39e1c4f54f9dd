//! What would keep a gateway from starting that a configuration alone does not show: its certificates and database URL.

use super::setup;
use crate::config::{Config, KeyLines, Loaded, Problem};
use crate::sip::io::{TlsError, check_tls};
use crate::store::Store;
use std::path::Path;

/// Everything that is wrong with a configuration, its dialplan and the files it names. Nothing is opened for writing
/// and nobody is asked.
pub fn check(path: &Path) -> Vec<Problem> {
    match Config::load(path) {
        Err(problems) => problems,
        Ok(Loaded { config, warnings, lines, .. }) => {
            let mut problems = warnings;
            problems.extend(certificates(path, &config, &lines));
            problems.extend(database(path, &config, &lines));
            problems
        }
    }
}

fn certificates(path: &Path, config: &Config, lines: &KeyLines) -> Option<Problem> {
    let error = check_tls(&setup::tls(config)).err()?;
    let tls = &config.tls;
    let named = |file: &Path| {
        [
            ("tls.certificate", &tls.certificate),
            ("tls.key", &tls.key),
            ("tls.ca", &tls.ca),
            ("tls.client_ca", &tls.client_ca),
        ]
        .into_iter()
        .find(|(_, set)| set.as_deref() == Some(file))
        .map_or("trunk.tls_ca", |(key, _)| key)
    };
    let (key, remedy) = match &error {
        TlsError::File { path, .. } => (named(path), "write a file in PEM format"),
        TlsError::NoCertificate(path) => (named(path), "write a file with -----BEGIN CERTIFICATE----- in it"),
        TlsError::Authority { path, .. } => (named(path), "write a file of authorities' certificates"),
        TlsError::Identity(..) => ("tls.key", "write the key that belongs to tls.certificate"),
        TlsError::ClientAuthorities { .. } => ("tls.client_ca", "write a file of authorities' certificates"),
        TlsError::Name(_) => ("trunk.tls_name", "write the name in the trunk's certificate"),
        TlsError::NoIdentity | TlsError::Library(_) => ("tls.certificate", "see [tls] in the example"),
    };
    Some(Problem::error(path, lines.get(key).copied(), format!("{key}: {error}; {remedy}")))
}

fn database(path: &Path, config: &Config, lines: &KeyLines) -> Option<Problem> {
    let error = Store::check_url(&config.database.url).err()?;
    let message =
        format!("{error}; write sqlite:FILE or postgres://user:password@host/name?sslmode=verify-full");
    Some(Problem::error(path, lines.get("database.url").copied(), message))
}
