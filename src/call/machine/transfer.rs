//! A call's part in a transfer: the one that is left keeps talking, now to somebody of another call (RFC 5589).
//!
//! ```text
//! before:  remaining ── first call ── transferor ── (second call) ── target
//! after:   remaining ── first call ═══ joined ═══ second call ── target
//! ```
//! Both calls keep their records, and both are the transferor's: it pays for each side as long as they talk. A trunk that
//! moved its call away and left carries nothing any more: it has its channel back, and what it costs ends there. One that
//! took its own call over by another dialog has not left: its user talks to it as before, and pays as before.

use super::record::AttemptEnd;
use super::{Asked, Call, Callee, Plan, Stage};
use crate::call::core::{Core, Purpose, response};
use crate::call::identity::Identity;
use crate::call::leg::{Leg, LegState, Party};
use crate::sip::message::{HeaderName, Method, Status, Typed};
use crate::types::{CallId, EndCause, LegId, MediaDirection, Now, ReleasedBy};

/// How long a transferor's subscription lasts at most, in seconds: longer than anybody rings (RFC 3515 §2.4.4).
const SUBSCRIPTION: u32 = 180;

/// What one call has to tell about itself to the one it is to be joined with, or is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The target was tried, or rings.
    Progress(u16),
    Answered,
    /// The target will not answer; the status says why.
    Failed(u16),
    /// The conversation is over.
    Ended(EndCause),
    /// Its caller is to talk to somebody of another call: a phone has taken its user's call over, or the one to whom this
    /// one was sent on has answered.
    TookOver,
    /// A device has sent it on, and no other one of its user rings any more.
    GoesOn,
    /// What the far end of the leg that is joined allows now.
    Allows(MediaDirection),
}

/// A transfer under way, seen from the first call.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// The leg that asked for it.
    by: u8,
    pub target: CallId,
    /// The REFER's number, where it was not the dialog's first (RFC 3515 §2.4.6).
    id: Option<u32>,
    /// It hung up without waiting for the outcome.
    gone: bool,
}

/// What becomes of the far end of a leg whose place in a conversation another one takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// It has left the others to each other.
    Leaves,
    /// It is the other one itself, by another dialog (RFC 3891).
    ComesBack,
}

/// This call's leg talks to a leg of another call.
#[derive(Debug, Clone, Copy)]
pub struct Joined {
    pub leg: u8,
    pub partner: LegId,
    /// What the partner's far end allows.
    allowed: MediaDirection,
    /// What the partner knows of ours.
    told: MediaDirection,
}

impl Call {
    /// What the far end of a leg said of itself where it called.
    pub fn identity_of(&self, index: u8) -> Option<&Identity> {
        (index == 0).then_some(&self.identity)
    }

    /// Who would be left if this leg's far end moved the call away; `None` where there is no conversation to move, or
    /// it is being moved already.
    pub fn remaining(&self, index: u8) -> Option<LegId> {
        let Stage::Talking { callee, .. } = self.stage else { return None };
        let callee = callee.leg()?;
        let other = if index == 0 { callee } else { 0 };
        let talks = |index: u8| self.leg(index).filter(|leg| matches!(leg.state, LegState::Established));
        let free = self.joined.is_none() && self.transfer.is_none() && (index == 0 || index == callee);
        talks(index).and(talks(other)).filter(|_| free).map(|leg| leg.id)
    }

    /// The one who is left, while the target is being tried.
    pub fn transferred(&self) -> Option<LegId> {
        let Stage::Talking { callee, .. } = self.stage else { return None };
        let other = if self.transfer?.by == 0 { callee.leg()? } else { 0 };
        self.leg(other).filter(|leg| matches!(leg.state, LegState::Established)).map(|leg| leg.id)
    }

    /// True while its caller waits for somebody to answer.
    pub fn rings(&self) -> bool {
        let waits = match self.stage {
            Stage::Hunting { .. } => true,
            Stage::Answering { cancelled, .. } => !cancelled,
            Stage::Opening | Stage::Talking { .. } | Stage::Closing(_) => false,
        };
        let rung = match self.plan {
            Plan::Devices(_) | Plan::Trunks(_) => true,
            // Nobody is rung whom the caller could be left to.
            Plan::TakesOver { .. } | Plan::Line(_) | Plan::Refused { .. } => false,
        };
        waits && rung && !self.waits_for_another() && matches!(self.caller.state, LegState::Incoming { .. })
    }

    /// True where nobody is rung but devices of users, and nobody else will be.
    pub fn rings_only_users(&self) -> bool {
        let plan = match self.plan {
            Plan::Devices(_) => true,
            Plan::Trunks(_) | Plan::TakesOver { .. } | Plan::Line(_) | Plan::Refused { .. } => false,
        };
        plan && self.callees.iter().all(|leg| matches!(leg.party, Party::User { .. }))
    }

    /// Gives up on trunks whose far end may not hear this party; false where such a one is being rung.
    pub fn keep_only_who_may_meet(&mut self, party: &Party) -> bool {
        if !self.callees.iter().all(|leg| leg.is_gone() || leg.party.may_meet(party)) {
            return false;
        }
        if let Plan::Trunks(candidates) = &mut self.plan {
            candidates.retain(|candidate| Party::Trunk(candidate.trunk.clone()).may_meet(party));
        }
        if let Some(help) = self.help.as_mut() {
            help.keep_only_who_may_meet(party);
        }
        true
    }

    /// The caller leaves who is being rung to the one it talks to in another call. Its own INVITE is over.
    pub fn serve_transfer(&mut self, core: &mut Core, now: Now, first: CallId) {
        self.refuse_caller(core, now, EndCause::CallerCancelled, 487);
        self.stop_ringback(core);
        self.caller.close_media(core);
        (self.early, self.bridged) = (None, None);
        self.serves_transfer = true;
        self.set_transfer_of(first);
        if self.ringing.is_some() {
            self.notes.push(Note::Progress(180));
        }
    }

    /// This call came out of another one.
    pub fn set_transfer_of(&mut self, first: CallId) {
        self.transfer_of = Some(first);
        self.cdr.transfer_of = Some(first);
    }

    /// Takes a REFER up: 202, and a first report to the one who sent it (RFC 3515 §2.4.4).
    pub fn begin_transfer(&mut self, core: &mut Core, now: Now, by: u8, target: CallId, asked: &Asked) {
        let accepted = response(&asked.request, 202, "");
        core.respond(now, asked.key, &Method::Refer, accepted);
        let number = asked.request.cseq().ok().map(|cseq| cseq.number);
        let again = std::mem::replace(&mut self.referred, true);
        self.transfer = Some(Transfer { by, target, id: number.filter(|_| again), gone: false });
        self.report_transfer(core, now, 100);
    }

    /// Tells the transferor how far it is.
    pub fn report_transfer(&mut self, core: &mut Core, now: Now, status: u16) {
        let Some(transfer) = self.transfer else { return };
        if let Some(leg) = self.leg_mut(transfer.by) {
            notify(leg, core, now, transfer.id, status);
        }
    }

    /// The target will not answer: the transferor hears why, and has its call back.
    pub fn transfer_failed(&mut self, core: &mut Core, now: Now, status: u16) {
        self.report_transfer(core, now, status);
        let Some(transfer) = self.transfer.take() else { return };
        if transfer.gone {
            let by = if transfer.by == 0 { ReleasedBy::Caller } else { ReleasedBy::Callee };
            self.close(core, now, EndCause::NormalClearing, by, None);
        }
    }

    /// One leg of this call talks to a leg of another call from now on; the other one of this call is let go.
    pub fn join(
        &mut self,
        core: &mut Core,
        now: Now,
        keep: u8,
        (partner, allowed): (LegId, MediaDirection),
        parting: Parting,
    ) {
        self.report_transfer(core, now, 200);
        self.transfer = None;
        self.joined = Some(Joined { leg: keep, partner, allowed, told: MediaDirection::SendRecv });
        // The worker joins two legs at a time: this bridge has gone with the new one.
        self.bridged = None;
        let reason = self.far.value(EndCause::NormalClearing);
        for leg in std::iter::once(&mut self.caller).chain(self.callees.iter_mut()) {
            if leg.id.index != keep && !leg.is_gone() {
                leg.release(core, now, &reason);
            }
            if leg.id.index != keep {
                leg.close_media(core);
            }
        }
        for index in [Some(0), self.winner].into_iter().flatten().filter(|index| *index != keep) {
            self.part_from(core, now, index, parting);
        }
        self.supervise_media(core);
        self.tell_directions(core, now);
    }

    /// The far end of a leg has left its part in a conversation that goes on. Where it is a trunk it has its channel back,
    /// and nobody pays for it any longer, unless it came back by another dialog: then this call, the only one of the two
    /// that is charged, is its conversation still.
    pub(super) fn part_from(&mut self, core: &mut Core, now: Now, index: u8, parting: Parting) {
        if index == 0 {
            self.freed_channels.extend(self.incoming_channel.take());
            return;
        }
        let Some(position) = self.callee_position(index) else { return };
        let running = self.callees[position].attempt.as_ref().is_some_and(|attempt| attempt.ended.is_none());
        let carried = running && self.callees[position].party.trunk_name().is_some();
        let end = AttemptEnd { status: 200, cause: EndCause::NormalClearing };
        self.end_attempt(core, now, position, end);
        if carried && parting == Parting::Leaves {
            self.cdr.carried_ms = self.duration_ms(now);
            // Whoever finds the record after a crash must know it.
            self.write_record(core, now, None);
        }
    }

    /// A phone takes a running call of its user over: it is answered at once, and pays nothing by itself.
    pub(super) fn take_over(&mut self, core: &mut Core, now: Now) {
        self.ringing = Some(now);
        self.answered = Some(now);
        self.stage = Stage::Answering { callee: Callee::Elsewhere, cancelled: false };
        self.record_answer(core, now);
    }

    /// Its answer is on disk.
    pub(super) fn taken_over(&mut self, core: &mut Core, now: Now, cancelled: bool) {
        self.begin_talking(core, now, Callee::Elsewhere);
        if self.holds_answer(core, now, cancelled) {
            return;
        }
        if cancelled {
            self.close(core, now, EndCause::NormalClearing, ReleasedBy::Caller, Some(487));
            return;
        }
        self.let_caller_in(core, now);
    }

    /// True where it takes a running call over for the far end that its caller's party has there already.
    pub fn comes_back(&self) -> bool {
        match self.plan {
            Plan::TakesOver { .. } => true,
            Plan::Devices(_) | Plan::Trunks(_) | Plan::Line(_) | Plan::Refused { .. } => false,
        }
    }

    /// The leg this call takes over the talking with.
    pub fn takes_over(&self) -> Option<LegId> {
        match self.plan {
            Plan::TakesOver { remaining } => Some(remaining),
            Plan::Devices(_) | Plan::Trunks(_) | Plan::Line(_) | Plan::Refused { .. } => self.found(),
        }
    }

    /// True where another call may take this leg of it over.
    pub fn is_free(&self, index: u8) -> bool {
        self.remaining(index).is_some() || self.is_found(index)
    }

    /// The far end behind the other call holds or is back.
    pub fn partner_allows(&mut self, core: &mut Core, now: Now, direction: MediaDirection) {
        if let Some(joined) = self.joined.as_mut() {
            joined.allowed = direction;
        }
        self.tell_directions(core, now);
    }

    /// The other call of a conversation ended, and this one with it.
    pub fn partner_ended(&mut self, core: &mut Core, now: Now, cause: EndCause) {
        let Some(joined) = self.joined else { return };
        let by = if joined.leg == 0 { ReleasedBy::Callee } else { ReleasedBy::Caller };
        self.close(core, now, cause, by, None);
    }

    /// What a leg that is joined with another call's is to be told of the far end there.
    pub(super) fn direction_from_partner(&self, index: u8) -> Option<MediaDirection> {
        self.joined.filter(|joined| joined.leg == index).map(|joined| joined.allowed.reversed())
    }

    /// Tells the other call what the far end of ours allows, where it does not know yet.
    pub(super) fn tell_partner(&mut self) {
        let Some(joined) = self.joined else { return };
        let Some(allowed) = self.leg(joined.leg).map(|leg| leg.media.allowed) else { return };
        if allowed != joined.told {
            self.joined = Some(Joined { told: allowed, ..joined });
            self.notes.push(Note::Allows(allowed));
        }
    }

    /// True where a BYE of this leg ends its part only: it has moved the call away, or is doing so.
    pub(super) fn leaves_others(&mut self, index: u8) -> bool {
        if let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.by == index) {
            transfer.gone = true;
            return true;
        }
        self.joined.is_some_and(|joined| joined.leg != index)
    }
}

/// A report about a REFER: the status of the call to the target, as a fragment of SIP (RFC 3515 §2.4.5, RFC 3420).
fn notify(leg: &mut Leg, core: &mut Core, now: Now, id: Option<u32>, status: u16) {
    if !matches!(leg.state, LegState::Established) {
        return;
    }
    let hop = leg.next_hop();
    let Some(dialog) = leg.dialog.as_mut() else { return };
    let mut request = dialog.request(Method::Notify, None);
    request.headers.set(HeaderName::Contact, Leg::contact(&leg.peer, None));
    let event = id.map_or("refer".to_owned(), |id| format!("refer;id={id}"));
    request.headers.push(HeaderName::Event, event);
    let state = match status {
        ..200 => format!("active;expires={SUBSCRIPTION}"),
        // RFC 3515 §2.4.7: nothing more will come.
        200.. => "terminated;reason=noresource".to_owned(),
    };
    request.headers.push(HeaderName::SubscriptionState, state);
    let fragment = format!("SIP/2.0 {} {}\r\n", status, Status(status).phrase());
    let request = request.with_body("message/sipfrag;version=2.0", fragment);
    leg.send_and_keep(core, now, Purpose::Notify, hop, request);
}
