//! What the configuration means for each room's shell: sockets, ports, prices, certificates.

use crate::billing::RateTable;
use crate::billing::io::JournalOptions;
use crate::call::settings::StirMaterial;
use crate::config::Config;
use crate::media::NetworkPorts;
use crate::sip::io::{
    Identity, Listener, NetworkSettings, StreamSettings, TlsSettings, TlsTrust, TransportSettings,
};
use crate::sip::mark::Marks;
use crate::sip::message::Limits;
use crate::stir::io::LoadFault;
use crate::store::{NumberKeys, Store, StoreError, StoreOptions};
use crate::types::{NetworkId, Now};

/// `marks` are those that the exchange makes.
pub fn transports(config: &Config, marks: Marks) -> TransportSettings {
    let listener = |listen: &crate::config::Listen| Listener {
        transport: listen.transport,
        bind: listen.bind,
        network: listen.network,
    };
    let network = |network: &crate::config::NetworkConfig| NetworkSettings {
        public_addresses: network.public_address.clone(),
        bind: network.bind.clone(),
        dscp: network.dscp_signalling,
    };
    TransportSettings {
        listeners: config.sip.listen.iter().map(listener).collect(),
        networks: config.networks.iter().map(network).collect(),
        tls: tls(config),
        streams: StreamSettings {
            idle: config.sip.stream_idle,
            max_per_address: config.sip.max_streams_per_address,
            ..StreamSettings::default()
        },
        message: Limits { message: config.sip.max_message_bytes, ..Limits::default() },
        door: Some(marks),
    }
}

pub fn tls(config: &Config) -> TlsSettings {
    let identity = config.tls.certificate.clone().zip(config.tls.key.clone());
    let mut trusts = Vec::new();
    for trunk in config.trunks.iter().filter(|trunk| trunk.transport.is_secure()) {
        let places = trunk.proxy.iter().chain(&trunk.redirect_to).map(|place| place.host.clone());
        let names = trunk.tls_name.iter().cloned().chain(places);
        trusts.extend(names.map(|name| TlsTrust {
            name,
            authorities: trunk.tls_ca.clone(),
            verify: trunk.tls_verify,
        }));
    }
    TlsSettings {
        identity: identity.map(|(certificate, key)| Identity { certificate, key }),
        authorities: config.tls.ca.clone(),
        trusts,
        client_authorities: config.tls.client_ca.clone(),
        client_names: config.trunks.iter().filter_map(|trunk| trunk.tls_name.clone()).collect(),
    }
}

/// What the files of `[stir]` hold.
///
/// # Errors
/// One of them can't be used.
pub fn stir(config: &Config) -> Result<StirMaterial, LoadFault> {
    let loaded = crate::stir::io::load(&config.stir.files(), Now::read().unix_ms / 1_000)?;
    Ok(StirMaterial { signer: loaded.signer, authorities: loaded.authorities })
}

pub fn ports(config: &Config) -> Vec<NetworkPorts> {
    let one = |(index, network): (usize, &crate::config::NetworkConfig)| NetworkPorts {
        network: NetworkId(index as u8),
        binds: network.bind.clone(),
        range: network.media_ports.clone(),
        dscp: network.dscp_media,
    };
    config.networks.iter().enumerate().map(one).collect()
}

/// The database, not yet opened.
///
/// # Errors
/// The URL or the file of number keys can't be used.
pub fn store(config: &Config) -> Result<Store, StoreError> {
    let keys = NumberKeys::load(&config.gateway.data_dir.join("number.keys"))?;
    Store::connect(&config.database.url, keys, StoreOptions::default())
}

pub fn rates(config: &Config) -> Result<RateTable, String> {
    config.rate_table().map_err(|error| error.to_string())
}

pub fn journal(config: &Config) -> JournalOptions {
    let max_bytes = u64::from(config.billing.journal_mib) << 20;
    let defaults = JournalOptions::new(&config.billing.journal_dir, &config.gateway.name);
    JournalOptions { max_bytes, segment_bytes: defaults.segment_bytes.min(max_bytes / 4), ..defaults }
}
