//! The agent's own registration: made, kept alive, taken back.

use super::machine::{Purpose, UserAgent};
use super::outgoing::next_cseq;
use super::{Output, phrase_of};
use crate::sip::auth::ClientAuth;
use crate::sip::message::{CSeq, HeaderName, Method, NameAddr, Request, Response, Typed, Uri};
use crate::types::{Now, Peer};
use std::time::{Duration, Instant};

/// Shares of the granted time after which it is renewed.
const RENEW_AFTER: f32 = 0.8;

pub(super) struct Registration {
    peer: Peer,
    request: Request,
    auth: Option<ClientAuth>,
    /// Seconds asked for; 0 once it is being taken back.
    expires: u32,
    pub refresh_at: Option<Instant>,
}

impl UserAgent {
    /// Registers the agent's Contact, and keeps it registered. `registrar` is the Request-URI, `expires` in seconds.
    pub fn register(&mut self, now: Now, peer: Peer, registrar: Uri, expires: u32) {
        let tag = self.token();
        let identity = self.identity();
        let contact = NameAddr::new(self.contact(&peer)).to_string();
        let request = Request::new(Method::Register, registrar)
            .with_header(HeaderName::MaxForwards, "70")
            .with_header(HeaderName::From, identity.clone().with_tag(&tag).to_string())
            .with_header(HeaderName::To, identity.to_string())
            .with_header(HeaderName::CallId, self.token())
            .with_header(HeaderName::CSeq, CSeq { number: 0, method: Method::Register }.to_string())
            .with_header(HeaderName::Contact, contact)
            .with_header(HeaderName::UserAgent, self.settings.product.clone());
        let auth = self.settings.credentials.clone().map(ClientAuth::new);
        self.registration = Some(Registration { peer, request, auth, expires, refresh_at: None });
        self.send_register(now);
        self.drain(now);
    }

    /// Takes the registration back.
    pub fn unregister(&mut self, now: Now) {
        if let Some(registration) = self.registration.as_mut() {
            registration.expires = 0;
            self.send_register(now);
            self.drain(now);
        }
    }

    pub(super) fn refresh_registration(&mut self, now: Now) {
        self.send_register(now);
    }

    fn send_register(&mut self, now: Now) {
        let cnonce = self.token();
        let Some(registration) = self.registration.as_mut() else { return };
        registration.refresh_at = None;
        let request = &mut registration.request;
        next_cseq(request);
        request.headers.set(HeaderName::Expires, registration.expires.to_string());
        if let Some(auth) = registration.auth.as_mut() {
            auth.authorize(request, &cnonce);
        }
        let client = self.layer.send_request(now.instant, registration.peer.clone(), request.clone());
        self.clients.insert(client, Purpose::Register);
    }

    pub(super) fn on_register_response(&mut self, now: Now, peer: Peer, response: Response) {
        let Some(registration) = self.registration.as_mut() else { return };
        match response.status {
            100..=199 => {}
            200..=299 => {
                if let Some(auth) = registration.auth.as_mut() {
                    auth.succeeded();
                }
                // The connection it went over is the one calls come by.
                registration.peer = peer;
                let granted = granted(&response, &registration.request).unwrap_or(registration.expires);
                if registration.expires > 0 && granted > 0 {
                    let renew = Duration::from_secs(u64::from(granted)).mul_f32(RENEW_AFTER);
                    registration.refresh_at = Some(now.instant + renew);
                }
                let expires = if registration.expires == 0 { 0 } else { granted };
                let phrase = phrase_of(&response);
                self.outputs.push_back(Output::Registered { status: response.status, phrase, expires });
            }
            401 | 407
                if registration.auth.as_mut().is_some_and(|auth| auth.challenged(&response).is_ok()) =>
            {
                self.send_register(now);
            }
            423 if response.min_expires().is_some_and(|least| least > registration.expires) => {
                registration.expires = response.min_expires().unwrap_or(3_600);
                self.send_register(now);
            }
            status => {
                let phrase = phrase_of(&response);
                self.register_failed(status, &phrase);
            }
        }
    }

    pub(super) fn register_failed(&mut self, status: u16, phrase: &str) {
        let phrase = phrase.to_owned();
        self.outputs.push_back(Output::Registered { status, phrase, expires: 0 });
    }
}

/// Seconds granted to our Contact, by its own parameter or the Expires header (RFC 3261 §10.2.4).
fn granted(response: &Response, request: &Request) -> Option<u32> {
    let ours = request.contact().ok().flatten()?;
    let listed = response.addresses(&HeaderName::Contact).unwrap_or_default();
    let own = listed.iter().find(|contact| contact.uri.equivalent(&ours.uri));
    own.and_then(|contact| contact.params.value("expires")?.parse().ok()).or_else(|| response.expires())
}
