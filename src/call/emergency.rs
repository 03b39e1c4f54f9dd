//! Calls for help beyond the single call: what does not hold them, what they carry, and who may call back.

use super::admission::Source;
use super::exchange::Exchange;
use super::location::Location;
use super::machine::{Call, Plan};
use crate::call::settings::Trunk;
use crate::routing::{RouteDecision, RouteOutcome, RouteRequest, TrunkIndex};
use crate::sip::message::{HeaderName, Method, Request};
use crate::types::{CallId, E164, Emergency, Now, Peer};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// RFC 7090 §4: what those who answer emergency calls say when they call back.
pub const CALLS_BACK: &str = "psap-callback";

/// Who may be called back, from where and until when.
#[derive(Debug, Default)]
pub struct Callbacks {
    of: HashMap<Arc<str>, Callback>,
}

#[derive(Debug)]
struct Callback {
    trunks: Vec<Arc<str>>,
    /// Its calls for help that are not over.
    calls: Vec<CallId>,
    until: Instant,
}

impl Callbacks {
    /// A user asks for help over these trunks.
    fn begin(&mut self, now: Instant, user: Arc<str>, call: CallId, trunks: Vec<Arc<str>>, until: Instant) {
        self.of.retain(|_, callback| callback.until > now);
        let fresh = || Callback { trunks: Vec::new(), calls: Vec::new(), until };
        let callback = self.of.entry(user).or_insert_with(fresh);
        callback.calls.push(call);
        for trunk in trunks {
            if !callback.trunks.contains(&trunk) {
                callback.trunks.push(trunk);
            }
        }
        callback.until = callback.until.max(until);
    }

    /// A call is over: with the last one of its user the time counts from now.
    fn end(&mut self, user: &str, call: CallId, until: Instant) {
        if let Some(callback) = self.of.get_mut(user) {
            callback.calls.retain(|of_user| *of_user != call);
            if callback.calls.is_empty() {
                callback.until = until;
            }
        }
    }

    fn expects(&self, now: Instant, user: &str, trunk: &str) -> bool {
        self.of.get(user).is_some_and(|callback| callback.is_expected(now, trunk))
    }

    /// The same for any user.
    fn expects_somebody(&self, now: Instant, trunk: &str) -> bool {
        self.of.values().any(|callback| callback.is_expected(now, trunk))
    }
}

impl Callback {
    fn is_expected(&self, now: Instant, trunk: &str) -> bool {
        self.until > now && self.trunks.iter().any(|name| **name == *trunk)
    }
}

fn says_it_calls_back(trunk: &Trunk, request: &Request) -> bool {
    let says = request.headers.get(&HeaderName::Priority);
    trunk.config.trusted && says.is_some_and(|priority| priority.eq_ignore_ascii_case(CALLS_BACK))
}

impl Exchange {
    /// True for a call for help from where one of our users' devices is registered: neither a flood nor somebody's wrong
    /// passwords at that address keep it out.
    pub(super) fn is_call_for_help(&self, peer: &Peer, request: &Request) -> bool {
        request.method == Method::Invite
            && self.registrar.serves_address(peer.remote.ip())
            && self.dialplan.is_emergency_number(&request.uri.called())
    }

    /// Whether a call from a trunk to a user is the answer to a call for help.
    /// That it says so itself counts from a trusted trunk only: a caller may have written it (RFC 7090 §5).
    fn calls_back(&self, now: Now, trunk: &Trunk, index: TrunkIndex, user: &str, request: &Request) -> bool {
        (says_it_calls_back(trunk, request) && self.dialplan.carries_emergency_calls(index))
            || self.callbacks.expects(now.instant, user, &trunk.name)
    }

    /// Whether that can't be excluded without looking up whom it is for.
    pub(super) fn may_call_back(&self, now: Now, trunk: &Trunk, request: &Request) -> bool {
        says_it_calls_back(trunk, request) || self.callbacks.expects_somebody(now.instant, &trunk.name)
    }

    /// What a routed call has to do with an emergency. A call back is not held against the numbers its trunk may call
    /// with, so its decision may change.
    pub(super) fn emergency_of(
        &self,
        now: Now,
        source: &Source,
        index: TrunkIndex,
        request: &Request,
        wanted: &RouteRequest<'_>,
        decision: RouteDecision,
    ) -> (RouteDecision, Option<Emergency>) {
        if decision.emergency {
            return (decision, Some(Emergency::Call));
        }
        let Source::Trunk(trunk) = source else { return (decision, None) };
        if !self.dialplan.carries_emergency_calls(index) {
            return (decision, None);
        }
        let is_back = |decision: &RouteDecision| match &decision.outcome {
            RouteOutcome::User { name } => self.calls_back(now, trunk, index, name, request),
            RouteOutcome::Trunks(_) | RouteOutcome::Line(_) | RouteOutcome::Reject { .. } => false,
        };
        if is_back(&decision) {
            return (decision, Some(Emergency::Callback));
        }
        let settings = self.core.settings.clone();
        let cost = |trunk: TrunkIndex, number: &E164| settings.buy_price(trunk, number);
        match &decision.outcome {
            RouteOutcome::Reject { .. } => {}
            RouteOutcome::Trunks(_) | RouteOutcome::Line(_) | RouteOutcome::User { .. } => {
                return (decision, None);
            }
        }
        let unscreened = self.dialplan.route_unscreened(wanted, &*self.directory, &cost);
        if is_back(&unscreened) { (unscreened, Some(Emergency::Callback)) } else { (decision, None) }
    }

    /// Where the caller of an emergency call is: what its device says, else what is written down for the user.
    pub(super) fn location_of(&self, now: Now, source: &Source, request: &Request) -> Option<Location> {
        match source {
            Source::User(user) => Location::of(request).or_else(|| {
                let entity = format!("pres:{}@{}", user.name, self.core.settings.sip.realm);
                Location::of_place(&user.place, &entity, now.unix_ms)
            }),
            Source::Trunk(trunk) if trunk.config.trusted => Location::of(request),
            Source::Trunk(_) => None,
        }
    }

    /// Remembers who may call the user back.
    pub(super) fn expect_callback(&mut self, now: Now, call: CallId, source: &Source, plan: &Plan) {
        let limits = &self.core.settings.limits;
        let (Source::User(user), Plan::Trunks(candidates)) = (source, plan) else { return };
        if limits.emergency_callback.is_zero() {
            return;
        }
        let trunks = candidates.iter().map(|candidate| candidate.trunk.name.clone()).collect();
        let until = now.instant + limits.max_duration + limits.ring + limits.emergency_callback;
        self.callbacks.begin(now.instant, user.name.clone(), call, trunks, until);
    }

    /// A call for help is over.
    pub(super) fn emergency_ended(callbacks: &mut Callbacks, call: &Call, time: std::time::Duration) {
        if let (Some(Emergency::Call), Some(user), Some(released)) =
            (call.emergency, call.caller.party.user_name(), call.released_at())
        {
            callbacks.end(&user, call.id, released.instant + time);
        }
    }
}
