//! The `[[user]]` and `[[rate]]` sections: who calls, and what a minute costs.

use super::{
    model::{RateConfig, TrunkConfig, UserConfig},
    source::{Section, nearest},
    trunk::{optional, some},
    values::SecretSources,
};
use crate::types::{Currency, E164, Place, Rate};
use std::collections::HashMap;

pub(super) fn users(top: &Section<'_>, secrets: &SecretSources<'_>) -> Vec<UserConfig> {
    let mut users = Vec::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut dids: HashMap<E164, String> = HashMap::new();
    for s in top.sections("user") {
        let name = s.required("name", "\"alice\"");
        let password = s.parsed("password", |text| secrets.read(text));
        if !s.has("password") {
            s.error(
                s.span(),
                "user.password is missing; write password = \"…\", \"env:NAME\" or \"file:PATH\"",
            );
        } else if password.as_ref().is_some_and(|password| password.expose().is_empty()) {
            s.error(s.place("password"), "user.password is empty; write password = \"…\"");
        }
        let user_dids = s.list("dids", str::parse::<E164>).unwrap_or_default();
        let user = UserConfig {
            name: name.as_ref().map(|name| name.value.clone()).unwrap_or_default(),
            password: password.unwrap_or_default(),
            caller_ids: s.values("caller_ids", Vec::new(), str::parse),
            dids: user_dids.iter().map(|at| at.value.clone()).collect(),
            account: s.text_or("account", "default".into()),
            max_calls: optional(s.number(
                "max_calls",
                0,
                0..=10_000,
                "calls at once, 0 = limits.max_calls_per_user",
            )),
            place: place(&s),
        };
        let line = top.source.line(s.span().start);
        s.finish();
        let Some(name) = name else { continue };
        if let Err(message) = user_name(&name.value) {
            top.error(name.span, format!("user.name: {message}"));
            continue;
        }
        if let Some(first) = names.insert(name.value.clone(), line) {
            let message =
                format!("user \"{}\" exists already at line {first}; give it its own name", name.value);
            top.error(name.span, message);
            continue;
        }
        for did in user_dids {
            if let Some(other) = dids.insert(did.value.clone(), name.value.clone()) {
                top.error(
                    did.span,
                    format!("user.dids: {} rings \"{other}\" already; a DID rings one user", did.value),
                );
            }
        }
        users.push(user);
    }
    users
}

/// `address = { country = "BE", A3 = "Brussel", RD = "Wetstraat", HNO = "16" }` and `location = "50.8503, 4.3517"`.
fn place(s: &Section<'_>) -> Place {
    let mut place = Place::default();
    for (name, text) in s.entries("address") {
        if let Err(message) = place.add(&name.value, &text.value) {
            s.error(name.span, format!("user.address: {message}"));
        }
    }
    let point = s.parsed("location", |text| if text.is_empty() { Ok(None) } else { text.parse().map(Some) });
    if let Some(point) = point.flatten() {
        place.set_point(point);
    }
    place
}

/// What may stand before the @ unescaped (RFC 3261 §25.1 unreserved), so that a name is written one way only.
pub fn user_name(text: &str) -> Result<(), String> {
    let fine = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fine {
        Ok(())
    } else {
        Err(format!("\"{text}\" is no user name; write up to 64 letters, digits, - _ and ."))
    }
}

pub(super) fn rates(top: &Section<'_>, trunks: &[TrunkConfig]) -> Vec<RateConfig> {
    let mut rates: Vec<RateConfig> = Vec::new();
    for s in top.sections("rate") {
        let prefix = s.required("prefix", "\"+32\"").and_then(|prefix| {
            let fine = prefix
                .value
                .strip_prefix('+')
                .is_some_and(|digits| digits.len() <= 15 && digits.bytes().all(|b| b.is_ascii_digit()));
            if !fine {
                let message =
                    format!("rate.prefix: \"{}\" is no prefix; write + and digits, as \"+32\"", prefix.value);
                s.error(prefix.span.clone(), message);
            }
            fine.then_some(prefix)
        });
        let per_minute = s.required("per_minute", "\"0.0125\"").and_then(|text| {
            let parsed = per_minute(&text.value);
            if let Err(message) = &parsed {
                s.error(text.span, format!("rate.per_minute: {message}"));
            }
            parsed.ok()
        });
        let currency = s.parsed("currency", str::parse::<Currency>).unwrap_or(Currency::EUR);
        let trunk = s.parsed("trunk", |name| {
            let names: Vec<&str> = trunks.iter().map(|trunk| trunk.name.as_str()).collect();
            if name.is_empty() || names.contains(&name) {
                return Ok(some(name.to_owned()));
            }
            Err(match nearest(name, &names) {
                Some(near) => format!("there is no trunk \"{name}\"; did you mean \"{near}\"?"),
                None => format!("there is no trunk \"{name}\"; write the name of a [[trunk]]"),
            })
        });
        s.finish();
        let (Some(prefix), Some(per_minute_e8)) = (prefix, per_minute) else { continue };
        let trunk = trunk.flatten();
        if rates.iter().any(|rate| rate.prefix == prefix.value && rate.trunk == trunk) {
            top.error(
                prefix.span,
                format!("rate.prefix: {} has a price already; remove one of the two", prefix.value),
            );
            continue;
        }
        rates.push(RateConfig { prefix: prefix.value, rate: Rate { per_minute_e8, currency }, trunk });
    }
    rates
}

/// A decimal price in 10⁻⁸, exactly: money is never a float.
fn per_minute(text: &str) -> Result<i64, String> {
    let wrong =
        || format!("\"{text}\" is no price; write a decimal number with at most 8 places, as \"0.0125\"");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 9 || fraction.len() > 8 {
        return Err(wrong());
    }
    format!("{whole}{fraction:0<8}").parse().map_err(|_| wrong())
}
