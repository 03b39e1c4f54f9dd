//! The running gateway as the admin API shows it.

use super::control::user_view;
use crate::admin::control::{
    CallState, CallView, CheckState, ReadinessCheck, RegistrationView, RouteOutcomeView, RouteQuery,
    RouteQueryError, RouteTrunkView, RouteView, TargetView, TrunkHealth, TrunkRegistration, TrunkView,
    UserView,
};
use crate::billing::Side;
use crate::call::Exchange;
use crate::call::io::Shard;
use crate::call::leg::Party;
use crate::call::machine::{Call, CallPhase};
use crate::call::trunks::OwnRegistration;
use crate::routing::{AdminState, Caller, Health, RouteOutcome, RouteRequest, TrunkIndex};
use crate::types::{E164, Money, Now};

pub fn calls(exchange: &Exchange, now: Now) -> Vec<CallView> {
    let mut views: Vec<CallView> = exchange.calls().map(|one| call(one, now)).collect();
    views.sort_by_key(|view| (view.started_at, view.id));
    views
}

pub fn call(call: &Call, now: Now) -> CallView {
    let callee = call.callee();
    let user = |party: &Party| party.user_name().map(|name| name.to_string());
    let trunk = |party: &Party| party.trunk_name().map(|name| name.to_string());
    let codec = |leg: &crate::call::leg::Leg| leg.media.negotiated.as_ref().map(|agreed| agreed.codec);
    let held = call.legs().any(|leg| leg.media.is_held());
    CallView {
        id: call.id,
        direction: call.direction,
        state: match call.phase() {
            CallPhase::Trying => CallState::Trying,
            CallPhase::Ringing => CallState::Ringing,
            CallPhase::EarlyMedia => CallState::EarlyMedia,
            CallPhase::Answered if held => CallState::Held,
            CallPhase::Answered => CallState::Answered,
            CallPhase::Ending => CallState::Ending,
        },
        caller_user: user(&call.caller.party),
        caller_number: call.calling.parse::<E164>().ok().map(|number| number.to_string()),
        dialled: call.dialled.clone(),
        number: call.number.as_ref().map(ToString::to_string),
        callee_user: callee.and_then(|leg| user(&leg.party)),
        ingress_trunk: trunk(&call.caller.party),
        egress_trunk: callee.and_then(|leg| trunk(&leg.party)),
        started_at: call.started.unix_ms,
        answered_at: call.answered.map(|at| at.unix_ms),
        duration_ms: call.duration_ms(now).unwrap_or(0),
        caller_codec: codec(&call.caller),
        callee_codec: callee.and_then(codec),
        caller_leg: call.caller.media.report.clone(),
        callee_leg: callee.and_then(|leg| leg.media.report.clone()),
    }
}

fn health(health: Health) -> TrunkHealth {
    match health {
        Health::Unknown => TrunkHealth::Unknown,
        Health::Up => TrunkHealth::Up,
        Health::Down => TrunkHealth::Down,
    }
}

pub fn trunks(exchange: &Exchange, now: Now) -> Vec<TrunkView> {
    exchange
        .trunks()
        .iter()
        .map(|(side, table)| {
            let config = &side.settings.config;
            let paused = table.paused_until.filter(|until| *until > now.instant);
            TrunkView {
                name: table.name.to_string(),
                carrier: config.carrier.clone(),
                transport: config.transport,
                health: health(table.health),
                blocked: table.admin == AdminState::Blocked || paused.is_some(),
                blocked_until: paused.map(|until| now.unix_ms_of(until)),
                draining: table.admin == AdminState::Draining,
                reason: match (&side.registration, side.targets.is_empty()) {
                    (_, true) => Some("no address found for its proxies".to_owned()),
                    (OwnRegistration::Failed { why }, false) => Some(why.clone()),
                    (_, false) if paused.is_some() => Some("it asked for a pause".to_owned()),
                    (_, false) => None,
                },
                active_calls: table.channels_in_use,
                max_channels: table.limits.channels.unwrap_or(0),
                max_cps: table.limits.cps.unwrap_or(0),
                registration: match &side.registration {
                    OwnRegistration::None => None,
                    OwnRegistration::Registering => Some(TrunkRegistration::Registering),
                    OwnRegistration::Registered { until } => {
                        Some(TrunkRegistration::Registered { expires_at: until.unix_ms })
                    }
                    OwnRegistration::Failed { why } => {
                        Some(TrunkRegistration::Failed { reason: why.clone() })
                    }
                },
                options_rtt_ms: table.options_rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
                targets: side
                    .targets
                    .iter()
                    .map(|target| TargetView {
                        proxy: target.host.to_string(),
                        address: Some(target.peer.remote),
                        health: health(table.health),
                    })
                    .collect(),
            }
        })
        .collect()
}

pub fn registrations(exchange: &Exchange) -> Vec<RegistrationView> {
    let one = |user: &str, binding: &crate::access::Binding| RegistrationView {
        user: user.to_owned(),
        contact: binding.contact.clone(),
        transport: binding.peer.transport,
        remote: binding.peer.remote,
        user_agent: binding.user_agent.clone(),
        expires_at: binding.expires_unix_ms,
    };
    exchange
        .registrar()
        .iter()
        .flat_map(|(user, bindings)| bindings.iter().map(move |binding| one(user, binding)))
        .collect()
}

pub fn users(exchange: &Exchange) -> Vec<UserView> {
    let registrar = exchange.registrar();
    let mut users: Vec<UserView> = exchange
        .directory()
        .iter()
        .map(|user| user_view(user, registrar.bindings(&user.name).len() as u32))
        .collect();
    users.sort_by(|a, b| a.name.cmp(&b.name));
    users
}

/// What a call would do now, without making it.
pub fn route(shard: &Shard, query: &RouteQuery, now: Now) -> Result<RouteView, RouteQueryError> {
    let exchange = &shard.exchange;
    let settings = exchange.settings();
    let user = exchange.directory().get(&query.from);
    let caller = match (query.from.strip_prefix("trunk:"), user) {
        (Some(name), _) => {
            let index = exchange.trunks().index_of(name);
            let index = index.ok_or_else(|| RouteQueryError::UnknownTrunk(name.to_owned()))?;
            Caller::Trunk(TrunkIndex(index as u16))
        }
        (None, Some(user)) => Caller::User { name: &user.name, caller_ids: &user.caller_ids },
        (None, None) => return Err(RouteQueryError::UnknownUser(query.from.clone())),
    };
    let request = RouteRequest {
        caller,
        called: &query.to,
        calling: query.calling.as_deref(),
        unix_ms: query.at.unwrap_or(now.unix_ms),
        draw: 0,
    };
    let cost = |trunk: TrunkIndex, number: &E164| settings.buy_price(trunk, number);
    let decision = exchange.dialplan().explain(&request, &**exchange.directory(), &cost);
    let number = decision.number.clone();
    let rate = number.as_ref().and_then(|number| shard.rates.price(Side::Sell, None, number.as_str()));
    let per_minute = |e8: i64, currency| Money { micros: e8 / 100, currency }.to_string();
    let mut longest = settings.limits.max_duration;
    let outcome = match decision.outcome {
        RouteOutcome::Reject { status, cause, text } => RouteOutcomeView::Reject { status, cause, text },
        RouteOutcome::User { name } => {
            let registrations = exchange.registrar().reachable(&name).count() as u32;
            RouteOutcomeView::User { name, registrations }
        }
        RouteOutcome::Trunks(candidates) => {
            let views = trunks(exchange, now);
            let trunks = candidates
                .into_iter()
                .filter_map(|candidate| {
                    let index = usize::from(candidate.trunk.0);
                    let (trunk, view) = (settings.trunks.get(index)?, views.get(index)?);
                    longest = longest.min(trunk.max_duration);
                    let price = number
                        .as_ref()
                        .and_then(|number| shard.rates.price(Side::Buy, Some(&trunk.name), number.as_str()));
                    let usable = view.health != TrunkHealth::Down
                        && !view.blocked
                        && !view.draining
                        && !view.targets.is_empty();
                    Some(RouteTrunkView {
                        name: trunk.name.to_string(),
                        called: candidate.called,
                        calling: candidate.calling.unwrap_or_else(|| "anonymous".to_owned()),
                        cost: price
                            .map(|(_, price)| per_minute(price.rate.per_minute_e8, price.rate.currency)),
                        reason: match (usable, &view.reason) {
                            (true, _) => "takes calls".to_owned(),
                            (false, Some(why)) => why.clone(),
                            (false, None) if view.health == TrunkHealth::Down => "it is down".to_owned(),
                            (false, None) => "it is blocked or draining".to_owned(),
                        },
                        usable,
                    })
                })
                .collect();
            RouteOutcomeView::Trunks { trunks }
        }
    };
    Ok(RouteView {
        from: query.from.clone(),
        dialled: query.to.clone(),
        number: decision.number.map(|number| number.to_string()),
        calling: decision.calling.map(|number| number.to_string()),
        matched: decision.explain,
        outcome,
        rate: rate.map(|(prefix, price)| crate::admin::control::RateView {
            prefix: prefix.to_owned(),
            per_minute: per_minute(price.rate.per_minute_e8, price.rate.currency),
        }),
        max_duration_seconds: longest.as_secs(),
    })
}

/// The parts of the gateway that the shard knows.
pub fn readiness(shard: &mut Shard, now: Now) -> Vec<ReadinessCheck> {
    let draining = shard.exchange.is_draining();
    let drain = if draining { (CheckState::Failed, "no new calls are taken") } else { (CheckState::Ok, "") };
    let free = shard.ports.free(now.instant);
    let ports = match free {
        0 | 1 => (CheckState::Failed, "no media port is free"),
        _ => (CheckState::Ok, ""),
    };
    let trunks = trunks(&shard.exchange, now);
    let down = trunks.iter().filter(|trunk| trunk.health == TrunkHealth::Down).count();
    let trunks = match down {
        0 => ReadinessCheck::new("trunks", CheckState::Ok, ""),
        _ => ReadinessCheck::new("trunks", CheckState::Degraded, format!("{down} of {} down", trunks.len())),
    };
    vec![
        ReadinessCheck::new("drain", drain.0, drain.1),
        ReadinessCheck::new("media_ports", ports.0, ports.1),
        trunks,
    ]
}
