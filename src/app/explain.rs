//! What a call would do, and why: the same answer from a running gateway and from a configuration alone.

use crate::access::Directory;
use crate::admin::control::{
    FailoverView, HeaderView, RateView, RouteOutcomeView, RouteQuery, RouteQueryError, RouteTrunkView,
    RouteView,
};
use crate::billing::{RateTable, Side};
use crate::call::identity::Identity;
use crate::call::leg::rules;
use crate::call::machine::ANONYMOUS;
use crate::call::settings::{Settings, Trunk};
use crate::config::{Config, TrunkConfig};
use crate::routing::{
    Caller, Dialplan, RouteDecision, RouteOutcome, RouteRequest, TrunkCandidate, TrunkIndex,
};
use crate::sip::header_rules::Facts;
use crate::sip::message::{HeaderName, Headers};
use crate::types::{E164, HostPort, Rate, UnixMillis};
use std::time::Duration;

/// What the explanation is made from.
pub struct Explainer<'a> {
    pub config: &'a Config,
    pub dialplan: &'a Dialplan,
    pub directory: &'a Directory,
    pub rates: &'a RateTable,
    /// Why a trunk would get no call now; `None` where it would, or where no gateway runs to know.
    pub unusable: &'a dyn Fn(TrunkIndex) -> Option<String>,
    /// Contacts a user has registered now.
    pub registrations: &'a dyn Fn(&str) -> u32,
}

impl Explainer<'_> {
    /// # Errors
    /// The question names a user or trunk that does not exist.
    pub fn explain(&self, query: &RouteQuery, now: UnixMillis) -> Result<RouteView, RouteQueryError> {
        let request = RouteRequest {
            caller: self.caller(&query.from)?,
            called: &query.to,
            calling: query.calling.as_deref(),
            asserted: None,
            unix_ms: query.at.unwrap_or(now),
            draw: 0,
        };
        let cost = |trunk: TrunkIndex, number: &E164| {
            self.buy_rate(trunk, number.as_str()).map(|rate| rate.per_minute_e8)
        };
        let decision = self.dialplan.explain(&request, self.directory, &cost);
        let number = decision.number.as_ref().map(E164::as_str);
        let leaves = match &decision.outcome {
            RouteOutcome::Trunks(_) => number,
            RouteOutcome::User { .. } | RouteOutcome::Line(_) | RouteOutcome::Reject { .. } => None,
        };
        let sell = leaves.and_then(|number| self.rates.price(Side::Sell, None, number));
        Ok(RouteView {
            from: query.from.clone(),
            dialled: query.to.clone(),
            number: number.map(str::to_owned),
            calling: decision.calling.as_ref().map(ToString::to_string),
            emergency: decision.emergency,
            matched: decision.explain.clone(),
            outcome: self.outcome(query, &decision),
            rate: sell.map(|(prefix, price)| RateView {
                prefix: prefix.to_owned(),
                per_minute: price.rate.to_string(),
            }),
            max_duration_seconds: self.longest(&decision).as_secs(),
        })
    }

    fn caller(&self, from: &str) -> Result<Caller<'_>, RouteQueryError> {
        match from.strip_prefix("trunk:") {
            Some(name) => {
                let unknown = || RouteQueryError::UnknownTrunk(name.to_owned());
                self.dialplan.trunk_index(name).map(Caller::Trunk).ok_or_else(unknown)
            }
            None => {
                let unknown = || RouteQueryError::UnknownUser(from.to_owned());
                let user = self.directory.get(from).ok_or_else(unknown)?;
                Ok(Caller::User { name: &user.name, caller_ids: &user.caller_ids })
            }
        }
    }

    fn outcome(&self, query: &RouteQuery, decision: &RouteDecision) -> RouteOutcomeView {
        match &decision.outcome {
            RouteOutcome::Reject { status, cause, text } => {
                RouteOutcomeView::Reject { status: *status, cause: *cause, text: text.clone() }
            }
            RouteOutcome::User { name } => {
                RouteOutcomeView::User { name: name.clone(), registrations: (self.registrations)(name) }
            }
            RouteOutcome::Line(line) => RouteOutcomeView::Line { line: *line },
            RouteOutcome::Trunks(candidates) => {
                let number = decision.number.as_ref().map_or("", E164::as_str);
                let view = |candidate| self.trunk(query, candidate, number);
                RouteOutcomeView::Trunks { trunks: candidates.iter().map(view).collect() }
            }
        }
    }

    fn trunk(&self, query: &RouteQuery, candidate: &TrunkCandidate, number: &str) -> RouteTrunkView {
        let unusable = (self.unusable)(candidate.trunk);
        let config = self.config.trunks.get(usize::from(candidate.trunk.0));
        let failover = |config: &TrunkConfig| {
            let entry = |(failure, action): (crate::routing::FailoverKey, crate::routing::FailoverAction)| {
                FailoverView { failure: failure.to_string(), action: action.to_string() }
            };
            config.failover.iter().map(entry).collect()
        };
        RouteTrunkView {
            name: self.dialplan.trunk_name(candidate.trunk).to_owned(),
            called: candidate.called.clone(),
            calling: candidate.calling.clone(),
            cost: self.buy_rate(candidate.trunk, number).map(|rate| rate.to_string()),
            usable: unusable.is_none(),
            reason: unusable,
            called_format: config.map(|config| config.called_format.to_string()).unwrap_or_default(),
            calling_format: config.map(|config| config.calling_format.to_string()).unwrap_or_default(),
            codecs: config.iter().flat_map(|config| &config.codecs).map(ToString::to_string).collect(),
            headers: config.map(|config| self.headers(query, candidate, config)).unwrap_or_default(),
            failover: config.map(failover).unwrap_or_default(),
        }
    }

    /// What the INVITE to a trunk would say beside what makes the dialog.
    fn headers(
        &self,
        query: &RouteQuery,
        candidate: &TrunkCandidate,
        config: &TrunkConfig,
    ) -> Vec<HeaderView> {
        let trunk = Settings::trunk(self.config, config);
        let source = query.from.strip_prefix("trunk:").and_then(|name| {
            let found = self.config.trunks.iter().find(|trunk| trunk.name == name)?;
            Some(Settings::trunk(self.config, found))
        });
        let user = self.directory.get(&query.from).filter(|_| source.is_none());
        let mut headers = Headers::new();
        let identity = Identity::default();
        let network = candidate.network.as_deref();
        for (name, value) in identity.fields(&trunk, network, &self.own_host(&trunk), &self.dialplan.numbers)
        {
            headers.push(name, value);
        }
        if config.p_early_media {
            headers.push(HeaderName::PEarlyMedia, "supported");
        }
        let facts = Facts {
            called: Some(&candidate.called),
            calling: Some(candidate.calling.as_deref().unwrap_or(ANONYMOUS)),
            user: user.map(|user| &*user.name),
            account: user.map(|user| user.account.as_str()),
            trunk: Some(&config.name),
            call_id: Some("CALL-ID"),
        };
        rules::foresee(&trunk, source.as_ref(), &facts, &mut headers);
        rules::fields(&headers).into_iter().map(|(name, value)| HeaderView { name, value }).collect()
    }

    /// What stands behind our numbers in calls to a trunk; without a call nobody knows the route's own address.
    fn own_host(&self, trunk: &Trunk) -> HostPort {
        let public =
            self.config.network(trunk.config.network).public_address.first().map(ToString::to_string);
        let host = trunk.own_domain().map(str::to_owned).or(public);
        HostPort { host: host.unwrap_or_else(|| "gateway.invalid".to_owned()), port: None }
    }

    fn buy_rate(&self, trunk: TrunkIndex, number: &str) -> Option<Rate> {
        let name = self.dialplan.trunk_name(trunk);
        self.rates.price(Side::Buy, Some(name), number).map(|(_, price)| price.rate)
    }

    /// The first trunk's own limit, else the gateway's; nothing for a call that goes nowhere.
    fn longest(&self, decision: &RouteDecision) -> Duration {
        let gateway = self.config.limits.max_duration;
        match &decision.outcome {
            RouteOutcome::Reject { .. } => Duration::ZERO,
            RouteOutcome::User { .. } => gateway,
            RouteOutcome::Line(_) => gateway.min(self.config.lines.max_duration),
            RouteOutcome::Trunks(candidates) => candidates
                .first()
                .and_then(|first| self.config.trunks.get(usize::from(first.trunk.0))?.max_duration)
                .unwrap_or(gateway),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loaded;
    use crate::types::EndCause;
    use std::path::Path;

    fn explained(from: &str, to: &str) -> Result<RouteView, RouteQueryError> {
        let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/lab.toml");
        let Loaded { config, dialplan, .. } = Config::load(&lab).expect("the lab is good");
        let (directory, _) = Directory::new(config.file_users());
        let explainer = Explainer {
            config: &config,
            dialplan: &dialplan,
            directory: &directory,
            rates: &config.rate_table().expect("the lab's prices are good"),
            unusable: &|_| Some("blocked by an operator".to_owned()),
            registrations: &|user| u32::from(user == "bob"),
        };
        let query = RouteQuery { from: from.to_owned(), to: to.to_owned(), calling: None, at: None };
        explainer.explain(&query, 1_772_366_400_000)
    }

    #[test]
    fn a_call_to_a_trunk_shows_its_prices_and_why_the_trunk_would_not_get_it() {
        let view = explained("alice", "0470 12 34 56").unwrap();
        assert_eq!(view.rate.map(|rate| rate.per_minute), Some("0.02 EUR".to_owned()));
        let RouteOutcomeView::Trunks { trunks } = view.outcome else {
            panic!("{view:?}", view = view.outcome)
        };
        assert_eq!(trunks[0].cost.as_deref(), Some("0.0125 EUR"));
        assert_eq!((trunks[0].usable, trunks[0].reason.as_deref()), (false, Some("blocked by an operator")));
        assert_eq!(view.max_duration_seconds, 14_400);
    }

    #[test]
    fn a_call_that_stays_inside_or_goes_nowhere_has_no_rate() {
        let inside = explained("alice", "02 555 00 02").unwrap();
        assert_eq!(inside.outcome, RouteOutcomeView::User { name: "bob".to_owned(), registrations: 1 });
        assert_eq!(inside.rate, None);
        let refused = explained("alice", "0900 12 345").unwrap();
        assert!(matches!(
            refused.outcome,
            RouteOutcomeView::Reject { status: 403, cause: EndCause::Blocked, .. }
        ));
        assert_eq!((refused.rate, refused.max_duration_seconds), (None, 0));
    }

    #[test]
    fn a_caller_that_does_not_exist_is_named() {
        let nobody = explained("nobody", "112").unwrap_err();
        assert_eq!(nobody, RouteQueryError::UnknownUser("nobody".to_owned()));
        assert_eq!(explained("trunk:x", "112").unwrap_err(), RouteQueryError::UnknownTrunk("x".to_owned()));
    }
}
