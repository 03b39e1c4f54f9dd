//! Fetches certificates over HTTPS, from where that is allowed, within a size (RFC 9110, RFC 9112).

use crate::stir::cache_control;
use crate::stir::url::{Hosts, Location};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where Debian and its like keep the system's authorities.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 4;
/// Longest document, in octets. A chain of four certificates has some 5 KB.
const LONGEST: usize = 64 * 1024;
/// Longest head of an answer.
const LONGEST_HEAD: usize = 16 * 1024;

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub body: Bytes,
    /// How long it may be kept (RFC 9111 §5.2.2.1).
    pub max_age: Option<Duration>,
}

/// Why nothing was.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    #[error("its place may not be asked")]
    NotAllowed,
    #[error("the DNS knows no address of its host")]
    Unknown,
    #[error("no answer in time")]
    TimedOut,
    /// Redirections too: whoever names a place is to name the right one.
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {LONGEST} octets")]
    TooLong,
    #[error("the answer is packed in a way that was not asked for")]
    Encoded,
    #[error("the answer is no HTTP: {0}")]
    Garbled(#[from] hyper::Error),
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

/// Fetches what a place holds, which `hosts` must have allowed, from one of the addresses that its name led to:
/// the name could lead elsewhere the next time it is asked. Redirections are not followed.
///
/// # Errors
/// As [`FetchFault`] says.
pub async fn fetch(
    location: &Location,
    addresses: &[IpAddr],
    hosts: &Hosts,
    https: &Https,
) -> Result<Fetched, FetchFault> {
    let tcp = connect(location, addresses, hosts).await?;
    let name = ServerName::try_from(location.host.clone()).map_err(io::Error::other)?;
    let stream = https.0.connect(name, tcp).await?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(LONGEST_HEAD).handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let answer = sender.send_request(request(location)?).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchFault::Status(answer.status()));
        }
        let headers = answer.headers();
        if headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
            return Err(FetchFault::Encoded);
        }
        let caching = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let max_age = caching.filter_map(cache_control::max_age).min();
        let body =
            Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| match error
                .downcast::<hyper::Error>()
            {
                Ok(error) => FetchFault::Garbled(*error),
                Err(error) if error.is::<LengthLimitError>() => FetchFault::TooLong,
                Err(error) => io::Error::other(error).into(),
            })?;
        Ok(Fetched { body: body.to_bytes(), max_age })
    };
    tokio::pin!(exchange);
    // The connection does the work of the exchange; what it meets, the exchange hears as well.
    tokio::select! {
        biased;
        fetched = &mut exchange => return fetched,
        _ = connection => {}
    }
    exchange.await
}

fn request(location: &Location) -> Result<Request<Empty<Bytes>>, FetchFault> {
    Request::get(&location.path)
        .header(header::HOST, location.authority())
        .header(header::ACCEPT, "application/pem-certificate-chain, application/x-pem-file, */*")
        .header(header::USER_AGENT, "Tandem")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        // A path that HTTP does not know.
        .map_err(|_| FetchFault::NotAllowed)
}

async fn connect(location: &Location, addresses: &[IpAddr], hosts: &Hosts) -> Result<TcpStream, FetchFault> {
    let allowed = addresses.iter().filter(|address| hosts.allow_address(**address)).take(MOST_ADDRESSES);
    let mut fault = FetchFault::NotAllowed;
    for address in allowed {
        match TcpStream::connect(SocketAddr::new(*address, location.port)).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => fault = error.into(),
        }
    }
    Err(fault)
}
