//! The way through the DNS to the addresses of a SIP server (RFC 3263 §4): what is asked next, and what stands in for an
//! answer that does not come. Pure; `io/dns.rs` asks.

use super::locate::{Located, Naptr, Search, Srv, services, srv_name};
use crate::types::{HostPort, Transport};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// One question to the DNS, with the name it is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    Naptr(String),
    Srv(String),
    /// Of both families, IPv4 first.
    Addresses(String),
}

/// Records of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    Naptr(Vec<Naptr>),
    Srv(Vec<Srv>),
    Addresses(Vec<IpAddr>),
}

/// What the DNS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Found(Records),
    /// There are no such records.
    Absent,
    /// It does not answer, or can't: whether there are any nobody knows.
    Silent,
}

/// The records that an answer was made of, by question.
pub type Steps = HashMap<Question, Records>;

/// Transport, priority and weight of a server.
type Rank = (Transport, u16, u16);

#[derive(Debug)]
enum Step {
    Naptr,
    Srv { place: u16, transport: Transport, name: String },
    Addresses { host: String, port: u16, rank: Rank },
}

/// One search for a server. What was known before is believed where a step gets no answer (as RFC 8767 has it): one
/// server of the DNS that is down must not lead calls elsewhere.
#[derive(Debug)]
pub struct Lookup {
    host: String,
    transport: Transport,
    before: Steps,
    steps: VecDeque<Step>,
    known: Steps,
    located: Vec<Located>,
    /// Nothing was said yet that keeps the name's own addresses from being the server's.
    bare: bool,
}

impl Lookup {
    /// With `naptr` the server's own wish for a transport goes before the configured one (RFC 3263 §4.1).
    pub fn new(server: &HostPort, transport: Transport, naptr: bool, before: Steps) -> Lookup {
        let mut lookup = Lookup {
            host: server.host.clone(),
            transport,
            before,
            steps: VecDeque::new(),
            known: Steps::new(),
            located: Vec::new(),
            bare: false,
        };
        match Search::new(server, transport) {
            Search::Address(remote) => {
                lookup.located.push(Located { transport, remote, priority: 0, weight: 0, address: 0 });
            }
            Search::Addresses { host, port } => {
                lookup.steps.push_back(Step::Addresses { host, port, rank: (transport, 0, 0) });
            }
            Search::Services { .. } => {
                lookup.bare = true;
                if naptr {
                    lookup.steps.push_back(Step::Naptr);
                } else {
                    lookup.ask_services(Vec::new());
                }
            }
        }
        lookup
    }

    /// What to ask now; `None` at the end.
    pub fn poll_question(&self) -> Option<Question> {
        self.steps.front().map(|step| match step {
            Step::Naptr => Question::Naptr(self.host.clone()),
            Step::Srv { name, .. } => Question::Srv(name.clone()),
            Step::Addresses { host, .. } => Question::Addresses(host.clone()),
        })
    }

    /// The answer to the question.
    pub fn handle_reply(&mut self, reply: Reply) {
        let Some(question) = self.poll_question() else { return };
        let Some(step) = self.steps.pop_front() else { return };
        let silent = reply == Reply::Silent;
        let records = match reply {
            Reply::Found(records) => Some(records),
            Reply::Absent => None,
            Reply::Silent => self.before.get(&question).cloned(),
        };
        if let Some(records) = &records {
            self.known.insert(question, records.clone());
        }
        match step {
            Step::Naptr => self.ask_services(match records {
                Some(Records::Naptr(records)) => services(&records, self.transport),
                Some(Records::Srv(_) | Records::Addresses(_)) | None => Vec::new(),
            }),
            Step::Srv { place, transport, .. } => match records {
                Some(Records::Srv(records)) => self.found_servers(place, transport, &records),
                Some(Records::Naptr(_) | Records::Addresses(_)) | None => {
                    // RFC 3263 §4.2: the name itself is the server's where it has no such records, not where they are
                    // not known. At its own address may be anything.
                    self.bare &= !silent;
                }
            },
            Step::Addresses { port, rank, .. } => {
                if let Some(Records::Addresses(ips)) = records {
                    self.found_addresses(&ips, port, rank);
                }
            }
        }
        if self.steps.is_empty() && std::mem::take(&mut self.bare) {
            let (host, port) = (self.host.clone(), self.transport.default_port());
            self.steps.push_back(Step::Addresses { host, port, rank: (self.transport, 0, 0) });
        }
    }

    /// All addresses that were found, each with its rank, and what to know when the search is made again.
    pub fn finish(self) -> (Vec<Located>, Steps) {
        (self.located, self.known)
    }

    fn ask_services(&mut self, mut services: Vec<(Transport, String)>) {
        if services.is_empty() {
            services.extend(srv_name(&self.host, self.transport).map(|name| (self.transport, name)));
        }
        let services = services.into_iter().enumerate();
        self.steps.extend(services.map(|(place, (transport, name))| Step::Srv {
            place: place as u16,
            transport,
            name,
        }));
    }

    fn found_servers(&mut self, place: u16, transport: Transport, records: &[Srv]) {
        // A target of `.` too: the service is decidedly not there (RFC 2782).
        self.bare &= records.is_empty();
        for srv in records.iter().filter(|srv| srv.target != ".").rev() {
            // What NAPTR prefers goes before any priority of what it does not.
            let priority = place.saturating_mul(0x1000).saturating_add(srv.priority.min(0xfff));
            let rank = (transport, priority, srv.weight);
            self.steps.push_front(Step::Addresses { host: srv.target.clone(), port: srv.port, rank });
        }
    }

    fn found_addresses(&mut self, ips: &[IpAddr], port: u16, (transport, priority, weight): Rank) {
        for (address, ip) in ips.iter().enumerate() {
            let remote = SocketAddr::new(*ip, port);
            self.located.push(Located { transport, remote, priority, weight, address: address as u16 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "op.example";
    const SERVICE: &str = "_sip._udp.op.example";

    fn srv(records: &[(&str, u16)]) -> Reply {
        let one = |(target, priority): &(&str, u16)| Srv {
            priority: *priority,
            weight: 0,
            port: 5070,
            target: (*target).to_owned(),
        };
        Reply::Found(Records::Srv(records.iter().map(one).collect()))
    }

    fn ip(text: &str) -> Reply {
        Reply::Found(Records::Addresses(vec![text.parse().unwrap()]))
    }

    /// Plays a search against a zone; what is not in it is absent. The addresses found, what was asked, and what is known.
    fn search(
        naptr: bool,
        zone: &[(Question, Reply)],
        before: &Steps,
    ) -> (Vec<String>, Vec<Question>, Steps) {
        let server = HostPort { host: NAME.into(), port: None };
        let mut lookup = Lookup::new(&server, Transport::Udp, naptr, before.clone());
        let mut asked = Vec::new();
        while let Some(question) = lookup.poll_question() {
            let reply = zone.iter().find(|(known, _)| *known == question).map(|(_, reply)| reply.clone());
            lookup.handle_reply(reply.unwrap_or(Reply::Absent));
            asked.push(question);
        }
        let (located, steps) = lookup.finish();
        (located.iter().map(|located| located.remote.to_string()).collect(), asked, steps)
    }

    fn addresses(host: &str) -> Question {
        Question::Addresses(host.to_owned())
    }

    fn service() -> Question {
        Question::Srv(SERVICE.to_owned())
    }

    /// Two servers, and a web server at the name itself.
    fn zone() -> Vec<(Question, Reply)> {
        vec![
            (service(), srv(&[("sbc1", 10), ("sbc2", 20)])),
            (addresses("sbc1"), ip("192.0.2.1")),
            (addresses("sbc2"), ip("192.0.2.2")),
            (addresses(NAME), ip("198.51.100.80")),
        ]
    }

    fn but(question: &Question, reply: &Reply) -> Vec<(Question, Reply)> {
        let mut zone = zone();
        zone.retain(|(known, _)| known != question);
        zone.push((question.clone(), reply.clone()));
        zone
    }

    #[test]
    fn the_servers_of_a_name_are_asked_for_one_after_the_other() {
        let (found, asked, _) = search(false, &zone(), &Steps::new());
        assert_eq!(found, ["192.0.2.1:5070", "192.0.2.2:5070"]);
        assert_eq!(asked, [service(), addresses("sbc1"), addresses("sbc2")], "and nobody for the web server");
    }

    #[test]
    fn a_name_without_services_is_the_server_itself_and_one_that_has_none_to_offer_is_not() {
        let (found, ..) = search(false, &but(&service(), &Reply::Absent), &Steps::new());
        assert_eq!(found, ["198.51.100.80:5060"]);
        for none in [srv(&[(".", 0)]), srv(&[("gone", 0)])] {
            assert!(search(false, &but(&service(), &none), &Steps::new()).0.is_empty(), "{none:?}");
        }
    }

    #[test]
    fn services_that_nobody_answers_for_are_what_they_were_and_never_the_names_own_address() {
        let silent = but(&service(), &Reply::Silent);
        let (found, asked, _) = search(false, &silent, &Steps::new());
        assert!(found.is_empty() && asked == [service()], "{asked:?}");
        let (.., before) = search(false, &zone(), &Steps::new());
        let (found, _, again) = search(false, &silent, &before);
        assert_eq!(found, ["192.0.2.1:5070", "192.0.2.2:5070"]);
        assert_eq!(again, before, "for as long as it takes");
    }

    #[test]
    fn one_server_that_nobody_answers_for_is_where_it_was_and_one_that_is_gone_is_gone() {
        let (.., before) = search(false, &zone(), &Steps::new());
        let mut moved = but(&addresses("sbc2"), &Reply::Silent);
        moved[1].1 = ip("192.0.2.11");
        let (found, _, again) = search(false, &moved, &before);
        assert_eq!(found, ["192.0.2.11:5070", "192.0.2.2:5070"]);
        let (found, ..) = search(false, &but(&addresses("sbc2"), &Reply::Absent), &again);
        assert_eq!(found, ["192.0.2.1:5070"]);
        let (found, ..) = search(false, &moved, &Steps::new());
        assert_eq!(found, ["192.0.2.11:5070"], "of what was never known nothing is made up");
    }

    #[test]
    fn what_is_no_longer_named_is_not_kept() {
        let (.., before) = search(false, &zone(), &Steps::new());
        let (found, _, after) = search(false, &but(&service(), &srv(&[("sbc1", 10)])), &before);
        assert_eq!((found.len(), after.len()), (1, 2));
    }

    #[test]
    fn a_wish_for_a_transport_that_nobody_answers_for_is_the_last_one_or_the_configured_one() {
        let wish = Reply::Found(Records::Naptr(vec![Naptr {
            order: 1,
            preference: 1,
            flags: "s".into(),
            service: "SIP+D2T".into(),
            replacement: "_sip._tcp.op.example.".into(),
        }]));
        let question = Question::Naptr(NAME.to_owned());
        let tcp = Question::Srv("_sip._tcp.op.example".to_owned());
        let mut zone = zone();
        zone.push((tcp.clone(), srv(&[("sbc1", 10)])));
        zone.push((question.clone(), wish));
        let (found, asked, before) = search(true, &zone, &Steps::new());
        assert_eq!((found.len(), &asked[..2]), (1, &[question.clone(), tcp.clone()][..]));
        zone.pop();
        zone.push((question.clone(), Reply::Silent));
        assert_eq!(search(true, &zone, &before).1[1], tcp);
        assert_eq!(search(true, &zone, &Steps::new()).1[1], service());
    }

    #[test]
    fn an_address_needs_no_search_and_a_port_only_the_address() {
        let server = HostPort { host: "192.0.2.7".into(), port: None };
        let lookup = Lookup::new(&server, Transport::Udp, true, Steps::new());
        assert_eq!((lookup.poll_question(), lookup.finish().0.len()), (None, 1));
        let server = HostPort { host: NAME.into(), port: Some(5070) };
        let mut lookup = Lookup::new(&server, Transport::Udp, true, Steps::new());
        assert_eq!(lookup.poll_question(), Some(addresses(NAME)));
        lookup.handle_reply(Reply::Absent);
        assert_eq!((lookup.poll_question(), lookup.finish().0), (None, vec![]));
    }
}
