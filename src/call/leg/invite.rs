//! Our INVITE towards a callee: what it says, and how it answers a challenge.

use super::{Leg, LegState, Party};
use crate::call::core::{Core, Purpose};
use crate::config::Prack;
use crate::sip::auth::AuthRefused;
use crate::sip::message::{HeaderName, Headers, Method, NameAddr, Request, Response, Typed, Uri};
use crate::types::Now;
use bytes::Bytes;
use std::time::Duration;

/// What an INVITE towards a callee is made of.
pub struct InvitePlan {
    pub request_uri: Uri,
    pub to: Uri,
    pub from: NameAddr,
    /// User part of our Contact, where it has one.
    pub contact: Option<String>,
    pub max_forwards: u8,
    /// The offer, alone or beside a location.
    pub content_type: String,
    pub body: Bytes,
    /// Who moved the call to this callee.
    pub referred_by: Option<String>,
    /// Fields that tell who calls, beside From, and in an emergency where from.
    pub fields: Vec<(HeaderName, String)>,
}

impl Leg {
    /// Sends the first INVITE of the leg.
    pub fn invite(&mut self, core: &mut Core, now: Now, plan: InvitePlan, patience: Duration) {
        let from = plan.from.with_tag(&self.local_tag);
        let mut headers = Headers::new();
        headers.push(HeaderName::MaxForwards, plan.max_forwards.to_string());
        headers.push(HeaderName::From, from.to_string());
        headers.push(HeaderName::To, NameAddr::new(plan.to).to_string());
        headers.push(HeaderName::CallId, self.call_id.clone());
        headers.push(HeaderName::CSeq, "1 INVITE");
        headers.push(HeaderName::Contact, Leg::contact(&self.peer, plan.contact.as_deref()));
        self.capabilities(&core.settings).tell(&mut headers);
        if self.party.prack() == Prack::Required {
            headers.push(HeaderName::Require, "100rel");
        }
        for (name, value) in plan.fields {
            headers.push(name, value);
        }
        if let Some(referred_by) = plan.referred_by {
            headers.push(HeaderName::ReferredBy, referred_by);
        }
        self.session.ask(&mut headers);
        if let Party::Trunk(trunk) = &self.party
            && trunk.config.p_early_media
        {
            headers.push(HeaderName::PEarlyMedia, "supported");
        }
        headers.push(HeaderName::ContentType, plan.content_type);
        let request = Request { method: Method::Invite, uri: plan.request_uri, headers, body: plan.body };
        core.remember_own_dialog(&self.call_id, &self.local_tag, self.id);
        core.event(self.known());
        self.send_invite(core, now, request, patience);
    }

    fn send_invite(&mut self, core: &mut Core, now: Now, mut request: Request, patience: Duration) {
        self.authorize(core, &mut request);
        let client = self.send(core, now, Purpose::Invite, self.peer.clone(), request.clone());
        self.invite = Some(Box::new(request));
        if let Some(refused) = self.client.replace(client) {
            core.forget_client(refused);
        }
        self.early.clear();
        self.state = LegState::Inviting { leave_at: Some(now.instant + patience) };
    }

    /// Repeats the INVITE with the session interval that a 422 asks for (RFC 4028 §7.3). False where it asks for nothing
    /// that can be given, or has asked often enough.
    pub fn raise_interval(
        &mut self,
        core: &mut Core,
        now: Now,
        refusal: &Response,
        patience: Duration,
    ) -> bool {
        let (LegState::Inviting { .. }, Some(invite)) = (&self.state, &self.invite) else {
            return false;
        };
        let mut request = Request::clone(invite);
        let Ok(cseq) = request.cseq() else { return false };
        if !self.meets_interval(&Method::Invite, refusal) {
            return false;
        }
        self.session.ask(&mut request.headers);
        request.headers.set(HeaderName::CSeq, format!("{} INVITE", cseq.number + 1));
        self.send_invite(core, now, request, patience);
        true
    }

    /// Repeats the INVITE with credentials; an error means that the challenge is a refusal. Whatever stands behind the
    /// one that challenges may be as dead as any black hole.
    pub fn answer_challenge(
        &mut self,
        core: &mut Core,
        now: Now,
        challenge: &Response,
        patience: Duration,
    ) -> Result<(), AuthRefused> {
        let (LegState::Inviting { .. }, Some(invite)) = (&self.state, &self.invite) else {
            return Err(AuthRefused::NoChallenge);
        };
        let mut request = Request::clone(invite);
        self.take_challenge(challenge)?;
        if !self.again.allows(&Method::Invite) {
            return Err(AuthRefused::TooMany);
        }
        let cseq = request.cseq().map_err(|_| AuthRefused::Unsupported)?;
        request.headers.set(HeaderName::CSeq, format!("{} INVITE", cseq.number + 1));
        self.send_invite(core, now, request, patience);
        Ok(())
    }

    /// Puts the credentials on a request that the far end asked for before.
    pub fn authorize(&mut self, core: &mut Core, request: &mut Request) {
        let believed = self.is_where_it_was();
        if let Some(auth) = self.auth.as_mut().filter(|_| believed) {
            let cnonce = core.token();
            auth.authorize(request, &cnonce);
        }
    }

    /// Takes a 401 or 407 to a request of ours; an error means that it can't be met.
    fn take_challenge(&mut self, challenge: &Response) -> Result<(), AuthRefused> {
        let believed = self.is_where_it_was();
        self.auth.as_mut().filter(|_| believed).ok_or(AuthRefused::Unsupported)?.challenged(challenge)
    }

    /// True for a challenge that is met: the same request, of this method, is to be sent again.
    pub fn meets(&mut self, method: &Method, answer: &Response) -> bool {
        matches!(answer.status, 401 | 407) && self.take_challenge(answer).is_ok() && self.again.allows(method)
    }

    /// True for a 422 that is met: the same request is to be sent again, for a longer session.
    pub fn meets_interval(&mut self, method: &Method, answer: &Response) -> bool {
        answer.status == 422 && self.session.raise(answer) && self.again.allows(method)
    }

    /// A request of ours has its answer: the next of its kind may be challenged anew.
    pub fn settled(&mut self, method: &Method, answer: &Response) {
        self.again.settled(method, answer);
        // 422 is met by the same request once more, as a challenge is.
        if let Some(auth) = self.auth.as_mut().filter(|_| !matches!(answer.status, ..200 | 401 | 407 | 422)) {
            auth.answered(method);
        }
    }

    /// False where a caller, whose address is all that is known of it, wants our requests sent to another one: whoever
    /// forged the one would learn there what our password makes of a nonce of its choice.
    fn is_where_it_was(&self) -> bool {
        let hop = self.next_hop();
        self.attempt.is_some() || hop.remote.ip() == self.peer.remote.ip() || self.is_found_at(hop.remote)
    }
}
