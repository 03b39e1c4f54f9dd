//! Finding somebody who answers: devices all at once, trunks one after the other.

use super::life::proves_life;
use super::reason::FarReason;
use super::record::AttemptEnd;
use super::{Call, Device, Plan, Stage, TrunkCandidate, emergency};
use crate::call::charging;
use crate::call::core::Core;
use crate::call::event::{Event, Target};
use crate::call::identity::ANONYMOUS_HOST;
use crate::call::leg::invite::InvitePlan;
use crate::call::leg::media::{LegMedia, MediaPolicy, offered_codecs};
use crate::call::leg::rules::LegRules;
use crate::call::leg::{self, Attempt, Leg, LegState, Party};
use crate::call::provenance::Numbers;
use crate::call::targets::Route;
use crate::call::trunks::{Refusal, Trunks};
use crate::routing::{Channel, FailoverAction, Failure, service};
use crate::sip::header_rules::Kind;
use crate::sip::message::{HeaderName, NameAddr, Response, Uri};
use crate::sip::transaction::ClientFailure;
use crate::types::{AudioCodec, EndCause, HostPort, LegId, Now, ReleasedBy};
use std::time::Duration;

/// A device answers at once or is gone: four INVITEs within this time (RFC 3261 §17.1.1.2) got through a bad radio link.
const DEVICE_PATIENCE: Duration = Duration::from_secs(6);

/// What stands for the number of a caller that has none to present (RFC 3261 §8.1.1.3).
pub const ANONYMOUS: &str = "anonymous";

impl Call {
    pub(super) fn begin_hunt(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now) {
        self.stage = Stage::Hunting { give_up_at: now.instant + core.settings.limits.ring };
        match &mut self.plan {
            Plan::Devices(devices) => {
                for device in std::mem::take(devices) {
                    self.ring_device(core, now, device);
                }
                if self.callees.is_empty() {
                    self.close(core, now, EndCause::Unavailable, ReleasedBy::Gateway, None);
                }
            }
            Plan::Trunks(_) => {
                self.begin_search(core, now);
                self.try_next_trunk(core, trunks, now);
            }
            Plan::TakesOver { .. } => self.take_over(core, now),
            Plan::Line(line) => {
                let line = *line;
                self.reach_line(core, now, line);
            }
            Plan::Refused { .. } => {}
        }
    }

    fn next_leg_id(&self) -> LegId {
        LegId { call: self.id, index: self.callees.last().map_or(1, |leg| leg.id.index.saturating_add(1)) }
    }

    fn ring_device(&mut self, core: &mut Core, now: Now, device: Device) {
        let mut policy = MediaPolicy::user(&device.peer, &core.settings);
        policy.narrowband = !self.caller.media.policy.codecs.contains(&AudioCodec::Opus);
        let party = Party::User { name: device.user.clone() };
        let attempt = Attempt {
            called: device.contact,
            calling: self.calling.clone(),
            network: None,
            target: None,
            started: now,
            ringing: None,
            answered: None,
            ended: None,
            progressed: false,
            lives: false,
            channel: None,
            counted: false,
        };
        self.add_callee(core, party, device.peer, policy, attempt);
    }

    fn add_callee(
        &mut self,
        core: &mut Core,
        party: Party,
        peer: crate::types::Peer,
        policy: MediaPolicy,
        attempt: Attempt,
    ) {
        let id = self.next_leg_id();
        let names = (core.token(), core.tag());
        let leg = Leg::new(id, party, peer, LegState::Allocating, names, LegMedia::new(policy));
        let mut leg = Leg { attempt: Some(Box::new(attempt)), ..leg };
        leg.open_media(core, self.beside);
        // Most calls have one.
        self.callees.reserve_exact(1);
        self.callees.push(leg);
    }

    /// Takes the next trunk that may carry the call; ends the call when there is none.
    pub(super) fn try_next_trunk(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now) {
        if self.help.is_some() {
            self.search_on(core, trunks, now);
            return;
        }
        let Plan::Trunks(candidates) = &mut self.plan else { return };
        while let Some(candidate) = candidates.pop_front() {
            match trunks.take(now, &candidate.trunk.name, &[], core.draw()) {
                Ok((channel, target)) => {
                    self.attempt_trunk(core, now, candidate, Vec::new(), channel, target);
                    return;
                }
                Err(refusal) => {
                    // A real failure of an earlier trunk says more than "this one was full".
                    let cause = match refusal {
                        Refusal::Unavailable => EndCause::TrunkUnavailable,
                        Refusal::Congested => EndCause::TrunkCongested,
                    };
                    self.failure.get_or_insert((cause, cause.sip_code(), FarReason::default()));
                }
            }
        }
        self.give_up(core, now);
    }

    /// No trunk is left: the caller hears what the last one said.
    pub(super) fn give_up(&mut self, core: &mut Core, now: Now) {
        let none = (EndCause::NoRoute, EndCause::NoRoute.sip_code(), FarReason::default());
        let (cause, code, far) = self.failure.unwrap_or(none);
        self.far = far;
        let by = if self.callees.is_empty() { ReleasedBy::Gateway } else { ReleasedBy::Callee };
        self.close(core, now, cause, by, Some(code));
    }

    pub(super) fn attempt_trunk(
        &mut self,
        core: &mut Core,
        now: Now,
        candidate: TrunkCandidate,
        mut tried: Vec<Route>,
        channel: Channel,
        target: Target,
    ) {
        // What an earlier trunk said is not this one's word.
        self.caller.forget_heard();
        let trunk = candidate.trunk.clone();
        self.leave_moved(&trunk);
        let route = Route::of(&target.peer);
        self.stage = Stage::Hunting { give_up_at: now.instant + self.patience_with(&trunk) };
        core.event(Event::AttemptStarted { trunk: Some(trunk.name.clone()), direction: self.direction });
        let policy = MediaPolicy::trunk(&trunk, &target.peer, &core.settings);
        let attempt = Attempt {
            called: candidate.called.clone(),
            calling: candidate.calling.clone(),
            network: candidate.network.clone(),
            target: Some(target.clone()),
            started: now,
            ringing: None,
            answered: None,
            ended: None,
            progressed: false,
            lives: false,
            channel: Some(channel),
            counted: false,
        };
        self.add_callee(core, Party::Trunk(trunk), target.peer, policy, attempt);
        tried.push(route);
        self.retry = Some((candidate, tried));
    }

    /// A callee's leg has its ports: the INVITE goes out.
    pub(super) fn place(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now, position: usize) {
        let session_id = u64::from_be_bytes(core.octets::<8>()) >> 2;
        let codecs = self.offered_codec_order(position);
        let referred_by = self.referred_by(core, position);
        let as_forwarder = self.calls_as_forwarder(&self.callees[position].party);
        // A caller that begins on hold is on hold at the far end too.
        let direction = self.caller.media.allowed.reversed();
        let leg = &mut self.callees[position];
        leg.media.policy.codecs = codecs;
        let address = leg.peer.local.ip();
        let offer = leg.media.offer(address, session_id, direction, core.randomness());
        let Some((offer, attempt)) = offer.zip(leg.attempt.as_ref()) else { return };
        let request_uri = match &attempt.target {
            Some(_) if service(&attempt.called).is_some() => Uri::parse(&attempt.called).ok(),
            Some(target) => {
                let moved = self.moved.as_ref().and_then(|moved| moved.portability.as_deref());
                let user = called_at(&leg.party, &attempt.called, &self.portability, moved);
                Some(Uri::sip(Some(&user), target.host.clone()))
            }
            None => Uri::parse(&attempt.called).ok(),
        };
        let Some(request_uri) = request_uri else {
            // A contact from the database that is no address: the device can't be rung.
            self.callee_failed(core, trunks, now, position, Failed::absent(Failure::Transport));
            return;
        };
        let mut to = request_uri.clone();
        to.params = Default::default();
        if attempt.target.is_some() && to.is_sip() {
            to.user = Some(attempt.called.clone());
        }
        let mut from = Uri::sip(Some(&attempt.calling), HostPort { host: address.to_string(), port: None });
        if let Party::Trunk(trunk) = &leg.party
            && let Some(domain) = trunk.own_domain()
        {
            from.host = HostPort { host: domain.to_owned(), port: None };
            if to.is_sip() {
                to.host = from.host.clone();
            }
        }
        let anonymous = attempt.calling == ANONYMOUS || self.identity.withheld;
        let mut fields = match &leg.party {
            Party::Trunk(trunk) => {
                let mut fields =
                    self.identity.fields(trunk, attempt.network.as_deref(), &from.host, &core.numbers);
                let (number, called) = (self.number.as_ref(), attempt.called.as_str());
                let numbers = Numbers { number, called, withheld: anonymous, own: as_forwarder };
                let signer = core.settings.stir_material.signer.as_ref();
                if let Some(signed) = self.provenance.sign(trunk, signer, self.id, now, numbers) {
                    fields.extend(signed.fields);
                    if signed.failed {
                        core.event(Event::StirUnsigned { call: self.id, trunk: trunk.name.clone() });
                    }
                    if let Some(attestation) = signed.attestation {
                        self.cdr.attestation = Some(attestation);
                        core.event(Event::StirSigned { trunk: trunk.name.clone(), attestation });
                    }
                }
                fields
            }
            Party::User { .. } => self.provenance.told(&from.host, anonymous, self.cdr.attestation),
        };
        if let Party::Trunk(trunk) = &leg.party {
            let (invite, caller) = (self.caller.request(), self.caller.party.trunk());
            fields.extend(charging::of_call(self.id, trunk, caller, invite, &from.host));
            let routes = trunks.service_route(now, &trunk.name, Route::of(&leg.peer));
            fields.extend(routes.iter().map(|route| (HeaderName::Route, route.clone())));
        }
        let body = emergency::describe(self.emergency, self.help.as_deref(), leg, core, &offer, &mut fields);
        let (content_type, body) = body.unwrap_or_else(|| ("application/sdp".to_owned(), offer.into()));
        if anonymous {
            let host = match &leg.party {
                // An app's network takes calls of the host it agreed on, and of no other.
                Party::Trunk(trunk) if trunk.config.app_side => from.host.clone(),
                // RFC 3323 §4.1.1.3: who withholds its number withholds its domain too.
                Party::Trunk(_) | Party::User { .. } => {
                    HostPort { host: ANONYMOUS_HOST.to_owned(), port: None }
                }
            };
            from = Uri::sip(Some(ANONYMOUS), host);
        }
        let mut from = NameAddr::new(from);
        // The caller's name does not belong to the number of the one who sent its call on.
        let name = self.identity.name_for(&leg.party).filter(|_| !as_forwarder);
        let name = if anonymous { Some("Anonymous") } else { name };
        from.display = name.map(str::to_owned);
        let shown = if anonymous { ANONYMOUS } else { attempt.calling.as_str() };
        let contact = trunk_group(&leg.party).map(|group| format!("{shown}{group}"));
        let plan = InvitePlan {
            request_uri,
            contact,
            to,
            from,
            max_forwards: self.max_forwards,
            content_type,
            body,
            referred_by,
            fields,
        };
        let patience = patience(&leg.party);
        let rules = self.rules_of(position);
        let leg = &mut self.callees[position];
        leg.rules = rules;
        leg.invite(core, now, plan, patience);
    }

    /// What header rules on a callee's leg know: its own trunk's, and what the caller's trunk sends along.
    fn rules_of(&self, position: usize) -> Option<Box<LegRules>> {
        let leg = &self.callees[position];
        let own = leg.party.header_rules();
        let carried = self.caller.rules.as_ref().map(|rules| rules.said.clone()).unwrap_or_default();
        if own.is_none() && carried.is_empty() {
            return None;
        }
        let attempt = leg.attempt.as_ref()?;
        let hidden = match &leg.party {
            Party::Trunk(trunk) => self.identity.withheld && !trunk.config.knows_withheld(),
            Party::User { .. } => false,
        };
        let rules = LegRules {
            called: attempt.called.clone(),
            calling: if hidden { ANONYMOUS.to_owned() } else { attempt.calling.clone() },
            user: self.caller.party.user_name(),
            account: self.cdr.caller.account.clone(),
            ..LegRules::default()
        };
        let invite = self.caller.request().map(|request| &request.headers);
        Some(Box::new(rules.with_invite(own, invite, carried)))
    }

    /// What a callee's response says passes its trunk's rules, and is kept for the caller where a rule takes it along.
    fn read_response(&mut self, position: usize, answer: &mut Response) {
        let leg = &self.callees[position];
        let kind = Kind::Response(answer.status);
        let carried = leg.read_by_rules(kind, &mut answer.headers);
        // Who lost tells nothing any more.
        if leg.is_inviting() && self.winner.is_none() {
            self.caller.hear(kind, &answer.headers, carried);
        }
    }

    /// Who moved the call here (RFC 3892). Only devices of our own users are told: an operator need not know, and who
    /// hides its number is not named either.
    fn referred_by(&self, core: &Core, position: usize) -> Option<String> {
        let told = self.is_transferred() && !self.identity.withheld;
        let (Party::User { .. }, Some(user), true) =
            (&self.callees[position].party, self.caller.party.user_name(), told)
        else {
            return None;
        };
        let host = HostPort { host: core.settings.sip.realm.clone(), port: None };
        Some(NameAddr::new(Uri::sip(Some(&user), host)).to_string())
    }

    /// Codecs for a callee's offer. A trunk gets its own order, whoever calls. To a device what the caller can also do
    /// comes first, so that nothing is transcoded that need not be: app to app this leaves Opus untouched.
    fn offered_codec_order(&self, position: usize) -> Vec<AudioCodec> {
        let leg = &self.callees[position];
        let mut codecs = leg.media.policy.codecs.clone();
        match (&leg.party, &self.offer) {
            (Party::User { .. }, Some(offer)) => {
                let offered = offered_codecs(offer);
                codecs.sort_by_key(|codec| !offered.contains(codec));
            }
            (Party::User { .. }, None) | (Party::Trunk(_), _) => {}
        }
        codecs
    }

    /// A response to the INVITE of a callee's leg.
    pub(super) fn on_invite_response(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        position: usize,
        mut answer: Response,
    ) {
        self.read_response(position, &mut answer);
        match answer.status {
            100 => self.heard(position),
            101..=199 => {
                self.heard(position);
                self.note_life(trunks, now, position);
                self.on_progress(core, now, position, answer);
            }
            200..=299 => self.on_answer(core, trunks, now, position, answer),
            status => self.on_invite_failure(core, trunks, now, position, status, &answer),
        }
    }

    fn heard(&mut self, position: usize) {
        if let LegState::Inviting { leave_at } = &mut self.callees[position].state {
            *leave_at = None;
        }
    }

    fn on_invite_failure(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        position: usize,
        status: u16,
        answer: &Response,
    ) {
        if matches!(self.callees[position].state, LegState::Cancelling) {
            self.callees[position].vanish(core);
            return;
        }
        if matches!(status, 401 | 407) {
            let leg = &mut self.callees[position];
            let patience = patience(&leg.party);
            if leg.answer_challenge(core, now, answer, patience).is_ok() {
                return;
            }
        }
        if status == 422 {
            let leg = &mut self.callees[position];
            let patience = patience(&leg.party);
            if leg.raise_interval(core, now, answer, patience) {
                return;
            }
        }
        if proves_life(status) {
            self.note_life(trunks, now, position);
        }
        if let Some(sent_on) = self.redirected(position, status, answer) {
            self.follow(core, trunks, now, position, answer, sent_on);
            return;
        }
        let said = FarReason::of(answer).q850;
        let cause = if self.note_sent_on(core, position, answer) {
            EndCause::Redirected
        } else {
            EndCause::from_failure(status, said)
        };
        let why = if matches!(status, 401 | 407) {
            Failure::Credentials
        } else {
            Failure::Status { code: status, q850: said }
        };
        let far = FarReason::of_failure(answer);
        self.callee_failed(core, trunks, now, position, Failed { status, cause, why, far });
    }

    /// The transaction of a callee's INVITE died.
    pub(super) fn on_invite_lost(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        position: usize,
        failure: ClientFailure,
    ) {
        if matches!(self.callees[position].state, LegState::Cancelling) {
            self.callees[position].vanish(core);
            return;
        }
        let failed = match failure {
            ClientFailure::TimedOut => Failed::silent(&self.callees[position].party),
            ClientFailure::Transport => Failed::unreachable(&self.callees[position].party),
        };
        self.callee_failed(core, trunks, now, position, failed);
    }

    /// A callee's leg will not answer: the next one is tried, or the call ends.
    pub(super) fn callee_failed(
        &mut self,
        core: &mut Core,
        trunks: &mut Trunks,
        now: Now,
        position: usize,
        failed: Failed,
    ) {
        let Failed { status, cause, why, far } = failed;
        let leg = &mut self.callees[position];
        if !matches!(leg.state, LegState::Cancelling) {
            leg.vanish(core);
        }
        leg.close_media(core);
        let index = leg.id.index;
        self.early.take_if(|early| *early == index);
        self.bridged.take_if(|bridged| *bridged == index);
        self.connected.take_if(|connected| connected.leg == index);
        if !self.callees.iter().any(Leg::is_inviting) {
            self.stop_ringback(core);
        }
        self.free_attempt(now, position, AttemptEnd { status, cause });
        if !matches!(self.stage, Stage::Hunting { .. }) {
            self.count_attempt(core, position, false);
            return;
        }
        if let (Some(trunk), Some(seconds), 503) =
            (self.callees[position].party.trunk_name(), far.retry_after, status)
        {
            // RFC 3261 §21.5.4: that address is left alone for so long.
            let route = Route::of(&self.callees[position].peer);
            trunks.pause_target(now, &trunk, route, Duration::from_secs(seconds.into()));
        }
        self.note_failure(trunks, now, position, why);
        match self.callees[position].party.clone() {
            Party::Trunk(trunk) if self.help.is_some() => {
                self.help_failed(core, trunks, now, &trunk, position, Failed { status, cause, why, far });
            }
            Party::User { .. } => self.device_failed(core, now, (cause, status, far)),
            Party::Trunk(trunk) => match trunk.config.failover.action(why) {
                FailoverAction::Next => {
                    self.failure = Some((cause, cause.sip_code(), far));
                    let attempts = self.callees.len();
                    self.try_next_target(core, trunks, now, why);
                    self.count_attempt(core, position, self.callees.len() > attempts);
                }
                FailoverAction::Final => {
                    self.far = far;
                    self.close(core, now, cause, ReleasedBy::Callee, Some(status));
                }
                FailoverAction::FinalAndBlock(pause) => {
                    trunks.pause(now, &trunk.name, pause);
                    self.far = far;
                    self.close(core, now, cause, ReleasedBy::Callee, Some(status));
                }
            },
        }
        self.count_attempt(core, position, false);
    }

    /// The same trunk's next address where this one was not there or had no room (RFC 3263 §4.3), else the next trunk:
    /// what one address of a trunk has decided, another one of it would decide again.
    fn try_next_target(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now, why: Failure) {
        if let Some((candidate, tried)) = self.retry.take().filter(|_| is_unreachable(why))
            && let Ok((channel, target)) = trunks.take(now, &candidate.trunk.name, &tried, core.draw())
        {
            self.attempt_trunk(core, now, candidate, tried, channel, target);
            return;
        }
        self.try_next_trunk(core, trunks, now);
    }

    /// One device of several gave up. RFC 3261 §16.7: a 6xx speaks for the user, and so does a device that sends all calls
    /// on; else the best answer wins at the end.
    fn device_failed(&mut self, core: &mut Core, now: Now, failure: (EndCause, u16, FarReason)) {
        let (_, status, _) = failure;
        let better = match self.failure {
            None => true,
            Some((_, known, _)) => preference(status) < preference(known),
        };
        if better {
            self.failure = Some(failure);
        }
        let ringing = self.callees.iter().any(Leg::is_inviting);
        if status < 600 && (!ringing || self.goes_on_at_once()) && self.asks_to_go_on() {
            return;
        }
        if status >= 600 || !ringing {
            let (cause, code, far) = self.failure.unwrap_or(failure);
            self.far = far;
            self.close(core, now, cause, ReleasedBy::Callee, Some(code));
        }
    }

    /// Timers of the single legs.
    pub(super) fn legs_timeout(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now) {
        for position in 0..self.callees.len() {
            if let LegState::Inviting { leave_at: Some(at) } = self.callees[position].state
                && at <= now.instant
            {
                // Taken back, not forgotten: a late 2xx must still find its leg.
                let failed = Failed::silent(&self.callees[position].party);
                self.callees[position].release(core, now, &leg::reason(failed.cause));
                self.callee_failed(core, trunks, now, position, failed);
            }
        }
        self.repeat_answers(core, now);
        self.repeat_progress(core, now);
        self.retry_reinvites(core, now);
        self.sessions_timeout(core, now);
    }
}

/// The called number as it stands in a trunk's Request-URI, with what belongs to it.
/// Who said itself where the number was ported to hears that again.
fn called_at(party: &Party, called: &str, portability: &str, moved: Option<&str>) -> String {
    let ported = match party {
        Party::Trunk(trunk) => moved.or(trunk.config.portability.then_some(portability)).unwrap_or_default(),
        Party::User { .. } => "",
    };
    format!("{called}{ported}{}", trunk_group(party).unwrap_or_default())
}

/// What our calls to a trunk say of its group (RFC 4904 §5), as it stands behind a number.
fn trunk_group(party: &Party) -> Option<String> {
    match party {
        Party::Trunk(trunk) => {
            let group = trunk.config.trunk_group.as_ref()?;
            Some(format!(";tgrp={};trunk-context={}", group.name, group.context))
        }
        Party::User { .. } => None,
    }
}

/// True where one address of a trunk has failed and another one may not.
pub(super) fn is_unreachable(why: Failure) -> bool {
    match why {
        Failure::NoReply | Failure::Transport => true,
        Failure::Status { code, .. } => code == 503,
        Failure::Credentials => false,
    }
}

/// How an attempt towards a callee failed.
pub(super) struct Failed {
    pub status: u16,
    pub cause: EndCause,
    pub why: Failure,
    /// What the far end said about it.
    pub far: FarReason,
}

impl Failed {
    /// Nothing came back. A device that is gone is its user's absence, not a fault of the network.
    fn silent(party: &Party) -> Failed {
        match party {
            Party::User { .. } => Failed::absent(Failure::NoReply),
            Party::Trunk(_) => Failed::new(408, EndCause::TrunkTimeout, Failure::NoReply),
        }
    }

    /// The way there is broken.
    fn unreachable(party: &Party) -> Failed {
        match party {
            Party::User { .. } => Failed::absent(Failure::Transport),
            Party::Trunk(_) => Failed::new(503, EndCause::TransportFailed, Failure::Transport),
        }
    }

    fn absent(why: Failure) -> Failed {
        Failed::new(EndCause::Unavailable.sip_code(), EndCause::Unavailable, why)
    }

    /// It is nobody's fault but ours: the trunk is as good as it was.
    pub(super) fn ours(cause: EndCause) -> Failed {
        Failed::new(cause.sip_code(), cause, Failure::Status { code: 480, q850: None })
    }

    fn new(status: u16, cause: EndCause, why: Failure) -> Failed {
        Failed { status, cause, why, far: FarReason::default() }
    }
}

/// How long a far end may answer nothing at all.
fn patience(party: &Party) -> Duration {
    match party {
        Party::Trunk(trunk) => trunk.config.reply_timeout,
        Party::User { .. } => DEVICE_PATIENCE,
    }
}

/// Which of several devices' refusals the caller is told: a person's word before a machine's.
fn preference(status: u16) -> u16 {
    match status {
        600..=699 => 0,
        486 => 1,
        480 => 3,
        400..=499 => 2,
        _ => 4,
    }
}
