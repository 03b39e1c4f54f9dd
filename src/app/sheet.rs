//! The sheet an operator's interconnect form asks for: what one trunk's settings mean for the other side.

use crate::call::leg::extensions::Capabilities;
use crate::config::{
    CalledFrom, Config, IdentityHeader, Prack, SrtpMode, StirVerify, Transfer, TrunkAuth, TrunkConfig,
};
use crate::routing::{Dialplan, EmergencyFormat, NumberMatch, Rule, RuleAction, ScreeningAction};
use crate::sip::header_rules::{Scope, Side};
use crate::stir::OwnCertificate;
use crate::types::{DtmfMode, E164, Transport};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// The sheet, heading by heading.
#[derive(Debug, Clone, Serialize)]
pub struct Sheet {
    pub trunk: String,
    pub carrier: String,
    pub sections: Vec<Section>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Section {
    pub title: &'static str,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub item: &'static str,
    pub value: String,
}

impl Sheet {
    /// Of a trunk of a configuration. Nothing secret stands in it: it is sent by mail.
    pub fn of(config: &Config, trunk: &TrunkConfig) -> Sheet {
        let sections = vec![
            signalling(config, trunk),
            media(config, trunk),
            numbers(config, trunk),
            features(config, trunk),
            capacity(config, trunk),
        ];
        Sheet { trunk: trunk.name.clone(), carrier: trunk.carrier.clone(), sections }
    }

    /// Adds what our certificate says of us, where the trunk sees it.
    pub fn with_certificate(mut self, trunk: &TrunkConfig, certificate: &OwnCertificate) -> Sheet {
        if trunk.transport == Transport::Tls
            && let Some(signalling) = self.sections.first_mut()
        {
            let names = listed(&certificate.names);
            let value = format!("{names}; issued by {}; until {}", certificate.issuer, certificate.until);
            signalling.rows.push(row("Our certificate", value));
        }
        self
    }

    /// Adds the test lines that the dialplan lets the trunk's engineers call.
    pub fn with_test_lines(mut self, dialplan: &Dialplan) -> Sheet {
        let Some(trunk) = dialplan.trunk_index(&self.trunk) else { return self };
        let reached = |rule: &Rule| match rule.action {
            RuleAction::Line(line) if rule.is_for_trunk(trunk) => {
                let numbers = rule.numbers.iter().map(|number| match number {
                    NumberMatch::Prefix(text) | NumberMatch::Short(text) | NumberMatch::Service(text) => {
                        text.as_str()
                    }
                    NumberMatch::Pattern(pattern) => pattern.as_str(),
                });
                Some(row(line.as_str(), format!("{}: {}", listed(numbers), line.meaning())))
            }
            RuleAction::Line(_) | RuleAction::Reject(_) | RuleAction::Users | RuleAction::Trunks { .. } => {
                None
            }
        };
        let rows: Vec<Row> = dialplan.rules.iter().filter_map(reached).collect();
        if !rows.is_empty() {
            self.sections.push(Section { title: "Test numbers", rows });
        }
        self
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("# Interconnect sheet: {} ({})\n", self.carrier, self.trunk);
        for section in &self.sections {
            let _ = write!(text, "\n## {}\n\n| item | value |\n|---|---|\n", section.title);
            for row in &section.rows {
                let _ = writeln!(text, "| {} | {} |", row.item, row.value.replace('|', "\\|"));
            }
        }
        text
    }
}

fn row(item: &'static str, value: impl Into<String>) -> Row {
    Row { item, value: value.into() }
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn seconds(span: Duration) -> String {
    if span.subsec_millis() == 0 {
        format!("{} s", span.as_secs())
    } else {
        format!("{} ms", span.as_millis())
    }
}

fn signalling(config: &Config, trunk: &TrunkConfig) -> Section {
    let network = config.network(trunk.network);
    let ours: Vec<_> = config
        .sip
        .listen
        .iter()
        .filter(|listen| listen.network == trunk.network)
        .map(|listen| {
            let ip = match network.public_address_for(listen.bind.ip()) {
                Some(public) => public.to_string(),
                None if listen.bind.ip().is_unspecified() => "(our address towards you)".to_owned(),
                None => listen.bind.ip().to_string(),
            };
            format!("{}:{ip}:{}", listen.transport.as_str(), listen.bind.port())
        })
        .collect();
    let peers = if trunk.peers.is_empty() {
        format!("the addresses of {}", listed(&trunk.proxy))
    } else {
        listed(&trunk.peers)
    };
    let realm = trunk.realm.as_ref().map_or(String::new(), |realm| format!(", realm {realm} alone"));
    let auth = match trunk.auth {
        TrunkAuth::Ip => "by our address, without credentials".to_owned(),
        TrunkAuth::Digest => {
            format!("digest, user {}, MD5 and SHA-256, 401 and 407{realm}", trunk.username)
        }
        TrunkAuth::Register => format!(
            "REGISTER of {}@{} every {}{} and digest, MD5 and SHA-256{realm}; Service-Route and Path are understood",
            trunk.username,
            trunk.domain(),
            seconds(trunk.register),
            if trunk.register_bulk { " for all numbers at once (RFC 6140, gin, bnc)" } else { "" }
        ),
    };
    let families = |v6: bool| {
        let ours = config.sip.listen.iter().filter(|listen| listen.network == trunk.network);
        ours.map(|listen| listen.bind.ip()).any(|ip| ip.is_ipv6() == v6)
    };
    let families = match (families(false), families(true)) {
        (true, true) => "IPv4 and IPv6",
        (false, true) => "IPv6",
        (true, false) | (false, false) => "IPv4",
    };
    let mut rows = vec![
        row("We listen at", listed(ours)),
        row("Address families", families),
        row("We send to", format!("{} over {}", listed(&trunk.proxy), trunk.transport.as_str())),
        row("Names are looked up", if trunk.naptr { "NAPTR, SRV, A, AAAA" } else { "SRV, A, AAAA" }),
        row("We take your calls from", format!("{peers}{}", carried_by(trunk))),
        row("We know your calls by", known_by(config, trunk)),
        row("We prove ourselves", auth),
        row(
            "SIP timers",
            format!(
                "T1 {}, T2 {}, T4 {}",
                seconds(config.sip.t1),
                seconds(config.sip.t2),
                seconds(config.sip.t4)
            ),
        ),
        row(
            "Your address is alive if it answers OPTIONS",
            match trunk.options {
                Some(interval) => format!("asked every {}", seconds(interval)),
                None => "not asked; calls tell".to_owned(),
            },
        ),
        row("Left without any answer after", seconds(trunk.reply_timeout)),
        row("Largest message", format!("{} octets", config.sip.max_message_bytes)),
        row("DSCP of signalling", network.dscp_signalling.to_string()),
    ];
    if trunk.transport == Transport::Tls {
        let name =
            trunk.tls_name.clone().unwrap_or_else(|| listed(trunk.proxy.iter().map(|proxy| &proxy.host)));
        let checked = match (&trunk.tls_ca, trunk.tls_verify) {
            (_, false) => "your certificate is not checked".to_owned(),
            (Some(_), true) => {
                format!("your certificate must carry {name}, from the authority agreed for this trunk")
            }
            (None, true) => format!("your certificate must carry {name}, from an authority that we trust"),
        };
        rows.push(row("TLS", format!("1.2 and 1.3; {checked}")));
        rows.push(row(
            "Mutual TLS",
            if config.tls.client_ca.is_some() {
                "we ask who connects to us for a certificate, and show ours where you ask"
            } else {
                "we ask nobody for a certificate, and show ours where you ask"
            },
        ));
    }
    Section { title: "Signalling", rows }
}

fn media(config: &Config, trunk: &TrunkConfig) -> Section {
    let network = config.network(trunk.network);
    let address = match network.public_address.as_slice() {
        [] => "our address towards you".to_owned(),
        public => listed(public),
    };
    let rows = vec![
        row("Codecs, in our order", listed(&trunk.codecs)),
        row("Packet time", format!("{} ms sent; 10 to 60 ms taken", config.media.ptime_ms)),
        row(
            "DTMF",
            match trunk.dtmf {
                DtmfMode::Rfc4733 => "telephone-event (RFC 4733), 0-16",
                DtmfMode::Inband => "tones in the voice",
            },
        ),
        row(
            "SRTP",
            match trunk.srtp {
                SrtpMode::Off => "no: RTP/AVP".to_owned(),
                SrtpMode::Sdes => {
                    let suites = trunk.srtp_suites.iter().map(|suite| suite.as_str());
                    format!("SDES (RFC 4568): RTP/SAVP; {}", suites.collect::<Vec<_>>().join(", "))
                }
            },
        ),
        row("Media addresses", address),
        row(
            "Media ports",
            format!(
                "{}-{} (UDP), even for RTP, the next for RTCP",
                network.media_ports.start(),
                network.media_ports.end()
            ),
        ),
        row(
            "Where we send media",
            if trunk.latch { "to where yours comes from" } else { "to the address of your SDP" },
        ),
        row(
            "Silence",
            if trunk.comfort_noise {
                "comfort noise (RFC 3389) is offered and taken"
            } else {
                "sent as sound; no comfort noise"
            },
        ),
        row("DSCP of media", network.dscp_media.to_string()),
        row("Fax", "G.711 passed clear; T.38 is declined"),
    ];
    Section { title: "Media", rows }
}

fn numbers(config: &Config, trunk: &TrunkConfig) -> Section {
    let signed = match (&config.stir.x5u, trunk.stir_sign) {
        (Some(x5u), true) => format!("signed (SHAKEN, attestation A, B, C), certificate at {x5u}"),
        (Some(_) | None, false) | (None, true) => "not signed".to_owned(),
    };
    let rows = vec![
        row("Called number, as we send it", trunk.called_format.as_str()),
        row(
            "Called number, as we read it",
            match trunk.called_from {
                CalledFrom::Uri => "the user part of the Request-URI",
                CalledFrom::To => "To",
                CalledFrom::CalledParty => "P-Called-Party-ID (RFC 7315), else the Request-URI",
            },
        ),
        row("Calling number, as we send it", trunk.calling_format.as_str()),
        row("Host in From and To", trunk.domain()),
        row(
            "Network number of our callers",
            match trunk.identity {
                IdentityHeader::Off => "not told beside From",
                IdentityHeader::Asserted => "P-Asserted-Identity (RFC 3325)",
                IdentityHeader::Preferred => "P-Preferred-Identity (RFC 3325)",
                IdentityHeader::RemoteParty => "Remote-Party-ID",
            },
        ),
        row(
            "Trust",
            if trunk.trusted {
                "one trust domain (RFC 3325): what you assert of your callers is believed"
            } else {
                "none: what you assert of your callers is not believed"
            },
        ),
        row(
            "Callers that withhold their number (CLIR)",
            format!(
                "From: anonymous@anonymous.invalid, Privacy: id; the network number is {}. Yours are not shown to users",
                if trunk.knows_hidden_caller() { "told all the same" } else { "not told" }
            ),
        ),
        row(
            "Callers' names",
            if trunk.calling_name { "told both ways (display name)" } else { "not told, nor shown" },
        ),
        row(
            "Connected number (TIP, TIR)",
            if trunk.connected_number {
                "P-Asserted-Identity in 18x and 200, both ways; Privacy is honoured"
            } else {
                "not told, nor passed on"
            },
        ),
        row(
            "P-Charging-Vector (RFC 7315)",
            if trunk.charging_vector {
                "in every INVITE; yours is passed on and answered"
            } else {
                "not used"
            },
        ),
        row(
            "Who sent a call on before",
            if trunk.diversion { "Diversion and History-Info are passed on" } else { "not told" },
        ),
        row("Numbers that your calls may come with", screening(trunk)),
        row(
            "Trunk group in our calls (RFC 4904)",
            trunk.trunk_group.as_ref().map_or("none".to_owned(), |group| {
                format!("tgrp={};trunk-context={}", group.name, group.context)
            }),
        ),
        row(
            "Number portability (RFC 4694)",
            if trunk.portability {
                "rn, npdi and cic are passed on"
            } else {
                "rn, npdi and cic are not passed on"
            },
        ),
        row(
            "Emergency calls",
            format!(
                "called {}; {}",
                match trunk.emergency_format {
                    EmergencyFormat::Number => "by number (112)",
                    EmergencyFormat::Urn => "by URN (urn:service:sos, RFC 5031)",
                },
                if trunk.location {
                    "the caller's location goes along (Geolocation and PIDF-LO, RFC 6442)"
                } else {
                    "without a location"
                }
            ),
        ),
        row(
            "Phone network",
            if trunk.app_side {
                "an app's network: its calls never reach a phone number, and phone calls never reach it"
            } else {
                "calls from and to phone numbers"
            },
        ),
        row("Caller of our calls (STIR/SHAKEN)", signed),
        row(
            "Caller of your calls (STIR/SHAKEN)",
            match trunk.stir_verify {
                StirVerify::Off => "not checked",
                StirVerify::Mark => "checked; the call goes on, whatever comes of it",
                StirVerify::Require => "checked; a call that does not pass gets 403, 428, 436, 437 or 438",
            },
        ),
    ];
    Section { title: "Numbers", rows }
}

fn features(config: &Config, trunk: &TrunkConfig) -> Section {
    let rows = vec![
        row("Methods", Capabilities::of(Some(trunk), config).methods()),
        row("Extensions", listed([Capabilities::of(Some(trunk), config).extensions()])),
        row(
            "Reliable provisional responses (100rel)",
            match trunk.prack {
                Prack::Off => "not used",
                Prack::Supported => "supported",
                Prack::Required => "required",
            },
        ),
        row("Session timer", trunk.session_timer.map_or("not used".to_owned(), seconds)),
        row(
            "Early media",
            if trunk.early_media {
                "passed on (183 with SDP)"
            } else {
                "not passed on; the caller hears ringback"
            },
        ),
        row(
            "Early media by permission (P-Early-Media)",
            if trunk.p_early_media { "asked for and believed (RFC 5009)" } else { "not used" },
        ),
        row(
            "Transfer (REFER), taking calls over (Replaces)",
            match trunk.transfer {
                Transfer::Off | Transfer::All => "not used",
                Transfer::Users => {
                    "your calls with our users only: to another user, or two of them to each other"
                }
            },
        ),
        row("Redirection (3xx)", redirection(trunk)),
        row("Header rules", header_rules(trunk)),
        row("Hold", "re-INVITE with sendonly, inactive or 0.0.0.0"),
        row("Ends without media after", config.media.timeout.map_or("never".to_owned(), seconds)),
        row(
            "Another route is taken on",
            listed(trunk.failover.iter().map(|(key, action)| format!("{key}: {action}"))),
        ),
    ];
    Section { title: "Features", rows }
}

fn redirection(trunk: &TrunkConfig) -> String {
    match trunk.redirect_to.as_slice() {
        [] => "not followed".to_owned(),
        places => format!("followed with the same number (rn, npdi taken along) to {}", listed(places)),
    }
}

fn capacity(config: &Config, trunk: &TrunkConfig) -> Section {
    let limit = |limit: Option<u32>| limit.map_or("no limit of ours".to_owned(), |limit| limit.to_string());
    let longest = trunk.max_duration.unwrap_or(config.limits.max_duration);
    let rows = vec![
        row("Calls at once, both directions", limit(trunk.max_channels)),
        row("New calls a second, from us", limit(trunk.max_cps)),
        row("New calls a second, from you", limit(trunk.max_cps_in)),
        row("Longest call", seconds(longest)),
        row("Longest ringing", seconds(trunk.ring.unwrap_or(config.limits.ring))),
    ];
    Section { title: "Capacity", rows }
}

/// What tells the trunk's calls from others of the same address.
fn carried_by(trunk: &TrunkConfig) -> &'static str {
    match trunk.calls_over() {
        Transport::Udp => "",
        Transport::Tcp | Transport::Ws => ", over TCP or TLS",
        Transport::Tls | Transport::Wss => ", over TLS",
    }
}

fn known_by(config: &Config, trunk: &TrunkConfig) -> String {
    let asked = config.tls.client_ca.is_some() && trunk.is_known_by_name();
    let name = trunk.tls_name.as_ref().filter(|_| asked).map(|name| format!("your certificate, {name}"));
    let host = trunk.match_host.as_ref().map(|host| format!("the host they call, {host}"));
    let group = trunk.match_trunk_group.as_ref().map(|group| format!("their trunk group, {group}"));
    let marks: Vec<String> = [name, host, group].into_iter().flatten().collect();
    if marks.is_empty() { "where they come from".to_owned() } else { marks.join(" and ") }
}

fn screening(trunk: &TrunkConfig) -> String {
    let screening = &trunk.screening;
    let default = screening.default.as_ref().map_or("none".to_owned(), E164::to_string);
    let ranges = if screening.ranges.is_empty() { "any".to_owned() } else { listed(&screening.ranges) };
    match screening.action {
        ScreeningAction::Pass => format!("{ranges}; another one passes; without any: {default}"),
        ScreeningAction::Replace => format!("{ranges}; another one, or none, is replaced by {default}"),
        ScreeningAction::Reject => format!("{ranges}; a call with another one is refused (403)"),
    }
}

/// The fields that rules touch, by direction and message; what they write there may be nobody's business.
fn header_rules(trunk: &TrunkConfig) -> String {
    let of = |side: Side| {
        let rules = trunk.header_rules.0.iter().filter(move |rule| rule.side == side);
        let rules = rules.map(|rule| {
            let scope = match &rule.scope {
                Scope::Requests(methods) => listed(methods),
                Scope::Responses(_) => "responses to INVITE".to_owned(),
            };
            format!("{} {} in {scope}", rule.action.as_str(), rule.name)
        });
        let rules: Vec<String> = rules.collect();
        if rules.is_empty() { "none".to_owned() } else { rules.join("; ") }
    };
    if trunk.header_rules.is_empty() {
        return "none".to_owned();
    }
    format!("to you: {}. From you: {}", of(Side::To), of(Side::From))
}

#[cfg(test)]
mod tests;
