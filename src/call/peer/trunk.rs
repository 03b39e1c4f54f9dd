//! Asking a trunk how it is (OPTIONS, RFC 3261 §11) and staying registered there (REGISTER, §10.2).

use crate::call::core::{Core, Owner};
use crate::call::event::{Event, Target};
use crate::call::exchange::Exchange;
use crate::call::leg::Leg;
use crate::call::leg::extensions::Capabilities;
use crate::call::leg::rules::dress_upkeep;
use crate::call::targets::Route;
use crate::call::trunks::{OwnRegistration, Question, Side, trunk_index};
use crate::config::TrunkConfig;
use crate::routing::{Evidence, TrunkOutput};
use crate::sip::message::{HeaderName, Method, NameAddr, Request, Response, Typed, Uri};
use crate::sip::transaction::ClientKey;
use crate::types::{HostPort, Now};
use std::time::Duration;

/// First pause after a failed registration; doubled up to [`LONGEST_PAUSE`] (RFC 5626 §4.5 has the same shape).
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// A pause that a trunk asks for is no longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// Seconds; a registration that is asked about less than once a day is none.
const LONGEST_LIFETIME: u32 = 86_400;
/// So many addresses of a trunk are asked how they are; of a longer list the calls themselves tell.
const MOST_ASKED: usize = 8;
/// A longer Service-Route would fill a datagram by itself.
const MOST_ROUTES: usize = 8;
/// How much longer than two rounds of OPTIONS an address is believed dead.
const SILENCE: Duration = Duration::from_secs(5);
/// How soon a trunk without a known address is looked at again.
const UNRESOLVED_PAUSE: Duration = Duration::from_secs(1);

/// Sends what is due to the trunks themselves.
pub fn handle_timeout(exchange: &mut Exchange, now: Now) {
    exchange.trunks.table().handle_timeout(now.instant);
    tell_blocks(exchange, now);
    for index in 0..exchange.trunks.len() {
        let Some(side) = exchange.trunks.side_mut(index) else { continue };
        if side.upkeep.at.is_some_and(|at| at <= now.instant) {
            register(&mut exchange.core, side, now);
        }
    }
}

/// Carries out what the trunks' health machines want.
pub fn settle(exchange: &mut Exchange, now: Now) {
    while let Some(output) = exchange.trunks.poll_output() {
        match output {
            TrunkOutput::Probe(index) => ask_health(exchange, usize::from(index.0), now),
            TrunkOutput::WentUp(index) => tell_health(exchange, usize::from(index.0), true),
            TrunkOutput::WentDown(index) => tell_health(exchange, usize::from(index.0), false),
            TrunkOutput::Drained(index) => {
                if let Some(side) = exchange.trunks.side(usize::from(index.0)) {
                    let trunk = side.settings.name.clone();
                    exchange.core.event(Event::TrunkDrained { trunk });
                }
            }
        }
    }
}

/// Tells which trunks became blocked or free, by order, by a failure or by a pause that is over.
pub fn tell_blocks(exchange: &mut Exchange, now: Now) {
    for (trunk, blocked) in exchange.trunks.block_changes(now) {
        exchange.core.event(Event::TrunkBlocked { trunk, blocked });
    }
}

fn tell_health(exchange: &mut Exchange, index: usize, up: bool) {
    if let Some(side) = exchange.trunks.side(index) {
        exchange.core.event(Event::TrunkHealth { trunk: side.settings.name.clone(), up });
    }
}

fn ask_health(exchange: &mut Exchange, index: usize, now: Now) {
    let Some(side) = exchange.trunks.side_mut(index) else { return };
    let core = &mut exchange.core;
    // One round at a time: to ask a dead address ever more does not wake it. Without any address nothing is asked, and
    // the machine's own time-out says that the trunk failed.
    for silent in std::mem::take(&mut side.upkeep.options).open {
        core.abandon(silent.key);
        side.targets.failed(now.instant, silent.route, Some(silent_rest(side)));
    }
    let targets: Vec<Target> = side.targets.iter().take(MOST_ASKED).cloned().collect();
    for target in targets {
        ask(core, side, target, now);
    }
}

/// How long an address that left an OPTIONS unanswered gets no calls: until the round after the next one.
fn silent_rest(side: &Side) -> Duration {
    side.settings.config.options.unwrap_or_default() * 2 + SILENCE
}

fn ask(core: &mut Core, side: &mut Side, target: Target, now: Now) {
    let call_id = core.token();
    let uri = Uri::sip(None, target.host.clone());
    let us = NameAddr::new(Uri::sip(None, own_host(&target)));
    let mut request = build(
        core,
        &side.settings.config,
        Method::Options,
        uri.clone(),
        us,
        NameAddr::new(uri),
        &call_id,
        &target,
    )
    .with_header(HeaderName::CSeq, "1 OPTIONS");
    dress_upkeep(&side.settings, &Method::Options, &mut request.headers);
    let owner = Owner::TrunkHealth { trunk: side.settings.name.clone() };
    let route = Route::of(&target.peer);
    let key = core.send(now, owner, target.peer, request);
    side.upkeep.options.open.push(Question { key, sent: now.instant, route });
}

/// Any final answer proves the trunk alive, but for those that say that it is not.
pub fn on_options_response(exchange: &mut Exchange, now: Now, trunk: &str, key: ClientKey, answer: Response) {
    if answer.status < 200 {
        return;
    }
    let Some(index) = exchange.trunks.index_of(trunk) else { return };
    let Some(side) = exchange.trunks.side_mut(index) else { return };
    let works = !matches!(answer.status, 408 | 500..=599);
    // An answer to an earlier round proves life, but neither how far away it is nor which address gave it.
    let Some(question) = take_question(side, key) else {
        if works {
            exchange.trunks.table().handle_probe(trunk_index(index), now.instant, Evidence::Alive);
        }
        return;
    };
    let round_trip = now.instant.saturating_duration_since(question.sent);
    let trunk = side.settings.name.clone();
    exchange.core.event(Event::TrunkOptions { trunk, round_trip });
    if !works {
        address_failed(exchange, now, index, question, answer.retry_after());
        return;
    }
    let Some(side) = exchange.trunks.side_mut(index) else { return };
    side.targets.answered(question.route);
    let first = !std::mem::replace(&mut side.upkeep.options.alive, true);
    if first {
        exchange.trunks.table().handle_probe(trunk_index(index), now.instant, Evidence::Alive);
    }
}

pub fn on_options_lost(exchange: &mut Exchange, now: Now, trunk: &str, key: ClientKey) {
    let Some(index) = exchange.trunks.index_of(trunk) else { return };
    let Some(question) = exchange.trunks.side_mut(index).and_then(|side| take_question(side, key)) else {
        return;
    };
    address_failed(exchange, now, index, question, None);
}

fn take_question(side: &mut Side, key: ClientKey) -> Option<Question> {
    let open = &mut side.upkeep.options.open;
    let position = open.iter().position(|question| question.key == key)?;
    Some(open.swap_remove(position))
}

/// One address says that it does not work, or can't be reached. With the last of them the trunk has failed.
fn address_failed(
    exchange: &mut Exchange,
    now: Now,
    index: usize,
    question: Question,
    retry_after: Option<u32>,
) {
    let Some(side) = exchange.trunks.side_mut(index) else { return };
    let rest = retry_after.map_or(silent_rest(side), asked_pause);
    side.targets.failed(now.instant, question.route, Some(rest));
    let round = &side.upkeep.options;
    if round.open.is_empty() && !round.alive {
        exchange.trunks.table().handle_probe(trunk_index(index), now.instant, Evidence::Failed);
    }
}

fn register(core: &mut Core, side: &mut Side, now: Now) {
    let (true, Some(credentials)) = (side.settings.registers(), &side.settings.credentials) else {
        side.upkeep.at = None;
        return;
    };
    // Each failure leads to the next address.
    let Some(target) = side.targets.nth(now.instant, side.upkeep.failures).cloned() else {
        side.upkeep.at = Some(now.instant + UNRESOLVED_PAUSE);
        return;
    };
    let user = credentials.user.clone();
    if side.upkeep.call_id.is_empty() {
        side.upkeep.call_id = core.token();
    }
    // The answer decides when the next one is due.
    side.upkeep.at = None;
    let domain = HostPort { host: side.settings.config.domain().to_owned(), port: None };
    let account = NameAddr::new(Uri::sip(Some(&user), domain.clone()));
    let call_id = side.upkeep.call_id.clone();
    let uri = Uri::sip(None, domain);
    let mut request = build(
        core,
        &side.settings.config,
        Method::Register,
        uri,
        account.clone(),
        account,
        &call_id,
        &target,
    );
    if side.settings.config.register_bulk {
        // RFC 6140 §5.2: a Contact without a user stands for all of our numbers.
        request.headers.set(HeaderName::Contact, Leg::bulk_contact(&target.peer));
        request.headers.push(HeaderName::Require, "gin");
        request.headers.push(HeaderName::ProxyRequire, "gin");
    } else {
        request.headers.set(HeaderName::Contact, Leg::contact(&target.peer, Some(&user)));
    }
    // RFC 3327 §5.1: a proxy on the way may ask to be on the way back.
    request.headers.push(HeaderName::Supported, "path");
    request.headers.push(HeaderName::Expires, side.upkeep.lifetime.as_secs().to_string());
    send_register(core, side, now, target, request);
}

fn send_register(core: &mut Core, side: &mut Side, now: Now, target: Target, mut request: Request) {
    side.upkeep.cseq += 1;
    request.headers.set(HeaderName::CSeq, format!("{} REGISTER", side.upkeep.cseq));
    if let Some(auth) = side.upkeep.auth.as_mut() {
        let cnonce = core.token();
        auth.authorize(&mut request, &cnonce);
    }
    side.upkeep.last = Some(request.clone());
    let owner = Owner::TrunkRegistration { trunk: side.settings.name.clone() };
    side.upkeep.asked = Some(target.clone());
    dress_upkeep(&side.settings, &Method::Register, &mut request.headers);
    core.send(now, owner, target.peer, request);
}

pub fn on_register_response(exchange: &mut Exchange, now: Now, trunk: &str, answer: Response) {
    if answer.status < 200 {
        return;
    }
    let core = &mut exchange.core;
    let Some(index) = exchange.trunks.index_of(trunk) else { return };
    let Some(side) = exchange.trunks.side_mut(index) else { return };
    if answer.call_id() != Ok(&side.upkeep.call_id) {
        // Asked before a reload that changed the trunk: its registration has begun anew.
        return;
    }
    match answer.status {
        200..=299 => {
            let lifetime = Duration::from_secs(granted_seconds(&answer, side).into());
            side.upkeep.failures = 0;
            side.upkeep.registrar = side.upkeep.asked.clone();
            side.upkeep.service_route = service_route(&answer);
            // The next registration starts with what is known now, and may be challenged anew.
            if let Some(auth) = side.upkeep.auth.as_mut() {
                auth.succeeded();
            }
            // Renewed at four fifths, so that one lost round of retransmissions still fits.
            side.upkeep.at = Some(now.instant + lifetime.mul_f32(0.8).max(Duration::from_secs(1)));
            side.registration = OwnRegistration::Registered { until: now.after(lifetime) };
            let trunk = side.settings.name.clone();
            core.event(Event::TrunkRegistered { trunk, registered: true, why: String::new() });
            exchange.trunks.table().handle_call(trunk_index(index), now.instant, Evidence::Alive);
        }
        401 | 407 => {
            let met = side.upkeep.auth.as_mut().is_some_and(|auth| auth.challenged(&answer).is_ok());
            match (met, side.upkeep.last.clone(), side.upkeep.asked.clone()) {
                (true, Some(request), Some(target)) => send_register(core, side, now, target, request),
                _ => register_failed(
                    core,
                    side,
                    now,
                    format!("refuses our credentials ({})", answer.status),
                    None,
                ),
            }
        }
        // RFC 3261 §10.2.8: it wants to be asked for longer, and says how long.
        423 if answer.min_expires().is_some_and(|least| longer(least) > side.upkeep.lifetime) => {
            side.upkeep.lifetime = answer.min_expires().map_or(side.upkeep.lifetime, longer);
            register(core, side, now);
        }
        status => {
            let wait = answer.retry_after().map(asked_pause);
            register_failed(core, side, now, format!("answers REGISTER with {status}"), wait);
            if let (Some(wait), 500..=599) = (wait, status) {
                leave_registrar(exchange, now, index, status, wait);
            }
        }
    }
}

/// The registrar asked to be left alone, and is. Another address of the trunk may serve meanwhile, and is asked at once
/// (RFC 3263 §4.3). A 503 is of the whole server, with calls too (RFC 3261 §21.5.4); any other failure is of its
/// registrations alone.
fn leave_registrar(exchange: &mut Exchange, now: Now, index: usize, status: u16, pause: Duration) {
    let Some(side) = exchange.trunks.side_mut(index) else { return };
    if status != 503 {
        // All are asked before any of them is asked again.
        if !(side.upkeep.failures as usize).is_multiple_of(side.targets.iter().count().max(1)) {
            register(&mut exchange.core, side, now);
        }
        return;
    }
    let (trunk, asked) = (side.settings.name.clone(), side.upkeep.asked.clone());
    if let Some(asked) = asked {
        exchange.trunks.pause_target(now, &trunk, Route::of(&asked.peer), pause);
    }
    let Some(side) = exchange.trunks.side_mut(index) else { return };
    match side.targets.all_paused_until(now.instant) {
        Some(first) => side.upkeep.at = Some(first),
        None => register(&mut exchange.core, side, now),
    }
}

pub fn on_register_lost(exchange: &mut Exchange, now: Now, trunk: &str) {
    let Some(index) = exchange.trunks.index_of(trunk) else { return };
    if let Some(side) = exchange.trunks.side_mut(index) {
        register_failed(&mut exchange.core, side, now, "does not answer REGISTER".to_owned(), None);
    }
}

fn register_failed(core: &mut Core, side: &mut Side, now: Now, why: String, wait: Option<Duration>) {
    let doubled = FIRST_PAUSE * 2u32.pow(side.upkeep.failures.min(8));
    side.upkeep.failures += 1;
    let pause = wait.unwrap_or(doubled.min(LONGEST_PAUSE));
    side.upkeep.at = Some(now.instant + pause);
    // Whatever was learnt of its challenges may be what is wrong.
    side.upkeep.auth = side.settings.client_auth();
    side.upkeep.registrar = None;
    side.upkeep.service_route.clear();
    side.registration = OwnRegistration::Failed { why: why.clone() };
    let trunk = side.settings.name.clone();
    core.event(Event::TrunkRegistered { trunk, registered: false, why });
}

/// What a Retry-After asks for, within reason: at once would be a flood, and in a hundred years never.
fn asked_pause(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).clamp(FIRST_PAUSE, LONGEST_WAIT)
}

/// The way of our calls that comes with a registration (RFC 3608 §5). A route that is no loose one would take the called
/// number's place, so that none of it is followed then.
fn service_route(answer: &Response) -> Vec<String> {
    let routes = answer.addresses(&HeaderName::ServiceRoute).unwrap_or_default();
    let fits = routes.len() <= MOST_ROUTES
        && routes.iter().all(|route| route.uri.is_sip() && route.uri.params.has("lr"));
    let routes = routes.iter().filter(|_| fits);
    routes.map(|route| NameAddr::new(route.uri.clone()).to_string()).collect()
}

/// The lifetime the registrar granted our contact: its own parameter, else Expires, else what we asked for.
fn granted_seconds(answer: &Response, side: &Side) -> u32 {
    let ours = side.upkeep.asked.as_ref().map(|target| target.peer.local);
    let contact =
        answer.addresses(&HeaderName::Contact).unwrap_or_default().into_iter().find_map(|contact| {
            let is_ours = ours.is_some_and(|ours| {
                contact.uri.host.host == ours.ip().to_string() && contact.uri.host.port == Some(ours.port())
            });
            is_ours.then(|| contact.params.value("expires")?.parse().ok()).flatten()
        });
    let asked = side.upkeep.lifetime.as_secs() as u32;
    contact.or_else(|| answer.expires()).unwrap_or(asked).clamp(1, LONGEST_LIFETIME)
}

/// A lifetime that a registrar asks for, within reason.
fn longer(least: u32) -> Duration {
    Duration::from_secs(least.min(LONGEST_LIFETIME).into())
}

fn own_host(target: &Target) -> HostPort {
    HostPort { host: target.peer.local.ip().to_string(), port: None }
}

/// A request to the trunk itself, without CSeq.
fn build(
    core: &mut Core,
    trunk: &TrunkConfig,
    method: Method,
    uri: Uri,
    from: NameAddr,
    to: NameAddr,
    call_id: &str,
    target: &Target,
) -> Request {
    Request::new(method, uri)
        .with_header(HeaderName::MaxForwards, "70")
        .with_header(HeaderName::From, from.with_tag(&core.token()).to_string())
        .with_header(HeaderName::To, to.to_string())
        .with_header(HeaderName::CallId, call_id)
        .with_header(HeaderName::Contact, Leg::contact(&target.peer, None))
        .with_header(HeaderName::Allow, Capabilities::of(Some(trunk), &core.settings).methods())
}
