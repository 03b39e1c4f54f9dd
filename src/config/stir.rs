//! The `[stir]` section: our signing identity, whose signatures are believed, and where certificates may come from.

use super::{
    problem::{Problem, Severity},
    source::{KeyLines, Section},
    trunk::some,
    values::word,
};
use crate::stir::io::{Files, LoadFault};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What becomes of the signed identities of a trunk's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StirVerify {
    /// Nobody looks at them.
    Off,
    /// They are checked; the call goes on, and the result goes with it.
    Mark,
    /// A call that does not pass is refused (RFC 8224 §6.2.2).
    Require,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StirConfig {
    /// The chain that we sign with, our own certificate first, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The URL under which the chain is published.
    pub x5u: Option<String>,
    /// Authorities that signers' certificates must lead to; `None`: nobody is believed.
    pub authorities: Option<PathBuf>,
    /// Hosts that certificates may be fetched from; empty: any host of the public Internet.
    pub hosts: Vec<String>,
    /// Authorities that vouch for those hosts; `None`: the system's.
    pub https_authorities: Option<PathBuf>,
    /// A certificate that is not here after this is not coming.
    pub fetch_timeout: Duration,
    /// How long a call that goes on anyway waits for its certificate.
    pub max_delay: Duration,
    /// How old a signature may be (RFC 8224 §6.2).
    pub freshness: Duration,
}

impl Default for StirConfig {
    fn default() -> StirConfig {
        StirConfig {
            certificate: None,
            key: None,
            x5u: None,
            authorities: None,
            hosts: Vec::new(),
            https_authorities: None,
            fetch_timeout: Duration::from_secs(3),
            // A caller does not notice it in the seconds that a call takes to ring.
            max_delay: Duration::from_secs(1),
            freshness: Duration::from_secs(60),
        }
    }
}

impl StirConfig {
    /// The files it names.
    pub fn files(&self) -> Files {
        Files {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            x5u: self.x5u.clone(),
            authorities: self.authorities.clone(),
        }
    }

    pub fn signs(&self) -> bool {
        self.certificate.is_some() && self.key.is_some() && self.x5u.is_some()
    }
}

pub(super) fn read(s: Section<'_>, base: &Path) -> StirConfig {
    let d = StirConfig::default();
    let path = |key| some(s.text_or(key, String::new())).map(|path| base.join(path));
    let ms = |key, default: Duration, range, meaning| {
        Duration::from_millis(s.number(key, default.as_millis() as u64, range, meaning))
    };
    let config = StirConfig {
        certificate: path("certificate"),
        key: path("key"),
        x5u: some(s.text_or("x5u", String::new())),
        authorities: path("ca"),
        hosts: s.values("fetch_hosts", d.hosts, host),
        https_authorities: path("fetch_ca"),
        fetch_timeout: ms("fetch_timeout_ms", d.fetch_timeout, 100..=30_000, "milliseconds a fetch may take"),
        max_delay: ms("max_delay_ms", d.max_delay, 0..=30_000, "milliseconds a call waits for a certificate"),
        freshness: Duration::from_secs(s.number(
            "freshness_seconds",
            d.freshness.as_secs(),
            1..=600,
            "seconds for which a signature is fresh",
        )),
    };
    let named = [&config.certificate, &config.key].map(Option::is_some);
    if named != [config.x5u.is_some(); 2] {
        s.error(
            s.span(),
            "stir needs all three to sign: certificate = \"stir/chain.pem\", key = \"stir/key.pem\" and \
             x5u = \"https://…\", where the chain is published; or none of them",
        );
    }
    s.finish();
    config
}

/// Rules between the section and one trunk.
pub(super) fn check_trunk(s: &Section<'_>, signs: bool, verify: StirVerify, stir: &StirConfig) {
    if signs && !stir.signs() {
        let message =
            "stir_sign = true needs [stir] certificate, key and x5u; write them, or stir_sign = false";
        s.error(s.place("stir_sign"), message);
    }
    match verify {
        StirVerify::Off => {}
        StirVerify::Mark | StirVerify::Require if stir.authorities.is_none() => s.error(
            s.place("stir_verify"),
            "stir_verify needs [stir] ca = \"stir/authorities.pem\", whose certificates are believed; \
             write it, or stir_verify = \"off\"",
        ),
        StirVerify::Mark | StirVerify::Require => {}
    }
}

pub(super) fn verify(text: &str) -> Result<StirVerify, String> {
    word(text, &[("off", StirVerify::Off), ("mark", StirVerify::Mark), ("require", StirVerify::Require)])
}

fn host(text: &str) -> Result<String, String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if !text.is_empty()
        && text.bytes().all(fine)
        && (!text.contains(':') || text.parse::<std::net::IpAddr>().is_ok())
    {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("\"{text}\" is no host; write its name or address alone, as \"cert.example.org\""))
    }
}

/// What is wrong with the files: keys that do not fit, certificates that have ended.
pub(super) fn files(path: &Path, config: &StirConfig, lines: &KeyLines) -> Vec<Problem> {
    let line = |key: &str| lines.get(&format!("stir.{key}")).copied();
    let now = crate::types::Now::read().unix_ms / 1_000;
    let loaded = crate::stir::io::load(&config.files(), now);
    let of_servers = config
        .https_authorities
        .as_deref()
        .map(|file| (file, crate::stir::io::Https::load(Some(file)).err()))
        .and_then(|(file, error)| error.map(|error| (file, error)));
    let mut problems = Vec::new();
    if loaded.as_ref().is_ok_and(|loaded| loaded.ended) {
        let message =
            "stir.certificate has ended: calls go unsigned; write the file of a valid chain".to_owned();
        let line = line("certificate");
        problems.push(Problem { severity: Severity::Warning, file: path.to_owned(), line, message });
    }
    if let Err(fault) = loaded {
        let (line, remedy) = match &fault {
            LoadFault::Certificate { .. } => {
                (line("certificate"), "write the file of a valid chain, our certificate first")
            }
            LoadFault::Key { .. } => {
                (line("key"), "write the file of the key that the certificate was made for")
            }
            LoadFault::Authorities { .. } => (line("ca"), "write a file of authorities' certificates in PEM"),
            LoadFault::X5u(_) => (
                line("x5u"),
                "write where the chain is published, as \"https://cert.example.org/shaken.pem\"",
            ),
            LoadFault::File { key, .. } => (line(key), "write the path of a file that can be read"),
        };
        problems.push(Problem::error(path, line, format!("{fault}; {remedy}")));
    }
    if let Some((file, error)) = of_servers {
        let message = format!(
            "stir.fetch_ca: {}: {error}; write a file of authorities' certificates in PEM",
            file.display()
        );
        problems.push(Problem::error(path, line("fetch_ca"), message));
    }
    problems
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    /// The problems of a text, without the file's name.
    fn problems(text: &str) -> Vec<String> {
        let read = Config::parse(Path::new("t.toml"), text, &|_| None);
        let told = |problem: &crate::config::Problem| problem.to_string().replacen("t.toml:", "", 1);
        read.err().iter().flatten().map(told).collect()
    }

    #[test]
    fn what_a_trunk_wants_and_the_section_lacks_is_said_at_its_line() {
        let trunk = "[[trunk]]\nname = \"a\"\nproxy = [\"a.example\"]\n";
        let found = problems(&format!("{trunk}stir_sign = true\nstir_verify = \"mark\"\n"));
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("4: error: stir_sign = true needs [stir] certificate, key and x5u"));
        assert!(found[1].starts_with("5: error: stir_verify needs [stir] ca"));
        let found = problems(&format!("{trunk}stir_verify = \"maybe\"\n"));
        assert!(found[0].contains("\"mark\""), "{found:#?}");
    }

    #[test]
    fn a_signing_identity_is_whole_and_hosts_are_hosts() {
        let found = problems("[stir]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n");
        assert!(found[0].starts_with("1: error: stir needs all three to sign"), "{found:#?}");
        for bad in ["https://cert.example.org", "cert.example.org:443", "a b", ""] {
            let found = problems(&format!("[stir]\nfetch_hosts = [\"{bad}\"]\n"));
            assert!(found[0].starts_with("2: error: "), "{bad}: {found:#?}");
        }
        assert!(problems("[stir]\nfetch_hosts = [\"Cert.Example.org\", \"2001:db8::1\"]\n").is_empty());
    }
}
