//! The trunks as they are now: where they are, whether they take calls, and our registration there.

use super::event::Target;
use super::settings::{Settings, Trunk};
use super::targets::{Route, Targets};
use crate::routing::{AdminState, Channel, Evidence, TrunkIndex, TrunkOutput, TrunkTable, TrunkView};
use crate::sip::auth::ClientAuth;
use crate::sip::message::Request;
use crate::sip::transaction::ClientKey;
use crate::types::Now;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a trunk can't take a call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Down, blocked, draining, or without a known address.
    Unavailable,
    /// At its channel or CPS limit.
    Congested,
}

/// Our own registration at an operator.
#[derive(Debug, Clone, PartialEq)]
pub enum OwnRegistration {
    /// This trunk wants none.
    None,
    Registering,
    Registered {
        until: Now,
    },
    Failed {
        why: String,
    },
}

/// What is known of one trunk beside its health and limits.
#[derive(Debug)]
pub struct Side {
    pub settings: Arc<Trunk>,
    /// Addresses of its proxies; the last good ones when DNS is dead.
    pub targets: Targets,
    pub registration: OwnRegistration,
    pub upkeep: Upkeep,
    /// Whether the outside was last told that the trunk gets no calls by order or after a failure.
    pub told_blocked: bool,
}

/// The registration's own dialogue.
#[derive(Debug)]
pub struct Upkeep {
    pub at: Option<Instant>,
    pub call_id: String,
    pub cseq: u32,
    pub auth: Option<ClientAuth>,
    /// Failures in a row, for the pause before the next try.
    pub failures: u32,
    /// The last request, to be repeated with credentials.
    pub last: Option<Request>,
    /// What the registrar is asked for: as configured, or as long as it insists on.
    pub lifetime: Duration,
    /// Where the last request went.
    pub asked: Option<Target>,
    /// Where the registration is kept at present.
    pub registrar: Option<Target>,
    /// The way the registrar wants our calls to go while we are registered (RFC 3608).
    pub service_route: Vec<String>,
    /// The round of OPTIONS that was sent last, one to each address.
    pub options: Round,
}

/// OPTIONS that were sent together.
#[derive(Debug, Default)]
pub struct Round {
    pub open: Vec<Question>,
    /// One of them was answered well.
    pub alive: bool,
}

/// An OPTIONS that has no answer yet.
#[derive(Debug)]
pub struct Question {
    pub key: ClientKey,
    pub sent: Instant,
    pub route: Route,
}

impl Upkeep {
    fn new(settings: &Trunk, now: Now) -> Upkeep {
        Upkeep {
            at: settings.registers().then_some(now.instant),
            call_id: String::new(),
            cseq: 0,
            auth: settings.client_auth(),
            failures: 0,
            last: None,
            asked: None,
            lifetime: settings.config.register,
            registrar: None,
            service_route: Vec::new(),
            options: Round::default(),
        }
    }
}

/// All trunks, in the order of the configuration.
pub struct Trunks {
    table: TrunkTable,
    sides: Vec<Side>,
    /// When a pause begins or ends, and somebody must be told.
    look_again_at: Option<Instant>,
}

impl Trunks {
    pub fn new(settings: &Settings, now: Now) -> Trunks {
        Trunks {
            table: TrunkTable::new(settings.trunk_settings(), now.instant),
            sides: settings.trunks.iter().map(|trunk| Side::new(trunk, now)).collect(),
            look_again_at: None,
        }
    }

    pub fn side(&self, index: usize) -> Option<&Side> {
        self.sides.get(index)
    }

    pub fn side_mut(&mut self, index: usize) -> Option<&mut Side> {
        self.sides.get_mut(index)
    }

    /// Each trunk with what its limits and health say.
    pub fn iter(&self) -> impl Iterator<Item = (&Side, TrunkView)> {
        self.sides.iter().zip(self.table.views())
    }

    pub fn table(&mut self) -> &mut TrunkTable {
        &mut self.table
    }

    pub fn len(&self) -> usize {
        self.sides.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.sides.iter().position(|side| &*side.settings.name == name)
    }

    /// New addresses of a trunk's proxies. An empty answer keeps the last good one.
    pub fn resolved(&mut self, name: &str, targets: Vec<Target>) -> Option<usize> {
        let index = self.index_of(name)?;
        if targets.is_empty() {
            return None;
        }
        self.sides[index].targets.set(targets);
        Some(index)
    }

    /// Takes a channel of a trunk for a call towards one of its addresses that it has not `tried`; after the last one
    /// comes nothing. `draw` is uniform over `u32` and decides between equals.
    pub fn take(
        &mut self,
        now: Now,
        name: &str,
        tried: &[Route],
        draw: u32,
    ) -> Result<(Channel, Target), Refusal> {
        let index = self.index_of(name).ok_or(Refusal::Unavailable)?;
        let side = &self.sides[index];
        let target = side.routed(now, tried).or_else(|| side.targets.choose(now.instant, tried, draw));
        let target = target.cloned().ok_or(Refusal::Unavailable)?;
        let channel = self.table.take(trunk_index(index), now.instant).map_err(refusal)?;
        Ok((channel, target))
    }

    /// Whether [`take`](Self::take) would find a channel and an address for a call that has tried none.
    pub fn would_take(&mut self, now: Now, name: &str) -> Result<(), Refusal> {
        let index = self.index_of(name).ok_or(Refusal::Unavailable)?;
        let side = &self.sides[index];
        let target = side.routed(now, &[]).or_else(|| side.targets.choose(now.instant, &[], 0));
        target.ok_or(Refusal::Unavailable)?;
        self.table.would_take(trunk_index(index), now.instant).map_err(refusal)
    }

    /// The routes that a call to this address of a trunk starts with: what its registrar gave us with the registration
    /// that is kept there.
    pub fn service_route(&self, now: Now, name: &str, route: Route) -> &[String] {
        let side = self.index_of(name).map(|index| &self.sides[index]);
        let side =
            side.filter(|side| side.routed_by(now).is_some_and(|target| Route::of(&target.peer) == route));
        side.map_or(&[], |side| &side.upkeep.service_route)
    }

    /// True where nothing but a limit would keep a call from the trunk.
    pub fn is_well(&self, now: Now, name: &str) -> bool {
        self.index_of(name).is_some_and(|index| {
            let open = self.sides[index].targets.choose(now.instant, &[], 0).is_some();
            open && self.table.is_well(trunk_index(index), now.instant)
        })
    }

    /// As [`take`](Self::take), whatever the trunk's state and its limits say: for emergency calls.
    pub fn take_anyway(
        &mut self,
        now: Now,
        name: &str,
        tried: &[Route],
        draw: u32,
    ) -> Result<(Channel, Target), Refusal> {
        let index = self.index_of(name).ok_or(Refusal::Unavailable)?;
        let side = &self.sides[index];
        let target = side.routed(now, tried).or_else(|| side.targets.choose_anyway(now.instant, tried, draw));
        let target = target.cloned().ok_or(Refusal::Unavailable)?;
        let channel = self.table.take_anyway(trunk_index(index), now.instant).map_err(refusal)?;
        Ok((channel, target))
    }

    /// As [`take_incoming`](Self::take_incoming), whatever the trunk's state and its limits say.
    pub fn take_incoming_anyway(&mut self, now: Now, name: &str) -> Result<Channel, Refusal> {
        let index = self.index_of(name).ok_or(Refusal::Unavailable)?;
        self.table.take_incoming_anyway(trunk_index(index), now.instant).map_err(refusal)
    }

    /// One address of a trunk asked to be left alone for a while (RFC 3261 §21.5.4). Where none is left, the trunk gets
    /// no calls until the first of them may be asked again.
    pub fn pause_target(&mut self, now: Now, name: &str, route: Route, pause: Duration) {
        let Some(index) = self.index_of(name) else { return };
        self.sides[index].targets.pause(route, now.instant + pause);
        if let Some(first) = self.sides[index].targets.all_paused_until(now.instant) {
            self.pause(now, name, first - now.instant);
        }
    }

    /// Whether calls from the trunk are taken at all, whatever its limits say.
    pub fn may_call(&mut self, name: &str) -> Result<(), Refusal> {
        let index = self.index_of(name).ok_or(Refusal::Unavailable)?;
        self.table.may_call(trunk_index(index)).map_err(refusal)
    }

    /// Takes a channel for a call that comes from the trunk.
    pub fn take_incoming(&mut self, now: Now, name: &str) -> Result<Channel, Refusal> {
        let index = self.index_of(name).ok_or(Refusal::Unavailable)?;
        self.table.take_incoming(trunk_index(index), now.instant).map_err(refusal)
    }

    /// Whether a call that comes from the trunk would find a channel.
    pub fn would_take_incoming(&mut self, now: Now, name: &str) -> Result<(), Refusal> {
        let index = self.index_of(name).ok_or(Refusal::Unavailable)?;
        self.table.would_take_incoming(trunk_index(index), now.instant).map_err(refusal)
    }

    /// Counts a call that comes from the trunk and goes nowhere.
    pub fn count_incoming(&mut self, now: Now, name: &str) -> Result<(), Refusal> {
        let index = self.index_of(name).ok_or(Refusal::Unavailable)?;
        self.table.count_incoming(trunk_index(index), now.instant).map_err(refusal)
    }

    /// A call that came from the trunk was refused for a limit.
    pub fn note_refused(&mut self, now: Now, name: &str) {
        if let Some(index) = self.index_of(name) {
            self.table.note_refused(trunk_index(index), now.instant);
        }
    }

    /// True while the trunk keeps sending calls in spite of that.
    pub fn is_deaf(&mut self, now: Now, name: &str) -> bool {
        self.index_of(name).is_some_and(|index| self.table.is_deaf(trunk_index(index), now.instant))
    }

    pub fn release(&mut self, channel: Channel) {
        self.table.release(channel);
    }

    /// A call proved the trunk alive, and the address it went to.
    pub fn succeeded(&mut self, now: Now, name: &str, route: Route) {
        if let Some(index) = self.index_of(name) {
            self.sides[index].targets.answered(route);
            self.table.handle_call(trunk_index(index), now.instant, Evidence::Alive);
        }
    }

    /// An address of a trunk was not there for a call, or had no room. False where that leaves the trunk without any
    /// other.
    pub fn target_failed(&mut self, now: Now, name: &str, route: Route) -> bool {
        let Some(index) = self.index_of(name) else { return true };
        self.sides[index].targets.failed(now.instant, route, None)
    }

    /// A call was answered as by a trunk that can't take it.
    pub fn doubted(&mut self, now: Now, name: &str) {
        if let Some(index) = self.index_of(name) {
            self.table.handle_doubt(trunk_index(index), now.instant);
        }
    }

    /// A call failed in a way that is the trunk's fault.
    pub fn failed(&mut self, now: Now, name: &str) {
        if let Some(index) = self.index_of(name) {
            self.table.handle_call(trunk_index(index), now.instant, Evidence::Failed);
        }
    }

    /// The trunk gets no calls for a while.
    pub fn pause(&mut self, now: Now, name: &str, pause: Duration) {
        if let Some(index) = self.index_of(name) {
            self.table.pause(trunk_index(index), now.instant + pause);
            self.look_again_at = Some(now.instant);
        }
    }

    /// Takes up new settings; trunks that stay keep their state, channels in use included.
    pub fn reload(&mut self, settings: &Settings, now: Now) {
        self.table.reconfigure(settings.trunk_settings(), now.instant);
        let mut old = std::mem::take(&mut self.sides);
        for new in &settings.trunks {
            let known = old.iter().position(|side| side.settings.name == new.name);
            let mut side = match known {
                Some(position) => old.swap_remove(position),
                None => Side::new(new, now),
            };
            if side.settings.config != new.config {
                let old = std::mem::replace(&mut side.upkeep, Upkeep::new(new, now));
                // The same account at the same operator: until it is renewed the registration is what it was.
                let place = |trunk: &Trunk| {
                    let config = &trunk.config;
                    (config.proxy.clone(), config.auth, config.domain.clone(), config.username.clone())
                };
                if place(&side.settings) == place(new) {
                    (side.upkeep.registrar, side.upkeep.service_route) = (old.registrar, old.service_route);
                }
                if !new.registers() {
                    side.registration = OwnRegistration::None;
                }
            }
            side.settings = new.clone();
            self.sides.push(side);
        }
    }

    /// The trunks that became blocked or free since the last time, as (name, blocked).
    pub fn block_changes(&mut self, now: Now) -> Vec<(Arc<str>, bool)> {
        let mut changes = Vec::new();
        self.look_again_at = None;
        for (side, view) in self.sides.iter_mut().zip(self.table.views()) {
            let paused = view.paused_until.is_some_and(|until| until > now.instant);
            let blocked = paused || view.admin == AdminState::Blocked;
            if paused {
                self.look_again_at = self.look_again_at.into_iter().chain(view.paused_until).min();
            }
            if std::mem::replace(&mut side.told_blocked, blocked) != blocked {
                changes.push((view.name, blocked));
            }
        }
        changes
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let upkeep = self.sides.iter().filter_map(|side| side.upkeep.at);
        upkeep.chain(self.table.poll_timeout()).chain(self.look_again_at).min()
    }

    pub fn poll_output(&mut self) -> Option<TrunkOutput> {
        self.table.poll_output()
    }
}

impl Side {
    fn new(settings: &Arc<Trunk>, now: Now) -> Side {
        Side {
            settings: settings.clone(),
            targets: Targets::default(),
            registration: if settings.registers() {
                OwnRegistration::Registering
            } else {
                OwnRegistration::None
            },
            upkeep: Upkeep::new(settings, now),
            told_blocked: false,
        }
    }

    /// The address whose registrar told the way of our calls, while that holds.
    fn routed_by(&self, now: Now) -> Option<&Target> {
        let holds = match &self.registration {
            OwnRegistration::Registered { until } => now.instant < until.instant,
            OwnRegistration::None | OwnRegistration::Registering | OwnRegistration::Failed { .. } => false,
        };
        self.upkeep.registrar.as_ref().filter(|_| holds && !self.upkeep.service_route.is_empty())
    }

    /// That address, where a call may be tried there. The route itself is never followed by us: a call goes to an
    /// address of the trunk, which sends it on.
    fn routed(&self, now: Now, tried: &[Route]) -> Option<&Target> {
        let route = Route::of(&self.routed_by(now)?.peer);
        self.targets.open(now.instant, route).filter(|_| !tried.contains(&route))
    }
}

pub fn trunk_index(index: usize) -> TrunkIndex {
    TrunkIndex(index as u16)
}

fn refusal(refusal: crate::routing::Refusal) -> Refusal {
    if refusal.is_congestion() { Refusal::Congested } else { Refusal::Unavailable }
}
