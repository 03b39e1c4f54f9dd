//! Where trunks are: looks their proxies up, again and again, and keeps the last good answer.

use super::shard::ShardHandle;
use crate::call::event::Target;
use crate::call::settings::{Settings, Trunk};
use crate::sip::io::Transports;
use crate::types::HostPort;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Addresses seldom change; an operator's move is followed within this.
const INTERVAL: Duration = Duration::from_secs(60);
/// A name that could not be found is tried again soon: at a cold start the network may come up after us.
const RETRY: Duration = Duration::from_secs(2);

/// Runs until the settings' sender is gone.
pub async fn run(mut settings: watch::Receiver<Arc<Settings>>, transports: Transports, shard: ShardHandle) {
    loop {
        let current = settings.borrow_and_update().clone();
        let mut complete = true;
        for trunk in &current.trunks {
            let targets = targets(trunk, &transports).await;
            complete &= !targets.is_empty();
            if targets.is_empty() {
                tracing::warn!(trunk = %trunk.name, "no address found for any proxy of the trunk");
            }
            shard.resolved(trunk.name.clone(), targets);
        }
        let pause = if complete { INTERVAL } else { RETRY };
        tokio::select! {
            changed = settings.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// All addresses of a trunk's proxies in the order of its list.
async fn targets(trunk: &Trunk, transports: &Transports) -> Vec<Target> {
    let mut targets = Vec::new();
    for proxy in &trunk.config.proxy {
        for address in addresses(proxy, trunk.config.transport.default_port()).await {
            let name = trunk
                .config
                .transport
                .is_secure()
                .then(|| Arc::from(trunk.config.tls_name.as_deref().unwrap_or(&proxy.host)));
            let peer = transports.peer_for(trunk.config.network, trunk.config.transport, address, name);
            targets.push(Target { host: proxy.clone(), peer });
        }
    }
    targets
}

async fn addresses(proxy: &HostPort, default_port: u16) -> Vec<SocketAddr> {
    let port = proxy.port.unwrap_or(default_port);
    if let Ok(ip) = proxy.host.parse::<IpAddr>() {
        return vec![SocketAddr::new(ip, port)];
    }
    match tokio::net::lookup_host((proxy.host.as_str(), port)).await {
        Ok(found) => found.collect(),
        Err(_) => Vec::new(),
    }
}
