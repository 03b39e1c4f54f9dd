//! Where trunks are: looks their proxies up as often as the answers' life wants it, and keeps the last good answer.

use super::shard::ShardHandle;
use crate::call::event::{Rank, Target};
use crate::call::settings::{Settings, Trunk};
use crate::sip::io::Transports;
use crate::sip::io::dns::{Answer, Dns};
use crate::sip::locate::Located;
use crate::sip::lookup::Steps;
use crate::types::{HostPort, Transport};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A name that could not be found is tried again soon: at a cold start the network may come up after us.
const RETRY: Duration = Duration::from_secs(2);

/// What is asked about one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wish {
    proxy: HostPort,
    transport: Transport,
    naptr: bool,
}

/// The last good answer to a wish, and when it is to be asked again.
struct Known {
    located: Vec<Located>,
    /// What it was made of: one step may fail where another one works.
    steps: Steps,
    ask_at: Instant,
}

/// Runs until the settings' sender is gone. Asks in the background: no call ever waits for the DNS.
pub async fn run(mut settings: watch::Receiver<Arc<Settings>>, transports: Transports, shard: ShardHandle) {
    let mut known: HashMap<Wish, Known> = HashMap::new();
    let mut asking: Option<(Vec<std::net::SocketAddr>, Arc<Dns>)> = None;
    loop {
        let current = settings.borrow_and_update().clone();
        if asking.as_ref().is_none_or(|(servers, _)| *servers != current.dns.servers) {
            asking = match Dns::new(&current.dns.servers) {
                Ok(dns) => Some((current.dns.servers.clone(), Arc::new(dns))),
                Err(error) => {
                    tracing::error!(%error, "the DNS can't be asked");
                    None
                }
            };
            known.values_mut().for_each(|known| known.ask_at = Instant::now());
        }
        if let Some((_, dns)) = &asking {
            refresh(dns, &current, &mut known).await;
        }
        for trunk in &current.trunks {
            let targets = targets(trunk, &known, &transports);
            if targets.is_empty() {
                tracing::warn!(trunk = %trunk.name, "no address found for any proxy of the trunk");
            }
            shard.resolved(trunk.name.clone(), targets);
        }
        let again = known.values().map(|known| known.ask_at).min();
        let pause = again.map_or(RETRY, |at| at.saturating_duration_since(Instant::now()));
        tokio::select! {
            changed = settings.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks what is new or has expired, all at once, so that one dead zone holds no other trunk up.
async fn refresh(dns: &Arc<Dns>, settings: &Settings, known: &mut HashMap<Wish, Known>) {
    let wishes: Vec<Wish> = settings.trunks.iter().flat_map(|trunk| wishes(trunk)).collect();
    known.retain(|wish, _| wishes.contains(wish));
    let now = Instant::now();
    let mut questions = JoinSet::new();
    for wish in wishes {
        if known.get(&wish).is_some_and(|known| known.ask_at > now) {
            continue;
        }
        let dns = dns.clone();
        let before = known.get(&wish).map(|known| known.steps.clone()).unwrap_or_default();
        questions.spawn(async move {
            let answer = dns.locate(&wish.proxy, wish.transport, wish.naptr, before).await;
            (wish, answer)
        });
    }
    while let Some(Ok((wish, Answer { located, steps, holds }))) = questions.join_next().await {
        let holds = if located.is_empty() { RETRY } else { holds };
        let ask_at = Instant::now() + holds;
        match known.get_mut(&wish) {
            // The DNS is dead, or the name gone: what worked a moment ago most likely still does.
            Some(old) if located.is_empty() => old.ask_at = ask_at,
            _ => {
                known.insert(wish, Known { located, steps, ask_at });
            }
        }
    }
}

fn wishes(trunk: &Trunk) -> impl Iterator<Item = Wish> {
    let (transport, naptr) = (trunk.config.transport, trunk.config.naptr);
    trunk.config.proxy.iter().map(move |proxy| Wish { proxy: proxy.clone(), transport, naptr })
}

/// All known addresses of a trunk's proxies.
fn targets(trunk: &Trunk, known: &HashMap<Wish, Known>, transports: &Transports) -> Vec<Target> {
    let mut targets = Vec::new();
    for (place, wish) in wishes(trunk).enumerate() {
        for found in known.get(&wish).map_or(&[][..], |known| &known.located) {
            // RFC 5922 §4: the certificate must carry the name that was configured, not one that the DNS gave.
            let name = found
                .transport
                .is_secure()
                .then(|| Arc::from(trunk.config.tls_name.as_deref().unwrap_or(&wish.proxy.host)));
            let peer = transports.peer_for(trunk.config.network, found.transport, found.remote, name);
            let rank = Rank { proxy: place as u16, priority: found.priority, address: found.address };
            targets.push(Target { host: wish.proxy.clone(), peer, rank, weight: found.weight });
        }
    }
    targets
}
