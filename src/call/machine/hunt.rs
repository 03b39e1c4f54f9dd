//! Finding somebody who answers: devices all at once, trunks one after the other.

use super::record::AttemptEnd;
use super::{Call, Device, Plan, Stage, TrunkCandidate};
use crate::call::core::{Core, response};
use crate::call::event::{Event, Output, Target};
use crate::call::leg::invite::InvitePlan;
use crate::call::leg::media::{LegMedia, MediaPolicy, offered_codecs};
use crate::call::leg::{self, Attempt, Leg, LegState, Modification, Party};
use crate::call::trunks::{Refusal, Trunks};
use crate::routing::{Channel, FailoverAction, Failure};
use crate::sip::message::{HeaderName, Method, NameAddr, Reason, Response, Typed, Uri};
use crate::sip::transaction::ClientFailure;
use crate::types::{AudioCodec, EndCause, HostPort, LegId, MediaDirection, Now, ReleasedBy};
use bytes::Bytes;
use std::time::Duration;

/// A device answers at once or is gone: four INVITEs within this time (RFC 3261 §17.1.1.2) got through a bad radio link.
const DEVICE_PATIENCE: Duration = Duration::from_secs(6);
/// How soon the same progress is told again.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

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
            Plan::Trunks(_) => self.try_next_trunk(core, trunks, now),
            Plan::Refused { .. } => {}
        }
    }

    fn next_leg_id(&self) -> LegId {
        LegId { call: self.id, index: self.callees.last().map_or(1, |leg| leg.id.index.saturating_add(1)) }
    }

    fn ring_device(&mut self, core: &mut Core, now: Now, device: Device) {
        let mut policy = MediaPolicy::user(device.peer.transport.is_secure(), &core.settings);
        policy.narrowband = !self.caller.media.policy.codecs.contains(&AudioCodec::Opus);
        let party = Party::User { name: device.user.clone() };
        let attempt = Attempt {
            called: device.contact,
            calling: self.calling.clone(),
            target: None,
            started: now,
            ringing: None,
            answered: None,
            ended: None,
            progressed: false,
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
        let auth = match &party {
            Party::Trunk(trunk) => trunk.client_auth(),
            Party::User { .. } => None,
        };
        let mut leg = Leg {
            id,
            party,
            peer,
            state: LegState::Allocating,
            dialog: None,
            call_id: core.token(),
            local_tag: core.token(),
            media: LegMedia::new(policy),
            invite: None,
            modification: Modification::None,
            reinvite: None,
            ack: None,
            reinvite_ack: None,
            attempt: Some(attempt),
            auth,
        };
        leg.open_media(core);
        self.callees.push(leg);
    }

    /// Takes the next trunk that may carry the call; ends the call when there is none.
    fn try_next_trunk(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now) {
        let Plan::Trunks(candidates) = &mut self.plan else { return };
        while let Some(candidate) = candidates.pop_front() {
            match trunks.take(now, &candidate.trunk.name, 0) {
                Ok((channel, target)) => {
                    self.attempt_trunk(core, now, candidate, 0, channel, target);
                    return;
                }
                Err(refusal) => {
                    // A real failure of an earlier trunk says more than "this one was full".
                    let cause = match refusal {
                        Refusal::Unavailable => EndCause::TrunkUnavailable,
                        Refusal::Congested => EndCause::TrunkCongested,
                    };
                    self.failure.get_or_insert((cause, cause.sip_code()));
                }
            }
        }
        let (cause, code) = self.failure.unwrap_or((EndCause::NoRoute, EndCause::NoRoute.sip_code()));
        let by = if self.callees.is_empty() { ReleasedBy::Gateway } else { ReleasedBy::Callee };
        self.close(core, now, cause, by, Some(code));
    }

    fn attempt_trunk(
        &mut self,
        core: &mut Core,
        now: Now,
        candidate: TrunkCandidate,
        target_index: usize,
        channel: Channel,
        target: Target,
    ) {
        let trunk = candidate.trunk.clone();
        self.stage = Stage::Hunting { give_up_at: now.instant + trunk.ring };
        core.event(Event::AttemptStarted { trunk: Some(trunk.name.clone()), direction: self.direction });
        let policy = MediaPolicy::trunk(&trunk, &core.settings);
        let attempt = Attempt {
            called: candidate.called.clone(),
            calling: candidate.calling.clone(),
            target: Some(target.clone()),
            started: now,
            ringing: None,
            answered: None,
            ended: None,
            progressed: false,
            channel: Some(channel),
            counted: false,
        };
        self.add_callee(core, Party::Trunk(trunk), target.peer, policy, attempt);
        self.retry = Some((candidate, target_index));
    }

    /// A callee's leg has its ports: the INVITE goes out.
    pub(super) fn place(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now, position: usize) {
        let session_id = u64::from_be_bytes(core.octets::<8>()) >> 2;
        let shared = self.shared_codec_order(position);
        // A caller that begins on hold is on hold at the far end too.
        let direction = self.caller.media.allowed.reversed();
        let leg = &mut self.callees[position];
        leg.media.policy.codecs = shared;
        let address = leg.peer.local.ip();
        let offer = leg.media.offer(address, session_id, direction, core.randomness());
        let Some((offer, attempt)) = offer.zip(leg.attempt.as_ref()) else { return };
        let request_uri = match &attempt.target {
            Some(target) => Some(Uri::sip(Some(&attempt.called), target.host.clone())),
            None => Uri::parse(&attempt.called).ok(),
        };
        let Some(request_uri) = request_uri else {
            // A contact from the database that is no address: the device can't be rung.
            self.callee_failed(core, trunks, now, position, Failed::absent(Failure::Transport));
            return;
        };
        let mut to = request_uri.clone();
        to.params = Default::default();
        let mut from = Uri::sip(Some(&attempt.calling), HostPort { host: address.to_string(), port: None });
        if let Party::Trunk(trunk) = &leg.party {
            if let Some(domain) = trunk.own_domain() {
                to.host = HostPort { host: domain.to_owned(), port: None };
                from.host = to.host.clone();
            }
        }
        let anonymous = attempt.calling == ANONYMOUS;
        if anonymous {
            // RFC 3323 §4.1.1.3: who withholds its number withholds its domain too.
            from.host = HostPort { host: "anonymous.invalid".to_owned(), port: None };
        }
        let mut from = NameAddr::new(from);
        from.display = anonymous.then(|| "Anonymous".to_owned());
        let plan = InvitePlan { request_uri, to, from, max_forwards: self.max_forwards, offer };
        leg.invite(core, now, plan, patience(&leg.party));
    }

    /// Codecs for a callee's offer: what the caller can also do comes first, so that nothing is transcoded that
    /// need not be. App to app this leaves Opus untouched.
    fn shared_codec_order(&self, position: usize) -> Vec<AudioCodec> {
        let mut codecs = self.callees[position].media.policy.codecs.clone();
        if let Some(offer) = &self.offer {
            let offered = offered_codecs(offer);
            codecs.sort_by_key(|codec| !offered.contains(codec));
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
        answer: Response,
    ) {
        match answer.status {
            100 => self.heard(position),
            101..=199 => {
                self.heard(position);
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

    fn on_progress(&mut self, core: &mut Core, now: Now, position: usize, progress: Response) {
        if !matches!(self.stage, Stage::Hunting { .. }) || !self.callees[position].is_inviting() {
            return;
        }
        let leg = &mut self.callees[position];
        let rings = matches!(progress.status, 180 | 183);
        if let (Some(attempt), true) = (leg.attempt.as_mut(), rings) {
            attempt.ringing.get_or_insert(now);
            if !std::mem::replace(&mut attempt.progressed, true) {
                if let Some(trunk) = leg.party.trunk_name() {
                    let after = now.instant - attempt.started.instant;
                    core.event(Event::TrunkProgress { trunk, after });
                }
            }
        }
        if rings {
            self.ringing.get_or_insert(now);
        }
        let early_allowed = match &self.callees[position].party {
            Party::Trunk(trunk) => trunk.config.early_media,
            // Several devices may ring: whose early voice would the caller hear?
            Party::User { .. } => false,
        };
        if let Some(description) = progress.sdp().filter(|_| early_allowed) {
            self.take_early_media(core, position, &description);
        }
        self.pass_progress(core, now, position, progress.status, early_allowed);
    }

    fn take_early_media(&mut self, core: &mut Core, position: usize, description: &Bytes) {
        let leg = &mut self.callees[position];
        // The same again would only make the worker learn the far end's address anew.
        let Ok(new) = leg.media.accept(description) else { return };
        if new {
            leg.configure_media(core);
        }
        self.early = Some(leg.id.index);
    }

    /// Tells the caller how far it is, with the early voice where there is one.
    fn pass_progress(
        &mut self,
        core: &mut Core,
        now: Now,
        position: usize,
        status: u16,
        early_allowed: bool,
    ) {
        let index = self.callees[position].id.index;
        let with_media =
            early_allowed && self.early == Some(index) && self.answer_caller_media(core, position);
        // A 183 whose early media we don't pass on would say nothing; the caller still learns that it rings.
        let status = if status == 183 && !with_media { 180 } else { status };
        // Forks and nervous far ends repeat themselves; a lost one is still made good by the next.
        let repeated = self.progress.is_some_and(|(told, media, at)| {
            (told, media) == (status, with_media) && now.instant < at + PROGRESS_PAUSE
        });
        let LegState::Incoming { server, request } = &self.caller.state else { return };
        if repeated {
            return;
        }
        let server = *server;
        let mut progress = response(request, status, &self.caller.local_tag);
        progress.headers.push(HeaderName::Contact, Leg::contact(&self.caller.peer, None));
        if with_media {
            if let Some(description) = self.caller.media.described.clone() {
                progress = progress.with_body("application/sdp", description);
            }
        }
        core.respond(now, server, &Method::Invite, progress);
        self.progress = Some((status, with_media, now.instant));
    }

    /// Agrees on the caller's media with the callee's codec first, once; joins the two.
    /// False when the caller's offer can't be answered yet or at all.
    pub(super) fn answer_caller_media(&mut self, core: &mut Core, position: usize) -> bool {
        let Some(offer) = &self.offer else { return false };
        let callee_codec = self.callees[position].media.negotiated.as_ref().map(|agreed| agreed.codec);
        if self.caller.media.negotiated.is_none() {
            let codecs = &mut self.caller.media.policy.codecs;
            if codecs.contains(&AudioCodec::Opus) && self.caller.party.kind() == crate::types::LegKind::App {
                // Opus over the open Internet repairs loss that G.711 can't: it stays first on the app's leg.
                codecs.sort_by_key(|codec| *codec != AudioCodec::Opus);
            } else {
                codecs.sort_by_key(|codec| Some(*codec) != callee_codec);
            }
            self.caller.media.policy.narrowband = callee_codec.is_some_and(|codec| codec != AudioCodec::Opus);
            let session_id = u64::from_be_bytes(core.octets::<8>()) >> 2;
            let address = self.caller.peer.local.ip();
            // What an early description allows may change with the answer: the caller is told then.
            let direction = match self.stage {
                Stage::Talking { .. } => self.callees[position].media.allowed.reversed(),
                Stage::Opening | Stage::Hunting { .. } | Stage::Answering { .. } | Stage::Closing(_) => {
                    MediaDirection::SendRecv
                }
            };
            let answered = self.caller.media.answer(address, session_id, offer, direction, core.randomness());
            if answered.is_err() {
                return false;
            }
            self.caller.configure_media(core);
        }
        self.bridge(core, self.callees[position].id);
        true
    }

    /// Joins the caller with a callee at the media worker, once.
    pub(super) fn bridge(&mut self, core: &mut Core, callee: LegId) {
        if self.bridged.replace(callee.index) != Some(callee.index) {
            core.emit(Output::Bridge { caller: self.caller.id, callee });
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
        let cause = EndCause::from_sip(status);
        let retry_after = answer.retry_after().map(|seconds| Duration::from_secs(seconds.into()));
        let why = if matches!(status, 401 | 407) {
            Failure::Credentials
        } else {
            Failure::Status { code: status, q850: q850_of(answer) }
        };
        self.callee_failed(core, trunks, now, position, Failed { status, cause, why, retry_after });
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
        let Failed { status, cause, why, retry_after } = failed;
        let leg = &mut self.callees[position];
        if !matches!(leg.state, LegState::Cancelling) {
            leg.vanish(core);
        }
        leg.close_media(core);
        let index = leg.id.index;
        self.early.take_if(|early| *early == index);
        self.bridged.take_if(|bridged| *bridged == index);
        self.free_attempt(now, position, AttemptEnd { status, cause });
        if !matches!(self.stage, Stage::Hunting { .. }) {
            self.count_attempt(core, position, false);
            return;
        }
        match self.callees[position].party.clone() {
            Party::User { .. } => self.device_failed(core, now, cause, status),
            Party::Trunk(trunk) => match trunk.config.failover.action(why) {
                FailoverAction::Next => {
                    trunks.failed(now, &trunk.name);
                    if let Some(pause) = retry_after.filter(|_| status == 503) {
                        trunks.pause(now, &trunk.name, pause);
                    }
                    self.failure = Some((cause, cause.sip_code()));
                    let attempts = self.callees.len();
                    self.try_next_target(core, trunks, now, why);
                    self.count_attempt(core, position, self.callees.len() > attempts);
                }
                FailoverAction::Final => self.close(core, now, cause, ReleasedBy::Callee, Some(status)),
                FailoverAction::FinalAndBlock(pause) => {
                    trunks.pause(now, &trunk.name, pause);
                    self.close(core, now, cause, ReleasedBy::Callee, Some(status));
                }
            },
        }
        self.count_attempt(core, position, false);
    }

    /// The same trunk's next address where this one was not there or had no room (RFC 3263 §4.3), else the next trunk:
    /// what one address of a trunk has decided, another one of it would decide again.
    fn try_next_target(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now, why: Failure) {
        let unreachable = match why {
            Failure::NoReply | Failure::Transport => true,
            Failure::Status { code, .. } => code == 503,
            Failure::Credentials => false,
        };
        if let Some((candidate, target_index)) = self.retry.take().filter(|_| unreachable) {
            if let Ok((channel, target)) = trunks.take(now, &candidate.trunk.name, target_index + 1) {
                self.attempt_trunk(core, now, candidate, target_index + 1, channel, target);
                return;
            }
        }
        self.try_next_trunk(core, trunks, now);
    }

    /// One device of several gave up. RFC 3261 §16.7: a 6xx speaks for the user; else the best answer wins at the end.
    fn device_failed(&mut self, core: &mut Core, now: Now, cause: EndCause, status: u16) {
        let better = match self.failure {
            None => true,
            Some((_, known)) => preference(status) < preference(known),
        };
        if better {
            self.failure = Some((cause, status));
        }
        let ringing = self.callees.iter().any(Leg::is_inviting);
        if status >= 600 || !ringing {
            let (cause, code) = self.failure.unwrap_or((cause, status));
            self.close(core, now, cause, ReleasedBy::Callee, Some(code));
        }
    }

    /// Timers of the single legs.
    pub(super) fn legs_timeout(&mut self, core: &mut Core, trunks: &mut Trunks, now: Now) {
        for position in 0..self.callees.len() {
            if let LegState::Inviting { leave_at: Some(at) } = self.callees[position].state {
                if at <= now.instant {
                    // Taken back, not forgotten: a late 2xx must still find its leg.
                    let failed = Failed::silent(&self.callees[position].party);
                    self.callees[position].release(core, now, &leg::reason(failed.cause));
                    self.callee_failed(core, trunks, now, position, failed);
                }
            }
        }
        self.repeat_answers(core, now);
        self.retry_reinvites(core, now);
    }
}

/// How an attempt towards a callee failed.
pub(super) struct Failed {
    status: u16,
    cause: EndCause,
    why: Failure,
    /// How long the far end asked to be left alone.
    retry_after: Option<Duration>,
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

    fn new(status: u16, cause: EndCause, why: Failure) -> Failed {
        Failed { status, cause, why, retry_after: None }
    }
}

/// How long a far end may answer nothing at all.
fn patience(party: &Party) -> Duration {
    match party {
        Party::Trunk(trunk) => trunk.config.reply_timeout,
        Party::User { .. } => DEVICE_PATIENCE,
    }
}

/// The Q.850 cause of a Reason header (RFC 3326 §2).
fn q850_of(answer: &Response) -> Option<u8> {
    answer.reasons().into_iter().find(Reason::is_q850).and_then(|reason| u8::try_from(reason.cause?).ok())
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
