//! Hands out pairs of media ports per network and lets freed ones rest, so that a new call never hears an old one.

use crate::types::NetworkId;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How long a freed pair is quiet: a far end that missed the BYE stops within two seconds of our silence.
const REST: Duration = Duration::from_secs(2);
/// The least rest when no other pair is left; what is still under way on the network arrives well within it.
const REST_UNDER_PRESSURE: Duration = Duration::from_millis(500);
/// A pair whose port another program holds is not tried again for this long.
const AVOID: Duration = Duration::from_secs(30);

/// The media ports of one configured network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPorts {
    pub network: NetworkId,
    /// Addresses to bind, at most one per family is used.
    pub binds: Vec<IpAddr>,
    /// RTP takes the even ports of it, RTCP the odd one above each (RFC 3550 §11).
    pub range: RangeInclusive<u16>,
    /// Differentiated services code point of media, 0 to 63 (RFC 2474); 46 is expedited forwarding.
    pub dscp: u8,
}

/// Address family of a leg's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// No pair is free now, or the network has no address of that family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PortsExhausted {
    #[error("no media port is free")]
    NoneFree,
    /// Ports are free, but none of them could be bound: a foreign address, or no descriptors left.
    #[error("no media port of {address} can be bound: {why}")]
    Unbindable { address: IpAddr, why: io::ErrorKind },
    #[error("the network has no address of this family")]
    NoAddress,
}

/// The bound, non-blocking sockets of one leg and the addresses they really have.
#[derive(Debug)]
pub struct LegSockets {
    pub rtp: UdpSocket,
    /// Absent only where RTCP can't be separate.
    pub rtcp: Option<UdpSocket>,
    pub network: NetworkId,
    /// Where RTP is bound; the address part may be unspecified (0.0.0.0 or ::).
    pub local_rtp: SocketAddr,
}

impl LegSockets {
    /// The port of RTCP when it is not multiplexed.
    pub fn local_rtcp_port(&self) -> u16 {
        self.rtcp
            .as_ref()
            .and_then(|socket| socket.local_addr().ok())
            .map_or(self.local_rtp.port(), |a| a.port())
    }
}

/// Keeps the free ports of all networks. Owned by signalling; not shared.
#[derive(Debug)]
pub struct PortAllocator {
    pools: Vec<Pool>,
    rushed: u64,
}

#[derive(Debug)]
struct Pool {
    network: NetworkId,
    address: IpAddr,
    dscp: u8,
    size: usize,
    /// Oldest first: every pair gets the longest rest there is.
    free: VecDeque<FreePair>,
}

#[derive(Debug, Clone, Copy)]
struct FreePair {
    rtp_port: u16,
    /// When it was freed; `None` if it was never used.
    since: Option<Instant>,
    /// Not before this, because another program held it.
    avoid_until: Option<Instant>,
}

impl PortAllocator {
    pub fn new(networks: Vec<NetworkPorts>) -> PortAllocator {
        let mut shuffle = Shuffle::new();
        let mut pools: Vec<Pool> = Vec::new();
        for network in networks {
            for address in network.binds {
                let family = Family::of(address);
                let taken = |p: &Pool| p.network == network.network && Family::of(p.address) == family;
                if pools.iter().any(taken) {
                    continue;
                }
                let mut free: Vec<FreePair> = network
                    .range
                    .clone()
                    .filter(|port| port % 2 == 0 && *port > 0 && port + 1 <= *network.range.end())
                    .map(|rtp_port| FreePair { rtp_port, since: None, avoid_until: None })
                    .collect();
                // Guessing the next call's port must not be possible from the last one's (RFC 6056 §3).
                shuffle.apply(&mut free);
                pools.push(Pool {
                    network: network.network,
                    address,
                    dscp: network.dscp,
                    size: free.len(),
                    free: free.into(),
                });
            }
        }
        PortAllocator { pools, rushed: 0 }
    }

    /// Binds a pair that has rested.
    pub fn allocate(
        &mut self,
        network: NetworkId,
        family: Family,
        now: Instant,
    ) -> Result<LegSockets, PortsExhausted> {
        let pool = self
            .pools
            .iter_mut()
            .find(|pool| pool.network == network && Family::of(pool.address) == family)
            .ok_or(PortsExhausted::NoAddress)?;
        for _ in 0..pool.free.len() {
            let Some(pair) = pool.free.pop_front() else { break };
            if pair.avoid_until.is_some_and(|until| until > now) {
                pool.free.push_back(pair);
                continue;
            }
            let rested = pair.since.map_or(REST, |since| now.saturating_duration_since(since));
            if rested < REST_UNDER_PRESSURE {
                pool.free.push_front(pair);
                break;
            }
            match bind_pair(pool.address, pair.rtp_port, pool.dscp) {
                Ok((rtp, rtcp)) => {
                    if rested < REST {
                        self.rushed += 1;
                    }
                    let local_rtp = SocketAddr::new(pool.address, pair.rtp_port);
                    return Ok(LegSockets { rtp, rtcp: Some(rtcp), network, local_rtp });
                }
                Err(error) => {
                    pool.free.push_back(FreePair { avoid_until: Some(now + AVOID), ..pair });
                    // Where descriptors or the address are wanting, the next port is no better.
                    if error.kind() != io::ErrorKind::AddrInUse {
                        let (address, why) = (pool.address, error.kind());
                        return Err(PortsExhausted::Unbindable { address, why });
                    }
                }
            }
        }
        Err(PortsExhausted::NoneFree)
    }

    /// Closes the sockets and lets their ports rest.
    pub fn release(&mut self, sockets: LegSockets, now: Instant) {
        let LegSockets { network, local_rtp, .. } = &sockets;
        let pool = self.pools.iter_mut().find(|p| p.network == *network && p.address == local_rtp.ip());
        if let Some(pool) = pool {
            let pair = FreePair { rtp_port: local_rtp.port(), since: Some(now), avoid_until: None };
            pool.free.push_back(pair);
        }
    }

    /// Pairs a new leg could take now, of all networks and families.
    pub fn free(&self, now: Instant) -> usize {
        let ready = |pair: &&FreePair| {
            pair.since.is_none_or(|since| now.saturating_duration_since(since) >= REST_UNDER_PRESSURE)
                && pair.avoid_until.is_none_or(|until| until <= now)
        };
        self.pools.iter().map(|pool| pool.free.iter().filter(ready).count()).sum()
    }

    /// Pairs no leg has, those that rest included.
    pub fn idle(&self) -> usize {
        self.pools.iter().map(|pool| pool.free.len()).sum()
    }

    /// Pairs configured in all networks and families.
    pub fn configured(&self) -> usize {
        self.pools.iter().map(|pool| pool.size).sum()
    }

    /// Pairs given out before their full rest, since the start.
    pub fn rushed(&self) -> u64 {
        self.rushed
    }
}

fn bind_pair(address: IpAddr, rtp_port: u16, dscp: u8) -> io::Result<(UdpSocket, UdpSocket)> {
    let rtp = bind(SocketAddr::new(address, rtp_port), dscp)?;
    let rtcp = bind(SocketAddr::new(address, rtp_port + 1), dscp)?;
    Ok((rtp, rtcp))
}

fn bind(address: SocketAddr, dscp: u8) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // The code point is the upper six bits of the traffic class (RFC 2474 §3). A kernel that refuses to mark
    // still carries the call.
    let traffic_class = u32::from(dscp) << 2;
    if address.is_ipv4() {
        let _ = socket.set_tos_v4(traffic_class);
    } else {
        socket.set_only_v6(true)?;
        let _ = socket.set_tclass_v6(traffic_class);
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Fisher-Yates over a generator seeded by the operating system.
struct Shuffle(u64);

impl Shuffle {
    fn new() -> Shuffle {
        Shuffle(RandomState::new().build_hasher().finish() | 1)
    }

    fn apply<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // xorshift64: unpredictable enough for an order that no secret hangs on.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            items.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const DEFAULT: NetworkId = NetworkId(0);

    /// Ports that this machine has free right now, so that no test depends on a fixed one.
    fn free_pairs(count: u16) -> RangeInclusive<u16> {
        for attempt in 0..200u64 {
            // Below the range the kernel hands out by itself, so that no other test takes one meanwhile.
            let random = RandomState::new().hash_one(attempt);
            let first = 10_000 + (random % 11_000) as u16 * 2;
            let last = first + 2 * count - 1;
            let all = (first..=last).map(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)));
            if all.collect::<Result<Vec<_>, _>>().is_ok() {
                return first..=last;
            }
        }
        panic!("no free run of {count} port pairs");
    }

    #[test]
    fn an_address_that_is_not_ours_is_named_and_not_called_a_lack_of_ports() {
        let foreign: IpAddr = "192.0.2.55".parse().unwrap();
        let network =
            NetworkPorts { network: DEFAULT, binds: vec![foreign], range: 20_000..=20_039, dscp: 46 };
        let mut ports = PortAllocator::new(vec![network]);
        let error = ports.allocate(DEFAULT, Family::V4, Instant::now()).unwrap_err();
        assert_eq!(
            error,
            PortsExhausted::Unbindable { address: foreign, why: io::ErrorKind::AddrNotAvailable }
        );
        assert!(error.to_string().contains("192.0.2.55"), "{error}");
    }

    fn allocator(pairs: u16) -> (PortAllocator, RangeInclusive<u16>) {
        let range = free_pairs(pairs);
        let network = NetworkPorts {
            network: DEFAULT,
            binds: vec![Ipv4Addr::LOCALHOST.into()],
            range: range.clone(),
            dscp: 46,
        };
        (PortAllocator::new(vec![network]), range)
    }

    #[test]
    fn a_pair_is_an_even_port_and_the_odd_one_above_marked_with_the_code_point() {
        let (mut ports, range) = allocator(2);
        let pair = ports.allocate(DEFAULT, Family::V4, Instant::now()).unwrap();
        assert_eq!(pair.local_rtp.port() % 2, 0);
        assert!(range.contains(&pair.local_rtp.port()));
        assert_eq!(pair.local_rtcp_port(), pair.local_rtp.port() + 1);
        let marked = socket2::SockRef::from(&pair.rtp).tos_v4().unwrap();
        assert_eq!(marked, 46 << 2);
    }

    #[test]
    fn a_freed_pair_rests_two_seconds_and_under_pressure_half_a_second() {
        let (mut ports, _) = allocator(2);
        let start = Instant::now();
        let first = ports.allocate(DEFAULT, Family::V4, start).unwrap();
        let first_port = first.local_rtp.port();
        ports.release(first, start);
        let second = ports.allocate(DEFAULT, Family::V4, start).unwrap();
        assert_ne!(second.local_rtp.port(), first_port, "the pair that never worked goes first");

        let early = ports.allocate(DEFAULT, Family::V4, start + Duration::from_millis(499));
        assert_eq!(early.err(), Some(PortsExhausted::NoneFree));
        assert_eq!(ports.free(start + Duration::from_millis(499)), 0);
        let rushed = ports.allocate(DEFAULT, Family::V4, start + Duration::from_millis(500)).unwrap();
        assert_eq!(rushed.local_rtp.port(), first_port);
        assert_eq!(ports.rushed(), 1);

        ports.release(rushed, start);
        ports.allocate(DEFAULT, Family::V4, start + REST).unwrap();
        assert_eq!(ports.rushed(), 1, "a full rest is not rushed");
    }

    #[test]
    fn a_port_that_someone_else_holds_is_passed_over() {
        let (mut ports, range) = allocator(2);
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, *range.start() + 1)).unwrap();
        let now = Instant::now();
        let pair = ports.allocate(DEFAULT, Family::V4, now).unwrap();
        assert_eq!(pair.local_rtp.port(), *range.start() + 2);
        assert_eq!(ports.allocate(DEFAULT, Family::V4, now).err(), Some(PortsExhausted::NoneFree));
        drop(held);
        ports.allocate(DEFAULT, Family::V4, now + AVOID).unwrap();
    }

    #[test]
    fn a_network_without_the_family_says_so() {
        let (mut ports, _) = allocator(1);
        let refused = ports.allocate(DEFAULT, Family::V6, Instant::now());
        assert_eq!(refused.err(), Some(PortsExhausted::NoAddress));
        assert_eq!(ports.configured(), 1);
    }
}
