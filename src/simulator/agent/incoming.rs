//! Calls that come in, and requests inside dialogs: INVITE, ACK, CANCEL, re-INVITE, BYE, REGISTER, OPTIONS.

use super::call::{Answer, Body, Call, Phase};
use super::machine::UserAgent;
use super::{
    Admission, AgentError, CallEvent, CallHandle, Demand, EndedBy, Ending, Incoming, Output, Quirks,
};
use crate::sdp::Capability;
use crate::sip::answer_retransmit::AnswerRetransmit;
use crate::sip::auth::{ClientAuth, ha1};
use crate::sip::dialog::Dialog;
use crate::sip::message::{HeaderName, Method, NameAddr, Refresher, Request, Response, Typed};
use crate::sip::reliable::{Acknowledged, ReliableProvisionals};
use crate::sip::session_timer::{self, Wishes};
use crate::sip::transaction::ServerKey;
use crate::types::{Now, Peer};

impl UserAgent {
    pub(super) fn on_request(&mut self, now: Now, key: ServerKey, peer: Peer, request: Request) {
        let inside = request.to_tag().map(str::to_owned);
        if inside.is_none() && !self.admitted(now, key, &request) {
            return;
        }
        match (&request.method, inside) {
            (Method::Options, _) => {
                let tag = self.token();
                let response = self
                    .response(&request, 200, &tag)
                    .with_header(HeaderName::Allow, self.settings.manner.allow)
                    .with_header(HeaderName::Accept, "application/sdp");
                self.layer.respond(now.instant, key, response);
                self.outputs.push_back(Output::Polled { peer });
            }
            (Method::Register, None) => self.on_register(now, key, peer, &request),
            (Method::Invite, None) => self.on_invite(now, key, peer, request),
            (_, Some(tag)) => {
                let id = (request.call_id().unwrap_or_default().to_owned(), tag);
                match self.dialogs.get(&id).copied() {
                    Some(handle) => self.on_inside_request(now, handle, key, peer, request),
                    None => self.refuse(now, key, &request, 481),
                }
            }
            (Method::Bye | Method::Info | Method::Ack | Method::Cancel, None) => {
                self.refuse(now, key, &request, 481);
            }
            (
                Method::Message
                | Method::Notify
                | Method::Prack
                | Method::Publish
                | Method::Refer
                | Method::Subscribe
                | Method::Update
                | Method::Other(_),
                None,
            ) => self.refuse(now, key, &request, 405),
        }
    }

    fn refuse(&mut self, now: Now, key: ServerKey, request: &Request, status: u16) {
        let tag = self.token();
        let mut response = self.response(request, status, &tag);
        if status == 405 {
            response = response.with_header(HeaderName::Allow, self.settings.manner.allow);
        }
        self.layer.respond(now.instant, key, response);
    }

    /// Asks the doorkeeper, and demands credentials where it wants that. True if the request may pass.
    fn admitted(&mut self, now: Now, key: ServerKey, request: &Request) -> bool {
        let demand = match (self.doorkeeper)(request) {
            Admission::Admit => return true,
            Admission::Challenge(demand) => demand,
            Admission::Ignore => {
                self.layer.ignore(key);
                return false;
            }
        };
        let (Some(challenger), Some(guard)) = (self.challenger.as_mut(), self.settings.guard.as_ref()) else {
            return true;
        };
        let lookup = |user: &str, algorithm| {
            (user == guard.user).then(|| ha1(algorithm, user, &guard.realm, guard.password.expose()))
        };
        let Err(failure) = challenger.verify_request(now.unix_ms, request, lookup) else { return true };
        let (status, name) = match demand {
            Demand::Server => (401, HeaderName::WwwAuthenticate),
            Demand::Proxy => (407, HeaderName::ProxyAuthenticate),
        };
        let values = challenger.challenge(now.unix_ms, failure.is_stale());
        let tag = self.token();
        let mut response = self.response(request, status, &tag);
        for value in values {
            response.headers.push(name.clone(), value);
        }
        self.layer.respond(now.instant, key, response);
        false
    }

    fn on_register(&mut self, now: Now, key: ServerKey, peer: Peer, request: &Request) {
        let contact = request.contact().ok().flatten();
        let expires = contact
            .as_ref()
            .and_then(|contact| contact.params.value("expires")?.parse().ok())
            .or_else(|| request.expires())
            .unwrap_or(3_600);
        let bulk = self.settings.manner.bulk;
        let is_bulk = contact.as_ref().is_some_and(|contact| {
            contact.uri.params.has("bnc") && contact.uri.user.is_none() && request.requires("gin")
        });
        let tag = self.token();
        if bulk && !is_bulk {
            // RFC 3261 §21.4.15.
            let response = self.response(request, 421, &tag).with_header(HeaderName::Require, "gin");
            return self.layer.respond(now.instant, key, response);
        }
        let mut response = self.response(request, 200, &tag);
        if bulk {
            response.headers.push(HeaderName::ServiceRoute, format!("<sip:{};lr>", peer.local));
        }
        if let Some(contact) = contact {
            let bound = format!("<{}>;expires={expires}", contact.uri);
            response.headers.push(HeaderName::Contact, bound);
            let user = request.to().map(|to| to.uri.user().to_owned()).unwrap_or_default();
            let contact = contact.uri;
            self.outputs.push_back(Output::Registration { user, contact, expires, peer });
        }
        self.layer.respond(now.instant, key, response);
    }

    fn on_invite(&mut self, now: Now, key: ServerKey, peer: Peer, request: Request) {
        let offer = match UserAgent::session_of(&request).transpose() {
            Ok(offer) => offer,
            Err(_) => return self.refuse(now, key, &request, 400),
        };
        let Ok(from) = request.from() else { return self.refuse(now, key, &request, 400) };
        let (handle, local_tag) = (self.next_handle(), self.token());
        let call_id = request.call_id().unwrap_or_default().to_owned();
        let told = [HeaderName::PAssertedIdentity, HeaderName::PPreferredIdentity]
            .into_iter()
            .find_map(|name| request.addresses(&name).ok()?.into_iter().next());
        let incoming = Incoming {
            peer: peer.clone(),
            uri: request.uri.clone(),
            from,
            asserted: told.map(|identity| identity.uri.user().to_owned()),
            call_id: call_id.clone(),
            offer,
            request: Box::new(request.clone()),
        };
        self.servers.insert(key, handle);
        self.dialogs.insert((call_id.clone(), local_tag.clone()), handle);
        let auth = self.settings.credentials.clone().map(ClientAuth::new);
        let takes = request.supports("100rel") || request.requires("100rel");
        let cseq = request.cseq().map_or(0, |cseq| cseq.number);
        let reliable = (self.settings.manner.reliable && takes).then(|| ReliableProvisionals::new(cseq, 1));
        self.calls.insert(
            handle,
            Call {
                call_id,
                local_tag,
                peer,
                sdp: None,
                media: None,
                dialog: None,
                auth,
                phase: Phase::Invited { server: key, request: Box::new(request), body: None },
                quirks: Quirks::default(),
                reliable,
                rseq: None,
                described: false,
                answer: None,
                inside: None,
                ack: None,
                deadline: None,
            },
        );
        self.event(handle, CallEvent::Incoming(Box::new(incoming)));
    }

    /// Decides on the offer of an incoming call, now that the media address is known. A refused offer ends the call
    /// with 488.
    pub fn prepare(
        &mut self,
        now: Now,
        handle: CallHandle,
        capability: Capability,
    ) -> Result<(), AgentError> {
        let mut local = self.new_local(capability);
        let call = self.calls.get(&handle).ok_or(AgentError::WrongState)?;
        let Phase::Invited { request, .. } = &call.phase else { return Err(AgentError::WrongState) };
        let body = match UserAgent::session_of(&**request) {
            Some(Ok(offer)) => match self.answer_offer(&mut local, &offer) {
                Ok((text, media)) => Body { text, media: Some(media) },
                Err(refusal) => {
                    let warning = format!("{} {} \"{refusal}\"", refusal.warning(), self.settings.domain);
                    self.reject(now, handle, 488, &[(HeaderName::Warning, warning)]);
                    self.drain(now);
                    return Err(AgentError::Refused(refusal));
                }
            },
            Some(Err(_)) | None => Body { text: self.offer(&mut local), media: None },
        };
        let call = self.calls.get_mut(&handle).ok_or(AgentError::WrongState)?;
        call.sdp = Some(local);
        call.media.clone_from(&body.media);
        if let Phase::Invited { body: slot, .. } = &mut call.phase {
            *slot = Some(body);
        }
        Ok(())
    }

    /// Sends a 1xx, with our description for early media. What it negotiated is in the event.
    pub fn progress(
        &mut self,
        now: Now,
        handle: CallHandle,
        status: u16,
        with_media: bool,
    ) -> Result<(), AgentError> {
        let call = self.calls.get(&handle).ok_or(AgentError::WrongState)?;
        let Phase::Invited { server, request, body } = &call.phase else {
            return Err(AgentError::WrongState);
        };
        let contact = NameAddr::new(self.contact(&call.peer)).to_string();
        let mut response =
            self.response(request, status, &call.local_tag).with_header(HeaderName::Contact, contact);
        let body = body.as_ref().filter(|_| with_media);
        if let Some(body) = body {
            response = response.with_body("application/sdp", body.text.clone());
        }
        let media = body.and_then(|body| body.media.clone()).map(Box::new);
        let asked = request.headers.lists(&HeaderName::PEarlyMedia, "supported");
        if body.is_some() && asked && self.settings.manner.p_early_media {
            response.headers.push(HeaderName::PEarlyMedia, "sendrecv");
        }
        let described = body.is_some();
        let (server, phrase) = (*server, response.reason.clone());
        let timers = self.settings.timers;
        if let Some(call) = self.calls.get_mut(&handle)
            && let Some(reliable) =
                call.reliable.as_mut().filter(|reliable| status > 100 && !reliable.is_waiting())
        {
            reliable.send(now.instant, &timers, &mut response);
            call.described |= described;
        }
        self.layer.respond(now.instant, server, response);
        self.event(handle, CallEvent::Progress { status, phrase, media });
        self.reschedule(handle);
        self.drain(now);
        Ok(())
    }

    /// Answers an incoming call. [`prepare`](Self::prepare) comes first.
    pub fn answer(&mut self, now: Now, handle: CallHandle) -> Result<(), AgentError> {
        let call = self.calls.get(&handle).ok_or(AgentError::WrongState)?;
        let Phase::Invited { server, request, body: Some(body) } = &call.phase else {
            return Err(AgentError::WrongState);
        };
        let (server, body) = (*server, body.clone());
        let contact = NameAddr::new(self.contact(&call.peer)).to_string();
        let mut response = self
            .response(request, 200, &call.local_tag)
            .with_header(HeaderName::Contact, contact)
            .with_header(HeaderName::Allow, self.settings.manner.allow);
        if let Some(seconds) = call.quirks.grants {
            response.headers.push(HeaderName::SessionExpires, format!("{seconds};refresher=uas"));
            response.headers.push(HeaderName::Require, "timer");
        } else {
            self.grant(request, &mut response);
        }
        let text = UserAgent::answer_body(&call.quirks, Some(&body));
        if let Some(text) = text.filter(|_| !call.described) {
            response = response.with_body("application/sdp", text);
        }
        let dialog = Dialog::uas(request, &call.local_tag).map_err(|_| AgentError::WrongState)?;
        self.servers.remove(&server);
        if let Some(call) = self.calls.get_mut(&handle) {
            call.dialog = Some(dialog);
            call.phase = Phase::Talking;
            call.reliable = None;
        }
        self.layer.respond(now.instant, server, response.clone());
        let clock = AnswerRetransmit::new(now.instant, &self.settings.timers);
        let offered = body.media.is_none();
        self.await_ack(handle, Answer { clock, server, response, offered, initial: true });
        if let Some(media) = body.media {
            self.event(handle, CallEvent::Answered { media: Box::new(media) });
        }
        self.drain(now);
        Ok(())
    }

    /// Says how long the session lives, where its far end knows timers (RFC 4028 §9).
    fn grant(&self, request: &Request, response: &mut Response) {
        let interval = self.settings.manner.session_timer;
        let wishes = Wishes { interval, takes_part: interval.is_some() && request.supports("timer") };
        let Ok(Some(mut reply)) = session_timer::answer(request, wishes) else { return };
        // An operator leaves the work to who calls.
        reply.expires.refresher = Some(Refresher::Uac);
        reply.write(&mut response.headers);
    }

    /// A PRACK: what waited for it has arrived.
    fn on_prack(&mut self, now: Now, handle: CallHandle, key: ServerKey, request: &Request) {
        let known = self.calls.get_mut(&handle).and_then(|call| {
            let rack = request.rack()?;
            Some(call.reliable.as_mut()?.acknowledge(&rack))
        });
        match known {
            Some(Acknowledged::Outstanding | Acknowledged::Earlier) => {
                let response = self.response(request, 200, "");
                self.layer.respond(now.instant, key, response);
                self.reschedule(handle);
            }
            Some(Acknowledged::Unknown) | None => self.refuse(now, key, request, 481),
        }
    }

    /// Refuses an incoming call.
    pub fn reject(&mut self, now: Now, handle: CallHandle, status: u16, headers: &[(HeaderName, String)]) {
        let Some(call) = self.calls.get(&handle) else { return };
        let Phase::Invited { server, request, .. } = &call.phase else { return };
        let mut response = self.response(request, status, &call.local_tag);
        for (name, value) in headers {
            response.headers.push(name.clone(), value.clone());
        }
        let (server, phrase) = (*server, response.reason.clone());
        self.layer.respond(now.instant, server, response);
        self.end(now, handle, Ending { by: EndedBy::Us, status, phrase, reason: None });
        self.drain(now);
    }

    pub(super) fn on_cancel(
        &mut self,
        now: Now,
        key: ServerKey,
        invite: Option<ServerKey>,
        request: &Request,
    ) {
        let handle = invite.and_then(|invite| self.servers.get(&invite).copied());
        let known = invite.is_some();
        let tag = match handle.and_then(|handle| self.calls.get(&handle)) {
            Some(call) => call.local_tag.clone(),
            None => self.token(),
        };
        let response = self.response(request, if known { 200 } else { 481 }, &tag);
        self.layer.respond(now.instant, key, response);
        let Some(handle) = handle else { return };
        if self.calls.get(&handle).is_some_and(|call| call.quirks.answer_after_cancel)
            && self.answer(now, handle).is_ok()
        {
            return;
        }
        let reason = request.headers.get(&HeaderName::Reason).map(str::to_owned);
        let Some(call) = self.calls.get(&handle) else { return };
        let Phase::Invited { server, request, .. } = &call.phase else { return };
        let (server, response) = (*server, self.response(request, 487, &call.local_tag));
        let phrase = response.reason.clone();
        self.layer.respond(now.instant, server, response);
        self.end(now, handle, Ending { by: EndedBy::Them, status: 487, phrase, reason });
    }

    pub(super) fn on_ack(&mut self, now: Now, peer: Peer, request: &Request) {
        let tag = request.to_tag().unwrap_or_default().to_owned();
        let id = (request.call_id().unwrap_or_default().to_owned(), tag);
        let Some(handle) = self.dialogs.get(&id).copied() else { return };
        let Some(call) = self.calls.get_mut(&handle) else { return };
        if call.quirks.deaf_to_ack {
            return;
        }
        call.peer = peer;
        let Some(answer) = call.answer.take() else { return };
        if answer.offered {
            let accepted = match (UserAgent::session_of(request), call.sdp.as_mut()) {
                (Some(Ok(session)), Some(local)) => local.accept(&session).ok(),
                (Some(_) | None, _) => None,
            };
            let Some(media) = accepted else {
                self.reschedule(handle);
                self.bye(now, handle);
                return;
            };
            call.media = Some(media.clone());
            let media = Box::new(media);
            let event = match answer.initial {
                true => CallEvent::Answered { media },
                false => CallEvent::Updated { media, by_us: false },
            };
            self.event(handle, event);
        }
        self.reschedule(handle);
        if answer.initial {
            self.event(handle, CallEvent::Acknowledged);
            if self.calls.get(&handle).is_some_and(|call| call.quirks.spoofed_bye) {
                self.spoof_bye(now, handle);
            }
        }
    }

    fn on_inside_request(
        &mut self,
        now: Now,
        handle: CallHandle,
        key: ServerKey,
        peer: Peer,
        request: Request,
    ) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let over = matches!(call.phase, Phase::Over);
        if request.method == Method::Prack {
            return self.on_prack(now, handle, key, &request);
        }
        let Some(dialog) = call.dialog.as_mut() else { return self.refuse(now, key, &request, 481) };
        if dialog.check_cseq(&request).is_err() {
            return self.refuse(now, key, &request, 500);
        }
        match &request.method {
            Method::Bye => {
                if call.quirks.deaf_to_bye {
                    self.layer.ignore(key);
                    return;
                }
                let reason = request.headers.get(&HeaderName::Reason).map(str::to_owned);
                let response = self.response(&request, 200, "");
                self.layer.respond(now.instant, key, response);
                let ending = Ending { by: EndedBy::Them, status: 200, phrase: String::new(), reason };
                self.end(now, handle, ending);
            }
            Method::Invite if over => self.refuse(now, key, &request, 481),
            Method::Invite => {
                call.peer = peer;
                self.on_update(now, handle, key, &request);
            }
            Method::Info => {
                let response = self.response(&request, 200, "");
                self.layer.respond(now.instant, key, response);
            }
            Method::Ack | Method::Cancel => {}
            Method::Options
            | Method::Register
            | Method::Message
            | Method::Notify
            | Method::Prack
            | Method::Publish
            | Method::Refer
            | Method::Subscribe
            | Method::Update
            | Method::Other(_) => self.refuse(now, key, &request, 405),
        }
    }

    /// A re-INVITE: answered with what we have, or refused by a quirk or by glare (RFC 3261 §14.2).
    fn on_update(&mut self, now: Now, handle: CallHandle, key: ServerKey, request: &Request) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        if let Some(status) = call.quirks.refuse_updates {
            return self.refuse(now, key, request, status);
        }
        if call.inside.is_some() {
            return self.refuse(now, key, request, 491);
        }
        let Some(mut local) = call.sdp.take() else { return self.refuse(now, key, request, 488) };
        let made = match UserAgent::session_of(request) {
            Some(Ok(offer)) => self
                .answer_offer(&mut local, &offer)
                .map(|(text, media)| Body { text, media: Some(media) })
                .ok(),
            Some(Err(_)) => None,
            None => Some(Body { text: self.offer(&mut local), media: None }),
        };
        let contact = self.calls.get(&handle).map(|call| NameAddr::new(self.contact(&call.peer)).to_string());
        let response = self.response(request, 200, "");
        let Some(call) = self.calls.get_mut(&handle) else { return };
        call.sdp = Some(local);
        let Some(body) = made else { return self.refuse(now, key, request, 488) };
        if let Some(dialog) = call.dialog.as_mut() {
            dialog.refresh_target(request);
        }
        let mut response: Response = response
            .with_header(HeaderName::Contact, contact.unwrap_or_default())
            .with_body("application/sdp", body.text);
        self.grant(request, &mut response);
        self.layer.respond(now.instant, key, response.clone());
        let clock = AnswerRetransmit::new(now.instant, &self.settings.timers);
        let offered = body.media.is_none();
        self.await_ack(handle, Answer { clock, server: key, response, offered, initial: false });
        if let Some(media) = body.media {
            if let Some(call) = self.calls.get_mut(&handle) {
                call.media = Some(media.clone());
            }
            self.event(handle, CallEvent::Updated { media: Box::new(media), by_us: false });
        }
    }
}
