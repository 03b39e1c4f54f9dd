//! Asks the DNS where SIP servers are, in the order of RFC 3263, and says how long the answers hold.

use crate::sip::locate::{Located, Naptr, Srv};
use crate::sip::lookup::{Lookup, Question, Records, Reply, Steps};
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
/// How long it is believed that there are no records of a kind.
const ABSENCE: Duration = Duration::from_secs(60);
/// More records of one kind are no honest answer.
const MOST: usize = 32;

/// Where a server was found, and for how long that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub located: Vec<Located>,
    /// What it was made of, for the case that the DNS answers only in part when it is asked again.
    pub steps: Steps,
    pub holds: Duration,
}

/// The way to the DNS; its cache keeps each answer for its TTL.
pub struct Dns {
    resolver: TokioResolver,
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
    /// the configured one (RFC 3263 §4.1). `before` stands in for what the DNS does not answer. Empty where nothing is
    /// known.
    pub async fn locate(
        &self,
        server: &HostPort,
        transport: Transport,
        naptr: bool,
        before: Steps,
    ) -> Answer {
        let mut until = Instant::now() + LONGEST;
        let mut lookup = Lookup::new(server, transport, naptr, before);
        while let Some(question) = lookup.poll_question() {
            let (reply, holds_until) = self.ask(&question).await;
            until = until.min(holds_until);
            lookup.handle_reply(reply);
        }
        let (located, steps) = lookup.finish();
        let holds = until.saturating_duration_since(Instant::now()).clamp(SHORTEST, LONGEST);
        Answer { located, steps, holds }
    }

    /// The addresses of a host that is no SIP server; empty where the DNS does not answer or knows nothing.
    pub async fn host(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        let found = self.resolver.lookup_ip(absolute(host)).await;
        found.map(|found| found.iter().take(MOST).collect()).unwrap_or_default()
    }

    /// Asks one question; says until when the answer holds.
    async fn ask(&self, question: &Question) -> (Reply, Instant) {
        match question {
            Question::Addresses(host) => self.addresses(host).await,
            Question::Srv(name) => {
                let read = |data: &RData| match data {
                    RData::SRV(srv) => Some(Srv {
                        priority: srv.priority,
                        weight: srv.weight,
                        port: srv.port,
                        target: srv.target.to_ascii(),
                    }),
                    _ => None,
                };
                self.records(name, RecordType::SRV, read, Records::Srv).await
            }
            Question::Naptr(name) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let read = |data: &RData| match data {
                    RData::NAPTR(naptr) => Some(Naptr {
                        order: naptr.order,
                        preference: naptr.preference,
                        flags: text(&naptr.flags),
                        service: text(&naptr.services),
                        replacement: naptr.replacement.to_ascii(),
                    }),
                    _ => None,
                };
                self.records(name, RecordType::NAPTR, read, Records::Naptr).await
            }
        }
    }

    async fn addresses(&self, host: &str) -> (Reply, Instant) {
        match self.resolver.lookup_ip(absolute(host)).await {
            Ok(found) => {
                let mut ips: Vec<_> = found.iter().take(MOST).collect();
                // The resolver asks for both families at once; which answer comes first must not change the order.
                ips.sort_by_key(IpAddr::is_ipv6);
                (Reply::Found(Records::Addresses(ips)), found.valid_until())
            }
            Err(error) => missing(&error),
        }
    }

    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
        all: fn(Vec<T>) -> Records,
    ) -> (Reply, Instant) {
        match self.resolver.lookup(absolute(name), kind).await {
            Ok(lookup) => {
                let records = lookup.answers().iter().filter_map(|record| read(&record.data));
                (Reply::Found(all(records.take(MOST).collect())), lookup.valid_until())
            }
            Err(error) => missing(&error),
        }
    }
}

/// Why nothing was found, and how long that holds: nothing at all where the DNS did not answer.
fn missing(error: &NetError) -> (Reply, Instant) {
    if error.is_no_records_found() {
        (Reply::Absent, Instant::now() + ABSENCE)
    } else {
        (Reply::Silent, Instant::now())
    }
}

/// With its final dot, so that no search domain is tried behind it.
fn absolute(host: &str) -> String {
    if host.ends_with('.') || !host.contains('.') { host.to_owned() } else { format!("{host}.") }
}
