//! What a caller learns and hears before the answer: ringing, early media, and their PRACKs (RFC 3262, RFC 3960).

use super::dialog::{offer_in, reply, reply_unacceptable};
use super::{Asked, Call, Note, Stage};
use crate::call::core::{Core, response};
use crate::call::event::{Event, Output};
use crate::call::leg::media::offered_codecs;
use crate::call::leg::progress::Described;
use crate::call::leg::{Leg, LegState, Party};
use crate::sip::dialog::Dialog;
use crate::sip::header_rules::Kind;
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::sip::reliable::{Acknowledged, ReliableStep};
use crate::types::{AudioCodec, EndCause, LegId, LegKind, MediaDirection, Now, ReleasedBy};
use bytes::Bytes;
use std::time::Duration;

/// How soon the same progress is told again.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// So much progress of one call is told. A far end that says more has lost its way, and a caller or a transferor that
/// hears all of it gets a flood that we made.
const MOST_TOLD: u8 = 20;

impl Call {
    /// A provisional response of a callee.
    pub(super) fn on_progress(&mut self, core: &mut Core, now: Now, position: usize, progress: Response) {
        if !matches!(self.stage, Stage::Hunting { .. }) || !self.callees[position].is_inviting() {
            return;
        }
        let leg = &mut self.callees[position];
        if !leg.take_progress(core, now, &progress) {
            return;
        }
        if progress.status == 199 {
            self.end_fork(core, now, position, &progress);
            return;
        }
        let rings = matches!(progress.status, 180 | 183);
        if let (Some(attempt), true) = (leg.attempt.as_mut(), rings) {
            attempt.ringing.get_or_insert(now);
            if !std::mem::replace(&mut attempt.progressed, true)
                && let Some(trunk) = leg.party.trunk_name()
            {
                let after = now.instant - attempt.started.instant;
                core.event(Event::TrunkProgress { trunk, after });
            }
        }
        if rings {
            self.ringing.get_or_insert(now);
            self.note_connected(core, position, &progress);
        }
        let leg = &mut self.callees[position];
        let tag = progress.to_tag().unwrap_or_default();
        let permission = leg.early.permit(&progress);
        let heard = leg.party.lets_hear(permission.permitted);
        let description = progress.sdp();
        if let Some(description) = &description {
            leg.early.describe(tag, description);
        }
        if heard && (description.is_some() || permission.completes) {
            self.hear_fork(core, position, tag, description);
        } else if !heard && leg.early.current.as_deref() == Some(tag) {
            // What was heard so far is taken back: the caller's own phone rings then.
            let index = leg.id.index;
            self.early.take_if(|early| *early == index);
        }
        self.pass_progress(core, now, position, progress.status);
        if rings {
            self.play_ringback(core, now);
        }
    }

    /// One of several forks has ended, and the others go on (RFC 6228 §4). The caller has one dialog with us, whoever rings
    /// behind: it is told nothing, and hears another fork that may be heard in the place of this one, else ringback.
    fn end_fork(&mut self, core: &mut Core, now: Now, position: usize, progress: &Response) {
        let leg = &mut self.callees[position];
        let index = leg.id.index;
        if leg.early.end(progress.to_tag().unwrap_or_default()) {
            let next = leg.early.audible().filter(|_| leg.party.lets_hear(true));
            self.early.take_if(|early| *early == index);
            if let Some(tag) = next {
                self.hear_fork(core, position, &tag, None);
            }
            if self.early.is_none() {
                self.play_ringback(core, now);
            }
        }
    }

    /// A fork that may be heard has described itself. Of several forks the one that did so last is heard; the one that
    /// answers decides (RFC 3261 §13.2.2.4).
    fn hear_fork(&mut self, core: &mut Core, position: usize, tag: &str, description: Option<Bytes>) {
        let leg = &mut self.callees[position];
        // The same again would only make the worker learn the far end's address anew.
        let Ok(new) = leg.turn_to(tag, description) else { return };
        leg.early.current = Some(tag.to_owned());
        if new {
            leg.configure_media(core);
        }
        self.early = Some(leg.id.index);
    }

    /// Tells the caller how far it is, with the early voice where there is one.
    fn pass_progress(&mut self, core: &mut Core, now: Now, position: usize, status: u16) {
        if self.serves_transfer {
            if self.told < MOST_TOLD {
                self.told += 1;
                self.notes.push(Note::Progress(status));
            }
            return;
        }
        let index = self.callees[position].id.index;
        let with_media = self.early == Some(index) && self.answer_caller_media(core, Some(position));
        // A 183 whose early media we don't pass on would say nothing; the caller still learns that it rings.
        let status = if status == 183 && !with_media { 180 } else { status };
        self.say_progress(core, now, status, with_media);
    }

    /// Tells the caller how far it is, unless it knows.
    pub(super) fn say_progress(&mut self, core: &mut Core, now: Now, status: u16, with_media: bool) {
        // Forks and nervous far ends repeat themselves; a lost one is still made good by the next.
        let reliable = self.caller.reliable.is_some();
        let repeated = self.progress.is_some_and(|(told, media, at)| {
            (told, media) == (status, with_media) && (reliable || now.instant < at + PROGRESS_PAUSE)
        });
        if repeated || !matches!(self.caller.state, LegState::Incoming { .. }) {
            return;
        }
        // That a voice begins, or ends, is news however much was said before.
        let news = self.progress.is_none_or(|(_, media, _)| media != with_media);
        if self.told >= MOST_TOLD && !(news && self.told < 2 * MOST_TOLD) {
            return;
        }
        self.told += 1;
        self.progress = Some((status, with_media, now.instant));
        match self.caller.reliable.as_mut() {
            Some(reliable) if reliable.sent.is_waiting() => {
                let media = reliable.queued.is_some_and(|(_, media)| media);
                reliable.queued = Some((status, with_media || media));
            }
            Some(_) | None => self.tell_progress(core, now, status, with_media),
        }
    }

    fn tell_progress(&mut self, core: &mut Core, now: Now, status: u16, with_media: bool) {
        // Without an offer in the INVITE ours stands in the first reliable response (RFC 3262 §5).
        let description = match self.caller.reliable.as_ref().map(|reliable| reliable.described) {
            Some(Described::No) if self.delayed_offer => self.offer_to_caller(core),
            Some(Described::No) | None if with_media => self.caller.media.described(),
            Some(_) | None => None,
        };
        let LegState::Incoming { server, request } = &self.caller.state else { return };
        let (server, told) = (*server, self.told_to_caller(core, request));
        let leg = &mut self.caller;
        let LegState::Incoming { request, .. } = &leg.state else { return };
        let mut progress = response(request, status, &leg.local_tag);
        progress.headers.push(HeaderName::Contact, Leg::contact(&leg.peer, None));
        for (name, value) in told {
            progress.headers.push(name, value);
        }
        if leg.dialog.is_none() {
            leg.dialog = Dialog::uas(request, &leg.local_tag).ok();
        }
        if leg.reliable.is_some() {
            leg.capabilities(&core.settings).tell(&mut progress.headers);
        }
        if let Some(reliable) = leg.reliable.as_mut()
            && description.is_some()
        {
            reliable.described = if self.delayed_offer { Described::Offer } else { Described::Answer };
        }
        if let Party::Trunk(trunk) = &leg.party {
            let asked = request.headers.lists(&HeaderName::PEarlyMedia, "supported");
            if with_media && asked && trunk.config.p_early_media {
                progress.headers.push(HeaderName::PEarlyMedia, "sendrecv");
            }
        }
        if let Some(description) = description {
            progress = progress.with_body("application/sdp", description);
        }
        leg.dress(Kind::Response(status), &mut progress.headers);
        core.sign(&mut progress);
        if let Some(reliable) = leg.reliable.as_mut() {
            reliable.sent.send(now.instant, &core.timers, &mut progress);
        }
        core.respond(now, server, &Method::Invite, progress);
    }

    /// Our own offer to a caller whose INVITE had none.
    pub(super) fn offer_to_caller(&mut self, core: &mut Core) -> Option<String> {
        let session_id = u64::from_be_bytes(core.octets::<8>()) >> 2;
        let direction =
            self.winner.and_then(|winner| self.leg(winner)).map(|leg| leg.media.allowed.reversed());
        let address = self.caller.peer.local.ip();
        let direction = direction.unwrap_or(MediaDirection::SendRecv);
        self.caller.media.offer(address, session_id, direction, core.randomness())
    }

    /// Agrees on the caller's media with the callee's codec first, once; joins the two.
    /// False when the caller's offer can't be answered yet or at all.
    pub(super) fn answer_caller_media(&mut self, core: &mut Core, position: Option<usize>) -> bool {
        let callee = position.map(|position| &self.callees[position]);
        let callee_codec = callee.and_then(|callee| callee.media.negotiated.as_ref());
        let callee_codec = callee_codec.map(|agreed| agreed.codec).or(self.found_codec());
        let (callee, allowed) =
            (callee.map(|callee| callee.id), callee.map(|callee| callee.media.allowed.reversed()));
        if self.caller.media.negotiated.is_none() {
            let Some(offer) = &self.offer else { return false };
            self.caller.media.policy.codecs = self.caller_codecs(callee_codec);
            self.caller.media.policy.narrowband = callee_codec.is_some_and(|codec| codec != AudioCodec::Opus);
            let session_id = u64::from_be_bytes(core.octets::<8>()) >> 2;
            let address = self.caller.peer.local.ip();
            // What an early description allows may change with the answer: the caller is told then.
            let direction = match self.stage {
                Stage::Talking { .. } => allowed.unwrap_or(MediaDirection::SendRecv),
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
        if let Some(callee) = callee {
            self.bridge(core, callee);
        }
        true
    }

    /// The caller's codecs in the order in which one is agreed on, once the callee's is known.
    fn caller_codecs(&self, callee: Option<AudioCodec>) -> Vec<AudioCodec> {
        let mut codecs = self.caller.media.policy.codecs.clone();
        if codecs.contains(&AudioCodec::Opus) && self.caller.party.kind() == LegKind::App {
            // Opus over the open Internet repairs loss that G.711 can't: it stays first on the app's leg.
            codecs.sort_by_key(|codec| *codec != AudioCodec::Opus);
        } else {
            codecs.sort_by_key(|codec| Some(*codec) != callee);
        }
        codecs
    }

    /// What the caller's leg speaks, or will speak once the answer's record is durable.
    pub(super) fn caller_codec(&self) -> Option<AudioCodec> {
        if let Some(agreed) = &self.caller.media.negotiated {
            return Some(agreed.codec);
        }
        let Stage::Answering { callee, .. } = self.stage else { return None };
        // A call that another one's caller waits for has no caller of its own.
        self.caller.request()?;
        let callee = callee.leg().and_then(|index| self.leg(index));
        let callee = callee.and_then(|leg| leg.media.negotiated.as_ref()).map(|agreed| agreed.codec);
        let callee = callee.or(self.found_codec());
        let offered = offered_codecs(self.offer.as_deref()?);
        self.caller_codecs(callee).into_iter().find(|codec| offered.contains(codec))
    }

    /// Joins the caller with a callee at the media worker, once.
    pub(super) fn bridge(&mut self, core: &mut Core, callee: LegId) {
        if self.bridged.replace(callee.index) != Some(callee.index) {
            core.emit(Output::Bridge { caller: self.caller.id, callee });
        }
    }

    /// A PRACK of the caller. What waited for it goes on.
    pub(super) fn on_prack(&mut self, core: &mut Core, now: Now, index: u8, asked: Asked) {
        let Some(rack) = asked.request.rack() else {
            reply(core, now, &asked, 400);
            return;
        };
        let known = match self.leg_mut(index).and_then(|leg| leg.reliable.as_mut()) {
            Some(reliable) => reliable.sent.acknowledge(&rack),
            None => Acknowledged::Unknown,
        };
        match known {
            Acknowledged::Unknown => {
                reply(core, now, &asked, 481);
                return;
            }
            Acknowledged::Earlier => {
                reply(core, now, &asked, 200);
                return;
            }
            Acknowledged::Outstanding => {}
        }
        let awaits_answer = self
            .caller
            .reliable
            .as_ref()
            .is_some_and(|reliable| reliable.described == Described::Offer && !reliable.settled);
        if let Some(reliable) = self.caller.reliable.as_mut() {
            reliable.settled |= reliable.described != Described::No;
        }
        if awaits_answer {
            reply(core, now, &asked, 200);
            if !self.take_callers_answer(core, &asked.request) {
                self.close(core, now, EndCause::NotAcceptable, ReleasedBy::Gateway, None);
                return;
            }
            self.play_ringback(core, now);
        } else {
            self.answer_prack(core, now, &asked);
        }
        let Some(reliable) = self.caller.reliable.as_mut() else { return };
        if let Some((status, with_media)) = reliable.queued.take() {
            self.tell_progress(core, now, status, with_media);
        } else if std::mem::take(&mut reliable.answer_waits) {
            self.let_caller_in(core, now);
        }
    }

    /// The caller's answer to the offer that it left to us, in its PRACK.
    fn take_callers_answer(&mut self, core: &mut Core, prack: &Request) -> bool {
        if prack.sdp().is_none_or(|answer| self.caller.media.accept(&answer).is_err()) {
            return false;
        }
        self.caller.configure_media(core);
        if let Some(early) = self.early.or(self.winner) {
            self.bridge(core, LegId { call: self.id, index: early });
        }
        true
    }

    /// The 200 to a PRACK, with our answer where it makes an offer of its own (RFC 3262 §5).
    fn answer_prack(&mut self, core: &mut Core, now: Now, asked: &Asked) {
        let mut answer = response(&asked.request, 200, "");
        if !asked.request.body.is_empty() {
            let leg = &mut self.caller;
            let (address, direction) = (leg.peer.local.ip(), leg.media.told);
            let text = offer_in(&asked.request)
                .and_then(|offer| leg.media.answer(address, 0, &offer, direction, core.randomness()));
            let text = match text {
                Ok(text) => text,
                Err(refusal) => return reply_unacceptable(core, now, asked, refusal),
            };
            leg.configure_media(core);
            answer = answer.with_body("application/sdp", text);
        }
        core.respond(now, asked.key, &Method::Prack, answer);
    }

    /// Repeats what the caller has not acknowledged; refuses a call whose progress never arrives.
    pub(super) fn repeat_progress(&mut self, core: &mut Core, now: Now) {
        let LegState::Incoming { server, .. } = &self.caller.state else { return };
        let Some(reliable) = self.caller.reliable.as_mut() else { return };
        match reliable.sent.handle_timeout(now.instant) {
            ReliableStep::Wait => {}
            ReliableStep::Repeat(response) => core.repeat(now, *server, response),
            ReliableStep::GiveUp => self.close(core, now, EndCause::NoPrack, ReleasedBy::Gateway, None),
        }
    }
}
