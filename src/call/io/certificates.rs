//! Certificates of those who sign their calls: fetched apart from the signalling thread, one task a fetch.

use super::shard::ShardHandle;
use crate::call::settings::Settings;
use crate::config::StirVerify;
use crate::sip::io::dns::Dns;
use crate::stir::io::{FetchFault, Fetched, Https, fetch};
use crate::stir::{Hosts, Location};
use crate::types::StirResult;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How certificates are fetched.
#[derive(Clone)]
pub struct Fetching {
    /// `None` where nobody's signatures are checked, or the servers' authorities can't be read.
    https: Option<Https>,
    hosts: Hosts,
    /// `None` where the DNS can't be asked.
    dns: Option<Arc<Dns>>,
    patience: Duration,
}

impl Fetching {
    /// Reads whom the servers of certificates are vouched for by; not for the signalling thread.
    pub fn load(settings: &Settings) -> Fetching {
        let stir = &settings.stir;
        let needed = settings.trunks.iter().any(|trunk| trunk.config.stir_verify != StirVerify::Off);
        let https = needed.then(|| Https::load(stir.https_authorities.as_deref())).and_then(|loaded| {
            loaded
                .inspect_err(
                    |error| tracing::error!(target: "tandem::stir", %error, "certificates can't be fetched"),
                )
                .ok()
        });
        let dns = needed.then(|| Dns::new(&settings.dns.servers)).and_then(|dns| {
            dns.inspect_err(|error| tracing::error!(target: "tandem::stir", %error, "the DNS can't be asked"))
                .ok()
        });
        let (hosts, patience) = (Hosts::new(&stir.hosts), stir.fetch_timeout);
        Fetching { https, hosts, dns: dns.map(Arc::new), patience }
    }

    async fn fetch(&self, url: &str) -> Result<Fetched, FetchFault> {
        let (Some(https), Some(dns)) = (&self.https, &self.dns) else { return Err(FetchFault::NotAllowed) };
        let location = Location::parse(url).filter(|location| self.hosts.allow(location));
        let location = location.ok_or(FetchFault::NotAllowed)?;
        let whole = async {
            let addresses = dns.host(&location.host).await;
            if addresses.is_empty() {
                return Err(FetchFault::Unknown);
            }
            fetch(&location, &addresses, &self.hosts, https).await
        };
        tokio::time::timeout(self.patience, whole).await.unwrap_or(Err(FetchFault::TimedOut))
    }
}

/// Fetches for one shard.
pub struct CertificateFetcher {
    shard: ShardHandle,
    /// Where the fetches run: a handshake must not hold signalling up.
    runtime: Handle,
    /// For fetches to come.
    pub fetching: Fetching,
}

impl CertificateFetcher {
    pub fn new(shard: ShardHandle, runtime: Handle, settings: &Settings) -> CertificateFetcher {
        CertificateFetcher { shard, runtime, fetching: Fetching::load(settings) }
    }

    /// Begins a fetch; its result comes to the shard.
    pub fn fetch(&self, url: String) {
        let (shard, fetching) = (self.shard.clone(), self.fetching.clone());
        self.runtime.spawn(async move {
            let fetched = match fetching.fetch(&url).await {
                Ok(document) => Ok((document.body.into(), document.max_age)),
                Err(fault) => {
                    // Whoever calls has written the URL: no more of it is repeated than who was to be asked.
                    let host =
                        Location::parse(&url).map_or_else(|| "none".to_owned(), |location| location.host);
                    let why = "the certificate of a caller's signature can't be fetched";
                    match &fault {
                        // It says more of the caller than of us, and any caller can have it said.
                        FetchFault::NotAllowed => {
                            tracing::debug!(target: "tandem::stir", host, %fault, "{why}")
                        }
                        FetchFault::Unknown
                        | FetchFault::TimedOut
                        | FetchFault::Status(_)
                        | FetchFault::TooLong
                        | FetchFault::Encoded
                        | FetchFault::Garbled(_)
                        | FetchFault::Io(_) => tracing::warn!(target: "tandem::stir", host, %fault, "{why}"),
                    }
                    Err(match fault {
                        FetchFault::NotAllowed => StirResult::BadInfo,
                        FetchFault::Unknown
                        | FetchFault::TimedOut
                        | FetchFault::Status(_)
                        | FetchFault::TooLong
                        | FetchFault::Encoded
                        | FetchFault::Garbled(_)
                        | FetchFault::Io(_) => StirResult::Unreachable,
                    })
                }
            };
            shard.certificate(url, fetched);
        });
    }
}
