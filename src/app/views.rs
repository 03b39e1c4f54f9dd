//! The running gateway as the admin API shows it.

use super::explain::Explainer;
use crate::admin::control::{
    CallState, CallView, CheckState, ReadinessCheck, RegistrationView, RouteQuery, RouteQueryError,
    RouteView, TargetView, TrunkHealth, TrunkRegistration, TrunkView, UserView,
};
use crate::call::Exchange;
use crate::call::io::Shard;
use crate::call::leg::Party;
use crate::call::machine::{Call, CallPhase};
use crate::call::targets::Route;
use crate::call::trunks::OwnRegistration;
use crate::media::WorkerId;
use crate::routing::{AdminState, Health};
use crate::types::{E164, Now};

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
    let thread = |leg: &crate::call::leg::Leg| {
        let ports = leg.media.ports.filter(|_| !leg.media.closing);
        ports.map(|ports| WorkerId(ports.worker).to_string())
    };
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
        caller_thread: thread(&call.caller),
        callee_thread: callee.and_then(thread),
        caller_leg: call.caller.media.report.as_deref().cloned(),
        callee_leg: callee.and_then(|leg| leg.media.report.as_deref().cloned()),
        caller_series: None,
        callee_series: None,
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
                max_cps_in: table.limits.cps_in.unwrap_or(0),
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
                        transport: target.peer.transport,
                        health: if side.targets.is_resting(now.instant, Route::of(&target.peer)) {
                            TrunkHealth::Down
                        } else {
                            health(table.health)
                        },
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
        .map(|user| UserView::of(user, Some(registrar.bindings(&user.name).len() as u32)))
        .collect();
    users.sort_by(|a, b| a.name.cmp(&b.name));
    users
}

/// What a call would do now, without making it.
pub fn route(shard: &Shard, query: &RouteQuery, now: Now) -> Result<RouteView, RouteQueryError> {
    let exchange = &shard.exchange;
    let trunks = trunks(exchange, now);
    let explainer = Explainer {
        config: &exchange.settings().config,
        dialplan: exchange.dialplan(),
        directory: exchange.directory(),
        rates: &shard.rates,
        unusable: &|trunk| trunks.get(usize::from(trunk.0)).and_then(unusable),
        registrations: &|user| exchange.registrar().reachable(user).count() as u32,
    };
    explainer.explain(query, now.unix_ms)
}

/// Why a trunk would get no call now.
fn unusable(trunk: &TrunkView) -> Option<String> {
    let known = || trunk.reason.clone();
    if trunk.targets.is_empty() {
        known().or_else(|| Some("no address found for its proxies".to_owned()))
    } else if trunk.blocked {
        known().or_else(|| Some("it is blocked".to_owned()))
    } else if trunk.draining {
        Some("it is draining".to_owned())
    } else if trunk.health == TrunkHealth::Down {
        known().or_else(|| Some("it is down".to_owned()))
    } else {
        None
    }
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
