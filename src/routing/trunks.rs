//! The trunks at run time: limits, health and what the operator of the gateway says, together.

use super::{
    Evidence, Health, HealthOutput, HealthSettings, LimitReached, Limits, TrunkHealth, TrunkIndex,
    TrunkLimits,
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// What the table must know of a configured trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkSettings {
    pub name: Arc<str>,
    pub limits: Limits,
    pub health: HealthSettings,
}

/// What the operator of the gateway wants of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdminState {
    #[default]
    Open,
    /// No new call in either direction; running ones go on. Set for good.
    Blocked,
    /// As blocked, on the way to being taken out: done when no call is left.
    Draining,
}

impl AdminState {
    pub fn as_str(self) -> &'static str {
        match self {
            AdminState::Open => "open",
            AdminState::Blocked => "blocked",
            AdminState::Draining => "draining",
        }
    }
}

/// Why a trunk takes no call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is blocked")]
    Blocked,
    #[error("it is draining")]
    Draining,
    #[error("it asked for a pause")]
    Paused,
    #[error("it is down")]
    Down,
    #[error("{0}")]
    Limit(#[from] LimitReached),
    #[error("it is no longer configured")]
    Gone,
}

impl Refusal {
    /// True where the trunk works and is merely full.
    pub fn is_congestion(self) -> bool {
        match self {
            Refusal::Limit(_) => true,
            Refusal::Blocked | Refusal::Draining | Refusal::Paused | Refusal::Down | Refusal::Gone => false,
        }
    }
}

/// A channel taken on a trunk. It must be given back with [`TrunkTable::release`], also after a reload.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a channel that is not given back is lost"]
pub struct Channel {
    trunk: Arc<str>,
}

impl Channel {
    pub fn trunk(&self) -> &Arc<str> {
        &self.trunk
    }
}

/// A trunk as views and metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkView {
    pub name: Arc<str>,
    pub health: Health,
    pub admin: AdminState,
    /// Until when it takes no call because it asked so.
    pub paused_until: Option<Instant>,
    pub limits: Limits,
    pub channels_in_use: u32,
    pub options_rtt: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrunkOutput {
    /// Send OPTIONS and report with [`TrunkTable::handle_probe`].
    Probe(TrunkIndex),
    WentUp(TrunkIndex),
    WentDown(TrunkIndex),
    /// A draining trunk has no call any more.
    Drained(TrunkIndex),
}

struct Entry {
    name: Arc<str>,
    limits: TrunkLimits,
    health: TrunkHealth,
    admin: AdminState,
    paused_until: Option<Instant>,
}

/// All trunks, by [`TrunkIndex`].
pub struct TrunkTable {
    trunks: Vec<Entry>,
    /// Removed by a reload while they had calls.
    leaving: Vec<(Arc<str>, TrunkLimits)>,
    outputs: VecDeque<TrunkOutput>,
}

/// Between the first OPTIONS of one trunk and the next, so that a start is no burst.
const FIRST_PROBE_SPACING: Duration = Duration::from_millis(20);

impl TrunkTable {
    pub fn new(settings: Vec<TrunkSettings>, now: Instant) -> TrunkTable {
        let mut table = TrunkTable { trunks: Vec::new(), leaving: Vec::new(), outputs: VecDeque::new() };
        table.reconfigure(settings, now);
        table
    }

    /// Takes the trunks of a new configuration. One that keeps its name keeps its calls, health and admin state.
    pub fn reconfigure(&mut self, settings: Vec<TrunkSettings>, now: Instant) {
        let mut old = std::mem::take(&mut self.trunks);
        let old_names: Vec<Arc<str>> = old.iter().map(|entry| entry.name.clone()).collect();
        for (index, settings) in settings.into_iter().enumerate() {
            let known = old.iter().position(|entry| entry.name == settings.name);
            let entry = match known {
                Some(known) => {
                    let mut entry = old.swap_remove(known);
                    entry.limits.set(settings.limits);
                    entry.health.set(settings.health, now);
                    entry
                }
                None => {
                    let mut limits = TrunkLimits::new(settings.limits);
                    if let Some(back) = self.leaving.iter().position(|(name, _)| *name == settings.name) {
                        limits = self.leaving.swap_remove(back).1;
                        limits.set(settings.limits);
                    }
                    let first = now + FIRST_PROBE_SPACING * index as u32;
                    Entry {
                        name: settings.name,
                        limits,
                        health: TrunkHealth::new(settings.health, first),
                        admin: AdminState::Open,
                        paused_until: None,
                    }
                }
            };
            self.trunks.push(entry);
        }
        self.leaving.extend(
            old.into_iter().filter(|entry| entry.limits.in_use() > 0).map(|entry| (entry.name, entry.limits)),
        );
        // Indices have moved, and what waits to be said moves with them.
        for output in std::mem::take(&mut self.outputs) {
            let moved = |index: TrunkIndex| self.index_of(old_names.get(usize::from(index.0))?);
            let output = match output {
                TrunkOutput::Probe(index) => moved(index).map(TrunkOutput::Probe),
                TrunkOutput::WentUp(index) => moved(index).map(TrunkOutput::WentUp),
                TrunkOutput::WentDown(index) => moved(index).map(TrunkOutput::WentDown),
                TrunkOutput::Drained(index) => moved(index).map(TrunkOutput::Drained),
            };
            self.outputs.extend(output);
        }
    }

    pub fn index_of(&self, name: &str) -> Option<TrunkIndex> {
        self.trunks.iter().position(|entry| &*entry.name == name).map(|index| TrunkIndex(index as u16))
    }

    /// Takes a channel for a call to the trunk.
    ///
    /// # Errors
    /// Why the trunk takes no call now.
    pub fn take(&mut self, trunk: TrunkIndex, now: Instant) -> Result<Channel, Refusal> {
        let entry = self.fit(trunk, now)?;
        // A call that a limit holds back tries nothing: the trial is the next one's.
        entry.limits.take(now)?;
        entry.health.admits(now);
        Ok(Channel { trunk: entry.name.clone() })
    }

    /// Whether [`take`](Self::take) would find a channel; a trial of a trunk that is down is not used up by it.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn would_take(&mut self, trunk: TrunkIndex, now: Instant) -> Result<(), Refusal> {
        Ok(self.fit(trunk, now)?.limits.would_take(now)?)
    }

    /// Whether calls from the trunk are taken at all: it is neither blocked nor draining.
    ///
    /// # Errors
    /// Why it takes none.
    pub fn may_call(&mut self, trunk: TrunkIndex) -> Result<(), Refusal> {
        self.open(trunk).map(drop)
    }

    /// Takes a channel for a call from the trunk. Its health does not matter: it calls, so it lives.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_incoming(&mut self, trunk: TrunkIndex, now: Instant) -> Result<Channel, Refusal> {
        let entry = self.open(trunk)?;
        entry.limits.take_incoming(now)?;
        Ok(Channel { trunk: entry.name.clone() })
    }

    /// Whether [`take_incoming`](Self::take_incoming) would find a channel.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn would_take_incoming(&mut self, trunk: TrunkIndex, now: Instant) -> Result<(), Refusal> {
        Ok(self.open(trunk)?.limits.would_take_incoming(now)?)
    }

    /// Counts a call from the trunk that goes nowhere.
    ///
    /// # Errors
    /// It sends more than it may.
    pub fn count_incoming(&mut self, trunk: TrunkIndex, now: Instant) -> Result<(), Refusal> {
        let entry = self.entry(trunk).ok_or(Refusal::Gone)?;
        Ok(entry.limits.count_incoming(now)?)
    }

    /// A call that the trunk sent us was refused for a limit.
    pub fn note_refused(&mut self, trunk: TrunkIndex, now: Instant) {
        if let Some(entry) = self.entry(trunk) {
            entry.limits.note_refused(now);
        }
    }

    /// True while the trunk keeps sending calls in spite of that.
    pub fn is_deaf(&mut self, trunk: TrunkIndex, now: Instant) -> bool {
        self.entry(trunk).is_some_and(|entry| entry.limits.is_deaf(now))
    }

    /// True where nothing but a limit would keep a call from the trunk.
    pub fn is_well(&self, trunk: TrunkIndex, now: Instant) -> bool {
        self.trunks.get(usize::from(trunk.0)).is_some_and(|entry| {
            entry.admin == AdminState::Open
                && entry.paused_until.is_none_or(|until| until <= now)
                && entry.health.health() != Health::Down
        })
    }

    /// Takes a channel for an emergency call to the trunk, whatever its state and its limits say.
    ///
    /// # Errors
    /// There is no such trunk.
    pub fn take_anyway(&mut self, trunk: TrunkIndex, now: Instant) -> Result<Channel, Refusal> {
        let entry = self.entry(trunk).ok_or(Refusal::Gone)?;
        entry.limits.take_anyway(now);
        Ok(Channel { trunk: entry.name.clone() })
    }

    /// The same for one from the trunk.
    ///
    /// # Errors
    /// There is no such trunk.
    pub fn take_incoming_anyway(&mut self, trunk: TrunkIndex, now: Instant) -> Result<Channel, Refusal> {
        let entry = self.entry(trunk).ok_or(Refusal::Gone)?;
        entry.limits.take_incoming_anyway(now);
        Ok(Channel { trunk: entry.name.clone() })
    }

    /// Gives a channel back.
    pub fn release(&mut self, channel: Channel) {
        if let Some(index) = self.trunks.iter().position(|entry| entry.name == channel.trunk) {
            let entry = &mut self.trunks[index];
            entry.limits.release();
            if entry.admin == AdminState::Draining && entry.limits.in_use() == 0 {
                self.outputs.push_back(TrunkOutput::Drained(TrunkIndex(index as u16)));
            }
        } else if let Some(index) = self.leaving.iter().position(|(name, _)| *name == channel.trunk) {
            self.leaving[index].1.release();
            if self.leaving[index].1.in_use() == 0 {
                self.leaving.swap_remove(index);
            }
        }
    }

    /// The result of an OPTIONS that was asked for.
    pub fn handle_probe(&mut self, trunk: TrunkIndex, now: Instant, evidence: Evidence) {
        if let Some(entry) = self.entry(trunk) {
            entry.health.handle_probe(now, evidence);
            self.collect(trunk);
        }
    }

    /// What a call or a registration showed.
    pub fn handle_call(&mut self, trunk: TrunkIndex, now: Instant, evidence: Evidence) {
        if let Some(entry) = self.entry(trunk) {
            entry.health.handle_call(now, evidence);
            self.collect(trunk);
        }
    }

    /// A call was answered as by a trunk that can't take it.
    pub fn handle_doubt(&mut self, trunk: TrunkIndex, now: Instant) {
        if let Some(entry) = self.entry(trunk) {
            entry.health.handle_doubt(now);
            self.collect(trunk);
        }
    }

    /// The trunk takes no call until then: its failover table or its Retry-After says so.
    pub fn pause(&mut self, trunk: TrunkIndex, until: Instant) {
        if let Some(entry) = self.entry(trunk) {
            entry.paused_until = Some(entry.paused_until.map_or(until, |known| known.max(until)));
        }
    }

    /// Blocks, drains or opens a trunk; opening also ends a pause.
    pub fn set_admin(&mut self, trunk: TrunkIndex, admin: AdminState) {
        let Some(entry) = self.entry(trunk) else { return };
        entry.admin = admin;
        match admin {
            AdminState::Open => entry.paused_until = None,
            AdminState::Blocked => {}
            AdminState::Draining => {
                if entry.limits.in_use() == 0 {
                    self.outputs.push_back(TrunkOutput::Drained(trunk));
                }
            }
        }
    }

    pub fn view(&self, trunk: TrunkIndex) -> Option<TrunkView> {
        self.trunks.get(usize::from(trunk.0)).map(|entry| TrunkView {
            name: entry.name.clone(),
            health: entry.health.health(),
            admin: entry.admin,
            paused_until: entry.paused_until,
            limits: entry.limits.limits(),
            channels_in_use: entry.limits.in_use(),
            options_rtt: entry.health.rtt(),
        })
    }

    pub fn views(&self) -> impl Iterator<Item = TrunkView> + '_ {
        (0..self.trunks.len()).filter_map(|index| self.view(TrunkIndex(index as u16)))
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for index in 0..self.trunks.len() {
            let entry = &mut self.trunks[index];
            if entry.paused_until.is_some_and(|until| until <= now) {
                entry.paused_until = None;
            }
            if entry.health.poll_timeout().is_some_and(|at| at <= now) {
                entry.health.handle_timeout(now);
                self.collect(TrunkIndex(index as u16));
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.trunks.iter().filter_map(|entry| entry.health.poll_timeout()).min()
    }

    pub fn poll_output(&mut self) -> Option<TrunkOutput> {
        self.outputs.pop_front()
    }

    fn entry(&mut self, trunk: TrunkIndex) -> Option<&mut Entry> {
        self.trunks.get_mut(usize::from(trunk.0))
    }

    fn open(&mut self, trunk: TrunkIndex) -> Result<&mut Entry, Refusal> {
        let entry = self.entry(trunk).ok_or(Refusal::Gone)?;
        match entry.admin {
            AdminState::Open => Ok(entry),
            AdminState::Blocked => Err(Refusal::Blocked),
            AdminState::Draining => Err(Refusal::Draining),
        }
    }

    /// A trunk that may be called but for its limits.
    fn fit(&mut self, trunk: TrunkIndex, now: Instant) -> Result<&mut Entry, Refusal> {
        let entry = self.open(trunk)?;
        if entry.paused_until.is_some_and(|until| now < until) {
            return Err(Refusal::Paused);
        }
        if !entry.health.would_admit(now) {
            return Err(Refusal::Down);
        }
        Ok(entry)
    }

    fn collect(&mut self, trunk: TrunkIndex) {
        let Some(entry) = self.trunks.get_mut(usize::from(trunk.0)) else { return };
        while let Some(output) = entry.health.poll_output() {
            self.outputs.push_back(match output {
                HealthOutput::Probe => TrunkOutput::Probe(trunk),
                HealthOutput::WentUp => TrunkOutput::WentUp(trunk),
                HealthOutput::WentDown => TrunkOutput::WentDown(trunk),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, channels: u32) -> TrunkSettings {
        TrunkSettings {
            name: name.into(),
            limits: Limits { channels: Some(channels), ..Limits::default() },
            health: HealthSettings::default(),
        }
    }

    const A: TrunkIndex = TrunkIndex(0);
    const B: TrunkIndex = TrunkIndex(1);

    #[test]
    fn each_refusal_has_its_own_reason() {
        let now = Instant::now();
        let mut table = TrunkTable::new(vec![settings("a", 1)], now);
        let channel = table.take(A, now).unwrap();
        assert_eq!(table.take(A, now), Err(Refusal::Limit(LimitReached::Channels)));
        table.release(channel);
        table.set_admin(A, AdminState::Blocked);
        assert_eq!(table.take(A, now), Err(Refusal::Blocked));
        assert_eq!(table.take_incoming(A, now), Err(Refusal::Blocked));
        table.set_admin(A, AdminState::Open);
        table.pause(A, now + Duration::from_secs(30));
        assert_eq!(table.take(A, now + Duration::from_secs(29)), Err(Refusal::Paused));
        let channel = table.take(A, now + Duration::from_secs(30)).unwrap();
        table.release(channel);
        for _ in 0..3 {
            table.handle_call(A, now, Evidence::Failed);
        }
        assert_eq!(table.take(A, now + Duration::from_secs(60)), Err(Refusal::Down));
        let channel = table.take_incoming(A, now).unwrap();
        table.release(channel);
        assert_eq!(table.take(TrunkIndex(7), now), Err(Refusal::Gone));
    }

    #[test]
    fn a_limit_does_not_cost_a_trunk_its_trial() {
        let now = Instant::now();
        let health = HealthSettings { interval: None, ..HealthSettings::default() };
        let mut table = TrunkTable::new(vec![TrunkSettings { health, ..settings("a", 1) }], now);
        let busy = table.take(A, now).unwrap();
        for _ in 0..3 {
            table.handle_call(A, now, Evidence::Failed);
        }
        let later = now + health.first_trial;
        assert_eq!(table.take(A, now), Err(Refusal::Down));
        assert_eq!(table.take(A, later), Err(Refusal::Limit(LimitReached::Channels)));
        table.release(busy);
        let trial = table.take(A, later).unwrap();
        table.release(trial);
        assert_eq!(table.take(A, later), Err(Refusal::Down), "one trial and no more");
    }

    #[test]
    fn a_draining_trunk_says_when_its_last_call_is_over() {
        let now = Instant::now();
        let mut table = TrunkTable::new(vec![settings("a", 5)], now);
        let channels = [table.take(A, now).unwrap(), table.take_incoming(A, now).unwrap()];
        table.set_admin(A, AdminState::Draining);
        assert_eq!(table.take(A, now), Err(Refusal::Draining));
        for channel in channels {
            assert_eq!(table.poll_output(), None);
            table.release(channel);
        }
        assert_eq!(table.poll_output(), Some(TrunkOutput::Drained(A)));
    }

    #[test]
    fn a_reload_moves_trunks_without_losing_their_calls() {
        let now = Instant::now();
        let mut table = TrunkTable::new(vec![settings("a", 1), settings("b", 1)], now);
        let (on_a, on_b) = (table.take(A, now).unwrap(), table.take(B, now).unwrap());
        table.set_admin(B, AdminState::Blocked);
        // "a" goes, "b" becomes the first and "c" is new.
        table.reconfigure(vec![settings("b", 1), settings("c", 1)], now);
        assert_eq!(table.view(A).unwrap().channels_in_use, 1);
        assert_eq!(table.view(A).unwrap().admin, AdminState::Blocked);
        assert_eq!(table.view(B).unwrap().channels_in_use, 0);
        // "a" comes back while its call still runs.
        table.reconfigure(vec![settings("a", 1), settings("b", 1)], now);
        assert_eq!(table.take(A, now), Err(Refusal::Limit(LimitReached::Channels)));
        table.release(on_a);
        table.release(on_b);
        assert!(table.views().all(|view| view.channels_in_use == 0));
    }

    #[test]
    fn the_first_probes_are_spread() {
        let now = Instant::now();
        let mut table = TrunkTable::new(vec![settings("a", 1), settings("b", 1)], now);
        table.handle_timeout(now);
        assert_eq!(table.poll_output(), Some(TrunkOutput::Probe(A)));
        assert_eq!(table.poll_output(), None);
        table.handle_probe(A, now, Evidence::Alive);
        assert_eq!(table.poll_output(), Some(TrunkOutput::WentUp(A)));
        let next = table.poll_timeout().unwrap();
        assert_eq!(next, now + FIRST_PROBE_SPACING);
        table.handle_timeout(next);
        assert_eq!(table.poll_output(), Some(TrunkOutput::Probe(B)));
    }
}
