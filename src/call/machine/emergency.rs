//! A call for help is not given up: every trunk is tried, those out of order last, then all of them again, and the caller
//! hears ringing meanwhile.

use super::hunt::{Failed, is_unreachable};
use super::reason::FarReason;
use super::{Admitted, Call, Plan, Stage, TrunkCandidate};
use crate::call::core::Core;
use crate::call::emergency::CALLS_BACK;
use crate::call::leg::{self, Leg, LegState, Party};
use crate::call::location::Location;
use crate::call::settings::Trunk;
use crate::call::trunks::Trunks;
use crate::routing::FailoverAction;
use crate::sip::message::HeaderName;
use crate::types::{Emergency, EndCause, HostPort, Now, ReleasedBy};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// A trunk that says nothing but 100 is left for another after this; the slowest networks ring within ten seconds.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(20);
/// Between one round over all trunks and the next, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Attempts of one call: legs are counted in an octet.
const MOST_ATTEMPTS: usize = 200;
/// Media ports rest for a moment before they can be used again; so often it is worth asking.
const PORTS_PAUSE: Duration = Duration::from_millis(250);
/// A disk that takes longer is not waited for: longer than any group commit, shorter than anybody notices.
pub(super) const RECORD_PATIENCE: Duration = Duration::from_millis(500);

/// What a call for help knows beside other calls.
#[derive(Debug)]
pub struct Help {
    location: Option<Location>,
    /// All trunks of the route, for the next round.
    candidates: Vec<TrunkCandidate>,
    round: u32,
    /// No round begins after this.
    until: Option<Instant>,
    /// The trunk that is being tried would not take the location.
    without_location: bool,
    /// When to ask again for media ports that were not free.
    pub(super) ports_again_at: Option<Instant>,
}

impl Help {
    pub(super) fn of(admitted: &Admitted) -> Option<Help> {
        let (Some(Emergency::Call), Plan::Trunks(candidates)) = (admitted.emergency, &admitted.plan) else {
            return None;
        };
        Some(Help {
            location: admitted.location.clone(),
            candidates: candidates.iter().cloned().collect(),
            round: 0,
            until: None,
            without_location: false,
            ports_again_at: None,
        })
    }

    /// The rounds to come are held to the same.
    pub(super) fn keep_only_who_may_meet(&mut self, party: &Party) {
        self.candidates.retain(|candidate| Party::Trunk(candidate.trunk.clone()).may_meet(party));
    }
}

impl Call {
    /// The search begins, and the caller hears that it does.
    pub(super) fn begin_search(&mut self, core: &mut Core, now: Now) {
        if let Some(help) = self.help.as_mut() {
            help.until = Some(now.instant + core.settings.limits.ring);
            self.ring_back(core, now);
        }
    }

    /// The next trunk of this round: one that works before one that is blocked, paused or down.
    pub(super) fn search_on(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now) {
        loop {
            let Plan::Trunks(candidates) = &mut self.plan else { return };
            let well = candidates.iter().position(|candidate| trunks.is_well(now, &candidate.trunk.name));
            let Some(candidate) = candidates.remove(well.unwrap_or(0)) else { break };
            match trunks.take_anyway(now, &candidate.trunk.name, &[], core.draw()) {
                Ok((channel, target)) => {
                    if let Some(help) = self.help.as_mut() {
                        help.without_location = false;
                    }
                    self.attempt_trunk(core, now, candidate, Vec::new(), channel, target);
                    return;
                }
                Err(_) => {
                    let cause = EndCause::TrunkUnavailable;
                    self.failure.get_or_insert((cause, cause.sip_code(), FarReason::default()));
                }
            }
        }
        self.rest(core, now);
    }

    /// All trunks have failed: they are tried again after a pause, while there is time.
    fn rest(&mut self, core: &mut Core, now: Now) {
        let attempts = self.callees.len();
        let Some(help) = self.help.as_mut() else { return };
        let pause = FIRST_PAUSE.saturating_mul(1 << help.round.min(8)).min(LONGEST_PAUSE);
        let again_at = now.instant + pause;
        let room = attempts + help.candidates.len() <= MOST_ATTEMPTS;
        if !room || help.until.is_none_or(|until| again_at > until) {
            self.give_up(core, now);
            return;
        }
        help.round += 1;
        self.stage = Stage::Hunting { give_up_at: again_at };
        self.ring_back(core, now);
    }

    /// How long a trunk may take before another is tried, or the call ends.
    pub(super) fn patience_with(&self, trunk: &Trunk) -> Duration {
        if self.help.is_some() && self.others_left() { trunk.ring.min(PROGRESS_PATIENCE) } else { trunk.ring }
    }

    fn others_left(&self) -> bool {
        matches!(&self.plan, Plan::Trunks(candidates) if !candidates.is_empty())
    }

    /// Does what is due in an emergency only.
    pub(super) fn emergency_timeout(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now) {
        match &self.stage {
            Stage::Opening if self.ports_due(now) => {
                if let Some(help) = self.help.as_mut() {
                    help.ports_again_at = None;
                }
                self.caller.open_media(core, self.beside);
            }
            Stage::Answering { .. } if self.unrecorded_at().is_some_and(|at| at <= now.instant) => {
                self.answer_durable(core, now);
            }
            Stage::Hunting { give_up_at } if *give_up_at <= now.instant && self.help.is_some() => {
                self.help_overdue(core, trunks, now);
            }
            Stage::Opening
            | Stage::Answering { .. }
            | Stage::Hunting { .. }
            | Stage::Talking { .. }
            | Stage::Closing(_) => {}
        }
    }

    /// The pause between two rounds is over, or a trunk has taken too long.
    fn help_overdue(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now) {
        let Some(position) = self.callees.iter().position(Leg::is_inviting) else {
            if let Some(help) = &self.help {
                self.plan = Plan::Trunks(help.candidates.iter().cloned().collect());
            }
            self.search_on(core, trunks, now);
            return;
        };
        let (attempt, ring) = match (&self.callees[position].attempt, &self.callees[position].party) {
            (Some(attempt), Party::Trunk(trunk)) => (attempt, trunk.ring),
            (_, Party::User { .. }) | (None, Party::Trunk(_)) => return,
        };
        let until = attempt.started.instant + ring;
        let rings = attempt.ringing.is_some() && now.instant < until;
        if rings || (now.instant < until && !self.others_left()) {
            self.stage = Stage::Hunting { give_up_at: until };
        } else if self.others_left() {
            self.callees[position].release(core, now, &leg::reason(EndCause::NoAnswer));
            self.callee_failed(core, trunks, now, position, Failed::ours(EndCause::NoAnswer));
        } else {
            self.close(core, now, EndCause::NoAnswer, ReleasedBy::Gateway, None);
        }
    }

    /// A trunk would not take the call, for whatever reason: nobody is asked only once.
    pub(super) fn help_failed(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        trunk: &Trunk,
        position: usize,
        failed: Failed,
    ) {
        let Failed { status, cause, why, far } = failed;
        if let FailoverAction::FinalAndBlock(pause) = trunk.config.failover.action(why) {
            trunks.pause(now, &trunk.name, pause);
        }
        self.failure = Some((cause, cause.sip_code(), far));
        self.ring_back(core, now);
        let attempts = self.callees.len();
        let again = self.retry.take().filter(|_| attempts < MOST_ATTEMPTS);
        if let (Some((candidate, mut tried)), Some(help)) = (again, self.help.as_mut()) {
            // RFC 6442 §4.3, RFC 3261 §21.4.13: a location that is not understood keeps nobody from help.
            let too_much = matches!(status, 415 | 424) && !help.without_location && help.location.is_some();
            if too_much {
                help.without_location = true;
                tried.clear();
            }
            let taken = (too_much || is_unreachable(why))
                .then(|| trunks.take_anyway(now, &candidate.trunk.name, &tried, core.draw()));
            if let Some(Ok((channel, target))) = taken {
                self.attempt_trunk(core, now, candidate, tried, channel, target);
            } else {
                self.search_on(core, trunks, now);
            }
        } else {
            self.search_on(core, trunks, now);
        }
        self.count_attempt(core, position, self.callees.len() > attempts);
    }

    /// The caller hears its phone ring rather than nothing.
    fn ring_back(&mut self, core: &mut Core, now: Now) {
        if !self.serves_transfer && matches!(self.caller.state, LegState::Incoming { .. }) {
            self.say_progress(core, now, 180, false);
        }
    }

    /// No port is free for the caller: true where it is worth waiting for one.
    pub(super) fn wait_for_ports(&mut self, now: Now) -> bool {
        let opening = matches!(self.stage, Stage::Opening);
        let (started, Some(help), true) = (self.started.instant, self.help.as_mut(), opening) else {
            return false;
        };
        let again_at = now.instant + PORTS_PAUSE;
        let waits = again_at < started + PROGRESS_PATIENCE;
        help.ports_again_at = waits.then_some(again_at);
        waits
    }

    fn ports_due(&self, now: Now) -> bool {
        self.help.as_ref().and_then(|help| help.ports_again_at).is_some_and(|at| at <= now.instant)
    }

    /// When an answer is passed on though its record is not durable yet.
    pub(super) fn unrecorded_at(&self) -> Option<Instant> {
        self.emergency.and(self.answered).map(|answered| answered.instant + RECORD_PATIENCE)
    }
}

/// Adds what an INVITE of an emergency says beside others; gives a body of offer and location where there is one.
pub(super) fn describe(
    emergency: Option<Emergency>,
    help: Option<&Help>,
    leg: &Leg,
    core: &mut Core,
    offer: &str,
    fields: &mut Vec<(HeaderName, String)>,
) -> Option<(String, Bytes)> {
    let trunk = match (emergency?, &leg.party) {
        (Emergency::Call, Party::Trunk(trunk)) => trunk,
        (Emergency::Callback, Party::User { .. }) => {
            fields.push((HeaderName::Priority, CALLS_BACK.to_owned()));
            return None;
        }
        (Emergency::Call, Party::User { .. }) | (Emergency::Callback, Party::Trunk(_)) => return None,
    };
    // RFC 3261 §20.26, RFC 7135 §4.
    fields.push((HeaderName::Priority, "emergency".to_owned()));
    fields.push((HeaderName::ResourcePriority, "esnet.0".to_owned()));
    let told = help.filter(|help| trunk.config.location && !help.without_location)?;
    let location = told.location.as_ref()?;
    let host = HostPort { host: leg.peer.local.ip().to_string(), port: None };
    let id = format!("{}@{host}", core.token());
    fields.extend(location.fields(&id));
    location.body(offer, &id)
}
