//! Hands out pairs of media ports per network and lets freed ones rest until nothing comes to them any more, so that a new
//! call never hears an old one.
//!
//! A pair that rests stays bound and is not read: what waits in it when its rest is over shows that somebody still sends.
//! One datagram shows that as well as hundreds: the kernel keeps no more of them for it.

use crate::types::NetworkId;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How long a freed pair rests: a far end that missed the BYE stops within two seconds of our silence, or goes on for
/// long and is heard in that time.
const REST: Duration = Duration::from_secs(2);
/// The least rest when no other pair is left; what is still under way on the network arrives well within it, and is no
/// sign of one that goes on.
const REST_UNDER_PRESSURE: Duration = Duration::from_millis(500);
/// Where no other is left, a pair that never gets quiet is used again after this: telephones give up within it, and
/// whoever sends to all ports at once keeps none of them for good.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Pairs that stay bound while they rest. What is freed beyond it, at 900 calls a second and more, rests as long unbound and
/// unheard: descriptors are for calls.
const MOST_BOUND: usize = 2_048;
/// Pairs at most that are looked at for one leg where none is free: it waits no longer for more.
const MOST_TRIES: usize = 16;
/// Rests that end within so much time are looked at together.
const TOGETHER: Duration = Duration::from_millis(250);
/// Datagrams taken out of one port at most; a receive buffer of the usual size holds no more.
const MOST_WAITING: usize = 512;
/// What is asked for as a receive buffer while a port rests: the kernel gives the least it has, 2 KB in the place of 208,
/// which junk would fill in thousands of ports at once.
const RESTING_BUFFER: usize = 1;
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
    disturbed: u64,
    /// When rests were last looked at.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Pool {
    network: NetworkId,
    address: IpAddr,
    dscp: u8,
    size: usize,
    /// Those that never worked or have rested, oldest first.
    free: VecDeque<FreePair>,
    /// Those that rest and to which something may still be under way, oldest first.
    fresh: VecDeque<RestingPair>,
    /// The others that rest, the one that has been quiet for longest first.
    resting: VecDeque<RestingPair>,
}

#[derive(Debug, Clone, Copy)]
struct FreePair {
    rtp_port: u16,
    /// Not before this, because another program held it.
    avoid_until: Option<Instant>,
}

/// A pair that waits, still bound, for nobody to send to it any more.
#[derive(Debug)]
struct RestingPair {
    sockets: LegSockets,
    freed: Instant,
    /// The rest began then, or began anew.
    since: Instant,
    /// Nothing was found to have come after that.
    quiet_since: Instant,
    /// Receive buffer that its sockets had, in bytes.
    buffer: usize,
}

impl RestingPair {
    fn new(sockets: LegSockets, now: Instant) -> RestingPair {
        let buffer = SockRef::from(&sockets.rtp).recv_buffer_size().unwrap_or(0);
        let pair = RestingPair { sockets, freed: now, since: now, quiet_since: now, buffer };
        pair.ask_for_buffer(RESTING_BUFFER);
        pair
    }

    /// Ends the rest with sockets as they were.
    fn wake(self) -> LegSockets {
        // Linux reports twice what it is asked for (socket(7), SO_RCVBUF).
        self.ask_for_buffer(self.buffer / 2);
        self.sockets
    }

    fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        [Some(&self.sockets.rtp), self.sockets.rtcp.as_ref()].into_iter().flatten()
    }

    /// A kernel that refuses keeps what it has.
    fn ask_for_buffer(&self, bytes: usize) {
        for socket in self.sockets() {
            let _ = SockRef::from(socket).set_recv_buffer_size(bytes);
        }
    }

    /// Takes out what has come; true if anything had.
    fn drain(&self) -> bool {
        let mut came = false;
        for socket in self.sockets() {
            for _ in 0..MOST_WAITING {
                match socket.recv(&mut [0]) {
                    Ok(_) => came = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An error queued on the socket; reading took it away.
                    Err(_) => {}
                }
            }
        }
        came
    }

    /// True once what was under way when the pair was freed must be here.
    fn is_settled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= REST_UNDER_PRESSURE
    }

    fn has_rested(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= REST
    }

    /// True if it may be used where no other is left.
    fn is_near_enough(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.quiet_since) >= REST_UNDER_PRESSURE
    }

    fn again(self, now: Instant) -> RestingPair {
        RestingPair { since: now, quiet_since: now, ..self }
    }
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
                    .filter(|port| port % 2 == 0 && *port > 0 && port < network.range.end())
                    .map(|rtp_port| FreePair { rtp_port, avoid_until: None })
                    .collect();
                // Guessing the next call's port must not be possible from the last one's (RFC 6056 §3).
                shuffle.apply(&mut free);
                pools.push(Pool {
                    network: network.network,
                    address,
                    dscp: network.dscp,
                    size: free.len(),
                    free: free.into(),
                    fresh: VecDeque::new(),
                    resting: VecDeque::new(),
                });
            }
        }
        PortAllocator { pools, rushed: 0, disturbed: 0, looked: None }
    }

    /// Binds a pair that has rested, or where none is left takes one that was quiet for the least time.
    pub fn allocate(
        &mut self,
        network: NetworkId,
        family: Family,
        now: Instant,
    ) -> Result<LegSockets, PortsExhausted> {
        self.handle_timeout(now);
        let pool = self
            .pools
            .iter_mut()
            .find(|pool| pool.network == network && Family::of(pool.address) == family)
            .ok_or(PortsExhausted::NoAddress)?;
        let mut exhausted = PortsExhausted::NoneFree;
        for _ in 0..pool.free.len() {
            let Some(pair) = pool.free.pop_front() else { break };
            if pair.avoid_until.is_some_and(|until| until > now) {
                pool.free.push_back(pair);
                continue;
            }
            match bind_pair(pool.address, pair.rtp_port, pool.dscp) {
                Ok((rtp, rtcp)) => {
                    let local_rtp = SocketAddr::new(pool.address, pair.rtp_port);
                    return Ok(LegSockets { rtp, rtcp: Some(rtcp), network, local_rtp });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    pool.free.push_back(FreePair { avoid_until: Some(now + AVOID), ..pair });
                }
                Err(error) => {
                    // Where descriptors or the address are wanting, the next port is no better, and this one no worse:
                    // only those that rest are still bound.
                    pool.free.push_front(pair);
                    let (address, why) = (pool.address, error.kind());
                    exhausted = PortsExhausted::Unbindable { address, why };
                    break;
                }
            }
        }
        let (mut place, mut tries) = (0, 0);
        while place < pool.resting.len() && tries < MOST_TRIES {
            if !pool.resting[place].is_near_enough(now) {
                place += 1;
                continue;
            }
            tries += 1;
            let Some(pair) = pool.resting.remove(place) else { break };
            if !pair.drain() || now.saturating_duration_since(pair.freed) >= LONGEST_REST {
                self.rushed += 1;
                return Ok(pair.wake());
            }
            self.disturbed += 1;
            pool.resting.push_back(pair.again(now));
        }
        Err(exhausted)
    }

    /// Lets ports rest.
    pub fn release(&mut self, sockets: LegSockets, now: Instant) {
        self.release_within(sockets, now, MOST_BOUND);
    }

    /// The same with no more than so many left bound.
    fn release_within(&mut self, sockets: LegSockets, now: Instant, most: usize) {
        let LegSockets { network, local_rtp, .. } = &sockets;
        let pool = self.pools.iter_mut().find(|p| p.network == *network && p.address == local_rtp.ip());
        if let Some(pool) = pool {
            pool.fresh.push_back(RestingPair::new(sockets, now));
            if pool.fresh.len() + pool.resting.len() > most
                && let Some(pair) = pool.resting.pop_front().or_else(|| pool.fresh.pop_front())
            {
                let rtp_port = pair.sockets.local_rtp.port();
                pool.free.push_back(FreePair { rtp_port, avoid_until: Some(pair.since + REST) });
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |pool: &Pool| {
            let rested = pool.resting.front().map(|pair| pair.since + REST);
            let settled = pool.fresh.front().map(|pair| pair.since + REST_UNDER_PRESSURE);
            [rested, settled].into_iter().flatten().min()
        };
        let due = self.pools.iter().filter_map(due).min()?;
        Some(self.looked.map_or(due, |looked| due.max(looked + TOGETHER)))
    }

    /// Closes the pairs that have rested; one that packets still came to rests anew.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.looked = Some(now);
        for pool in &mut self.pools {
            while let Some(mut pair) = pool.fresh.pop_front_if(|pair| pair.is_settled(now)) {
                if pair.drain() {
                    pair.quiet_since = now;
                }
                pool.resting.push_back(pair);
            }
            while let Some(pair) = pool.resting.pop_front_if(|pair| pair.has_rested(now)) {
                if pair.drain() {
                    self.disturbed += 1;
                    pool.resting.push_back(pair.again(now));
                } else {
                    let rtp_port = pair.sockets.local_rtp.port();
                    pool.free.push_back(FreePair { rtp_port, avoid_until: None });
                }
            }
        }
    }

    /// Pairs a new leg could take now, of all networks and families.
    pub fn free(&self, now: Instant) -> usize {
        let ready = |pair: &&FreePair| pair.avoid_until.is_none_or(|until| until <= now);
        let rested = |pair: &&RestingPair| pair.is_near_enough(now);
        let of =
            |pool: &Pool| pool.free.iter().filter(ready).count() + pool.resting.iter().filter(rested).count();
        self.pools.iter().map(of).sum()
    }

    /// Pairs no leg has, those that rest included.
    pub fn idle(&self) -> usize {
        self.pools.iter().map(|pool| pool.free.len() + pool.fresh.len() + pool.resting.len()).sum()
    }

    /// Pairs configured in all networks and families.
    pub fn configured(&self) -> usize {
        self.pools.iter().map(|pool| pool.size).sum()
    }

    /// Pairs given out before their full rest, since the start.
    pub fn rushed(&self) -> u64 {
        self.rushed
    }

    /// Rests that began anew because packets still came, since the start.
    pub fn disturbed(&self) -> u64 {
        self.disturbed
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

    /// Somebody who sends to a pair's RTP port and never hears that its call is over.
    struct Stray {
        socket: UdpSocket,
        to: SocketAddr,
    }

    impl Stray {
        fn to(pair: &LegSockets) -> Stray {
            Stray { socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), to: pair.local_rtp }
        }

        fn send(&self) {
            self.socket.send_to(&[0x80; 172], self.to).unwrap();
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pair_that_is_still_sent_to_rests_until_it_is_quiet() {
        let (mut ports, _) = allocator(1);
        let start = Instant::now();
        let pair = ports.allocate(DEFAULT, Family::V4, start).unwrap();
        let stray = Stray::to(&pair);
        ports.release(pair, start);
        // Ten seconds of packets every 20 ms, in which no new call may have the port, pressed as it is.
        for n in 0..500 {
            stray.send();
            let now = start + 20 * MS * n;
            assert_eq!(ports.allocate(DEFAULT, Family::V4, now).err(), Some(PortsExhausted::NoneFree), "{n}");
        }
        assert!(ports.disturbed() > 5, "{}", ports.disturbed());
        assert_eq!((ports.idle(), ports.rushed()), (1, 0));
        // It falls silent, and is as good as any other two seconds later; nothing of the old call waits in it.
        let silent = start + 10_000 * MS;
        assert_eq!(ports.allocate(DEFAULT, Family::V4, silent).err(), Some(PortsExhausted::NoneFree));
        assert_eq!(ports.free(silent + 499 * MS), 0);
        ports.handle_timeout(silent + REST);
        let pair = ports.allocate(DEFAULT, Family::V4, silent + REST).unwrap();
        assert_eq!(pair.rtp.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(ports.rushed(), 0);
    }

    #[test]
    fn what_is_sent_to_a_pair_that_rests_fills_no_memory_and_the_next_call_has_its_whole_buffer() {
        let (mut ports, _) = allocator(1);
        let start = Instant::now();
        let pair = ports.allocate(DEFAULT, Family::V4, start).unwrap();
        let buffers = |pair: &LegSockets| {
            let rtcp = pair.rtcp.as_ref().unwrap();
            [&pair.rtp, rtcp].map(|socket| SockRef::from(socket).recv_buffer_size().unwrap())
        };
        let (stray, usual) = (Stray::to(&pair), buffers(&pair));
        ports.release(pair, start);
        (0..200).for_each(|_| stray.send());
        let resting = &ports.pools[0].fresh[0].sockets;
        let kept = std::iter::from_fn(|| resting.rtp.recv(&mut [0]).ok()).count();
        assert!((1..20).contains(&kept), "{kept} of 200 datagrams");
        let pair = ports.allocate(DEFAULT, Family::V4, start + REST_UNDER_PRESSURE).unwrap();
        assert_eq!((buffers(&pair), ports.rushed()), (usual, 1));
        (0..100).for_each(|_| stray.send());
        assert_eq!(std::iter::from_fn(|| pair.rtp.recv(&mut [0]).ok()).count(), 100);
    }

    #[test]
    fn what_was_under_way_when_a_call_ended_makes_no_rest_longer() {
        let (mut ports, _) = allocator(1);
        let start = Instant::now();
        let pair = ports.allocate(DEFAULT, Family::V4, start).unwrap();
        let stray = Stray::to(&pair);
        ports.release(pair, start);
        stray.send();
        let settles = ports.poll_timeout().unwrap();
        assert_eq!(settles, start + REST_UNDER_PRESSURE);
        ports.handle_timeout(settles);
        assert_eq!(ports.poll_timeout(), Some(start + REST));
        ports.handle_timeout(start + REST);
        assert_eq!((ports.disturbed(), ports.poll_timeout()), (0, None));
        let pair = ports.allocate(DEFAULT, Family::V4, start + REST).unwrap();
        assert_eq!(pair.rtp.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(ports.rushed(), 0);
    }

    #[test]
    fn no_more_pairs_stay_bound_than_descriptors_can_be_spared_for() {
        let (mut ports, _) = allocator(8);
        let start = Instant::now();
        let pairs: Vec<_> = (0..6).map(|_| ports.allocate(DEFAULT, Family::V4, start).unwrap()).collect();
        let first = pairs[0].local_rtp;
        pairs.into_iter().for_each(|pair| ports.release_within(pair, start, 2));
        assert_eq!((ports.pools[0].fresh.len(), ports.idle()), (2, 8));
        // Those freed first are closed, and have to rest all the same.
        UdpSocket::bind(first).unwrap();
        assert_eq!(ports.free(start + REST - MS), 2);
        ports.handle_timeout(start + REST);
        assert_eq!(ports.free(start + REST), 8);
    }

    #[test]
    fn a_pair_is_bound_while_it_rests_and_no_longer() {
        let (mut ports, _) = allocator(1);
        let start = Instant::now();
        let pair = ports.allocate(DEFAULT, Family::V4, start).unwrap();
        let rtp = pair.local_rtp;
        ports.release(pair, start);
        ports.handle_timeout(start + REST - MS);
        assert_eq!(UdpSocket::bind(rtp).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        ports.handle_timeout(start + REST);
        UdpSocket::bind(rtp).unwrap();
    }

    #[test]
    fn who_never_stops_sending_to_a_port_keeps_it_for_a_minute_at_most() {
        let (mut ports, _) = allocator(1);
        let start = Instant::now();
        let pair = ports.allocate(DEFAULT, Family::V4, start).unwrap();
        let stray = Stray::to(&pair);
        ports.release(pair, start);
        let taken = (0..200).find(|n| {
            stray.send();
            ports.allocate(DEFAULT, Family::V4, start + 500 * MS * *n).is_ok()
        });
        assert!(taken.is_some_and(|n| (120..=122).contains(&n)), "{taken:?} half seconds");
        assert_eq!(ports.rushed(), 1);
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
