//! Admission under overload: how many new requests each source may bring while the gateway is behind.
//!
//! The measure is how long new requests wait for the layer above, which takes all that belongs to running calls before
//! them. While they wait too long, all of them together get a budget, what the layer above was just able to take less what
//! waits already, and the sources share it max-min fair: whoever brings less than the level is not touched, whoever brings
//! more is held to it. Each source waits in a line of its own, and the lines are served in turn, so that nobody waits for
//! the calls of another; a line takes no more than a part of the room that is left. A source that keeps bringing many times its share, whatever it is answered, gets less and less of it. Sources that are nobody's share one part, so
//! that forged addresses gain nothing. While nothing waits, nothing is held. What comes by a stream is never dropped:
//! nobody repeats it, and its address is proven, so that datagrams from there are another source.

mod bucket;
mod level;
mod networks;
mod queue;
mod recent;

use bucket::Bucket;
use ipnet::IpNet;
use level::Demand;
use networks::Networks;
pub use queue::Queue;
use recent::Recent;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverloadSettings {
    /// How long a new request may wait. A caller hears nothing of it, and T1 (500 ms) is far.
    pub target: Duration,
    /// How long all of them have to wait longer before it counts: a burst that is worked off is none.
    pub interval: Duration,
    /// New requests that may wait at all: less than what a gateway handles within T1 (500 ms), after which they come again.
    /// One trunk or user alone may fill four fifths of it with datagrams, strangers half.
    pub room: u32,
    /// New requests a second that are let in together however far behind we are.
    pub floor: u32,
    /// Refusals a second in all, and for one source; the rest is dropped in silence. Each costs a system call.
    pub refusals: u32,
    pub refusals_per_source: u32,
    /// Calls for help a second and at once that a source may make whatever the level is.
    pub urgent_rate: u32,
    pub urgent_burst: u32,
    /// Sources told apart within one interval, users known by address, sources muted: what comes on top is one source.
    pub capacity: usize,
}

impl Default for OverloadSettings {
    fn default() -> OverloadSettings {
        OverloadSettings {
            target: Duration::from_millis(20),
            interval: Duration::from_millis(100),
            room: 1_024,
            floor: 50,
            refusals: 500,
            refusals_per_source: 50,
            urgent_rate: 5,
            urgent_burst: 20,
            capacity: 65_536,
        }
    }
}

/// What to do with a request that would begin something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It waits from now on, in this line, until it [left](Overload::left).
    Admit { line: Line },
    /// Answer 503 with this Retry-After.
    Refuse { retry_after: Duration },
    /// Say nothing.
    Drop,
    /// No room, and nobody would repeat it: the stream is not read on until one has left.
    Full { stranger: bool },
}

/// Who sends something, as far as the transport knows.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    pub address: IpAddr,
    /// By a stream: the address is not forged.
    pub stream: bool,
    /// By a stream that we opened, or whose certificate we asked for.
    pub proven: bool,
}

/// A request outside any dialog, as far as it has to be known here.
#[derive(Debug, Clone, Copy)]
pub struct Newcomer {
    pub sender: Sender,
    /// The same for each repetition of the request.
    pub identity: u64,
    /// A call for help.
    pub urgent: bool,
}

/// Where a request waits: behind the others of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Line(Option<Key>);

impl Line {
    /// That of all who are nobody's.
    pub const STRANGERS: Line = Line(None);

    pub fn is_strangers(self) -> bool {
        self == Line::STRANGERS
    }
}

/// A source that keeps bringing this many times its fair share is held shorter, and no more once it brings half of that.
const DEAF: f64 = 4.0;
/// The least part of a share that such a source keeps.
const LEAST_WEIGHT: f64 = 1.0 / 64.0;
/// A line is no longer than so many times the room that is left.
const LINE: u32 = 4;
/// Intervals in a row that have to be behind, so that a pause of the machine is not taken for overload.
const PATIENCE: u32 = 2;
/// From so many on they wait for each other; a few that wait on an idle gateway wait for the machine.
const CROWD: u32 = 16;
/// Intervals in which nothing had to be held back after which nothing is held any more.
const CALM: u32 = 20;
/// Growth of the budget in an interval in which nothing waited too long: that is how room is found.
const INCREASE: f64 = 1.05;
/// The part of what can be handled from which on there is no heap to speak of.
const SETTLED: f64 = 0.8;
/// The part of what can be handled that is let in again at once.
const RESUME: f64 = 0.95;
/// In this many seconds what waits already is to be worked off.
const WORK_OFF: f64 = 0.5;
/// The least part of what can be handled that is let in meanwhile.
const LEAST_PART: f64 = 0.2;
/// The least time between two looks at all users, or at all that are muted, for those whose time is over.
const SWEEP_USERS: Duration = Duration::from_secs(60);
const SWEEP_MUTED: Duration = Duration::from_secs(1);
/// A repetition of what was admitted comes within 64 × T1.
const REPEATED_WITHIN: Duration = Duration::from_secs(32);

/// Who counts as one source: a trunk's network, a user's address, a proven far end of a stream; apart from it whoever
/// sends datagrams from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    place: IpNet,
    stream: bool,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    /// In the running interval.
    offered: u32,
    /// A second, smoothed.
    rate: f64,
    weight: f64,
    bucket: Bucket,
    refusals: Bucket,
    urgent: Bucket,
    /// Admitted, and neither handled nor lost.
    waiting: u32,
    /// Of those handled in the running interval, and how many they were.
    least_wait: Option<Duration>,
    handled: u32,
}

/// The admission of one gateway.
#[derive(Debug)]
pub struct Overload {
    settings: OverloadSettings,
    trunks: Networks,
    /// Until when they are known.
    users: HashMap<IpNet, Instant>,
    users_swept: Option<Instant>,
    muted: HashMap<IpAddr, Instant>,
    muted_swept: Option<Instant>,
    sources: HashMap<Key, Source>,
    /// All that are nobody's, together.
    strangers: Source,
    refusals: Bucket,
    admitted: Recent,
    /// When the running interval began, and what was seen in it.
    begun: Instant,
    handled: u32,
    held_back: u32,
    /// Those of all lines.
    waiting: u32,
    /// New requests handled a second while some waited, smoothed: all that can be handled.
    capacity: Option<f64>,
    behind: u32,
    calm: u32,
    /// New requests a second for all together, while they are limited.
    budget: Option<f64>,
    /// What a source of full weight may bring a second; infinite where all find room.
    level: f64,
    /// Whoever brings no more than this is not told to go elsewhere, but left to ask again.
    silent_up_to: f64,
}

impl Source {
    fn new(now: Instant) -> Source {
        Source {
            offered: 0,
            rate: 0.0,
            weight: 1.0,
            bucket: Bucket::full(now),
            refusals: Bucket::full(now),
            urgent: Bucket::full(now),
            waiting: 0,
            least_wait: None,
            handled: 0,
        }
    }
}

impl Overload {
    pub fn new(settings: OverloadSettings, now: Instant) -> Overload {
        Overload {
            settings,
            trunks: Networks::default(),
            users: HashMap::new(),
            users_swept: None,
            muted: HashMap::new(),
            muted_swept: None,
            sources: HashMap::new(),
            strangers: Source::new(now),
            refusals: Bucket::full(now),
            admitted: Recent::new(REPEATED_WITHIN, now),
            begun: now,
            handled: 0,
            held_back: 0,
            waiting: 0,
            capacity: None,
            behind: 0,
            calm: 0,
            budget: None,
            level: f64::INFINITY,
            silent_up_to: f64::INFINITY,
        }
    }

    /// Where trunks send from, each network a source of its own from its first request on.
    pub fn set_trunks(&mut self, trunks: Vec<IpNet>) {
        self.trunks = Networks::new(trunks);
    }

    /// A user is registered from there, and known until then.
    pub fn set_user(&mut self, now: Instant, address: IpAddr, until: Instant) {
        let place = place_of(address);
        if let Some(known) = self.users.get_mut(&place) {
            *known = until.max(*known);
            return;
        }
        if self.users.len() >= self.settings.capacity && is_due(&mut self.users_swept, now, SWEEP_USERS) {
            self.users.retain(|_, until| *until > now);
        }
        if self.users.len() < self.settings.capacity {
            self.users.insert(place, until);
        }
    }

    /// No datagram from there that begins something is looked at until then.
    pub fn mute(&mut self, now: Instant, address: IpAddr, until: Instant) {
        if self.muted.len() >= self.settings.capacity && is_due(&mut self.muted_swept, now, SWEEP_MUTED) {
            self.muted.retain(|_, until| *until > now);
        }
        if self.muted.len() < self.settings.capacity {
            self.muted.insert(address.to_canonical(), until);
        }
    }

    /// A stream is never muted: it is held by not being read.
    pub fn is_muted(&mut self, now: Instant, sender: Sender) -> bool {
        if sender.stream || self.muted.is_empty() {
            return false;
        }
        let address = sender.address.to_canonical();
        match self.muted.get(&address) {
            Some(until) if now < *until => true,
            Some(_) => {
                self.muted.remove(&address);
                false
            }
            None => false,
        }
    }

    /// True for trunks, users and those proven otherwise.
    pub fn is_known(&self, now: Instant, sender: Sender) -> bool {
        self.key_of(now, sender).is_some()
    }

    /// True while new requests may be turned away: then it is worth while to see which of them help.
    pub fn is_limiting(&self) -> bool {
        // With less nobody is without room.
        self.budget.is_some() || self.waiting >= self.settings.room / 2
    }

    /// Asked for each request outside a dialog as it comes in.
    pub fn admit(&mut self, now: Instant, newcomer: Newcomer) -> Verdict {
        self.look_at_time(now);
        let limiting = self.budget.is_some();
        let line = self.line_of(now, newcomer.sender);
        let stream = newcomer.sender.stream;
        let room = self.has_room(line, stream);
        // What was let in goes in again: a refusal would end a call that is about to begin.
        let repeated = limiting && room && self.admitted.repeats(newcomer.identity);
        let (settings, level, silent_up_to) = (self.settings, self.level, self.silent_up_to);
        let source = self.source(now, line);
        source.offered += 1;
        if room && (!limiting || repeated) {
            return self.let_in(now, newcomer.identity, line);
        }
        let helped = newcomer.urgent
            && source.urgent.take(now, f64::from(settings.urgent_rate), f64::from(settings.urgent_burst));
        if !room && !helped {
            if stream {
                // It is offered again once there is room.
                source.offered -= 1;
            }
            self.held_back += 1;
            return if stream { Verdict::Full { stranger: line.is_strangers() } } else { Verdict::Drop };
        }
        let weight = source.weight;
        let allowed = level * weight;
        // A quarter of a second's worth at once: phones do not call by the metronome.
        if helped || source.bucket.take(now, allowed, (allowed / 4.0).max(8.0)) {
            return self.let_in(now, newcomer.identity, line);
        }
        let per_source = f64::from(settings.refusals_per_source);
        let speaks = source.rate > silent_up_to && source.refusals.take(now, per_source, per_source);
        self.held_back += 1;
        let all = f64::from(settings.refusals);
        if stream || (speaks && self.refusals.take(now, all, all)) {
            // Whoever is deaf to it is asked for a longer pause.
            let retry_after = if weight < 1.0 { Duration::from_secs(10) } else { Duration::from_secs(1) };
            Verdict::Refuse { retry_after }
        } else {
            Verdict::Drop
        }
    }

    fn let_in(&mut self, now: Instant, identity: u64, line: Line) -> Verdict {
        if self.budget.is_some() || self.waiting >= CROWD {
            self.admitted.note(now, identity);
        }
        self.waiting += 1;
        self.source(now, line).waiting += 1;
        Verdict::Admit { line }
    }

    /// A line fills no more than a part of what the others leave, so that there is always room for one that is short
    /// (dynamic thresholds). What comes by streams is held by them.
    fn has_room(&self, line: Line, stream: bool) -> bool {
        let free = self.settings.room.saturating_sub(self.waiting);
        let own = || self.known_source(line).map_or(0, |source| source.waiting);
        match (line.0, stream) {
            (None, _) => own() < free,
            (Some(_), true) => free > 0,
            (Some(_), false) => own() < LINE * free,
        }
    }

    /// A new request that was admitted waits no longer, handled or lost.
    pub fn left(&mut self, line: Line) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(source) = self.known_source_mut(line) {
            source.waiting = source.waiting.saturating_sub(1);
        }
    }

    /// The layer above took a new request of a line in that had waited this long.
    pub fn handled(&mut self, now: Instant, line: Line, waited: Duration) {
        self.look_at_time(now);
        self.handled += 1;
        if let Some(source) = self.known_source_mut(line) {
            source.least_wait = Some(source.least_wait.map_or(waited, |least| least.min(waited)));
            source.handled += 1;
        }
    }

    /// What a source of full weight may bring a second; `None` while nothing is limited.
    pub fn level(&self) -> Option<f64> {
        self.budget.map(|_| self.level)
    }

    /// Where it waits. Whoever is known and finds the table full is one of the strangers for this once.
    fn line_of(&self, now: Instant, sender: Sender) -> Line {
        let full = self.sources.len() >= self.settings.capacity;
        Line(self.key_of(now, sender).filter(|key| !full || self.sources.contains_key(key)))
    }

    fn source(&mut self, now: Instant, line: Line) -> &mut Source {
        match line.0 {
            Some(key) => self.sources.entry(key).or_insert_with(|| Source::new(now)),
            None => &mut self.strangers,
        }
    }

    fn known_source(&self, line: Line) -> Option<&Source> {
        line.0.map_or(Some(&self.strangers), |key| self.sources.get(&key))
    }

    fn known_source_mut(&mut self, line: Line) -> Option<&mut Source> {
        line.0.map_or(Some(&mut self.strangers), |key| self.sources.get_mut(&key))
    }

    /// Whose share it takes; `None` for a stranger.
    fn key_of(&self, now: Instant, sender: Sender) -> Option<Key> {
        // Whoever can forge one address of a trunk's network can forge them all.
        let trunk = self.trunks.longest(sender.address);
        let user = || {
            let place = place_of(sender.address);
            self.users.get(&place).filter(|until| now < **until).map(|_| place)
        };
        let proven = || sender.proven.then(|| sender.address.to_canonical().into());
        let place = trunk.or_else(user).or_else(proven)?;
        Some(Key { place, stream: sender.stream })
    }

    /// Closes the interval where it is over.
    fn look_at_time(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.begun);
        if elapsed < self.settings.interval {
            return;
        }
        let seconds = elapsed.as_secs_f64();
        let intervals = (seconds / self.settings.interval.as_secs_f64()) as u32;
        self.begun = now;
        let handled = f64::from(std::mem::take(&mut self.handled)) / seconds;
        let held_back = std::mem::take(&mut self.held_back);
        let mut waited_long = 0;
        for source in self.sources.values_mut().chain([&mut self.strangers]) {
            // Those handled count as well: of many sources that bring one each none waits behind another.
            let handled = std::mem::take(&mut source.handled);
            if source.least_wait.take().is_some_and(|wait| wait > self.settings.target) {
                waited_long += source.waiting + handled;
            }
            let offered = f64::from(std::mem::take(&mut source.offered)) / seconds;
            source.rate = if intervals > 1 { offered } else { (source.rate + offered) / 2.0 };
        }
        let late = waited_long >= CROWD && self.waiting >= CROWD;
        self.behind = if late { self.behind + 1 } else { 0 };
        let floor = f64::from(self.settings.floor);
        if late {
            let capacity = self.capacity.map_or(handled, |before| (before + handled) / 2.0);
            self.capacity = Some(capacity);
            self.calm = 0;
            if self.budget.is_some() || self.behind >= PATIENCE {
                // What came just now waits as long as it takes to handle all before it.
                let excess = f64::from(self.waiting) / capacity.max(1.0) - self.settings.target.as_secs_f64();
                let part = (1.0 - excess / WORK_OFF).clamp(LEAST_PART, 1.0);
                self.budget = Some((capacity * part).max(floor));
            }
        } else if held_back > 0 {
            self.calm = 0;
            // Once all is worked off there is room again for what can be handled, and then maybe for more.
            let at_least = self.capacity.unwrap_or(0.0) * RESUME;
            self.budget = self.budget.map(|budget| (budget * INCREASE).max(at_least));
        } else {
            self.calm += intervals;
            if self.calm >= CALM {
                self.budget = None;
                self.capacity = None;
            }
        }
        self.share();
    }

    /// Finds the level anew, and forgets who brings nothing.
    fn share(&mut self) {
        let Some(budget) = self.budget else {
            (self.level, self.silent_up_to) = (f64::INFINITY, f64::INFINITY);
            self.sources.retain(|_, source| source.waiting > 0);
            for source in self.sources.values_mut().chain([&mut self.strangers]) {
                source.weight = 1.0;
            }
            return;
        };
        self.sources.retain(|_, source| source.rate >= 0.01 || source.weight < 1.0 || source.waiting > 0);
        let all = || self.sources.values().chain([&self.strangers]);
        // While a heap is worked off the budget is small, and nobody's fault.
        let all_of_it = self.capacity.unwrap_or(budget).max(budget);
        let fair = level::level(all_of_it, all().map(|source| Demand { rate: source.rate, weight: 1.0 }));
        // While a heap is worked off silence makes a source repeat its requests in half a second; 503 ends its calls.
        let settled = budget >= all_of_it * SETTLED;
        self.silent_up_to = if settled { 0.0 } else { fair * DEAF };
        for source in self.sources.values_mut().chain([&mut self.strangers]) {
            if source.rate > fair * DEAF {
                source.weight = (source.weight / 2.0).max(LEAST_WEIGHT);
            } else if source.rate < fair * DEAF / 2.0 {
                source.weight = (source.weight * 2.0).min(1.0);
            }
        }
        let all = self.sources.values().chain([&self.strangers]);
        self.level =
            level::level(budget, all.map(|source| Demand { rate: source.rate, weight: source.weight }));
    }
}

/// Whoever has one IPv6 address has the whole /64 it is in.
fn place_of(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    networks::around(address, if address.is_ipv4() { 32 } else { 64 })
}

/// True at most once in a span.
fn is_due(last: &mut Option<Instant>, now: Instant, span: Duration) -> bool {
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= span);
    if due {
        *last = Some(now);
    }
    due
}

#[cfg(test)]
mod tests;
