//! What a dialplan is made of: rules in order, the first that matches decides.

use super::{EmergencyFormat, NumberFormat, NumberPlan, Schedule, Screening, TrunkIndex, emergency};
use crate::types::{TestLine, TimeZone};
use regex_lite::Regex;
use std::borrow::Cow;

/// A dialplan, compiled against the configured trunks.
#[derive(Debug, Clone)]
pub struct Dialplan {
    pub numbers: NumberPlan,
    /// In which `days` and `hours` of the rules are meant.
    pub zone: TimeZone,
    /// By [`TrunkIndex`].
    pub trunks: Vec<TrunkForm>,
    pub rules: Vec<Rule>,
}

/// What the dialplan must know of a trunk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TrunkForm {
    pub name: String,
    pub called_format: NumberFormat,
    pub calling_format: NumberFormat,
    /// What its own callers may call with.
    pub screening: Screening,
    /// It is another app's voice network: its calls may never reach a phone network, nor come from one.
    pub app_side: bool,
    /// How it wants the called party of emergency calls.
    pub emergency_format: EmergencyFormat,
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub name: String,
    /// Its calls are for help: they come before all other rules and no limit stands in their way.
    pub emergency: bool,
    pub from: RuleFrom,
    pub numbers: Vec<NumberMatch>,
    /// Begins of routing numbers, each with its `+` (RFC 4694); empty: whatever it is.
    pub routing_numbers: Vec<String>,
    /// Empty: every caller.
    pub callers: Vec<CallerMatch>,
    pub schedule: Schedule,
    pub called: Option<Rewrite>,
    pub calling: Option<Rewrite>,
    pub action: RuleAction,
}

/// Whose calls a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleFrom {
    Users,
    Trunk(TrunkIndex),
    AnyTrunk,
    /// Users and trunks.
    Any,
}

/// Which called numbers a rule is for.
#[derive(Debug, Clone)]
pub enum NumberMatch {
    /// Begin of an international number, with its `+`.
    Prefix(String),
    /// A short code, whole.
    Short(String),
    Pattern(Regex),
    /// An emergency service and its kinds, by URN.
    Service(String),
}

/// Which callers a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerMatch {
    User(String),
    /// Begin of the calling number, with its `+`.
    Prefix(String),
}

/// A change of a number.
#[derive(Debug, Clone)]
pub enum Rewrite {
    /// This number instead, whatever it was.
    Fixed(String),
    /// What the pattern matches is replaced; `$1` is its first group.
    Replace { pattern: Regex, with: String },
}

#[derive(Debug, Clone, PartialEq)]
pub enum RuleAction {
    /// The call is refused with this SIP status.
    Reject(u16),
    /// The app user who has the number.
    Users,
    /// A test line inside the gateway.
    Line(TestLine),
    Trunks {
        trunks: Vec<WeightedTrunk>,
        order: TrunkOrder,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightedTrunk {
    pub trunk: TrunkIndex,
    /// Share of the calls where the order is weighted.
    pub weight: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrunkOrder {
    Listed,
    /// At random, each first as often as its weight says.
    Weighted,
    /// The cheapest first; those without a price last.
    LeastCost,
}

impl Rule {
    /// Whether calls of the trunk come here. To another trunk they go only where the rule names the one they come
    /// from: whoever can reach us through one operator must not call at our expense through another.
    pub fn is_for_trunk(&self, trunk: TrunkIndex) -> bool {
        match (self.from, &self.action) {
            (RuleFrom::Users, _) => false,
            (RuleFrom::Trunk(named), _) => named == trunk,
            (RuleFrom::AnyTrunk | RuleFrom::Any, RuleAction::Trunks { .. }) => false,
            (
                RuleFrom::AnyTrunk | RuleFrom::Any,
                RuleAction::Users | RuleAction::Line(_) | RuleAction::Reject(_),
            ) => true,
        }
    }

    pub fn is_for_users(&self) -> bool {
        match self.from {
            RuleFrom::Users | RuleFrom::Any => true,
            RuleFrom::Trunk(_) | RuleFrom::AnyTrunk => false,
        }
    }
}

impl NumberMatch {
    /// `text` is an international number with its `+`, or a short code.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            NumberMatch::Prefix(prefix) => text.starts_with(prefix.as_str()),
            NumberMatch::Short(code) => text == code,
            NumberMatch::Pattern(pattern) => pattern.is_match(text),
            NumberMatch::Service(service) => emergency::is_kind_of(text, service),
        }
    }
}

impl Rewrite {
    pub fn apply<'n>(&self, number: &'n str) -> Cow<'n, str> {
        match self {
            Rewrite::Fixed(fixed) => Cow::Owned(fixed.clone()),
            Rewrite::Replace { pattern, with } => pattern.replace(number, with.as_str()),
        }
    }
}

impl Dialplan {
    /// Whether calls of a trunk may go on to another one: app networks and phone networks do not meet here.
    pub fn may_meet(&self, one: TrunkIndex, other: TrunkIndex) -> bool {
        let app_side = |trunk| self.trunk(trunk).is_some_and(|form| form.app_side);
        app_side(one) == app_side(other)
    }

    /// A dialplan without rules: users reach each other and nobody else.
    pub fn empty(trunks: Vec<TrunkForm>) -> Dialplan {
        Dialplan { numbers: NumberPlan::default(), zone: TimeZone::UTC, trunks, rules: Vec::new() }
    }

    pub fn trunk_index(&self, name: &str) -> Option<TrunkIndex> {
        self.trunks.iter().position(|trunk| trunk.name == name).map(|index| TrunkIndex(index as u16))
    }

    pub fn trunk(&self, index: TrunkIndex) -> Option<&TrunkForm> {
        self.trunks.get(usize::from(index.0))
    }

    pub fn trunk_name(&self, index: TrunkIndex) -> &str {
        self.trunk(index).map_or("?", |trunk| &trunk.name)
    }
}
