//! Asks the DNS where SIP servers are, in the order of RFC 3263, and says how long the answers hold.

use crate::sip::locate::{self, Located, Naptr, Search, Srv};
use crate::types::{HostPort, Transport};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// One question to one server. Two of them pass before a dead one is given up.
const TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is asked for anew no sooner and no later than this, whatever its TTL says: a TTL of 0 must not become a
/// flood, and a day-long one not a day without the operator's new address.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3_600);
/// How long an address holds that was not asked for.
const FOREVER: Duration = LONGEST;
/// More records of one kind are no honest answer.
const MOST: usize = 32;

/// Where a server was found, and for how long that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub located: Vec<Located>,
    pub holds: Duration,
}

/// The way to the DNS; its cache keeps each answer for its TTL.
pub struct Dns {
    resolver: TokioResolver,
}

/// A step's answer: what it found, and until when that holds.
struct Found<T> {
    records: Vec<T>,
    until: Instant,
}

impl Dns {
    /// Asks these servers; none: those of the system. The system's `hosts` file goes before both.
    pub fn new(servers: &[SocketAddr]) -> Result<Dns, String> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| error.to_string())?
        } else {
            let servers = servers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.to_vec())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = 2;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.positive_max_ttl = Some(LONGEST);
        // "No such record" is believed briefly: an operator that adds a record is not waited for.
        options.negative_max_ttl = Some(Duration::from_secs(30));
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Dns { resolver })
    }

    /// All addresses of a server, each with its rank. With `naptr` the server's own wish for a transport goes before
    /// the configured one (RFC 3263 §4.1). Empty where the DNS does not answer or knows nothing.
    pub async fn locate(&self, server: &HostPort, transport: Transport, naptr: bool) -> Answer {
        let mut located = Vec::new();
        let mut until = Instant::now() + LONGEST;
        match Search::new(server, transport) {
            Search::Address(remote) => {
                let only = Located { transport, remote, priority: 0, weight: 0, address: 0 };
                return Answer { located: vec![only], holds: FOREVER };
            }
            Search::Addresses { host, port } => {
                until = until.min(self.addresses(&host, port, (transport, 0, 0), &mut located).await);
            }
            Search::Services { host } => {
                let mut services = Vec::new();
                if naptr {
                    let found = self.naptr(&host).await;
                    until = until.min(found.until);
                    services = locate::services(&found.records, transport);
                }
                if services.is_empty() {
                    services.extend(locate::srv_name(&host, transport).map(|name| (transport, name)));
                }
                let mut refused = false;
                for (place, (transport, name)) in services.into_iter().enumerate() {
                    let found = self.srv(&name).await;
                    until = until.min(found.until);
                    refused |= locate::is_refused(&found.records);
                    for srv in found.records.iter().filter(|srv| srv.target != ".") {
                        // What NAPTR prefers goes before any priority of what it does not.
                        let priority =
                            (place as u16).saturating_mul(0x1000).saturating_add(srv.priority.min(0xfff));
                        let rank = (transport, priority, srv.weight);
                        until = until.min(self.addresses(&srv.target, srv.port, rank, &mut located).await);
                    }
                }
                if located.is_empty() && !refused {
                    let rank = (transport, 0, 0);
                    let port = transport.default_port();
                    until = until.min(self.addresses(&host, port, rank, &mut located).await);
                }
            }
        }
        let holds = until.saturating_duration_since(Instant::now()).clamp(SHORTEST, LONGEST);
        Answer { located, holds }
    }

    /// The addresses of a host that is no SIP server; empty where the DNS does not answer or knows nothing.
    pub async fn host(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        let found = self.resolver.lookup_ip(absolute(host)).await;
        found.map(|found| found.iter().take(MOST).collect()).unwrap_or_default()
    }

    /// Adds the addresses of a host; says until when they hold.
    async fn addresses(
        &self,
        host: &str,
        port: u16,
        (transport, priority, weight): (Transport, u16, u16),
        located: &mut Vec<Located>,
    ) -> Instant {
        let Ok(found) = self.resolver.lookup_ip(absolute(host)).await else { return Instant::now() };
        let mut ips: Vec<_> = found.iter().take(MOST).collect();
        // The resolver asks for both families at once; which answer comes first must not change the order.
        ips.sort_by_key(IpAddr::is_ipv6);
        for (address, ip) in ips.into_iter().enumerate() {
            let remote = SocketAddr::new(ip, port);
            located.push(Located { transport, remote, priority, weight, address: address as u16 });
        }
        found.valid_until()
    }

    async fn srv(&self, name: &str) -> Found<Srv> {
        self.ask(name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
            }),
            _ => None,
        })
        .await
    }

    async fn naptr(&self, name: &str) -> Found<Naptr> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.ask(name, RecordType::NAPTR, |data| match data {
            RData::NAPTR(naptr) => Some(Naptr {
                order: naptr.order,
                preference: naptr.preference,
                flags: text(&naptr.flags),
                service: text(&naptr.services),
                replacement: naptr.replacement.to_ascii(),
            }),
            _ => None,
        })
        .await
    }

    async fn ask<T>(&self, name: &str, kind: RecordType, read: impl Fn(&RData) -> Option<T>) -> Found<T> {
        match self.resolver.lookup(absolute(name), kind).await {
            Ok(lookup) => {
                let records = lookup.answers().iter().filter_map(|record| read(&record.data));
                Found { records: records.take(MOST).collect(), until: lookup.valid_until() }
            }
            Err(error) => Found { records: Vec::new(), until: Instant::now() + absence(&error) },
        }
    }
}

/// How long it holds that nothing was found: nothing at all where the DNS did not answer.
fn absence(error: &NetError) -> Duration {
    if error.is_no_records_found() { Duration::from_secs(60) } else { Duration::ZERO }
}

/// With its final dot, so that no search domain is tried behind it.
fn absolute(host: &str) -> String {
    if host.ends_with('.') || !host.contains('.') { host.to_owned() } else { format!("{host}.") }
}
