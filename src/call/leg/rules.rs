//! Header rules on a leg: what its trunk's table works with, and what one leg's message brings to the other one's.

use super::{Leg, Party};
use crate::call::settings::Trunk;
use crate::sip::header_rules::{Action, Carried, Facts, HeaderRules, Kind, Side};
use crate::sip::message::{HeaderName, Headers, Method};
use std::sync::Arc;

/// What rules on a leg know. A leg that no rule concerns has none.
#[derive(Debug, Default)]
pub struct LegRules {
    pub called: String,
    pub calling: String,
    pub user: Option<Arc<str>>,
    pub account: Option<String>,
    /// What the other leg's INVITE, or BYE, or response said that this leg has to tell of.
    pub heard: Option<Heard>,
    /// What the trunk's own rules send across with the INVITE that came from it.
    pub said: Carried,
}

/// A message of the other leg.
#[derive(Debug)]
pub struct Heard {
    told: Told,
    /// Its fields, where a rule of this leg's trunk takes some.
    headers: Headers,
    /// What the rules of its own trunk send along.
    carried: Carried,
}

/// Messages of the two legs that tell of the same.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Invite,
    Bye,
    Progress,
    Answer,
    Failure,
}

impl Told {
    fn of(kind: Kind<'_>) -> Option<Told> {
        match kind {
            Kind::Request(Method::Invite) => Some(Told::Invite),
            Kind::Request(Method::Bye) => Some(Told::Bye),
            // Other requests end at the gateway.
            Kind::Request(_) | Kind::Response(..=100) => None,
            Kind::Response(101..=199) => Some(Told::Progress),
            Kind::Response(200..=299) => Some(Told::Answer),
            Kind::Response(300..) => Some(Told::Failure),
        }
    }
}

impl LegRules {
    /// The caller's INVITE is what this leg's INVITE tells of.
    pub fn with_invite(
        mut self,
        own: Option<&HeaderRules>,
        invite: Option<&Headers>,
        carried: Carried,
    ) -> LegRules {
        let headers =
            invite.filter(|_| own.is_some_and(|rules| rules.copies(Side::To))).cloned().unwrap_or_default();
        self.heard = Some(Heard { told: Told::Invite, headers, carried });
        self
    }
}

impl Party {
    /// The table of a trunk that has one.
    pub fn header_rules(&self) -> Option<&HeaderRules> {
        match self {
            Party::Trunk(trunk) => Some(&trunk.config.header_rules).filter(|rules| !rules.is_empty()),
            Party::User { .. } => None,
        }
    }
}

impl Leg {
    /// Applies the rules to a message that came from the far end, before anything reads it. Gives what goes to the
    /// other leg.
    pub fn read_by_rules(&self, kind: Kind<'_>, headers: &mut Headers) -> Carried {
        let (Some(rules), Some(known)) = (self.party.header_rules(), &self.rules) else {
            return Carried::new();
        };
        let name = self.party.trunk_name();
        let facts = Facts {
            called: Some(&known.called),
            calling: Some(&known.calling),
            trunk: name.as_deref(),
            ..Facts::default()
        };
        rules.apply(Side::From, kind, headers, &facts, None)
    }

    /// Notes what the other leg said, where the message of this leg that tells of it takes something along.
    pub fn hear(&mut self, kind: Kind<'_>, headers: &Headers, carried: Carried) {
        let takes = self.party.header_rules().is_some_and(|rules| rules.copies(Side::To));
        if !takes && carried.is_empty() {
            return;
        }
        let Some(told) = Told::of(kind) else { return };
        let headers = if takes { headers.clone() } else { Headers::new() };
        self.rules.get_or_insert_default().heard = Some(Heard { told, headers, carried });
    }

    /// Applies the rules to a message of ours, as the last thing before it leaves.
    pub fn dress(&self, kind: Kind<'_>, headers: &mut Headers) {
        let Some(known) = &self.rules else { return };
        let heard = known.heard.as_ref().filter(|heard| Told::of(kind).as_ref() == Some(&heard.told));
        for (name, value) in heard.iter().flat_map(|heard| &heard.carried) {
            headers.push(name.clone(), value.clone());
        }
        let Some(rules) = self.party.header_rules() else { return };
        let (name, call) = (self.party.trunk_name(), self.id.call.to_string());
        let facts = Facts {
            called: Some(&known.called),
            calling: Some(&known.calling),
            user: known.user.as_deref(),
            account: known.account.as_deref(),
            trunk: name.as_deref(),
            call_id: Some(&call),
        };
        rules.apply(Side::To, kind, headers, &facts, heard.map(|heard| &heard.headers));
    }

    /// What the other leg said was told: a later message of the same kind is about something else.
    pub fn forget_heard(&mut self) {
        if let Some(known) = self.rules.as_mut() {
            known.heard = None;
        }
    }
}

/// The rules on what the gateway says to a trunk outside calls (OPTIONS, REGISTER).
pub fn dress_upkeep(trunk: &Trunk, method: &Method, headers: &mut Headers) {
    let rules = &trunk.config.header_rules;
    if !rules.is_empty() {
        let facts = Facts { trunk: Some(&trunk.name), ..Facts::default() };
        rules.apply(Side::To, Kind::Request(method), headers, &facts, None);
    }
}

/// What rules make of the INVITE of a call that is only thought of; values that the caller would bring are named by
/// where they would come from. `from` is the trunk the call comes from.
pub fn foresee(to: &Trunk, from: Option<&Trunk>, facts: &Facts<'_>, headers: &mut Headers) {
    let invite = Kind::Request(&Method::Invite);
    let stand_in = |rules: &HeaderRules, side: Side| {
        let mut other = Headers::new();
        for rule in rules.0.iter().filter(|rule| rule.side == side) {
            if let Action::Copy { from } = &rule.action {
                other.set(from.clone(), format!("(the caller's {from})"));
            }
        }
        other
    };
    if let Some(from) = from {
        let rules = &from.config.header_rules;
        let facts = Facts {
            trunk: Some(&from.name),
            called: facts.called,
            calling: facts.calling,
            ..Facts::default()
        };
        let carried = rules.apply(Side::From, invite, &mut stand_in(rules, Side::From), &facts, None);
        for (name, value) in carried {
            headers.push(name, value);
        }
    }
    let rules = &to.config.header_rules;
    rules.apply(Side::To, invite, headers, facts, Some(&stand_in(rules, Side::To)));
}

/// The name and value pairs of headers, for views.
pub fn fields(headers: &Headers) -> Vec<(String, String)> {
    headers.iter().map(|(name, value): (&HeaderName, &str)| (name.to_string(), value.to_owned())).collect()
}
