//! TLS of both roles: certificates, authorities, names (RFC 5922), read again without touching open connections.

use super::certificate;
use crate::types::Peer;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Where Debian and its like keep the system's authorities.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Our certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// How the far end of connections that we open under a name is checked, where it differs from the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsTrust {
    pub name: String,
    /// Authorities for this name alone; `None`: [`TlsSettings::authorities`].
    pub authorities: Option<PathBuf>,
    /// False accepts any certificate: the connection is private, but to whom is unknown.
    pub verify: bool,
}

/// All that TLS needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Shown to those who connect to us, and to those we connect to where they ask for it.
    pub identity: Option<Identity>,
    /// Authorities that certificates of those we connect to are checked against; `None`: the system's.
    pub authorities: Option<PathBuf>,
    pub trusts: Vec<TlsTrust>,
    /// Authorities of client certificates. With it those who connect to us are asked for one; they may have none,
    /// but a wrong one ends the handshake.
    pub client_authorities: Option<PathBuf>,
    /// Names looked for in client certificates.
    pub client_names: Vec<String>,
}

/// What keeps TLS from being set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("can't read {path}: {source}", path = .path.display())]
    File { path: PathBuf, source: pem::Error },
    #[error("{path} holds no certificate", path = .0.display())]
    NoCertificate(PathBuf),
    #[error("{path} holds a certificate that can't be used as an authority: {source}", path = .path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    #[error("certificate {certificate} with key {key} can't be used: {source}", certificate = .0.certificate.display(), key = .0.key.display(), source = .1)]
    Identity(Identity, rustls::Error),
    #[error("client authorities {path} can't be used: {source}", path = .path.display())]
    ClientAuthorities { path: PathBuf, source: rustls::server::VerifierBuilderError },
    #[error("\"{0}\" is not a host name or address")]
    Name(String),
    #[error("a TLS listener needs a certificate and a key")]
    NoIdentity,
    #[error("TLS library: {0}")]
    Library(#[from] rustls::Error),
}

/// Whether these settings and their files would do for handshakes.
///
/// # Errors
/// What is wrong with the first that would not.
pub fn check_tls(settings: &TlsSettings) -> Result<(), TlsError> {
    TlsContext::load(settings).map(drop)
}

/// Everything read and checked, for handshakes to come.
pub(super) struct TlsContext {
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
    clients: HashMap<String, Arc<ClientConfig>>,
    client_names: Vec<(String, ServerName<'static>)>,
}

impl TlsContext {
    pub(super) fn load(settings: &TlsSettings) -> Result<TlsContext, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = settings.identity.as_ref().map(LoadedIdentity::load).transpose()?;
        let authorities = Arc::new(match &settings.authorities {
            Some(path) => authorities(path)?,
            None => system_authorities(),
        });
        let client = |roots, verify| client_config(&provider, roots, verify, identity.as_ref());
        let mut clients = HashMap::new();
        for trust in &settings.trusts {
            let roots = match &trust.authorities {
                Some(path) => Arc::new(self::authorities(path)?),
                None => Arc::clone(&authorities),
            };
            server_name(&trust.name)?;
            clients.insert(trust.name.to_ascii_lowercase(), client(roots, trust.verify)?);
        }
        let named = |name: &String| Ok((name.clone(), server_name(name)?));
        Ok(TlsContext {
            server: match &identity {
                Some(identity) => Some(server_config(&provider, settings, identity)?),
                None => None,
            },
            client: client(authorities, true)?,
            clients,
            client_names: settings.client_names.iter().map(named).collect::<Result<_, TlsError>>()?,
        })
    }

    pub(super) fn can_accept(&self) -> bool {
        self.server.is_some()
    }

    /// Shakes hands with one who connected to us. Gives the names asked for that its certificate carries.
    pub(super) async fn accept(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, Arc<[String]>)> {
        let server = self.server.clone().ok_or(io::ErrorKind::Unsupported)?;
        let stream = TlsAcceptor::from(server).accept(tcp).await?;
        // The chain has been checked in the handshake; here the names are.
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let names = certificate.map_or_else(Arc::default, |certificate| {
            let carried = self.client_names.iter().filter(|(_, name)| certificate::names(certificate, name));
            carried.map(|(text, _)| text.clone()).collect()
        });
        Ok((TlsStream::Server(stream), names))
    }

    /// Shakes hands with one we connected to: its chain and its name are checked (RFC 5922 §7.1, §7.3).
    pub(super) async fn connect(
        &self,
        tcp: TcpStream,
        peer: &Peer,
    ) -> io::Result<(TlsStream<TcpStream>, Arc<[String]>)> {
        let text = match &peer.tls_name {
            Some(name) => name.to_string(),
            None => peer.remote.ip().to_string(),
        };
        let name = server_name(&text).map_err(io::Error::other)?;
        let special = self.clients.get(&text.to_ascii_lowercase());
        let config = Arc::clone(special.unwrap_or(&self.client));
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        Ok((TlsStream::Client(stream), Arc::from([text])))
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(text.to_owned()).map_err(|_| TlsError::Name(text.to_owned()))
}

struct LoadedIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: Identity,
}

impl LoadedIdentity {
    fn load(files: &Identity) -> Result<LoadedIdentity, TlsError> {
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|source| TlsError::File { path: files.key.clone(), source })?;
        Ok(LoadedIdentity { chain, key, files: files.clone() })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

/// A system without authorities is no error: only connections that need them fail.
fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if let Ok(certificates) = certificates(Path::new(SYSTEM_AUTHORITIES)) {
        roots.add_parsable_certificates(certificates);
    }
    roots
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    settings: &TlsSettings,
    identity: &LoadedIdentity,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
    let builder = match &settings.client_authorities {
        Some(path) => {
            let roots = Arc::new(authorities(path)?);
            // App users have no certificate and prove themselves by digest.
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                .allow_unauthenticated()
                .build()
                .map_err(|source| TlsError::ClientAuthorities { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(|source| TlsError::Identity(identity.files.clone(), source))?;
    Ok(Arc::new(config))
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    verify: bool,
    identity: Option<&LoadedIdentity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
    let roots = verify.then_some(roots);
    let verifier = Arc::new(DomainVerifier { roots, provider: Arc::clone(provider) });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|source| TlsError::Identity(identity.files.clone(), source))?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Checks the chain as the web does, and the name as SIP does: the library would take wildcards and no SIP URI.
#[derive(Debug)]
struct DomainVerifier {
    /// None takes any certificate, for trunks whose operator said so (`tls_verify = false`).
    roots: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for DomainVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        if !certificate::names(certificate, name) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
