//! Emergency calls: how their services are named (RFC 5031), and what each trunk is sent.

use super::{Dialled, Dialplan, NumberMatch, Rewrite, Rule, RuleAction, TrunkIndex};
use crate::types::E164;

/// The service of all emergency calls; those below it are its kinds, as `urn:service:sos.police`.
pub const SOS: &str = "urn:service:sos";

/// How a trunk wants the called party of an emergency call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmergencyFormat {
    /// The number, as 112.
    #[default]
    Number,
    /// The service, as `urn:service:sos`.
    Urn,
}

/// What the call is for, in both ways of saying it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Emergency {
    pub service: String,
    /// `None` where the rule has no number.
    pub number: Option<String>,
}

/// An emergency service by its URN in lower case; `None` for anything else (RFC 5031 §3, §4.2).
pub fn service(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let kinds = text.strip_prefix(SOS)?;
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && label.len() <= 63
    };
    let fine = kinds.is_empty() || kinds.strip_prefix('.').is_some_and(|kinds| kinds.split('.').all(label));
    fine.then_some(text)
}

/// The number alone: a phone that is told its context says it with a service code too, as `112;phone-context=+32`
/// (RFC 3966 §5.1.5), and +32112 is nobody's.
pub(super) fn without_context(called: &str) -> &str {
    called.split(';').next().unwrap_or_default()
}

/// True where a service is the wanted one or a kind of it.
pub(super) fn is_kind_of(service: &str, wanted: &str) -> bool {
    service.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Rule {
    /// The first number among what the rule matches: what stands for its service towards trunks that want a number.
    pub fn own_number(&self) -> Option<&str> {
        self.numbers.iter().find_map(|number| match number {
            NumberMatch::Short(code) => Some(code.as_str()),
            NumberMatch::Prefix(number) => number.parse::<E164>().is_ok().then_some(number.as_str()),
            NumberMatch::Pattern(_) | NumberMatch::Service(_) => None,
        })
    }

    fn own_service(&self) -> Option<&str> {
        self.numbers.iter().find_map(|number| match number {
            NumberMatch::Service(service) => Some(service.as_str()),
            NumberMatch::Short(_) | NumberMatch::Prefix(_) | NumberMatch::Pattern(_) => None,
        })
    }

    /// What an emergency call of this rule is for. The service is the one that was dialled, else the rule's own.
    pub(super) fn emergency(&self, dialled: &Dialled) -> Emergency {
        let fixed = self.called.as_ref().and_then(|rewrite| match rewrite {
            Rewrite::Fixed(number) => Some(number.as_str()),
            Rewrite::Replace { .. } => None,
        });
        let number = fixed.or_else(|| self.own_number()).map(str::to_owned);
        let service = match dialled {
            Dialled::Service(service) => service.clone(),
            Dialled::International(_) | Dialled::Short(_) => self.own_service().unwrap_or(SOS).to_owned(),
        };
        Emergency { service, number }
    }
}

impl Dialplan {
    /// True where somebody's emergency rule takes this number or service, whoever calls.
    pub fn is_emergency_number(&self, called: &str) -> bool {
        let mut rules = self.rules.iter().filter(|rule| rule.emergency).peekable();
        if rules.peek().is_none() {
            return false;
        }
        if service(called).is_some() {
            return true;
        }
        let Ok(dialled) = self.numbers.normalise(without_context(called)) else { return false };
        rules.any(|rule| rule.numbers.iter().any(|number| number.matches(dialled.text())))
    }

    /// True where emergency calls go to this trunk: those who answer them may call back from there.
    pub fn carries_emergency_calls(&self, trunk: TrunkIndex) -> bool {
        self.rules.iter().filter(|rule| rule.emergency).any(|rule| match &rule.action {
            RuleAction::Trunks { trunks, .. } => trunks.iter().any(|weighted| weighted.trunk == trunk),
            RuleAction::Users | RuleAction::Line(_) | RuleAction::Reject(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_in_any_case_and_nothing_else_is() {
        assert_eq!(service("URN:Service:SOS").as_deref(), Some(SOS));
        assert_eq!(
            service("urn:service:sos.animal-control").as_deref(),
            Some("urn:service:sos.animal-control")
        );
        for other in [
            "",
            "112",
            "sos",
            "urn:service:counseling",
            "urn:service:sos.",
            "urn:service:sos.a..b",
            "urn:service:sosx",
        ] {
            assert_eq!(service(other), None, "{other}");
        }
    }

    #[test]
    fn a_kind_of_a_service_is_that_service_too() {
        assert!(is_kind_of("urn:service:sos.fire", SOS) && is_kind_of(SOS, SOS));
        assert!(
            !is_kind_of(SOS, "urn:service:sos.fire")
                && !is_kind_of("urn:service:sos.firex", "urn:service:sos.fire")
        );
    }
}
