//! Header rules: an ordered table that adds, removes, replaces and copies header fields of messages at a trunk's edge.
//!
//! What a dialog, a transaction or a challenge is made of no rule may touch ([`may_be_ruled`]). Nothing of the other
//! leg passes unless a rule names it, and whatever a value holds, it stays one field without control characters.

mod template;

pub use template::{Facts, Template, Variable};

use super::message::{HeaderName, Headers, Method};
use regex_lite::{Regex, RegexBuilder};
use std::fmt;

/// Rules of one trunk.
pub const MOST_RULES: usize = 32;
/// Octets of one value that is added, matched or carried across; a longer one is left alone.
pub const LONGEST_VALUE: usize = 1_024;
/// Values of one name that a copy takes.
const MOST_COPIES: usize = 10;
/// Octets that all rules together add to one message.
const MOST_ADDED: usize = 8_192;
/// Octets of a compiled pattern.
const LARGEST_PATTERN: usize = 64 * 1_024;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What is sent to the trunk, just before it leaves.
    To,
    /// What comes from the trunk, before anything reads it.
    From,
}

/// What kind of message a rule meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    Request(&'a Method),
    /// A response to an INVITE.
    Response(u16),
}

/// The messages a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Requests(Vec<Method>),
    /// Responses to INVITE: single codes and whole classes.
    Responses(Vec<Status>),
}

/// `180`, or `2xx`: a code or a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Code(u16),
    Class(u16),
}

/// A regular expression; equal where its text is.
#[derive(Clone)]
pub struct Pattern(Regex);

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// One more field, beside those that are there.
    Add(Template),
    /// All fields of the name.
    Remove,
    /// The whole value, where the field is there.
    Set(Template),
    /// What the pattern finds in each value of the name; `with` may name groups as `$1`.
    Replace { pattern: Pattern, with: String },
    /// Values of the other leg's message, or for [`Side::From`] into it; `from` is their name there.
    Copy { from: HeaderName },
}

/// A rule that acts only where some value of this name matches, in the message the rule acts on.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub name: HeaderName,
    pub pattern: Pattern,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub side: Side,
    pub scope: Scope,
    pub name: HeaderName,
    pub action: Action,
    pub when: Option<Condition>,
}

/// The rules of a trunk, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeaderRules(pub Vec<Rule>);

/// Fields that go across to the other leg's message.
pub type Carried = Vec<(HeaderName, String)>;

impl Action {
    /// What it does, as configurations write it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Action::Add(_) => "add",
            Action::Remove => "remove",
            Action::Set(_) | Action::Replace { .. } => "replace",
            Action::Copy { .. } => "copy",
        }
    }
}

impl HeaderRules {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a rule of this side takes something from the other leg, or gives it something.
    pub fn copies(&self, side: Side) -> bool {
        self.0.iter().any(|rule| rule.side == side && matches!(rule.action, Action::Copy { .. }))
    }

    /// Applies the rules of one side to a message, in order. `other` is what the other leg said, where this message
    /// tells of it; what comes back goes to that leg.
    pub fn apply(
        &self,
        side: Side,
        kind: Kind<'_>,
        headers: &mut Headers,
        facts: &Facts<'_>,
        other: Option<&Headers>,
    ) -> Carried {
        let mut carried = Carried::new();
        let mut room = MOST_ADDED;
        for rule in self.0.iter().filter(|rule| rule.side == side && rule.scope.holds(kind)) {
            if rule.when.as_ref().is_some_and(|condition| !condition.holds(headers)) {
                continue;
            }
            rule.act(headers, facts, other, &mut room, &mut carried);
        }
        carried
    }
}

impl Rule {
    fn act(
        &self,
        headers: &mut Headers,
        facts: &Facts<'_>,
        other: Option<&Headers>,
        room: &mut usize,
        carried: &mut Carried,
    ) {
        match &self.action {
            Action::Add(template) => {
                if let Some(value) = template.expand(facts).and_then(|value| fitting(&value, room)) {
                    headers.push(self.name.clone(), value);
                }
            }
            Action::Remove => {
                headers.remove(&self.name);
            }
            Action::Set(template) if headers.contains(&self.name) => {
                if let Some(value) = template.expand(facts).and_then(|value| fitting(&value, room)) {
                    headers.set(self.name.clone(), value);
                }
            }
            Action::Set(_) => {}
            Action::Replace { pattern, with } => {
                headers.rewrite(&self.name, |value| {
                    let new = pattern.replaced(value, with)?;
                    fitting(&new, room)
                });
            }
            Action::Copy { from } => {
                let source = match self.side {
                    Side::To => other,
                    Side::From => Some(&*headers),
                };
                let values = source.into_iter().flat_map(|source| source.all(from)).take(MOST_COPIES);
                let values: Vec<String> = values.filter_map(|value| fitting(value, room)).collect();
                for value in values {
                    match self.side {
                        Side::To => headers.push(self.name.clone(), value),
                        Side::From => carried.push((self.name.clone(), value)),
                    }
                }
            }
        }
    }
}

/// A value as it may be sent, where there is room for it: control characters are gone, its line is one.
fn fitting(value: &str, room: &mut usize) -> Option<String> {
    let clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.trim();
    if clean.is_empty() || clean.len() > LONGEST_VALUE || clean.len() > *room {
        return None;
    }
    *room -= clean.len();
    Some(clean.to_owned())
}

impl Scope {
    pub fn holds(&self, kind: Kind<'_>) -> bool {
        match (self, kind) {
            (Scope::Requests(methods), Kind::Request(method)) => methods.contains(method),
            (Scope::Responses(statuses), Kind::Response(code)) => {
                statuses.iter().any(|status| match status {
                    Status::Code(one) => *one == code,
                    Status::Class(class) => *class == code / 100,
                })
            }
            (Scope::Requests(_), Kind::Response(_)) | (Scope::Responses(_), Kind::Request(_)) => false,
        }
    }
}

impl Condition {
    fn holds(&self, headers: &Headers) -> bool {
        headers.all(&self.name).any(|value| self.pattern.is_match(value))
    }
}

impl Pattern {
    /// # Errors
    /// What is wrong with the expression.
    pub fn new(text: &str) -> Result<Pattern, String> {
        RegexBuilder::new(text)
            .size_limit(LARGEST_PATTERN)
            .build()
            .map(Pattern)
            .map_err(|why| why.to_string())
    }

    /// Values longer than any sane one are not searched.
    fn is_match(&self, value: &str) -> bool {
        value.len() <= LONGEST_VALUE && self.0.is_match(value)
    }

    fn replaced(&self, value: &str, with: &str) -> Option<String> {
        self.is_match(value).then(|| self.0.replace_all(value, with).into_owned())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl std::str::FromStr for Status {
    type Err = String;
    fn from_str(text: &str) -> Result<Status, String> {
        let class = text.strip_suffix("xx").and_then(|class| class.parse().ok());
        if let Some(class) = class.filter(|class| (1..=6).contains(class)) {
            return Ok(Status::Class(class));
        }
        let code = text.parse().ok().filter(|code| text.len() == 3 && (101..700).contains(code));
        code.map(Status::Code).ok_or_else(|| {
            format!("\"{text}\" is no response; write a code as \"180\" or a class as \"2xx\"")
        })
    }
}

/// Whether rules may touch a field. What messages are carried, matched, proven and negotiated by is not theirs, nor is
/// the description of a body.
pub fn may_be_ruled(name: &HeaderName) -> bool {
    !matches!(
        name,
        HeaderName::Via
            | HeaderName::Route
            | HeaderName::RecordRoute
            | HeaderName::Path
            | HeaderName::ServiceRoute
            | HeaderName::From
            | HeaderName::To
            | HeaderName::CallId
            | HeaderName::CSeq
            | HeaderName::Contact
            | HeaderName::MaxForwards
            | HeaderName::ContentLength
            | HeaderName::ContentType
            | HeaderName::ContentEncoding
            | HeaderName::ContentDisposition
            | HeaderName::MimeVersion
            | HeaderName::Authorization
            | HeaderName::ProxyAuthorization
            | HeaderName::WwwAuthenticate
            | HeaderName::ProxyAuthenticate
            | HeaderName::AuthenticationInfo
            | HeaderName::Identity
            | HeaderName::Require
            | HeaderName::ProxyRequire
            | HeaderName::Supported
            | HeaderName::Unsupported
            | HeaderName::Allow
            | HeaderName::RAck
            | HeaderName::RSeq
            | HeaderName::SessionExpires
            | HeaderName::MinSe
            | HeaderName::Expires
            | HeaderName::MinExpires
            | HeaderName::Event
            | HeaderName::SubscriptionState
            | HeaderName::ReferTo
            | HeaderName::ReferredBy
            | HeaderName::Replaces
            | HeaderName::SipEtag
            | HeaderName::SipIfMatch
            | HeaderName::Timestamp
            | HeaderName::UserAgent
            | HeaderName::Server
    )
}

/// Whether a field may go across from leg to leg. Who calls is told by a trunk's `identity` and `diversion` alone, so
/// that nobody is believed who is not trusted.
pub fn may_be_copied(name: &HeaderName) -> bool {
    let tells_who = matches!(
        name,
        HeaderName::PAssertedIdentity
            | HeaderName::PPreferredIdentity
            | HeaderName::RemotePartyId
            | HeaderName::Privacy
            | HeaderName::Diversion
            | HeaderName::HistoryInfo
    );
    may_be_ruled(name) && !tells_who
}

#[cfg(test)]
mod tests;
