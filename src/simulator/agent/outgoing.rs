//! Calls the agent makes, and its requests inside dialogs: INVITE, CANCEL, re-INVITE, BYE.

use super::call::{Call, Inside, InsideKind, Phase};
use super::machine::{Purpose, UserAgent};
use super::{AgentError, CallEvent, CallHandle, EndedBy, Ending, Invitation, Quirks, phrase_of};
use crate::sdp::{Capability, Negotiated};
use crate::sip::auth::ClientAuth;
use crate::sip::dialog::Dialog;
use crate::sip::message::{CSeq, HeaderName, Method, NameAddr, Request, Response, Typed};
use crate::sip::transaction::ClientKey;
use crate::types::{MediaDirection, Now, Peer};

impl UserAgent {
    /// Calls somebody, offering `capability`.
    pub fn call(&mut self, now: Now, invitation: Invitation, capability: Capability) -> CallHandle {
        let handle = self.next_handle();
        let (call_id, local_tag) = (self.token(), self.token());
        let mut local = self.new_local(capability);
        let offer = self.offer(&mut local);
        let Invitation { peer, to, from, fields } = invitation;
        let from = from.unwrap_or_else(|| self.identity()).with_tag(&local_tag);
        let mut request = Request::new(Method::Invite, to.clone())
            .with_header(HeaderName::MaxForwards, "70")
            .with_header(HeaderName::From, from.to_string())
            .with_header(HeaderName::To, NameAddr::new(to).to_string())
            .with_header(HeaderName::CallId, call_id.clone())
            .with_header(HeaderName::CSeq, CSeq { number: 1, method: Method::Invite }.to_string())
            .with_header(HeaderName::Contact, NameAddr::new(self.contact(&peer)).to_string())
            .with_header(HeaderName::Allow, self.settings.manner.allow)
            .with_header(HeaderName::UserAgent, self.settings.product.clone())
            .with_body("application/sdp", offer);
        self.say_manner(&mut request);
        for (name, value) in fields {
            request.headers.push(name, value);
        }
        let mut auth = self.settings.credentials.clone().map(ClientAuth::new);
        if let Some(auth) = auth.as_mut() {
            let cnonce = self.token();
            auth.authorize(&mut request, &cnonce);
        }
        let client = self.layer.send_request(now.instant, peer.clone(), request.clone());
        self.clients.insert(client, Purpose::Invite(handle));
        self.dialogs.insert((call_id.clone(), local_tag.clone()), handle);
        self.calls.insert(
            handle,
            Call {
                call_id,
                local_tag,
                peer,
                sdp: Some(local),
                media: None,
                dialog: None,
                auth,
                phase: Phase::Inviting { client, request: Box::new(request), cancelled: false },
                quirks: Quirks::default(),
                reliable: None,
                rseq: None,
                described: false,
                answer: None,
                inside: None,
                ack: None,
                deadline: None,
            },
        );
        self.drain(now);
        handle
    }

    /// The extensions that an INVITE of ours offers to use.
    fn say_manner(&self, invite: &mut Request) {
        let manner = &self.settings.manner;
        let options: Vec<&str> = [("100rel", manner.reliable), ("timer", manner.session_timer.is_some())]
            .into_iter()
            .filter_map(|(option, used)| used.then_some(option))
            .collect();
        if !options.is_empty() {
            invite.headers.push(HeaderName::Supported, options.join(", "));
        }
        if let Some(seconds) = manner.session_timer {
            invite.headers.push(HeaderName::SessionExpires, format!("{seconds};refresher=uas"));
        }
        if manner.p_early_media {
            invite.headers.push(HeaderName::PEarlyMedia, "supported");
        }
    }

    /// Acknowledges progress that has to arrive, in the early dialog (RFC 3262 §4).
    fn acknowledge_progress(&mut self, now: Now, handle: CallHandle, response: &Response) {
        let (Some(rseq), true) = (response.rseq(), self.settings.manner.reliable) else { return };
        let Some(call) = self.calls.get_mut(&handle).filter(|_| response.requires("100rel")) else { return };
        if call.rseq.is_some_and(|last| rseq <= last) {
            // Said again: its PRACK is on its way.
            return;
        }
        let (Some(dialog), Ok(cseq)) = (call.dialog.as_mut(), response.cseq()) else { return };
        call.rseq = Some(rseq);
        let mut prack = dialog.request(Method::Prack, None);
        prack.headers.push(HeaderName::RAck, format!("{rseq} {cseq}"));
        let client = self.layer.send_request(now.instant, call.reach(), prack);
        self.clients.insert(client, Purpose::Stray);
    }

    /// Changes the direction of our media by a re-INVITE: hold and resume.
    pub fn update(
        &mut self,
        now: Now,
        handle: CallHandle,
        direction: MediaDirection,
    ) -> Result<(), AgentError> {
        let call = self.calls.get_mut(&handle).ok_or(AgentError::WrongState)?;
        if !matches!(call.phase, Phase::Talking) || call.inside.is_some() || call.answer.is_some() {
            return Err(AgentError::WrongState);
        }
        let mut local = call.sdp.take().ok_or(AgentError::WrongState)?;
        local.set_direction(direction);
        let offer = self.offer(&mut local);
        let contact = self.calls.get(&handle).map(|call| self.contact(&call.peer));
        let call = self.calls.get_mut(&handle).ok_or(AgentError::WrongState)?;
        call.sdp = Some(local);
        let dialog = call.dialog.as_mut().ok_or(AgentError::WrongState)?;
        let request = dialog
            .request(Method::Invite, contact.as_ref())
            .with_header(HeaderName::Allow, self.settings.manner.allow)
            .with_body("application/sdp", offer);
        self.send_inside(now, handle, InsideKind::Update, request);
        self.drain(now);
        Ok(())
    }

    pub(super) fn send_inside(
        &mut self,
        now: Now,
        handle: CallHandle,
        kind: InsideKind,
        mut request: Request,
    ) {
        let cnonce = self.token();
        request.headers.set(HeaderName::UserAgent, self.settings.product.clone());
        let Some(call) = self.calls.get_mut(&handle) else { return };
        if let Some(auth) = call.auth.as_mut() {
            auth.authorize(&mut request, &cnonce);
        }
        let client = self.layer.send_request(now.instant, call.reach(), request.clone());
        call.inside = Some(Inside { client, kind, request: Box::new(request) });
        self.clients.insert(client, Purpose::Inside(handle));
    }

    pub(super) fn on_invite_response(
        &mut self,
        now: Now,
        handle: CallHandle,
        key: ClientKey,
        peer: Peer,
        response: Response,
    ) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let Phase::Inviting { client, request, cancelled } = &mut call.phase else {
            if (200..300).contains(&response.status) {
                self.on_late_answer(now, handle, &response);
            }
            return;
        };
        if *client != key {
            return;
        }
        let cancelled = *cancelled;
        match response.status {
            100..=199 => {
                let known = call.dialog.as_ref().map(|dialog| dialog.remote_tag.as_str());
                if response.to_tag().is_some()
                    && known != response.to_tag()
                    && let Ok(dialog) = Dialog::uac(request, &response)
                {
                    call.dialog = Some(dialog);
                }
                let media = accept(call, &response).and_then(Result::ok);
                if media.is_some() {
                    call.media.clone_from(&media);
                }
                let phrase = phrase_of(&response);
                let media = media.map(Box::new);
                self.event(handle, CallEvent::Progress { status: response.status, phrase, media });
                self.acknowledge_progress(now, handle, &response);
            }
            200..=299 => self.on_answer(now, handle, peer, &response, cancelled),
            401 | 407 if !cancelled && self.try_again(now, handle, &response) => {}
            status => {
                let reason = response.headers.get(&HeaderName::Reason).map(str::to_owned);
                let by = if cancelled { EndedBy::Us } else { EndedBy::Them };
                self.end(now, handle, Ending { by, status, phrase: phrase_of(&response), reason });
            }
        }
    }

    /// Sends the INVITE again with credentials. False if the challenge can't be answered.
    fn try_again(&mut self, now: Now, handle: CallHandle, response: &Response) -> bool {
        let cnonce = self.token();
        let Some(call) = self.calls.get_mut(&handle) else { return false };
        let Phase::Inviting { client, request, .. } = &mut call.phase else { return false };
        let Some(auth) = call.auth.as_mut() else { return false };
        if auth.challenged(response).is_err() {
            return false;
        }
        next_cseq(request);
        auth.authorize(request, &cnonce);
        call.dialog = None;
        self.clients.remove(client);
        *client = self.layer.send_request(now.instant, call.peer.clone(), (**request).clone());
        self.clients.insert(*client, Purpose::Invite(handle));
        true
    }

    fn on_answer(&mut self, now: Now, handle: CallHandle, peer: Peer, response: &Response, cancelled: bool) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let Phase::Inviting { request, .. } = &call.phase else { return };
        // An early dialog has used numbers of its own already.
        let early = call.dialog.take().filter(|early| Some(early.remote_tag.as_str()) == response.to_tag());
        let dialog = early.map_or_else(
            || Dialog::uac(request, response),
            |mut early| early.confirm(response).map(|()| early),
        );
        let number = request.cseq().map_or(0, |cseq| cseq.number);
        let dialog = match dialog {
            Ok(dialog) => dialog,
            Err(error) => {
                let phrase = format!("an answer without a dialog: {error}");
                self.end(now, handle, Ending { by: EndedBy::Failure, status: 500, phrase, reason: None });
                return;
            }
        };
        let ack = dialog.ack(number);
        call.ack = Some((number, ack.clone()));
        call.peer = peer;
        call.dialog = Some(dialog);
        if let Some(auth) = call.auth.as_mut() {
            auth.succeeded();
        }
        call.phase = Phase::Talking;
        self.layer.send_ack_2xx(now.instant, call.reach(), ack);
        // A 200 may leave out what a reliable 18x has said; many do with an unreliable one too.
        let media = match accept(call, response) {
            Some(Ok(media)) => Ok(media),
            Some(Err(why)) => Err(why),
            None => call.media.clone().ok_or_else(|| "the answer has no session description".to_owned()),
        };
        match media {
            Ok(media) if !cancelled => {
                call.media = Some(media.clone());
                self.event(handle, CallEvent::Answered { media: Box::new(media) });
            }
            Ok(_) => self.bye(now, handle),
            Err(phrase) => {
                self.bye(now, handle);
                self.end(now, handle, Ending { by: EndedBy::Failure, status: 488, phrase, reason: None });
            }
        }
    }

    /// A 2xx after the first: the same one again, or another branch of a fork.
    fn on_late_answer(&mut self, now: Now, handle: CallHandle, response: &Response) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let ours = call.dialog.as_ref().map(|dialog| dialog.remote_tag.as_str());
        if let Some((_, ack)) = call.ack.as_ref().filter(|_| ours.is_some() && ours == response.to_tag()) {
            let ack = ack.clone();
            self.layer.send_ack_2xx(now.instant, call.reach(), ack);
            return;
        }
        let Ok(cseq) = response.cseq() else { return };
        let (Ok(from), Ok(to)) = (response.from(), response.to()) else { return };
        let request = Request::new(Method::Invite, to.uri.clone())
            .with_header(HeaderName::From, from.to_string())
            .with_header(HeaderName::CallId, call.call_id.clone())
            .with_header(HeaderName::CSeq, cseq.to_string());
        let Ok(mut dialog) = Dialog::uac(&request, response) else { return };
        let peer = call.peer.clone();
        self.layer.send_ack_2xx(now.instant, peer.clone(), dialog.ack(cseq.number));
        let bye = dialog.request(Method::Bye, None);
        let client = self.layer.send_request(now.instant, peer, bye);
        self.clients.insert(client, Purpose::Stray);
        if matches!(self.calls.get(&handle).map(|call| &call.phase), Some(Phase::Inviting { .. })) {
            self.end(
                now,
                handle,
                Ending { by: EndedBy::Us, status: 487, phrase: String::new(), reason: None },
            );
        }
    }

    pub(super) fn on_inside_response(
        &mut self,
        now: Now,
        handle: CallHandle,
        key: ClientKey,
        response: Response,
    ) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        if response.status < 200 {
            // The final response is still to come.
            self.clients.insert(key, Purpose::Inside(handle));
            return;
        }
        let Some(inside) = call.inside.take_if(|inside| inside.client == key) else {
            // The 2xx of a re-INVITE once more.
            if let Some((number, ack)) = call.ack.clone()
                && response.cseq().is_ok_and(|cseq| cseq.number == number && cseq.method == Method::Invite)
            {
                self.layer.send_ack_2xx(now.instant, call.reach(), ack);
            }
            return;
        };
        if matches!(response.status, 401 | 407)
            && let Some(auth) = call.auth.as_mut()
            && auth.challenged(&response).is_ok()
            && let Some(dialog) = call.dialog.as_mut()
        {
            dialog.local_cseq += 1;
            let mut request = *inside.request;
            next_cseq(&mut request);
            self.send_inside(now, handle, inside.kind, request);
            return;
        }
        match inside.kind {
            InsideKind::Bye => {
                let (by, phrase) = (EndedBy::Us, String::new());
                self.end(now, handle, Ending { by, status: 200, phrase, reason: None });
            }
            InsideKind::Update if (200..300).contains(&response.status) => {
                self.clients.insert(key, Purpose::Inside(handle));
                let number = inside.request.cseq().map_or(0, |cseq| cseq.number);
                if let Some(auth) = call.auth.as_mut() {
                    auth.succeeded();
                }
                if let Some(dialog) = call.dialog.as_mut() {
                    dialog.refresh_target(&response);
                    let ack = dialog.ack(number);
                    call.ack = Some((number, ack.clone()));
                    self.layer.send_ack_2xx(now.instant, call.reach(), ack);
                }
                if let Some(Ok(media)) = accept(call, &response) {
                    call.media = Some(media.clone());
                    self.event(handle, CallEvent::Updated { media: Box::new(media), by_us: true });
                }
            }
            InsideKind::Update => {
                let status = response.status;
                // RFC 3261 §12.2.1.2, §14.1: these end the dialog itself.
                if matches!(status, 408 | 481) {
                    self.bye(now, handle);
                } else {
                    self.event(handle, CallEvent::UpdateRefused { status });
                }
            }
        }
    }
}

/// Takes the answer in a response; `None` if it has no description.
fn accept(call: &mut Call, response: &Response) -> Option<Result<Negotiated, String>> {
    let session = match UserAgent::session_of(response)? {
        Ok(session) => session,
        Err(error) => return Some(Err(error.to_string())),
    };
    let local = call.sdp.as_mut()?;
    Some(local.accept(&session).map_err(|error| error.to_string()))
}

/// Gives a request that is sent again the next number of its method.
pub(super) fn next_cseq(request: &mut Request) {
    if let Ok(cseq) = request.cseq() {
        let next = CSeq { number: cseq.number + 1, method: cseq.method };
        request.headers.set(HeaderName::CSeq, next.to_string());
    }
}
