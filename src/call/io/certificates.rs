//! Certificates of those who sign their calls: fetched apart from the signalling thread, one task a fetch.

use super::shard::ShardHandle;
use crate::call::settings::Settings;
use crate::config::StirVerify;
use crate::stir::Hosts;
use crate::stir::io::{FetchFault, Https, fetch};
use crate::types::StirResult;
use std::time::Duration;
use tokio::runtime::Handle;

/// How certificates are fetched.
#[derive(Clone)]
pub struct Fetching {
    /// `None` where nobody's signatures are checked, or the servers' authorities can't be read.
    https: Option<Https>,
    hosts: Hosts,
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
        Fetching { https, hosts: Hosts::new(&stir.hosts), patience: stir.fetch_timeout }
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
        let (shard, Fetching { https, hosts, patience }) = (self.shard.clone(), self.fetching.clone());
        self.runtime.spawn(async move {
            let fetched = match &https {
                Some(https) => fetch(&url, &hosts, https, patience).await,
                None => Err(FetchFault::NotAllowed),
            };
            let fetched = match fetched {
                Ok(document) => Ok((document.body, document.max_age)),
                Err(fault) => {
                    tracing::warn!(target: "tandem::stir", url, %fault, "the certificate of a caller's signature can't be fetched");
                    Err(match fault {
                        FetchFault::NotAllowed => StirResult::BadInfo,
                        FetchFault::TimedOut | FetchFault::Http(_) | FetchFault::Io(_) => StirResult::Unreachable,
                    })
                }
            };
            shard.certificate(url, fetched);
        });
    }
}
