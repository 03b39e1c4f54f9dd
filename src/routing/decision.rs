//! Decides where a call goes, and says why.

use super::{
    CallerMatch, Dialled, Dialplan, EmergencyFormat, NotItsNumber, NumberFormat, Rule, RuleAction,
    TrunkIndex, TrunkOrder,
    emergency::{self, Emergency},
    numbers::routing_number,
    order::ordered,
};
use crate::types::{Direction, E164, EndCause, TestLine, UnixMillis};

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// An authenticated app user. It may present its `caller_ids` only, the first is its default.
    User {
        name: &'a str,
        caller_ids: &'a [E164],
    },
    Trunk(TrunkIndex),
}

#[derive(Debug, Clone, Copy)]
pub struct RouteRequest<'a> {
    pub caller: Caller<'a>,
    /// User part of the Request-URI, a `tel:` number, or the URN of an emergency service.
    pub called: &'a str,
    /// User part of From: the number the caller wants to be shown.
    pub calling: Option<&'a str>,
    /// The number its network vouches for, only where its word counts; the one a user would like to be vouched for.
    pub asserted: Option<&'a str>,
    pub unix_ms: UnixMillis,
    /// Randomness of this call, for weighted orders.
    pub draw: u64,
}

/// What routing must know of the app users.
pub trait Subscribers {
    fn is_user(&self, name: &str) -> bool;
    /// The user that a DID rings.
    fn user_of_did(&self, did: &E164) -> Option<String>;
}

/// What a trunk costs for a called number, in any unit; `None` where it has no price.
pub type CostOf<'a> = &'a dyn Fn(TrunkIndex, &E164) -> Option<i64>;

#[derive(Debug, Clone, PartialEq)]
pub struct RouteDecision {
    /// The called number, after the rule's rewrite; `None` for names, short codes and what is no number.
    pub number: Option<E164>,
    /// The number the caller may present, after the rule's rewrite.
    pub calling: Option<E164>,
    /// The caller's own number, which may be another than the one it presents.
    pub network: Option<E164>,
    pub rule: Option<String>,
    /// The call is for help.
    pub emergency: bool,
    pub outcome: RouteOutcome,
    /// Each step in words. They hold whole numbers: for `tandem route`, never for logs.
    pub explain: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RouteOutcome {
    Reject {
        status: u16,
        cause: EndCause,
        text: String,
    },
    /// To be tried in this order; never empty.
    Trunks(Vec<TrunkCandidate>),
    /// An app user, by name or by DID.
    User {
        name: String,
    },
    /// A test line inside the gateway.
    Line(TestLine),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkCandidate {
    pub trunk: TrunkIndex,
    /// In the trunk's format: a number, or the URN of an emergency service.
    pub called: String,
    /// In the trunk's format; `None`: the caller has no number to present.
    pub calling: Option<String>,
    /// The caller's own number in the trunk's format.
    pub network: Option<String>,
    /// As the cost function gave it, where the order asked for it.
    pub cost: Option<i64>,
}

impl RouteDecision {
    /// `None` where the call goes nowhere.
    pub fn direction(&self, caller: Caller<'_>) -> Option<Direction> {
        match (&self.outcome, caller) {
            (RouteOutcome::Reject { .. }, _) => None,
            (RouteOutcome::Trunks(_), Caller::User { .. }) => Some(Direction::AppToTrunk),
            (RouteOutcome::Trunks(_), Caller::Trunk(_)) => Some(Direction::TrunkToTrunk),
            // A test line stands where an app user would.
            (RouteOutcome::User { .. } | RouteOutcome::Line(_), Caller::User { .. }) => {
                Some(Direction::AppToApp)
            }
            (RouteOutcome::User { .. } | RouteOutcome::Line(_), Caller::Trunk(_)) => {
                Some(Direction::TrunkToApp)
            }
        }
    }
}

impl Dialplan {
    /// Decides where a call goes. The explanation stays empty: see [`explain`](Self::explain).
    pub fn route(
        &self,
        request: &RouteRequest<'_>,
        users: &dyn Subscribers,
        cost: CostOf<'_>,
    ) -> RouteDecision {
        Routing { plan: self, request, users, cost, trace: None, network: None, screened: true }.decide()
    }

    /// As [`route`](Self::route), but the trunk that calls may call with any number.
    pub fn route_unscreened(
        &self,
        request: &RouteRequest<'_>,
        users: &dyn Subscribers,
        cost: CostOf<'_>,
    ) -> RouteDecision {
        Routing { plan: self, request, users, cost, trace: None, network: None, screened: false }.decide()
    }

    /// As [`route`](Self::route), saying each step.
    pub fn explain(
        &self,
        request: &RouteRequest<'_>,
        users: &dyn Subscribers,
        cost: CostOf<'_>,
    ) -> RouteDecision {
        let trace = Some(Vec::new());
        Routing { plan: self, request, users, cost, trace, network: None, screened: true }.decide()
    }
}

struct Routing<'a> {
    plan: &'a Dialplan,
    request: &'a RouteRequest<'a>,
    users: &'a dyn Subscribers,
    cost: CostOf<'a>,
    trace: Option<Vec<String>>,
    /// The caller's own number, once it is known.
    network: Option<E164>,
    /// Trunks are held to the numbers they may call with.
    screened: bool,
}

/// A decision before its explanation is added.
struct Decided {
    number: Option<E164>,
    calling: Option<E164>,
    rule: Option<String>,
    outcome: RouteOutcome,
}

impl Decided {
    fn nowhere(outcome: RouteOutcome) -> Decided {
        Decided { number: None, calling: None, rule: None, outcome }
    }
}

impl<'a> Routing<'a> {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn decide(mut self) -> RouteDecision {
        let urgent = self.emergency();
        let emergency = urgent.is_some();
        let decided = urgent.unwrap_or_else(|| self.decided());
        let Decided { number, calling, rule, outcome } = decided;
        RouteDecision {
            number,
            calling,
            network: self.network,
            rule,
            emergency,
            outcome,
            explain: self.trace.unwrap_or_default(),
        }
    }

    /// A call for help. Its rules come first, wherever they stand: no user's name, no DID and no ban hides them, and the
    /// number that calls is told as it is. A service that no rule names goes where the first of them goes.
    fn emergency(&mut self) -> Option<Decided> {
        let plan = self.plan;
        let mut rules = plan.rules.iter().filter(|rule| rule.emergency).peekable();
        rules.peek()?;
        let called = self.request.called.trim();
        let dialled = match emergency::service(called) {
            Some(service) => Dialled::Service(service),
            None => {
                let format = self.incoming_format();
                let bare = plan.numbers.normalise_as(emergency::without_context(called), format).ok();
                match bare.filter(|bare| matches!(bare, Dialled::Short(_))) {
                    Some(code) => code,
                    None => plan.numbers.normalise_as(called, format).ok()?,
                }
            }
        };
        let any_service = matches!(dialled, Dialled::Service(_));
        let known =
            rules.clone().any(|rule| rule.numbers.iter().any(|number| number.matches(dialled.text())));
        if !known && !any_service {
            return None;
        }
        let calling = self.calling(false).ok()?;
        let rule =
            rules.clone().find(|rule| self.applies(rule, &dialled, calling.as_ref())).or_else(|| {
                rules.filter(|_| any_service).find(|rule| self.is_for_caller(rule, calling.as_ref()))
            })?;
        self.note(|| format!("\"{called}\" is an emergency call: no limit holds it"));
        Some(self.follow(rule, dialled, calling))
    }

    fn decided(&mut self) -> Decided {
        let called = self.request.called.trim();
        let bare = called.split(';').next().unwrap_or_default();
        let bare = bare.strip_prefix("tel:").unwrap_or(bare);
        let Ok(calling) = self.calling(self.screened) else {
            let why = "the trunk may not call with this number";
            return Decided::nowhere(RouteOutcome::Reject {
                status: 403,
                cause: EndCause::Blocked,
                text: why.into(),
            });
        };
        let is_user_call = match self.request.caller {
            Caller::User { .. } => true,
            Caller::Trunk(_) => false,
        };
        if is_user_call && self.users.is_user(bare) {
            self.note(|| format!("{called} is an app user: the call stays inside"));
            let outcome = RouteOutcome::User { name: bare.to_owned() };
            return Decided { number: None, calling, rule: None, outcome };
        }
        if is_user_call && bare.chars().any(|letter| letter.is_ascii_alphabetic()) {
            self.note(|| format!("there is no app user {called}"));
            let outcome = reject(EndCause::NumberNotFound, "there is no user of this name".into());
            return Decided { number: None, calling, rule: None, outcome };
        }
        let dialled = match self.plan.numbers.normalise_as(called, self.incoming_format()) {
            Ok(dialled) => dialled,
            Err(error) => {
                self.note(|| format!("\"{called}\" is no number: {error}"));
                let outcome = reject(EndCause::InvalidNumber, error.to_string());
                return Decided { number: None, calling, rule: None, outcome };
            }
        };
        self.note(|| match &dialled {
            Dialled::International(number) => format!("\"{called}\" is the number {number}"),
            Dialled::Short(code) => format!("\"{called}\" is the short code {code}"),
            Dialled::Service(service) => format!("\"{called}\" is the service {service}"),
        });
        if let Some(routing_number) = self.routing_number() {
            self.note(|| format!("its routing number is {routing_number}"));
        }
        let owner = dialled.e164().and_then(|did| self.users.user_of_did(did));
        if let Some(name) = owner.filter(|_| is_user_call) {
            self.note(|| format!("it is a DID of app user {name}: the call stays inside"));
            let outcome = RouteOutcome::User { name };
            return Decided { number: dialled.e164().cloned(), calling, rule: None, outcome };
        }
        let plan = self.plan;
        match plan.rules.iter().find(|rule| self.applies(rule, &dialled, calling.as_ref())) {
            Some(rule) => self.follow(rule, dialled, calling),
            None => {
                self.note(|| "no rule matches".to_owned());
                let outcome = reject(EndCause::NoRoute, "no rule matches".into());
                Decided { number: dialled.e164().cloned(), calling, rule: None, outcome }
            }
        }
    }

    /// How the calling trunk writes called numbers.
    fn incoming_format(&self) -> Option<NumberFormat> {
        match self.request.caller {
            Caller::User { .. } => None,
            Caller::Trunk(index) => self.plan.trunk(index).map(|trunk| trunk.called_format),
        }
    }

    /// The number the caller may present. A user's own choice counts only among its `caller_ids`; a trunk's is held
    /// against its policy where it is `screened`.
    fn calling(&mut self, screened: bool) -> Result<Option<E164>, NotItsNumber> {
        let numbers = &self.plan.numbers;
        let read = |text: &str, format| {
            numbers.normalise_as(text, format).ok().and_then(|read| read.e164().cloned())
        };
        match self.request.caller {
            Caller::User { name, caller_ids } => {
                let wanted = self.request.calling.and_then(|text| read(text, None));
                let preferred = self.request.asserted.and_then(|text| read(text, None));
                let preferred = preferred.filter(|number| caller_ids.contains(number));
                if let Some(number) = &preferred {
                    self.note(|| format!("{name} wants to be known by {number}, one of its caller_ids"));
                }
                self.network = preferred.clone().or_else(|| caller_ids.first().cloned());
                if let Some(wanted) = wanted {
                    if caller_ids.contains(&wanted) {
                        self.note(|| format!("{name} presents {wanted}, one of its caller_ids"));
                        return Ok(Some(wanted));
                    }
                    self.note(|| format!("{name} may not present {wanted}: it is none of its caller_ids"));
                }
                match preferred.as_ref().or(caller_ids.first()) {
                    Some(preferred) if caller_ids.first() != Some(preferred) => {
                        self.note(|| format!("{name} calls as {preferred}"));
                    }
                    Some(first) => {
                        self.note(|| format!("{name} calls as {first}, the first of its caller_ids"))
                    }
                    None => self.note(|| format!("{name} has no caller_ids: it calls without a number")),
                }
                Ok(self.network.clone())
            }
            Caller::Trunk(index) => {
                let form = self.plan.trunk(index);
                let format = form.map(|trunk| trunk.calling_format);
                let presented = self.request.calling.and_then(|text| read(text, format));
                let asserted = self.request.asserted.and_then(|text| read(text, format));
                let name = self.plan.trunk_name(index);
                match &presented {
                    Some(number) => self.note(|| format!("trunk {name} calls with the number {number}")),
                    None => self.note(|| format!("trunk {name} calls without a number that can be read")),
                }
                let Some(screening) = form.map(|form| &form.screening) else { return Ok(presented) };
                let own = asserted.or_else(|| presented.clone());
                if !screened {
                    self.network = own.clone();
                    return Ok(presented.or(own));
                }
                self.network = screening.screen(own.clone())?;
                if self.network != own {
                    let network = self.network.clone();
                    self.note(|| match network {
                        Some(number) => format!("it may not call with that number: {number} takes its place"),
                        None => "it may not call with that number: it calls without one".to_owned(),
                    });
                }
                // What is shown is one of its numbers too, or else the one that was screened.
                let shown = presented
                    .filter(|number| screening.screen(Some(number.clone())) == Ok(Some(number.clone())));
                Ok(shown.or_else(|| self.network.clone()))
            }
        }
    }

    fn applies(&mut self, rule: &Rule, dialled: &Dialled, calling: Option<&E164>) -> bool {
        let number = rule.numbers.iter().any(|number| number.matches(dialled.text()));
        number && self.is_for_routing_number(rule) && self.is_for_caller(rule, calling)
    }

    /// Where a trunk says the number was ported to. A user's device knows nothing of that and would only choose its price.
    fn routing_number(&self) -> Option<E164> {
        match self.request.caller {
            Caller::User { .. } => None,
            Caller::Trunk(_) => routing_number(self.request.called),
        }
    }

    fn is_for_routing_number(&mut self, rule: &Rule) -> bool {
        if rule.routing_numbers.is_empty() {
            return true;
        }
        let number = self.routing_number();
        let fits = number.is_some_and(|number| {
            rule.routing_numbers.iter().any(|begin| number.as_str().starts_with(begin.as_str()))
        });
        if !fits {
            self.note(|| {
                format!("rule \"{}\" matches the number, but not where it was ported to", rule.name)
            });
        }
        fits
    }

    /// Whether a rule is for this caller at this time, whatever is called.
    fn is_for_caller(&mut self, rule: &Rule, calling: Option<&E164>) -> bool {
        let from = match self.request.caller {
            Caller::User { .. } => rule.is_for_users(),
            Caller::Trunk(index) => rule.is_for_trunk(index),
        };
        if !from {
            return false;
        }
        if !rule.callers.is_empty() && !rule.callers.iter().any(|caller| self.is_caller(caller, calling)) {
            self.note(|| format!("rule \"{}\" matches the number, but not the caller", rule.name));
            return false;
        }
        if !rule.schedule.holds(self.plan.zone.local(self.request.unix_ms)) {
            self.note(|| format!("rule \"{}\" matches the number, but not at this time", rule.name));
            return false;
        }
        true
    }

    fn is_caller(&self, wanted: &CallerMatch, calling: Option<&E164>) -> bool {
        match wanted {
            CallerMatch::User(wanted) => match self.request.caller {
                Caller::User { name, .. } => name == wanted,
                Caller::Trunk(_) => false,
            },
            CallerMatch::Prefix(prefix) => {
                calling.is_some_and(|number| number.as_str().starts_with(prefix.as_str()))
            }
        }
    }

    fn follow(&mut self, rule: &Rule, dialled: Dialled, calling: Option<E164>) -> Decided {
        self.note(|| format!("rule \"{}\" matches", rule.name));
        let emergency = rule.emergency.then(|| rule.emergency(&dialled));
        let called = match &rule.called {
            None => Called::Dialled(dialled),
            Some(rewrite) => {
                let changed = rewrite.apply(dialled.text()).into_owned();
                self.note(|| format!("called number rewritten from {} to {changed}", dialled.text()));
                match changed.parse() {
                    Ok(number) => Called::Dialled(Dialled::International(number)),
                    Err(_) => Called::Raw(changed),
                }
            }
        };
        let (calling, raw_calling) = match &rule.calling {
            None => (calling, None),
            Some(rewrite) => {
                let before = calling.as_ref().map_or("", E164::as_str);
                let changed = rewrite.apply(before).into_owned();
                self.note(|| {
                    format!(
                        "calling number rewritten from {} to {changed}",
                        if before.is_empty() { "none" } else { before }
                    )
                });
                match changed.parse() {
                    Ok(number) => (Some(number), None),
                    Err(_) if changed.is_empty() => (None, None),
                    Err(_) => (None, Some(changed)),
                }
            }
        };
        let number = called.e164().cloned();
        let outcome = match &rule.action {
            RuleAction::Reject(status) => {
                self.note(|| format!("refused with {status}"));
                let text = format!("blocked by rule \"{}\"", rule.name);
                RouteOutcome::Reject { status: *status, cause: EndCause::Blocked, text }
            }
            RuleAction::Line(line) => {
                self.note(|| format!("it is the test line \"{line}\": {}", line.meaning()));
                RouteOutcome::Line(*line)
            }
            RuleAction::Users => match number.as_ref().and_then(|did| self.users.user_of_did(did)) {
                Some(name) => {
                    self.note(|| format!("it is a DID of app user {name}"));
                    RouteOutcome::User { name }
                }
                None => {
                    self.note(|| "no app user has this number".to_owned());
                    reject(EndCause::UnknownNumber, "no app user has this number".into())
                }
            },
            RuleAction::Trunks { trunks, order } => {
                let trunks =
                    ordered(trunks, *order, self.request.draw, |trunk| self.cost(trunk, number.as_ref()));
                let trunks: Vec<TrunkIndex> =
                    trunks.into_iter().filter(|trunk| self.may_meet(*trunk)).collect();
                if trunks.is_empty() && matches!(self.request.caller, Caller::Trunk(_)) {
                    let why = "calls of an app's network may not reach a phone network, nor the other way";
                    self.note(|| why.to_owned());
                    let outcome =
                        RouteOutcome::Reject { status: 403, cause: EndCause::Blocked, text: why.into() };
                    return Decided { number, calling, rule: Some(rule.name.clone()), outcome };
                }
                let candidates: Vec<TrunkCandidate> = trunks
                    .into_iter()
                    .map(|trunk| {
                        let emergency = emergency.as_ref();
                        let calling = (calling.as_ref(), raw_calling.as_deref());
                        self.candidate(trunk, *order, &called, calling, emergency)
                    })
                    .collect();
                self.explain_candidates(&candidates, *order);
                if candidates.is_empty() {
                    reject(EndCause::NoRoute, format!("rule \"{}\" has no trunk", rule.name))
                } else {
                    RouteOutcome::Trunks(candidates)
                }
            }
        };
        Decided { number, calling, rule: Some(rule.name.clone()), outcome }
    }

    fn may_meet(&self, trunk: TrunkIndex) -> bool {
        match self.request.caller {
            Caller::User { .. } => true,
            Caller::Trunk(from) => self.plan.may_meet(from, trunk),
        }
    }

    fn cost(&self, trunk: TrunkIndex, number: Option<&E164>) -> Option<i64> {
        number.and_then(|number| (self.cost)(trunk, number))
    }

    fn candidate(
        &self,
        trunk: TrunkIndex,
        order: TrunkOrder,
        called: &Called,
        (calling, raw_calling): (Option<&E164>, Option<&str>),
        emergency: Option<&Emergency>,
    ) -> TrunkCandidate {
        let form = self.plan.trunk(trunk);
        let called_format = form.map_or(NumberFormat::default(), |form| form.called_format);
        let calling_format = form.map_or(NumberFormat::default(), |form| form.calling_format);
        let urn = emergency.zip(form).and_then(|(emergency, form)| match form.emergency_format {
            EmergencyFormat::Urn => Some(emergency.service.clone()),
            EmergencyFormat::Number => None,
        });
        let cost = match order {
            TrunkOrder::LeastCost => self.cost(trunk, called.e164()),
            TrunkOrder::Listed | TrunkOrder::Weighted => None,
        };
        TrunkCandidate {
            trunk,
            called: urn.unwrap_or_else(|| match called {
                Called::Dialled(Dialled::International(number)) => {
                    self.plan.numbers.format(number, called_format)
                }
                Called::Dialled(Dialled::Service(service)) => emergency
                    .and_then(|emergency| emergency.number.clone())
                    .unwrap_or_else(|| service.clone()),
                Called::Dialled(Dialled::Short(text)) | Called::Raw(text) => text.clone(),
            }),
            network: self.network.as_ref().map(|number| self.plan.numbers.format(number, calling_format)),
            calling: calling
                .map(|number| self.plan.numbers.format(number, calling_format))
                .or_else(|| raw_calling.map(str::to_owned)),
            cost,
        }
    }

    fn explain_candidates(&mut self, candidates: &[TrunkCandidate], order: TrunkOrder) {
        let plan = self.plan;
        for (place, candidate) in candidates.iter().enumerate() {
            self.note(|| {
                let why = match order {
                    TrunkOrder::Listed => "as listed".to_owned(),
                    TrunkOrder::Weighted => "drawn by weight".to_owned(),
                    TrunkOrder::LeastCost => match candidate.cost {
                        Some(_) => "by cost".to_owned(),
                        None => "last, it has no price".to_owned(),
                    },
                };
                let name = plan.trunk_name(candidate.trunk);
                let calling = candidate.calling.as_deref().unwrap_or("no number");
                format!("{}. trunk {name} ({why}): called {}, calling {calling}", place + 1, candidate.called)
            });
        }
    }
}

/// A called number on its way to a trunk.
enum Called {
    Dialled(Dialled),
    /// What a rewrite made that is no E.164 number; it goes out as it is.
    Raw(String),
}

impl Called {
    fn e164(&self) -> Option<&E164> {
        match self {
            Called::Dialled(dialled) => dialled.e164(),
            Called::Raw(_) => None,
        }
    }
}

fn reject(cause: EndCause, text: String) -> RouteOutcome {
    RouteOutcome::Reject { status: cause.sip_code(), cause, text }
}

#[cfg(test)]
mod tests;
