//! App users prove themselves and register their devices (RFC 3261 §10.3, §22).

use crate::access::{
    Admission, Contact, Contacts, Register, RegisterError, RegistrarOutput, Source, User, Verdict,
};
use crate::call::core::response;
use crate::call::event::{Event, Output, RefusedFor};
use crate::call::exchange::Exchange;
use crate::sip::auth::Algorithm;
use crate::sip::message::{self, HeaderName, Method, NameAddr, Request, Typed};
use crate::sip::transaction::ServerKey;
use crate::types::{Now, Peer};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What one is asked for that sends too much by a stream.
const STREAM_PAUSE: Duration = Duration::from_secs(10);

impl Exchange {
    /// Holds a source that has proven nothing to its rate. False: the request has been answered, or dropped.
    pub(in crate::call) fn admit(
        &mut self,
        now: Now,
        key: ServerKey,
        peer: &Peer,
        request: &Request,
    ) -> bool {
        let source = peer.remote.ip();
        let reliable = peer.transport.is_reliable();
        let retry_after = match self.flood_guard.admit(now.instant, Source::of(peer)) {
            Admission::Admit => return true,
            Admission::Refuse { retry_after } => retry_after,
            // Nobody repeats what came by a stream, and its address is not forged.
            Admission::Drop if reliable => STREAM_PAUSE,
            Admission::Drop => {
                self.core.sip.ignore(key);
                self.core.event(Event::Dropped);
                if !self.deals_with(source) {
                    self.core.emit(Output::Mute { source });
                }
                return false;
            }
        };
        let seconds = retry_after.as_secs().max(1).to_string();
        let answer = response(request, 503, "").with_header(HeaderName::RetryAfter, seconds);
        self.refuse_with(key, request, answer, RefusedFor::Overload);
        false
    }

    /// True where something new that is worth hearing comes from an address. What belongs to a call is heard anyway.
    fn deals_with(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.registrar.serves_address(address)
            || self.each_trunk_network().any(|network| network.contains(&address))
    }

    /// Where trunks send from, and where calls to them go.
    pub fn trunk_networks(&self) -> Vec<IpNet> {
        self.each_trunk_network().collect()
    }

    fn each_trunk_network(&self) -> impl Iterator<Item = IpNet> {
        let proxies = self.trunks.iter().flat_map(|(side, _)| side.targets.iter());
        let proxies = proxies.map(|target| target.peer.remote.ip().to_canonical().into());
        self.peers.networks().chain(proxies)
    }

    /// Proves an app user by digest. `None`: the request has been answered with a challenge.
    pub(in crate::call) fn prove_user(
        &mut self,
        now: Now,
        key: ServerKey,
        peer: &Peer,
        request: &Request,
    ) -> Option<Arc<User>> {
        let source = Source::of(peer);
        let directory = self.directory.clone();
        let claimed = request.from().map(|from| from.uri.user().to_owned()).unwrap_or_default();
        let verified = self.challenger.verify_request(now.unix_ms, request, |user, algorithm| {
            let credentials = directory.get(user).map(|user| &user.credentials)?;
            match algorithm {
                Algorithm::Md5 => Some(credentials.md5.clone()),
                Algorithm::Sha256 => Some(credentials.sha256.clone()),
                Algorithm::Sha512_256 => None,
            }
        });
        // The password is checked also while a source is paused: right and wrong must not differ in time.
        let paused = match self.login_guard.verdict(now.instant, source, &claimed) {
            Verdict::Check => false,
            // Only for whoever is registered at that address: else a call for help would try any user's password.
            Verdict::Refuse { .. } => !verified.as_ref().is_ok_and(|verified| {
                let mut devices = self.registrar.reachable(&verified.user);
                devices.any(|device| device.peer.remote.ip() == peer.remote.ip())
                    && self.is_call_for_help(peer, request)
            }),
        };
        match verified {
            Ok(verified) if !paused => {
                self.login_guard.succeeded(now.instant, source, &verified.user);
                directory.get(&verified.user).cloned()
            }
            Ok(_) => {
                self.challenge(now, key, request, false, true);
                None
            }
            Err(failure) => {
                if failure.is_guess() {
                    self.login_guard.failed(now.instant, source, &claimed);
                }
                self.challenge(now, key, request, failure.is_stale(), failure.is_guess());
                None
            }
        }
    }

    fn challenge(&mut self, now: Now, key: ServerKey, request: &Request, stale: bool, failed: bool) {
        let mut answer = response(request, 401, "").with_stateless_tag();
        for challenge in self.challenger.challenge(now.unix_ms, stale) {
            answer.headers.push(HeaderName::WwwAuthenticate, challenge);
        }
        self.core.event(Event::Challenged { method: request.method.clone(), failed });
        self.core.respond_stateless(key, &request.method, answer);
    }

    /// Passes on what the registrar has to say.
    pub(in crate::call) fn settle_registrar(&mut self) {
        let mut changed = false;
        while let Some(output) = self.registrar.poll_output() {
            changed = true;
            match output {
                RegistrarOutput::Stored { user, contact, .. } => {
                    if let Some(binding) = self.registrar.stored(&user, &contact) {
                        self.core.emit(Output::BindingStored(Box::new(binding)));
                    }
                }
                RegistrarOutput::Removed { user, contact, .. } => {
                    self.core.emit(Output::BindingRemoved { user, contact });
                }
                RegistrarOutput::Lost { .. } => {}
            }
        }
        if changed {
            self.core.event(Event::Registrations { active: self.registrar.len() });
        }
    }
}

/// A REGISTER: refreshes, adds, removes or asks for the devices of a user.
pub fn on_register(exchange: &mut Exchange, now: Now, key: ServerKey, peer: Peer, request: &Request) {
    // RFC 3261 §10.3: an address of record is a SIP or SIPS URI.
    if !request.to().is_ok_and(|to| to.uri.is_sip()) {
        exchange.refuse(key, request, 400, RefusedFor::Malformed);
        return;
    }
    let Some(user) = exchange.prove_user(now, key, &peer, request) else { return };
    // RFC 3261 §10.3 step 3: somebody may only change the bindings of its own address.
    if request.to().map_or(true, |to| to.uri.user() != &*user.name) {
        exchange.refuse(key, request, 403, RefusedFor::OtherUser);
        return;
    }
    let (Ok(contacts), Ok(cseq), Ok(call_id)) = (request.contacts(), request.cseq(), request.call_id())
    else {
        exchange.refuse(key, request, 400, RefusedFor::Malformed);
        return;
    };
    let register = Register {
        user: user.name.clone(),
        call_id: call_id.to_owned(),
        cseq: cseq.number,
        contacts: read_contacts(contacts),
        expires: request.expires(),
        user_agent: request.headers.get(&HeaderName::UserAgent).map(str::to_owned),
        peer,
    };
    let tag = exchange.core.token();
    let answer = match exchange.registrar.handle_register(now, &register) {
        Ok(bindings) => {
            let mut answer = response(request, 200, &tag);
            for binding in bindings {
                let seconds = binding.seconds_left(now.instant);
                answer.headers.push(HeaderName::Contact, format!("<{}>;expires={seconds}", binding.contact));
            }
            answer
        }
        Err(RegisterError::TooBrief { min_expires }) => {
            response(request, 423, &tag).with_header(HeaderName::MinExpires, min_expires.to_string())
        }
        Err(RegisterError::OutOfOrder) => response(request, 500, &tag),
        Err(RegisterError::WildcardMisused) => response(request, 400, &tag),
        Err(RegisterError::TooMany { .. }) => response(request, 403, &tag),
    };
    exchange.core.respond(now, key, &Method::Register, answer);
}

fn read_contacts(contacts: message::Contacts) -> Contacts {
    match contacts {
        message::Contacts::All => Contacts::Wildcard,
        message::Contacts::Listed(list) if list.is_empty() => Contacts::Query,
        message::Contacts::Listed(list) => Contacts::List(list.iter().map(read_contact).collect()),
    }
}

fn read_contact(contact: &NameAddr) -> Contact {
    let param = |name: &str| contact.params.value(name);
    Contact {
        uri: contact.uri.to_string(),
        expires: param("expires").and_then(|text| text.parse().ok()),
        q: param("q").and_then(|text| text.parse::<f32>().ok()).map(|q| (q.clamp(0.0, 1.0) * 1_000.0) as u16),
        instance: param("+sip.instance").map(str::to_owned),
    }
}
