//! REFER: who may move a call and where to, and the joining of those who remain (RFC 3515, RFC 3891, RFC 5589).
//!
//! A transfer spends money in the name of the one who asks for it. So an app user proves itself again, may go no
//! further than it could call itself, and pays; a trunk may at most move its call to an app user, or leave two app users
//! with whom it talks to each other.

use super::admission::{Hindrance, Source};
use super::core::{response, unsupported};
use super::event::Output;
use super::exchange::Exchange;
use super::identity::Identity;
use super::leg::media::{LegMedia, MediaPolicy};
use super::leg::{Leg, LegState, Party};
use super::machine::{Asked, Call, Note, Parting, Plan, TrunkCandidate};
use crate::config::Transfer;
use crate::sip::message::{HeaderName, Method, Request, Typed, Uri};
use crate::types::{CallId, EndCause, LegId, Now};

/// Where a REFER wants the call to go.
struct Target {
    uri: Uri,
    /// The dialog that its INVITE would replace: Call-ID and both tags (RFC 3891 §3).
    replaces: Option<Replaces>,
}

struct Replaces {
    call_id: String,
    tags: [String; 2],
}

impl Exchange {
    /// A REFER inside the dialog of a leg, from that leg's far end.
    pub(super) fn on_refer(&mut self, now: Now, leg: LegId, asked: Asked) {
        if let Some(unknown) = unsupported(&asked.request) {
            let answer = response(&asked.request, 420, "").with_header(HeaderName::Unsupported, unknown);
            self.core.respond(now, asked.key, &Method::Refer, answer);
            return;
        }
        let Some(party) = self.leg(leg).map(|leg| leg.party.clone()) else { return };
        let policy = match &party {
            Party::User { .. } => self.core.settings.app.transfer,
            Party::Trunk(trunk) => trunk.config.transfer,
        };
        if policy == Transfer::Off {
            return self.refuse_refer(now, &asked, 403);
        }
        let source = match party {
            // Tags and addresses are heard by others on the way; the password is not.
            Party::User { name } => match self.prove_user(now, asked.key, &asked.peer, &asked.request) {
                Some(user) if *user.name == *name => Source::User(user),
                Some(_) => return self.refuse_refer(now, &asked, 403),
                None => return,
            },
            Party::Trunk(trunk) => Source::Trunk(trunk),
        };
        let tag = asked.request.from_tag().unwrap_or_default().to_owned();
        let dialog = self.calls.get_mut(&leg.call).and_then(|call| call.leg_mut(leg.index));
        let Some(dialog) = dialog.and_then(|leg| leg.dialog_with(&tag)) else { return };
        if dialog.check_cseq(&asked.request).is_err() {
            return self.refuse_refer(now, &asked, 500);
        }
        let Some(target) = Target::of(&asked.request) else { return self.refuse_refer(now, &asked, 400) };
        let Some(remaining) = self.calls.get(&leg.call).and_then(|call| call.remaining(leg.index)) else {
            return self.refuse_refer(now, &asked, 491);
        };
        match target.replaces {
            Some(replaces) => self.transfer_to_call(now, leg, remaining, &source, &replaces, &asked),
            None => self.transfer_to_number(now, leg, remaining, &source, target.uri, policy, &asked),
        }
    }

    fn refuse_refer(&mut self, now: Now, asked: &Asked, status: u16) {
        let answer = response(&asked.request, status, "");
        self.core.respond(now, asked.key, &Method::Refer, answer);
    }

    fn leg(&self, leg: LegId) -> Option<&Leg> {
        self.calls.get(&leg.call)?.leg(leg.index)
    }

    /// Brings the second leg's voice to the thread that has the first one's: no packet waits for another thread.
    fn bring_together(&mut self, first: LegId, second: LegId) {
        let home = self.leg(first).and_then(|leg| leg.media.ports).map(|ports| ports.worker);
        let moved = self.calls.get_mut(&second.call).and_then(|call| call.leg_mut(second.index));
        let ports = moved.and_then(|leg| leg.media.ports.as_mut());
        if let Some((home, ports)) = home.zip(ports).filter(|(home, ports)| *home != ports.worker) {
            ports.worker = home;
            self.core.emit(Output::MoveMedia { leg: second, beside: first });
        }
    }

    /// A blind transfer: a call of its own towards the target, routed, limited and charged as the transferor's. Who hid
    /// its number in the first call, or hides it in the REFER, hides it in this one.
    fn transfer_to_number(
        &mut self,
        now: Now,
        leg: LegId,
        remaining: LegId,
        source: &Source,
        uri: Uri,
        policy: Transfer,
        asked: &Asked,
    ) {
        if !self.costs_nobody(source, remaining) {
            return self.refuse_refer(now, asked, 403);
        }
        let id = CallId::from_parts(now.unix_ms, self.core.octets());
        let Some((party, peer, from)) = self.leg(leg).and_then(|leg| {
            let from = leg.dialog.as_ref()?.remote.to_string();
            Some((leg.party.clone(), leg.peer.clone(), from))
        }) else {
            return;
        };
        let mut wanted = Request::new(Method::Invite, uri)
            .with_header(HeaderName::From, from)
            .with_header(HeaderName::MaxForwards, "70");
        for privacy in asked.request.headers.all(&HeaderName::Privacy) {
            wanted.headers.push(HeaderName::Privacy, privacy);
        }
        let said = Identity::of_source(&wanted, source, &self.dialplan.numbers);
        let first = self.calls.get(&leg.call).and_then(|call| call.identity_of(leg.index));
        let identity = match first {
            Some(first) => first.moved_on(said),
            None => said,
        };
        let draining = self.draining.then_some(EndCause::Draining.into());
        let hindrance = Hindrance { ordinary: draining, urgent: None };
        let mut admitted = self.route(now, id, source, &peer, &wanted, identity);
        self.hold(now, source, &mut admitted, hindrance);
        let allowed = match (&admitted.plan, policy) {
            (Plan::Devices(_) | Plan::TakesOver { .. } | Plan::Refused { .. }, _)
            | (Plan::Trunks(_), Transfer::All) => true,
            // A line tests the one who calls it; there is nobody to leave somebody else to.
            (Plan::Trunks(_), Transfer::Off | Transfer::Users) | (Plan::Line(_), _) => false,
        };
        // Whoever stays on the line must not reach by a transfer what it may not call.
        let stays = self.leg(remaining).map(|leg| leg.party.clone());
        let meets = |candidate: &TrunkCandidate| {
            stays.as_ref().is_none_or(|stays| stays.may_meet(&Party::Trunk(candidate.trunk.clone())))
        };
        if let Plan::Trunks(candidates) = &mut admitted.plan {
            candidates.retain(meets);
        }
        let nobody = matches!(&admitted.plan, Plan::Trunks(candidates) if candidates.is_empty());
        if !allowed || nobody {
            admitted.plan = Plan::Refused { cause: EndCause::Blocked, status: None };
        }
        if let Source::Trunk(trunk) = source
            && self.shed_for(now, trunk, &admitted).is_some()
        {
            if let Some(channel) = admitted.incoming_channel {
                self.trunks.release(channel);
            }
            return self.refuse_refer(now, asked, 503);
        }
        admitted.transfer_of = Some(leg.call);
        admitted.beside = Some(leg.call);
        let media = match &party {
            Party::Trunk(trunk) => MediaPolicy::trunk(trunk, &peer, &self.core.settings),
            Party::User { .. } => MediaPolicy::user(&peer, &self.core.settings),
        };
        // Its caller has a dialog already, in the first call: here it only pays.
        let names = (self.core.token(), self.core.tag());
        let caller = LegId { call: id, index: 0 };
        let caller = Leg::new(caller, party, peer, LegState::Gone, names, LegMedia::new(media));
        let call = Call::open(&mut self.core, now, admitted, caller, None);
        self.with_call(leg.call, |first, core, _| first.begin_transfer(core, now, leg.index, id, asked));
        self.add_call(call);
    }

    /// An attended transfer: the transferor has both calls, and leaves them to each other.
    fn transfer_to_call(
        &mut self,
        now: Now,
        leg: LegId,
        remaining: LegId,
        source: &Source,
        replaces: &Replaces,
        asked: &Asked,
    ) {
        let Some(second) = self.replaced(replaces).filter(|second| second.call != leg.call) else {
            return self.refuse_refer(now, asked, 481);
        };
        if !self.is_own(source, second) || !self.costs_nobody(source, remaining) {
            // Only one's own calls: anything else would be somebody else's money, and ears.
            return self.refuse_refer(now, asked, 403);
        }
        let target = self.calls.get(&second.call).and_then(|call| call.remaining(second.index));
        let Some(target) = target else {
            return self.transfer_to_ringing(now, leg, remaining, second, source, asked);
        };
        if !self.costs_nobody(source, target) {
            return self.refuse_refer(now, asked, 403);
        }
        let meet = self.leg(remaining).zip(self.leg(target));
        if !meet.is_some_and(|(one, other)| one.party.may_meet(&other.party)) {
            return self.refuse_refer(now, asked, 403);
        }
        self.with_call(leg.call, |first, core, _| {
            first.begin_transfer(core, now, leg.index, second.call, asked);
        });
        if let Some(call) = self.calls.get_mut(&second.call) {
            call.set_transfer_of(leg.call);
        }
        self.join(now, remaining, target);
    }

    /// The same while the second call still rings: its caller leaves it, and whoever answers talks to the one who remains
    /// of the first (RFC 5589 §7.6).
    fn transfer_to_ringing(
        &mut self,
        now: Now,
        leg: LegId,
        remaining: LegId,
        second: LegId,
        source: &Source,
        asked: &Asked,
    ) {
        let stays = self.leg(remaining).map(|leg| leg.party.clone());
        let Some((call, stays)) = self.calls.get_mut(&second.call).zip(stays) else { return };
        if second.index != 0 || !call.rings() {
            return self.refuse_refer(now, asked, 480);
        }
        let free = match source {
            Source::User(_) => true,
            Source::Trunk(_) => call.rings_only_users(),
        };
        if !free || !call.keep_only_who_may_meet(&stays) {
            return self.refuse_refer(now, asked, 403);
        }
        self.with_call(leg.call, |first, core, _| {
            first.begin_transfer(core, now, leg.index, second.call, asked);
        });
        self.with_call(second.call, |call, core, _| call.serve_transfer(core, now, leg.call));
    }

    /// What an INVITE with Replaces takes over, or why it may not (RFC 3891 §3); `None` where it has no such wish.
    pub(super) fn take_over(&self, source: &Source, request: &Request) -> Option<Result<LegId, EndCause>> {
        let mut values = request.headers.all(&HeaderName::Replaces);
        let value = values.next()?;
        let replaces = Replaces::parse(value).filter(|_| values.next().is_none());
        let Some(replaces) = replaces else { return Some(Err(EndCause::Malformed)) };
        let Some(leg) = self.replaced(&replaces) else { return Some(Err(EndCause::DialogLost)) };
        let policy = match source {
            Source::User(_) => self.core.settings.app.transfer,
            Source::Trunk(trunk) => trunk.config.transfer,
        };
        if !self.is_own(source, leg) || policy == Transfer::Off {
            return Some(Err(EndCause::Blocked));
        }
        if value.split(';').any(|part| part.trim().eq_ignore_ascii_case("early-only")) {
            // What runs is answered already.
            return Some(Err(EndCause::Busy));
        }
        let remaining = self.calls.get(&leg.call).and_then(|call| call.remaining(leg.index));
        Some(match remaining {
            Some(remaining) if self.costs_nobody(source, remaining) => Ok(remaining),
            Some(_) => Err(EndCause::Blocked),
            None => Err(EndCause::DialogLost),
        })
    }

    /// True where the far end of a leg is the one who asks.
    fn is_own(&self, source: &Source, leg: LegId) -> bool {
        match (source, self.leg(leg).map(|leg| &leg.party)) {
            (Source::User(user), Some(Party::User { name })) => *user.name == **name,
            (Source::Trunk(trunk), Some(Party::Trunk(other))) => trunk.name == other.name,
            (Source::User(_), Some(Party::Trunk(_)) | None)
            | (Source::Trunk(_), Some(Party::User { .. }) | None) => false,
        }
    }

    /// A user pays for whomever it leaves on the line. Nobody pays for a trunk: it may leave app users only.
    fn costs_nobody(&self, source: &Source, remaining: LegId) -> bool {
        match source {
            Source::User(_) => true,
            Source::Trunk(_) => {
                self.leg(remaining).is_some_and(|leg| matches!(leg.party, Party::User { .. }))
            }
        }
    }

    /// The leg whose dialog a Replaces names. Its tags are the transferor's view; some write them the other way round.
    fn replaced(&self, replaces: &Replaces) -> Option<LegId> {
        let [to, from] = &replaces.tags;
        [(to, from), (from, to)].into_iter().find_map(|(ours, theirs)| {
            let leg = self.core.leg_by(&replaces.call_id, ours)?;
            self.leg(leg).is_some_and(|leg| leg.knows(theirs)).then_some(leg)
        })
    }

    /// Two legs of two calls hear each other from now on.
    fn join(&mut self, now: Now, first: LegId, second: LegId) {
        self.bring_together(first, second);
        self.core.emit(Output::Bridge { caller: first, callee: second });
        let back = self.calls.get(&second.call).is_some_and(|call| call.comes_back());
        let parting = if back { Parting::ComesBack } else { Parting::Leaves };
        for (own, partner) in [(first, second), (second, first)] {
            let partner = self.leg(partner).map(|leg| (leg.id, leg.media.allowed));
            let Some(partner) = partner else { continue };
            self.with_call(own.call, |call, core, _| call.join(core, now, own.index, partner, parting));
        }
    }

    /// What a call says to the one it belongs to.
    pub(super) fn on_note(&mut self, now: Now, id: CallId, note: Note) {
        let Some(call) = self.calls.get(&id) else { return };
        let (joined, transfer, of) = (call.joined, call.transfer, call.transfer_of);
        let sent_to = call.sent_to();
        // The first call still waits for this one, after a REFER or because a device sent it on.
        let waiting = of.filter(|of| self.calls.get(of).is_some_and(|first| first.waits_for(id)));
        let sent_on =
            waiting.filter(|first| self.calls.get(first).is_some_and(|first| first.transfer.is_none()));
        match note {
            Note::Progress(status) => {
                if let Some(first) = waiting {
                    self.with_call(first, |first, core, _| match sent_on {
                        Some(_) => first.sent_on_progress(core, now, status),
                        None => first.report_transfer(core, now, status),
                    });
                }
            }
            Note::Failed(status) => {
                // Where nobody was rung it is our word, and it is for the one who sent the call on.
                let told = if call.callees.is_empty() { EndCause::Unavailable.sip_code() } else { status };
                if let Some(first) = waiting {
                    self.with_call(first, |first, core, _| match sent_on {
                        Some(_) => first.sent_on_failed(core, now, told),
                        None => first.transfer_failed(core, now, status),
                    });
                }
            }
            Note::Answered => {
                let target = call.callee().map(|leg| leg.id);
                let codec = call.callee().and_then(|leg| leg.media.negotiated.as_ref());
                let codec = codec.map(|agreed| agreed.codec);
                let remaining = waiting.and_then(|first| self.calls.get(&first)?.transferred());
                match (remaining, sent_on, target) {
                    (Some(remaining), _, Some(target)) => self.join(now, remaining, target),
                    (None, Some(first), Some(target)) => {
                        self.with_call(first, |first, core, _| {
                            first.sent_on_answered(core, now, target, codec);
                        });
                    }
                    // Nobody is left to talk to.
                    (None, None, _) | (_, _, None) => {
                        self.with_call(id, |call, core, _| call.hang_up(core, now, EndCause::NormalClearing));
                    }
                }
            }
            Note::GoesOn => self.go_on(now, id),
            Note::TookOver => {
                let own = LegId { call: id, index: 0 };
                let free = call.takes_over().filter(|remaining| {
                    let first = self.calls.get(&remaining.call);
                    first.is_some_and(|first| first.is_free(remaining.index))
                });
                match free {
                    Some(remaining) => self.join(now, remaining, own),
                    // It ended while this one was being answered.
                    None => {
                        self.with_call(id, |call, core, _| call.hang_up(core, now, EndCause::NormalClearing));
                    }
                }
            }
            Note::Allows(direction) => {
                if let Some(joined) = joined {
                    self.with_call(joined.partner.call, |partner, core, _| {
                        partner.partner_allows(core, now, direction);
                    });
                }
            }
            Note::Ended(cause) => {
                if let Some(joined) = joined {
                    self.with_call(joined.partner.call, |partner, core, _| {
                        partner.partner_ended(core, now, cause);
                    });
                } else if let Some(target) = transfer.map(|transfer| transfer.target).or(sent_to) {
                    self.with_call(target, |second, core, _| {
                        let talks = second.answered.is_some();
                        let cause = if talks { EndCause::NormalClearing } else { EndCause::CallerCancelled };
                        second.hang_up(core, now, cause);
                    });
                }
            }
        }
    }
}

impl Target {
    /// What Refer-To names; `None` where it is not exactly one address that can be called (RFC 3515 §2.4.2).
    fn of(request: &Request) -> Option<Target> {
        let mut addresses = request.addresses(&HeaderName::ReferTo).ok()?.into_iter();
        let (mut uri, None) = (addresses.next()?.uri, addresses.next()) else { return None };
        if uri.params.value("method").is_some_and(|method| !method.eq_ignore_ascii_case("INVITE")) {
            return None;
        }
        let replaces = match uri.headers.take().as_deref().and_then(Replaces::find) {
            Some(text) => Some(Replaces::parse(&text)?),
            None => None,
        };
        Some(Target { uri, replaces })
    }
}

impl Replaces {
    /// The value of Replaces among the headers of a URI, unescaped.
    fn find(headers: &str) -> Option<String> {
        let named = |field: &&str| {
            field.split_once('=').is_some_and(|(name, _)| name.eq_ignore_ascii_case("Replaces"))
        };
        let field = headers.trim_start_matches('?').split('&').find(named)?;
        unescape(field.split_once('=')?.1)
    }

    fn parse(text: &str) -> Option<Replaces> {
        let mut parts = text.split(';').map(str::trim);
        let call_id = parts.next().filter(|call_id| !call_id.is_empty())?.to_owned();
        let (mut to, mut from) = (None, None);
        for part in parts {
            match part.split_once('=') {
                Some((name, tag)) if name.eq_ignore_ascii_case("to-tag") => to = Some(tag.to_owned()),
                Some((name, tag)) if name.eq_ignore_ascii_case("from-tag") => from = Some(tag.to_owned()),
                Some(_) | None => {}
            }
        }
        Some(Replaces { call_id, tags: [to?, from?] })
    }
}

/// Undoes the escapes of a URI (RFC 3261 §19.1.2); `None` where they are broken.
fn unescape(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            octets.push((digit()? * 16 + digit()?) as u8);
        } else {
            octets.push(octet);
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(refer_to: &str) -> Option<Target> {
        let request = Request::new(Method::Refer, "sip:h".parse().unwrap());
        Target::of(&request.with_header(HeaderName::ReferTo, refer_to))
    }

    #[test]
    fn a_replaces_is_read_out_of_the_address() {
        let found =
            target("<sip:carol@h?Replaces=12345%40192.0.2.1%3Bto-tag%3D1%3Bfrom-tag%3D2&X=1>").unwrap();
        let replaces = found.replaces.unwrap();
        assert_eq!((replaces.call_id.as_str(), replaces.tags), ("12345@192.0.2.1", ["1".into(), "2".into()]));
        assert_eq!(found.uri.to_string(), "sip:carol@h");
        assert!(target("<sip:carol@h>").unwrap().replaces.is_none());
    }

    #[test]
    fn what_names_no_one_call_is_refused() {
        for wrong in [
            "",
            "<sip:a@h>, <sip:b@h>",
            "<sip:a@h;method=MESSAGE>",
            "<sip:a@h?Replaces=x%3Bto-tag%3D1>",
            "<sip:a@h?Replaces=%3Bto-tag%3D1%3Bfrom-tag%3D2>",
        ] {
            assert!(target(wrong).is_none(), "{wrong}");
        }
    }
}
