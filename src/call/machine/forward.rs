//! A device that sends its user's call on (3xx, RFC 5359 §2.7-2.9). The exchange makes a call of the user's out of it, and
//! this one waits for that: at once where the device sends all calls on, so that the other devices of its user stop
//! ringing, else when no other one rings any more.
//!
//! A proxy may follow a 3xx while other branches ring, or when they have failed (RFC 3261 §16.7). Who has set a phone to
//! "forward all" has spoken for each of its calls, and no caller is to hear phones ring out first. But whose phone was busy
//! or rang may be beside another one, and a 302 after ringing does not tell a hand from a timer.
//!
//! ```text
//! before:  caller ── this call ── devices of a user
//! after:   caller ── this call ═══ joined ═══ other call ── where the user wants it
//! ```
//! Each call keeps its record: this one is whose it was, the other one the user's, who pays for it.

use super::record::AttemptEnd;
use super::{Call, Callee, Note, Stage};
use crate::call::core::Core;
use crate::call::forwarding::Why;
use crate::call::identity::Identity;
use crate::call::leg::{self, Leg, LegState, Party};
use crate::config::Transfer;
use crate::sdp::Session;
use crate::sip::message::{HeaderName, NameAddr, Response, Scheme, Typed, Uri};
use crate::types::{Attestation, AudioCodec, CallId, EndCause, LegId, Now, Peer, ReleasedBy};
use std::sync::Arc;

/// What is known of how a call was sent on.
#[derive(Debug, Default)]
pub struct Forward {
    /// The call that it was before a device sent it on, where it is what became of that.
    pub of: Option<CallId>,
    /// Whose devices have sent it on so far, the first one first.
    pub passed: Vec<Arc<str>>,
    /// What a device has asked for and nobody has done yet.
    sent_on: Option<SentOn>,
    /// Its devices are rung no more.
    left: bool,
    /// The call that this one waits for.
    to: Option<CallId>,
    /// That one rings somebody.
    rings: bool,
    /// Whom that one has found, and what is spoken there.
    found: Option<(LegId, Option<AudioCodec>)>,
}

impl Forward {
    /// What became of a call that these users have sent on.
    pub fn of(call: CallId, passed: Vec<Arc<str>>) -> Forward {
        Forward { of: Some(call), passed, ..Forward::default() }
    }
}

/// A device sends its user's call on.
#[derive(Debug)]
pub struct SentOn {
    pub user: Arc<str>,
    pub device: Peer,
    pub to: Uri,
    pub status: u16,
    pub why: Why,
}

impl SentOn {
    /// True where it is not this one call that made the device do so.
    fn is_for_all(&self) -> bool {
        self.why.is_unconditional()
    }
}

/// What goes along from a call to the one that it becomes.
pub struct Carried<'a> {
    pub identity: &'a Identity,
    pub max_forwards: u8,
    pub passed: &'a [Arc<str>],
}

impl Call {
    /// Notes where a device sends the call, if it may be followed there. Of several devices the first counts, but for one
    /// that sends all calls on.
    pub(super) fn note_sent_on(&mut self, core: &Core, position: usize, answer: &Response) -> bool {
        let leg = &self.callees[position];
        let Party::User { name } = &leg.party else { return false };
        let follows = match core.settings.app.forward {
            Transfer::Off => false,
            Transfer::Users | Transfer::All => true,
        };
        // 305 and 380 name no other callee (RFC 3261 §21.3.4, §21.3.5). Who answers a call for help wants whom they call
        // back, and nobody else (RFC 7090 §1).
        let is_such = (300..=302).contains(&answer.status) && self.emergency.is_none();
        if !follows || !is_such || !matches!(self.stage, Stage::Hunting { .. }) {
            return false;
        }
        let Some(to) = wanted(leg, answer, &core.settings.sip.realm) else { return false };
        let rang = leg.attempt.as_ref().is_some_and(|attempt| attempt.ringing.is_some());
        let sent_on = SentOn {
            user: name.clone(),
            device: leg.peer.clone(),
            to,
            status: answer.status,
            why: Why::of(&answer.headers, rang),
        };
        let known = &mut self.forward.get_or_insert_default().sent_on;
        if known.as_ref().is_none_or(|known| sent_on.is_for_all() && !known.is_for_all()) {
            *known = Some(sent_on);
        }
        true
    }

    /// True where a device sends all calls on: nobody waits for the others.
    pub(super) fn goes_on_at_once(&self) -> bool {
        let sent_on = self.forward.as_ref().and_then(|forward| forward.sent_on.as_ref());
        sent_on.is_some_and(SentOn::is_for_all)
    }

    /// Nobody rings any more, or need not; true where a device wants the call somewhere else.
    pub(super) fn asks_to_go_on(&mut self) -> bool {
        let Some(forward) = self.forward.as_mut().filter(|forward| forward.sent_on.is_some()) else {
            return false;
        };
        forward.left = true;
        self.connected = None;
        self.notes.push(Note::GoesOn);
        true
    }

    /// Nobody has answered in the time there is. What one device wanted counts before the silence of the others.
    pub(super) fn rung_in_vain(&mut self, core: &mut Core, now: Now) {
        if self.has_left() {
            return;
        }
        if !self.asks_to_go_on() {
            self.close(core, now, EndCause::NoAnswer, ReleasedBy::Gateway, None);
            return;
        }
        self.silence_devices(core, now, EndCause::NoAnswer);
    }

    /// Devices that still ring are to ring no more, for this cause.
    pub fn silence_devices(&mut self, core: &mut Core, now: Now, cause: EndCause) {
        for position in 0..self.callees.len() {
            let leg = &mut self.callees[position];
            if leg.is_inviting() {
                leg.release(core, now, &leg::reason(cause));
                leg.close_media(core);
                self.end_attempt(core, now, position, AttemptEnd { status: 487, cause });
            }
        }
        (self.early, self.bridged) = (None, None);
        self.stop_ringback(core);
    }

    /// True while a device rings, or is about to.
    pub fn rings_on(&self) -> bool {
        self.callees.iter().any(Leg::is_inviting)
    }

    /// What a device wants, once.
    pub fn take_sent_on(&mut self) -> Option<SentOn> {
        if !matches!(self.stage, Stage::Hunting { .. }) {
            return None;
        }
        self.forward.as_mut()?.sent_on.take()
    }

    /// The call whose caller waits for this one's callee; `None` where the caller is this one's own.
    pub fn is_for(&self) -> Option<CallId> {
        self.transfer_of.filter(|_| self.serves_transfer)
    }

    /// What goes along when this call is sent on.
    pub fn carried(&self) -> Carried<'_> {
        let passed = self.forward.as_ref().map_or(&[][..], |forward| &forward.passed);
        Carried { identity: &self.identity, max_forwards: self.max_forwards, passed }
    }

    /// How well who signed its caller's number knows it.
    pub fn attestation(&self) -> Option<Attestation> {
        self.provenance.result().and(self.cdr.attestation)
    }

    /// What its caller offers, while that waits for an answer.
    pub fn offer(&self) -> Option<&Session> {
        self.offer.as_deref()
    }

    /// True where this call waits for that one's callee.
    pub fn waits_for(&self, other: CallId) -> bool {
        let transferred = self.transfer.is_some_and(|transfer| transfer.target == other);
        let sent_on = self.forward.as_ref().is_some_and(|forward| forward.to == Some(other));
        self.is_live() && (transferred || sent_on)
    }

    /// True while another call looks for this one's callee, or has just found it.
    pub(super) fn waits_for_another(&self) -> bool {
        self.joined.is_none() && self.sent_to().is_some()
    }

    /// True once the time its devices have to answer counts no more.
    pub(super) fn has_left(&self) -> bool {
        self.forward.as_ref().is_some_and(|forward| forward.left)
    }

    /// The call that a device has sent this one to.
    pub fn sent_to(&self) -> Option<CallId> {
        self.forward.as_ref()?.to
    }

    /// Another call looks for a callee from now on.
    pub fn wait_for(&mut self, core: &mut Core, now: Now, other: CallId) {
        if let Some(transfer) = self.transfer.as_mut() {
            transfer.target = other;
            return;
        }
        let forward = self.forward.get_or_insert_default();
        (forward.to, forward.rings) = (Some(other), false);
        // RFC 3261 §21.1.3: it may take a while.
        self.say_progress(core, now, 181, false);
    }

    /// A device has sent it on to where it can't go: the other ones may still answer.
    pub fn goes_nowhere(&mut self, core: &mut Core, now: Now) {
        match self.forward.as_mut().filter(|_| self.callees.iter().any(Leg::is_inviting)) {
            Some(forward) => forward.left = false,
            None => self.leave_to_another(core, now),
        }
    }

    /// A device has sent it on to where its place is another call's.
    pub fn leave_to_another(&mut self, core: &mut Core, now: Now) {
        self.close(core, now, EndCause::Unavailable, ReleasedBy::Callee, None);
    }

    /// The one it waits for rings.
    pub fn sent_on_progress(&mut self, core: &mut Core, now: Now, status: u16) {
        if !matches!(self.stage, Stage::Hunting { .. }) {
            return;
        }
        // Early media stays at the other call: what it announces is that it rings.
        let rings = matches!(status, 180 | 183);
        if rings {
            self.ringing.get_or_insert(now);
            self.forward.get_or_insert_default().rings = true;
        }
        self.say_progress(core, now, if rings { 180 } else { status }, false);
        if rings {
            self.play_ringback(core, now);
        }
    }

    /// The one it waits for will not answer, or has hung up before this call's own caller was told of its answer.
    pub fn sent_on_failed(&mut self, core: &mut Core, now: Now, status: u16) {
        match self.stage {
            Stage::Opening | Stage::Hunting { .. } => {
                let cause = EndCause::from_sip(status);
                self.close(core, now, cause, ReleasedBy::Callee, Some(status));
            }
            Stage::Answering { .. } | Stage::Talking { .. } => {
                self.close(core, now, EndCause::NormalClearing, ReleasedBy::Callee, None);
            }
            Stage::Closing(_) => {}
        }
    }

    /// The one it waits for has answered: its own caller is answered with it.
    pub fn sent_on_answered(&mut self, core: &mut Core, now: Now, callee: LegId, codec: Option<AudioCodec>) {
        if !matches!(self.stage, Stage::Hunting { .. }) {
            return;
        }
        if let Some(forward) = self.forward.as_mut() {
            forward.found = Some((callee, codec));
        }
        self.ringing.get_or_insert(now);
        self.answered = Some(now);
        self.stage = Stage::Answering { callee: Callee::Elsewhere, cancelled: false };
        self.record_answer(core, now);
    }

    /// True while the call that this one waits for rings somebody.
    pub(super) fn rings_elsewhere(&self) -> bool {
        self.waits_for_another() && self.forward.as_ref().is_some_and(|forward| forward.rings)
    }

    /// Whom the other call has found.
    pub(super) fn found(&self) -> Option<LegId> {
        self.forward.as_ref()?.found.map(|(leg, _)| leg)
    }

    /// What is spoken there.
    pub(super) fn found_codec(&self) -> Option<AudioCodec> {
        self.forward.as_ref()?.found?.1
    }

    /// True where this leg is the one that another call's caller has been waiting for.
    pub(super) fn is_found(&self, index: u8) -> bool {
        let Stage::Talking { callee, .. } = self.stage else { return false };
        let talks = self.leg(index).is_some_and(|leg| matches!(leg.state, LegState::Established));
        talks && callee.leg() == Some(index) && self.joined.is_none() && self.cdr.forwarded_of.is_some()
    }

    /// The call that a device has sent on, where this one is what it was sent on to.
    pub fn forwarded_of(&self) -> Option<CallId> {
        self.cdr.forwarded_of
    }

    /// True where it comes out of a REFER.
    pub(super) fn is_transferred(&self) -> bool {
        self.serves_transfer && self.cdr.forwarded_of.is_none()
    }

    /// True where a trunk is called with the number of the user who sent the call on: a trunk that is not told of
    /// diversions has no reason to take another's.
    pub(super) fn calls_as_forwarder(&self, party: &Party) -> bool {
        let told = match party {
            Party::Trunk(trunk) => trunk.config.diversion,
            Party::User { .. } => true,
        };
        !told && self.cdr.forwarded_of.is_some()
    }
}

/// Where a device sends a call: the first place it likes best that is a number, or somebody of ours.
fn wanted(leg: &Leg, answer: &Response, realm: &str) -> Option<Uri> {
    let mut contacts = answer.addresses(&HeaderName::Contact).ok()?;
    let liking = |text: Option<&str>| text.and_then(|q| q.parse().ok()).unwrap_or(1.0f32);
    let of = |contact: &NameAddr| liking(contact.params.value("q"));
    contacts.sort_by(|one, other| of(other).total_cmp(&of(one)));
    let ours = [realm.to_owned(), leg.peer.local.ip().to_string()];
    contacts.into_iter().map(|contact| contact.uri).find_map(|mut uri| {
        uri.headers = None;
        let invites = uri.params.value("method").is_none_or(|method| method.eq_ignore_ascii_case("INVITE"));
        let user = uri.subscriber();
        let digits = user.strip_prefix('+').unwrap_or(&user);
        let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
        let is_ours = ours.iter().any(|host| host.eq_ignore_ascii_case(&uri.host.host));
        // Phones write all sorts of hosts behind a number; a name means somebody only at its own.
        let fits = match &uri.scheme {
            Scheme::Tel => is_number,
            Scheme::Sip | Scheme::Sips => is_number || (is_ours && !user.is_empty()),
            Scheme::Other(_) => false,
        };
        (fits && invites).then_some(uri)
    })
}
