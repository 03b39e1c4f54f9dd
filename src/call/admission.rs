//! Who is calling, may they, and where does it go: from a caller's INVITE to a call.

use super::core::{response, unsupported};
use super::event::{Event, RefusedFor};
use super::exchange::Exchange;
use super::identity::Identity;
use super::leg::media::{LegMedia, MediaPolicy};
use super::leg::progress::ReliableProgress;
use super::leg::rules::LegRules;
use super::leg::{Leg, LegState, Party, credentials_of};
use super::machine::{ANONYMOUS, Admitted, Call, Device, Plan, TrunkCandidate, refusal_of, with_hints};
use super::provenance::Provenance;
use super::settings::Trunk;
use super::trunks::{self, trunk_index};
use crate::access::User;
use crate::config::CalledFrom;
use crate::routing::{Caller, Channel, Origin, RouteOutcome, RouteRequest, TrunkIndex, service};
use crate::sdp::Session;
use crate::sip::dialog::Dialog;
use crate::sip::header_rules::{Facts, Kind, Side};
use crate::sip::message::{HeaderName, Method, Request, Scheme, Typed, Uri};
use crate::sip::transaction::ServerKey;
use crate::types::{CallId, Direction, E164, Emergency, EndCause, LegId, Now, Peer};
use std::collections::VecDeque;
use std::sync::Arc;

/// Who was proven to send a request.
pub enum Source {
    Trunk(Arc<Trunk>),
    User(Arc<User>),
}

impl Source {
    /// The same as the far end of a leg.
    pub fn party(&self) -> Party {
        match self {
            Source::Trunk(trunk) => Party::Trunk(trunk.clone()),
            Source::User(user) => Party::User { name: user.name.clone() },
        }
    }
}

/// Why a proven caller's attempt is refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    cause: EndCause,
    /// Where it is not the cause's own.
    status: Option<u16>,
    /// Of an offer that can't be answered (RFC 3261 §20.43).
    warning: Option<u16>,
}

/// What stands against an attempt before it is routed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hindrance {
    pub ordinary: Option<Refusal>,
    /// What stands against it even where it is a call for help.
    pub urgent: Option<Refusal>,
}

impl From<EndCause> for Refusal {
    fn from(cause: EndCause) -> Refusal {
        Refusal { cause, status: None, warning: None }
    }
}

impl Exchange {
    /// An INVITE that opens a dialog; `trunk` is whose it is by its address. Users are asked for their password.
    pub(super) fn on_invite(
        &mut self,
        now: Now,
        key: ServerKey,
        peer: Peer,
        mut request: Request,
        trunk: Option<Arc<Trunk>>,
    ) {
        if self.core.sip.is_merged(key) {
            // What came by a second way is an attempt that has its record already.
            self.refuse(key, &request, 482, RefusedFor::Loop);
            return;
        }
        let fault = FormFault::of(&request);
        let source = match (trunk, fault) {
            (Some(trunk), _) => Source::Trunk(trunk),
            // What can't be taken from anybody is not worth a challenge.
            (None, Some(fault)) if credentials_of(&request).is_empty() => {
                self.refuse_unproven(key, &request, fault);
                return;
            }
            (None, _) => match self.prove_user(now, key, &peer, &request) {
                Some(user) => Source::User(user),
                None => return,
            },
        };
        let mut rules = rules_of(&source.party(), &mut request);
        if let Source::Trunk(trunk) = &source
            && name_called(trunk, &mut request)
            && let Some(rules) = &mut rules
        {
            rules.called = request.uri.subscriber();
        }
        if let Source::Trunk(trunk) = &source
            && self.is_runaway(now, trunk, &request)
        {
            self.refuse_runaway(key, &request);
            return;
        }
        // From here on it is a call attempt, whatever comes of it, and has a record.
        let call = CallId::from_parts(now.unix_ms, self.core.octets());
        let (offer, unusable) = self.read_offer(&source, &peer, &request);
        let extension = source.party().extension_fault(&request);
        let source_refusal = self.source_refusal(&source);
        let first = self.draining.then_some(EndCause::Draining).map(Refusal::from);
        let first = first.or(fault.map(FormFault::refusal)).or(source_refusal.map(Refusal::from));
        let ordinary = first.or(extension.map(Refusal::from)).or(unusable);
        let urgent = fault.map(FormFault::refusal).or(extension.map(Refusal::from)).or(unusable);
        let hindrance = Hindrance { ordinary, urgent };
        let identity = Identity::of_source(&request, &source, &self.dialplan.numbers);
        let mut admitted = self.route(now, call, &source, &peer, &request, identity);
        if self.is_circle(&request, &admitted) {
            // What came back is an attempt that has its record already.
            self.refuse(key, &request, 482, RefusedFor::Loop);
            return;
        }
        // Wherever its number leads: a call that takes another over goes there, and the limits hold it as any.
        match self.take_over(&source, &request) {
            Some(Ok(remaining)) => admitted.plan = Plan::TakesOver { remaining },
            Some(Err(cause)) => admitted.plan = Plan::Refused { cause, status: None },
            None => {}
        }
        self.hold(now, &source, &mut admitted, hindrance);
        if let Plan::TakesOver { remaining } = admitted.plan {
            admitted.take_over(remaining);
        }
        if let Source::Trunk(trunk) = &source {
            if let Some(refusal) = self.shed_for(now, trunk, &admitted) {
                self.shed(key, &request, admitted, refusal);
                return;
            }
            self.check_identity(now, trunk, &request, &mut admitted);
        }
        let mut caller = self.caller_leg(call, &admitted, key, peer, request);
        caller.rules = rules;
        let call = Call::open(&mut self.core, now, admitted, caller, offer);
        self.add_call(call);
    }

    /// True where a request of ours has come back for a number that its call, or one before that on the same way, has had
    /// already. One that comes back for another number is a call of its own (RFC 3261 §16.3 calls that a spiral), and
    /// Max-Forwards ends what never does.
    fn is_circle(&self, request: &Request, admitted: &Admitted) -> bool {
        let call = |id| self.calls.get(&id);
        let mut next = request.call_id().ok().and_then(|id| self.core.own_call(id)).and_then(call);
        while let Some(before) = next {
            if before.had(&admitted.dialled, admitted.number.as_ref()) {
                return true;
            }
            // A call that a device sent on has no caller of its own: it came here with the one that rang the device.
            let own = self.core.own_call(&before.caller.call_id);
            next = own.or_else(|| before.forwarded_of()).and_then(call);
        }
        false
    }

    /// Refuses a request whose sender nobody knows for its form: a counter, no record.
    pub(super) fn refuse_unproven(&mut self, key: ServerKey, request: &Request, fault: FormFault) {
        let status = fault.status().unwrap_or_else(|| fault.cause().sip_code());
        let answer = with_hints(response(request, status, ""), request, None);
        self.refuse_with(key, request, answer, fault.counted());
    }

    /// True for a call of a trunk that has been refused many within a second, and that a limit would refuse as well. A call
    /// for help, or one that may be the answer to it, is looked at anyway.
    fn is_runaway(&mut self, now: Now, trunk: &Trunk, request: &Request) -> bool {
        self.trunks.is_deaf(now, &trunk.name)
            && (self.gateway_is_full() || self.trunks.would_take_incoming(now, &trunk.name).is_err())
            && !self.dialplan.is_emergency_number(&request.uri.called())
            && !self.may_call_back(now, trunk, request)
    }

    /// Why a call is refused before anything rings, where its trunk was refused so many within this second that one more is
    /// not worth a record, whatever it is refused for. What could be taken is taken.
    pub(super) fn shed_for(&mut self, now: Now, trunk: &Trunk, admitted: &Admitted) -> Option<Refusal> {
        let refusal = self.vain(now, admitted)?;
        let shed = self.trunks.is_deaf(now, &trunk.name);
        if !shed {
            self.trunks.note_refused(now, &trunk.name);
        }
        shed.then_some(refusal)
    }

    /// Why nobody would be rung for a call: it is refused, or none of the trunks it may go to takes one now. A call for
    /// help is tried whatever stands against it.
    fn vain(&mut self, now: Now, admitted: &Admitted) -> Option<Refusal> {
        if admitted.emergency.is_some() {
            return None;
        }
        match &admitted.plan {
            Plan::Refused { cause, status } => {
                Some(Refusal { cause: *cause, status: *status, warning: admitted.warning })
            }
            Plan::Trunks(candidates) => {
                let mut first = None;
                for candidate in candidates {
                    let refusal = self.trunks.would_take(now, &candidate.trunk.name).err()?;
                    first.get_or_insert(end_cause(refusal));
                }
                // Of several the first one's reason is told, as where each of them is tried.
                Some(first.unwrap_or(EndCause::NoRoute).into())
            }
            Plan::Devices(_) | Plan::TakesOver { .. } | Plan::Line(_) => None,
        }
    }

    /// Its caller hears what it would have heard, and nothing is kept.
    fn shed(&mut self, key: ServerKey, request: &Request, admitted: Admitted, refusal: Refusal) {
        let Refusal { cause, status, warning } = refusal;
        let answer = refusal_of(request, &admitted.caller, cause, status, warning);
        if let Some(channel) = admitted.incoming_channel {
            self.trunks.release(channel);
        }
        self.refuse_with(key, request, answer, RefusedFor::Overload);
    }

    /// Such a call costs no record and no memory: the records hold fifty of that second, and whoever does not hear them
    /// would fill the disk with more.
    fn refuse_runaway(&mut self, key: ServerKey, request: &Request) {
        let answer = response(request, 503, "").with_header(HeaderName::RetryAfter, "1");
        self.refuse_with(key, request, answer, RefusedFor::Overload);
    }

    /// The trunk a request comes from.
    pub(super) fn trunk_of(&self, peer: &Peer, request: &Request) -> Option<Arc<Trunk>> {
        let group = self.peers.tells_groups_apart().then(|| {
            let contact = request.contact().ok().flatten().and_then(|contact| contact.uri.trunk_group());
            contact.or_else(|| request.uri.trunk_group())
        });
        self.trunk_at(peer, &request.uri.host.host, group.flatten().as_deref())
    }

    fn trunk_at(&self, peer: &Peer, request_host: &str, trunk_group: Option<&str>) -> Option<Arc<Trunk>> {
        let tls_names = peer.connection.and_then(|connection| self.tls_names.get(&connection));
        let index = self.peers.lookup(Origin {
            network: peer.network,
            transport: peer.transport,
            remote: peer.remote,
            tls_names: tls_names.map_or(&[], |names| names),
            request_host,
            trunk_group,
            serves_users: self.registrar.serves_address(peer.remote.ip()),
        })?;
        self.core.settings.trunks.get(usize::from(index.0)).cloned()
    }

    /// True when a request comes from the same party as a leg, though from another address.
    pub(super) fn is_same_party(&self, party: &Party, peer: &Peer, request: &Request) -> bool {
        match party {
            Party::Trunk(trunk) => {
                // Inside a dialog the Request-URI is our Contact, whatever name the trunk called us by before.
                let host = trunk.config.match_host.as_deref().unwrap_or(&request.uri.host.host);
                let group = trunk.config.match_trunk_group.as_deref();
                self.trunk_at(peer, host, group).is_some_and(|other| other.name == trunk.name)
            }
            // A device that changed its address has to register again before it is believed.
            Party::User { name } => {
                self.registrar.reachable(name).any(|binding| binding.peer.remote == peer.remote)
            }
        }
    }

    /// Reads the offer and makes sure that somebody could agree on it, before anything rings.
    fn read_offer(
        &self,
        source: &Source,
        peer: &Peer,
        request: &Request,
    ) -> (Option<Session>, Option<Refusal>) {
        let unusable =
            |status, warning| Some(Refusal { cause: EndCause::NotAcceptable, status: Some(status), warning });
        if !takes_sessions(request) {
            return (None, unusable(406, None));
        }
        // RFC 6442 §3: a location alone is no offer; nor is what is for an early session (RFC 3959 §3).
        let aside = || request.location().is_some() || request.body_is_optional();
        if request.body.is_empty() || (request.sdp().is_none() && aside()) {
            return (None, None);
        }
        let Some(body) = request.sdp() else { return (None, unusable(415, None)) };
        let Ok(offer) = Session::parse(&body) else { return (None, unusable(400, None)) };
        let policy = match source {
            Source::Trunk(trunk) => MediaPolicy::trunk(trunk, peer, &self.core.settings),
            Source::User(_) => MediaPolicy::user(peer, &self.core.settings),
        };
        let refusal = policy.try_answer(&offer, peer.local.ip()).err();
        (Some(offer), refusal.and_then(|refusal| unusable(488, Some(refusal.warning()))))
    }

    /// A trunk that is blocked or drained may not call, whomever it calls.
    fn source_refusal(&mut self, source: &Source) -> Option<EndCause> {
        match source {
            Source::Trunk(trunk) => self.trunks.may_call(&trunk.name).err().map(end_cause),
            Source::User(_) => None,
        }
    }

    /// Asks the dialplan. Nothing is held against the call yet.
    pub(super) fn route(
        &mut self,
        now: Now,
        id: CallId,
        source: &Source,
        peer: &Peer,
        request: &Request,
        identity: Identity,
    ) -> Admitted {
        let called = request.uri.called();
        let portability = match source {
            Source::User(_) => String::new(),
            Source::Trunk(_) => request.uri.portability(),
        };
        let from = request.from().ok().map(|from| from.uri.subscriber());
        let index = match source {
            Source::User(_) => TrunkIndex(0),
            Source::Trunk(trunk) => trunk_index(self.trunks.index_of(&trunk.name).unwrap_or_default()),
        };
        let caller = match source {
            Source::User(user) => Caller::User { name: &user.name, caller_ids: &user.caller_ids },
            Source::Trunk(_) => Caller::Trunk(index),
        };
        let wanted = RouteRequest {
            caller,
            called: &called,
            calling: from.as_deref(),
            asserted: identity.asserted.as_deref().or(identity.preferred.as_deref()),
            unix_ms: now.unix_ms,
            draw: u64::from_be_bytes(self.core.octets()),
        };
        let settings = self.core.settings.clone();
        let cost = |trunk: TrunkIndex, number: &E164| settings.buy_price(trunk, number);
        let decision = self.dialplan.route(&wanted, &*self.directory, &cost);
        let (decision, emergency) = self.emergency_of(now, source, index, request, &wanted, decision);
        let location = (emergency == Some(Emergency::Call)).then(|| self.location_of(now, source, request));
        let (party, account) = match source {
            Source::User(user) => {
                (Party::User { name: user.name.clone() }, Some(user.account.as_str().into()))
            }
            Source::Trunk(trunk) => (Party::Trunk(trunk.clone()), None),
        };
        let mut callee_user = None;
        let plan = match decision.outcome {
            RouteOutcome::Reject { status, cause, .. } => Plan::Refused { cause, status: Some(status) },
            RouteOutcome::User { name } => {
                let own = match source {
                    Source::User(user) => *user.name == *name,
                    Source::Trunk(_) => false,
                };
                let devices = self.devices(&name, own.then_some(peer));
                callee_user = Some(Arc::from(name));
                if devices.is_empty() {
                    Plan::Refused { cause: EndCause::Unavailable, status: None }
                } else {
                    Plan::Devices(devices)
                }
            }
            RouteOutcome::Line(line) => Plan::Line(line),
            RouteOutcome::Trunks(candidates) => Plan::Trunks(
                candidates
                    .into_iter()
                    .filter_map(|candidate| {
                        let trunk = self.core.settings.trunks.get(usize::from(candidate.trunk.0))?.clone();
                        // RFC 3261 §8.1.1.3: who has no number to present calls as "anonymous".
                        let calling = candidate.calling.unwrap_or_else(|| ANONYMOUS.to_owned());
                        Some(TrunkCandidate {
                            trunk,
                            called: candidate.called,
                            calling,
                            network: candidate.network,
                        })
                    })
                    .collect::<VecDeque<_>>(),
            ),
        };
        let direction = match (source, &plan) {
            // A test line stands where an app user would.
            (Source::User(_), Plan::Devices(_) | Plan::TakesOver { .. } | Plan::Line(_)) => {
                Direction::AppToApp
            }
            (Source::User(_), Plan::Refused { .. }) if callee_user.is_some() => Direction::AppToApp,
            (Source::User(_), Plan::Trunks(_) | Plan::Refused { .. }) => Direction::AppToTrunk,
            (
                Source::Trunk(_),
                Plan::Devices(_) | Plan::TakesOver { .. } | Plan::Line(_) | Plan::Refused { .. },
            ) => Direction::TrunkToApp,
            (Source::Trunk(_), Plan::Trunks(_)) => Direction::TrunkToTrunk,
        };
        let calling = match (&decision.calling, source) {
            (Some(number), _) => number.to_string(),
            (None, Source::User(user)) => user.name.to_string(),
            (None, Source::Trunk(_)) => from.unwrap_or_else(|| ANONYMOUS.to_owned()),
        };
        let mut provenance = match source {
            Source::User(user) => Provenance::of_user(user),
            Source::Trunk(_) => Provenance::of_trunk(request),
        };
        provenance.calling = decision.calling.clone();
        provenance.network = decision.network.clone();
        if emergency == Some(Emergency::Call) {
            self.expect_callback(now, id, source, &plan);
        }
        // A user that has two calls may want to join them.
        let user = party.user_name();
        let users = user.as_deref().into_iter().chain(callee_user.as_deref());
        let beside = users.into_iter().find_map(|user| self.some_call_of(user));
        Admitted {
            id,
            direction,
            caller: party,
            account,
            calling,
            dialled: called.split(';').next().unwrap_or_default().to_owned(),
            portability,
            number: decision.number,
            callee_user,
            max_forwards: request.max_forwards().unwrap_or(70).saturating_sub(1),
            incoming_channel: None,
            plan,
            provenance,
            attestation: None,
            identity: if emergency == Some(Emergency::Call) { identity.disclosed() } else { identity },
            emergency,
            location: location.flatten(),
            warning: None,
            transfer_of: None,
            forward: None,
            beside,
        }
    }

    /// Holds a routed call against what stands in its way and what its source may use; takes the channel of the trunk it
    /// comes from. One that is refused already is only led as far as its record tells.
    pub(super) fn hold(&mut self, now: Now, source: &Source, admitted: &mut Admitted, hindrance: Hindrance) {
        let urgent = admitted.emergency.is_some();
        let refusal = if urgent { hindrance.urgent } else { hindrance.ordinary };
        let channel = match refusal {
            Some(refusal) => Err(refusal),
            None if urgent => Ok(self.channel_anyway(now, source)),
            None => self.limit(now, source, &admitted.plan).map_err(Refusal::from),
        };
        match channel {
            Ok(channel) => admitted.incoming_channel = channel,
            Err(Refusal { cause, status, warning }) => {
                admitted.plan = Plan::Refused { cause, status };
                admitted.warning = warning;
            }
        }
    }

    /// The channel of the trunk that a call for help, or back to one, comes from: taken whatever its limits say.
    fn channel_anyway(&mut self, now: Now, source: &Source) -> Option<Channel> {
        match source {
            Source::User(_) => None,
            Source::Trunk(trunk) => self.trunks.take_incoming_anyway(now, &trunk.name).ok(),
        }
    }

    /// What its source may use: the channel of the trunk it comes from, or the limit in its way.
    fn limit(&mut self, now: Now, source: &Source, plan: &Plan) -> Result<Option<Channel>, EndCause> {
        if matches!(plan, Plan::Refused { .. }) {
            // What goes nowhere counts against the calls of a second as well (see `TrunkLimits::count_incoming`).
            let Source::Trunk(trunk) = source else { return Ok(None) };
            return self.trunks.count_incoming(now, &trunk.name).map(|()| None).map_err(end_cause);
        }
        if self.gateway_is_full() {
            if self.media_busy {
                self.core.event(Event::RefusedForMedia);
            }
            return Err(EndCause::GatewayCongested);
        }
        match source {
            Source::User(user) => {
                let most = user.max_calls.unwrap_or(self.core.settings.limits.max_calls_per_user) as usize;
                if self.live_calls_of(&user.name) >= most { Err(EndCause::UserLimit) } else { Ok(None) }
            }
            Source::Trunk(trunk) => self.trunks.take_incoming(now, &trunk.name).map(Some).map_err(end_cause),
        }
    }

    /// True where no call more is taken, whoever makes it: one more would be heard in all the others, or is more than the
    /// configuration lets in.
    fn gateway_is_full(&self) -> bool {
        let most = self.core.settings.limits.max_calls;
        self.media_busy || most.is_some_and(|most| self.live_calls() >= most as usize)
    }

    /// Where a user can be rung: all of its devices, but for the one with which it calls itself.
    fn devices(&self, name: &str, caller: Option<&Peer>) -> Vec<Device> {
        let user: Arc<str> = name.into();
        self.registrar
            .reachable(name)
            .filter(|binding| caller.is_none_or(|caller| binding.peer.remote != caller.remote))
            .map(|binding| Device {
                user: user.clone(),
                contact: binding.contact.clone(),
                peer: binding.peer.clone(),
            })
            .collect()
    }

    fn caller_leg(
        &mut self,
        call: CallId,
        admitted: &Admitted,
        key: ServerKey,
        peer: Peer,
        request: Request,
    ) -> Leg {
        let policy = match &admitted.caller {
            Party::Trunk(trunk) => MediaPolicy::trunk(trunk, &peer, &self.core.settings),
            Party::User { .. } => MediaPolicy::user(&peer, &self.core.settings),
        };
        let id = LegId { call, index: 0 };
        let local_tag = self.core.tag();
        let call_id = request.call_id().unwrap_or_default().to_owned();
        self.core.remember_invite(key, id);
        self.core.remember_dialog(&call_id, &local_tag, id);
        let reliable = admitted.caller.wants_reliable(&request);
        let reliable = reliable
            .then(|| Box::new(ReliableProgress::new(&request, u32::from_be_bytes(self.core.octets()))));
        let state = LegState::Incoming { server: key, request: Box::new(request) };
        let (party, media) = (admitted.caller.clone(), LegMedia::new(policy));
        let leg = Leg { reliable, ..Leg::new(id, party, peer, state, (call_id, local_tag), media) };
        self.core.event(leg.known());
        leg
    }
}

impl Admitted {
    /// Nobody is called: the caller goes on with whom its user, or its trunk, talks to already.
    fn take_over(&mut self, remaining: LegId) {
        self.direction = match self.caller {
            Party::User { .. } => Direction::AppToApp,
            Party::Trunk(_) => Direction::TrunkToApp,
        };
        self.callee_user = None;
        self.transfer_of = Some(remaining.call);
        self.beside = Some(remaining.call);
    }
}

/// True if the answer to an INVITE may hold a session description: Accept names the type, or is not there
/// (RFC 3261 §20.1). One that names nothing at all was not meant so.
fn takes_sessions(request: &Request) -> bool {
    let mut types = request.headers.list(&HeaderName::Accept).peekable();
    let fits = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        ["application/sdp", "application/*", "*/*"].iter().any(|fit| range.eq_ignore_ascii_case(fit))
    };
    types.peek().is_none() || types.any(fits)
}

/// What is wrong with a request whoever sends it.
#[derive(Debug, Clone, Copy)]
pub(super) enum FormFault {
    TooManyHops,
    UnknownScheme,
    UnknownExtension,
    Malformed,
}

impl FormFault {
    /// Of an INVITE.
    fn of(request: &Request) -> Option<FormFault> {
        if request.max_forwards() == Some(0) {
            Some(FormFault::TooManyHops)
        } else if let Some(fault) = FormFault::of_head(request) {
            Some(fault)
        } else if Dialog::uas(request, "").is_err() {
            // RFC 3261 §8.1.1.8: without a Contact nobody could be hung up on.
            Some(FormFault::Malformed)
        } else {
            None
        }
    }

    /// Of any request that is for us alone (RFC 3261 §8.2.2).
    pub(super) fn of_head(request: &Request) -> Option<FormFault> {
        match &request.uri.scheme {
            // RFC 5031: who calls for help may name the service alone.
            Scheme::Other(_)
                if request.method != Method::Invite || service(&request.uri.called()).is_none() =>
            {
                Some(FormFault::UnknownScheme)
            }
            Scheme::Sip | Scheme::Sips | Scheme::Tel | Scheme::Other(_) => {
                unsupported(request).is_some().then_some(FormFault::UnknownExtension)
            }
        }
    }

    fn refusal(self) -> Refusal {
        Refusal { cause: self.cause(), status: self.status(), warning: None }
    }

    fn cause(self) -> EndCause {
        match self {
            FormFault::TooManyHops => EndCause::TooManyHops,
            FormFault::UnknownExtension => EndCause::UnknownExtension,
            FormFault::UnknownScheme | FormFault::Malformed => EndCause::Malformed,
        }
    }

    /// Where it is not the cause's own.
    fn status(self) -> Option<u16> {
        match self {
            FormFault::UnknownScheme => Some(416),
            FormFault::TooManyHops | FormFault::UnknownExtension | FormFault::Malformed => None,
        }
    }

    /// As what it is counted where nobody is proven.
    fn counted(self) -> RefusedFor {
        match self {
            FormFault::TooManyHops => RefusedFor::Loop,
            FormFault::UnknownScheme | FormFault::UnknownExtension => RefusedFor::Unsupported,
            FormFault::Malformed => RefusedFor::Malformed,
        }
    }
}

fn end_cause(refusal: trunks::Refusal) -> EndCause {
    match refusal {
        trunks::Refusal::Unavailable => EndCause::TrunkUnavailable,
        trunks::Refusal::Congested => EndCause::TrunkCongested,
    }
}

/// An operator that calls our registered Contact says elsewhere whom it calls: that becomes the Request-URI, which is
/// what everything here reads. True where it says so.
fn name_called(trunk: &Trunk, invite: &mut Request) -> bool {
    let named = match trunk.config.called_from {
        CalledFrom::Uri => None,
        CalledFrom::To => invite.to().ok(),
        // RFC 7315 §4.2: there is one. Which of several was called nobody can tell.
        CalledFrom::CalledParty => invite
            .addresses(&HeaderName::PCalledPartyId)
            .ok()
            .filter(|all| all.len() == 1)
            .and_then(|mut all| all.pop()),
    };
    let is_called = |uri: &Uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips | Scheme::Tel);
    let named = named.filter(|named| is_called(&named.uri));
    let named = named.filter(|named| !named.uri.user().is_empty());
    named.map(|named| invite.uri = named.uri).is_some()
}

/// The header rules of the trunk that an INVITE comes from act on it before anything reads it.
fn rules_of(party: &Party, invite: &mut Request) -> Option<Box<LegRules>> {
    let (rules, trunk) = (party.header_rules()?, party.trunk_name()?);
    let called = invite.uri.subscriber();
    let calling = invite.from().map_or_else(|_| String::new(), |from| from.uri.subscriber());
    let facts =
        Facts { called: Some(&called), calling: Some(&calling), trunk: Some(&trunk), ..Facts::default() };
    let said = rules.apply(Side::From, Kind::Request(&Method::Invite), &mut invite.headers, &facts, None);
    Some(Box::new(LegRules { called, calling, said, ..LegRules::default() }))
}
