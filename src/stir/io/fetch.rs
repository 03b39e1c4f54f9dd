//! Fetches certificates over HTTPS, from where that is allowed, within a time and a size.

use crate::stir::http::{self, Document, HttpFault};
use crate::stir::url::{Hosts, Location};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where Debian and its like keep the system's authorities.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 4;

/// What was fetched.
pub type Fetched = Document;

/// Why nothing was.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    #[error("its place may not be asked")]
    NotAllowed,
    #[error("no answer in time")]
    TimedOut,
    #[error(transparent)]
    Http(#[from] HttpFault),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How servers of certificates prove themselves: as on the web.
#[derive(Clone)]
pub struct Https(TlsConnector);

impl Https {
    /// With the authorities of a file in PEM, or the system's.
    ///
    /// # Errors
    /// The file can't be read or holds no authority. A system without authorities is no error: only fetching fails.
    pub fn load(authorities: Option<&Path>) -> io::Result<Https> {
        let mut roots = RootCertStore::empty();
        let path = authorities.unwrap_or(Path::new(SYSTEM_AUTHORITIES));
        match CertificateDer::pem_file_iter(path) {
            Ok(certificates) => {
                roots.add_parsable_certificates(certificates.filter_map(Result::ok));
            }
            Err(error) if authorities.is_some() => return Err(io::Error::other(error)),
            Err(_) => {}
        }
        if authorities.is_some() && roots.is_empty() {
            return Err(io::Error::other("it holds no certificate of an authority"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Https(TlsConnector::from(Arc::new(config))))
    }
}

/// Fetches what a URL names. Redirections are not followed.
///
/// # Errors
/// As [`FetchFault`] says.
pub async fn fetch(
    url: &str,
    hosts: &Hosts,
    https: &Https,
    patience: Duration,
) -> Result<Fetched, FetchFault> {
    let location =
        Location::parse(url).filter(|location| hosts.allow(location)).ok_or(FetchFault::NotAllowed)?;
    let whole = async {
        let tcp = connect(&location, hosts).await?;
        let name = ServerName::try_from(location.host.clone()).map_err(io::Error::other)?;
        let mut stream = https.0.connect(name, tcp).await?;
        stream.write_all(http::request(&location).as_bytes()).await?;
        let mut bytes = Vec::with_capacity(8 * 1024);
        loop {
            let ended = match stream.read_buf(&mut bytes).await {
                Ok(0) => true,
                Ok(_) => false,
                // Many servers close without the farewell of TLS; a body that is cut short is found by its framing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => true,
                Err(error) => return Err(error.into()),
            };
            if let Some(document) = http::read(&bytes, ended)? {
                return Ok(document);
            }
        }
    };
    tokio::time::timeout(patience, whole).await.unwrap_or(Err(FetchFault::TimedOut))
}

/// Connects to an address that was looked at: a name could lead elsewhere the next time it is asked.
async fn connect(location: &Location, hosts: &Hosts) -> Result<TcpStream, FetchFault> {
    let found = tokio::net::lookup_host((location.host.as_str(), location.port)).await?;
    let allowed: Vec<SocketAddr> =
        found.filter(|address| hosts.allow_address(address.ip())).take(MOST_ADDRESSES).collect();
    let mut fault = FetchFault::NotAllowed;
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => fault = error.into(),
        }
    }
    Err(fault)
}
