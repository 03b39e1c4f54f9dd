//! The sheet an operator's interconnect form asks for: what one trunk's settings mean for the other side.

use crate::call::leg::extensions::Capabilities;
use crate::config::{Config, Prack, SrtpMode, StirVerify, Transfer, TrunkAuth, TrunkConfig};
use crate::routing::{Dialplan, NumberMatch, Rule, RuleAction};
use crate::types::{DtmfMode, Transport};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// The sheet, heading by heading.
#[derive(Debug, Serialize)]
pub struct Sheet {
    pub trunk: String,
    pub carrier: String,
    pub sections: Vec<Section>,
}

#[derive(Debug, Serialize)]
pub struct Section {
    pub title: &'static str,
    pub rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
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
    let auth = match trunk.auth {
        TrunkAuth::Ip => "by our address, without credentials".to_owned(),
        TrunkAuth::Digest => format!("digest, user {}, MD5 and SHA-256, 401 and 407", trunk.username),
        TrunkAuth::Register => format!(
            "REGISTER of {}@{} every {} and digest, MD5 and SHA-256",
            trunk.username,
            trunk.domain(),
            seconds(trunk.register)
        ),
    };
    let mut rows = vec![
        row("We listen at", listed(ours)),
        row("We send to", format!("{} over {}", listed(&trunk.proxy), trunk.transport.as_str())),
        row("Names are looked up", if trunk.naptr { "NAPTR, SRV, A, AAAA" } else { "SRV, A, AAAA" }),
        row("We take your calls from", peers),
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
        rows.push(row("TLS", format!("1.2 and 1.3; your certificate must carry {name}")));
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
        row("Calling number, as we send it", trunk.calling_format.as_str()),
        row("Host in From and To", trunk.domain()),
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
            "Transfer (REFER), taking calls over (Replaces)",
            match trunk.transfer {
                Transfer::Off | Transfer::All => "not used",
                Transfer::Users => {
                    "your calls with our users only: to another user, or two of them to each other"
                }
            },
        ),
        row("Redirection (3xx)", redirection(trunk)),
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
        row("Longest call", seconds(longest)),
        row("Longest ringing", seconds(trunk.ring.unwrap_or(config.limits.ring))),
    ];
    Section { title: "Capacity", rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_dialplan;
    use crate::types::{HostPort, Secret};
    use std::path::Path;

    fn trunk() -> TrunkConfig {
        let proxy = vec![HostPort { host: "sbc.operator.example".into(), port: None }];
        TrunkConfig {
            auth: TrunkAuth::Digest,
            username: "gw".into(),
            password: Secret::new("never-to-be-told"),
            max_channels: Some(30),
            ..TrunkConfig::new("operator-a", proxy)
        }
    }

    #[test]
    fn what_the_configuration_says_stands_in_the_sheet() {
        let mut config = Config::default();
        config.networks[0].public_address = vec!["198.51.100.7".parse().unwrap()];
        let text = Sheet::of(&config, &trunk()).markdown();
        for part in [
            "udp:198.51.100.7:5060",
            "sbc.operator.example over udp",
            "digest, user gw",
            "20000-29999",
            "PCMA, PCMU",
            "| Calls at once, both directions | 30 |",
            "408: next",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("never-to-be-told"));
    }

    #[test]
    fn the_methods_and_extensions_are_those_that_the_trunk_is_told() {
        let config = Config::default();
        let text = Sheet::of(&config, &trunk()).markdown();
        assert!(text.contains("| Methods | INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE |"), "{text}");
        let more = TrunkConfig {
            prack: Prack::Supported,
            transfer: Transfer::Users,
            redirect_to: vec![HostPort { host: "192.0.2.8".into(), port: None }],
            ..trunk()
        };
        let text = Sheet::of(&config, &more).markdown();
        for part in [
            "| Methods | INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REFER |",
            "| Extensions | 100rel, replaces |",
            "two of them to each other",
            "taken along) to 192.0.2.8 |",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_trunk_whose_callers_are_signed_hears_where_the_certificate_is() {
        let mut config = Config::default();
        config.stir.x5u = Some("https://cert.example.org/shaken.pem".into());
        let mut signed = trunk();
        signed.stir_sign = true;
        let text = Sheet::of(&config, &signed).markdown();
        assert!(text.contains("certificate at https://cert.example.org/shaken.pem"), "{text}");
        assert!(Sheet::of(&config, &trunk()).markdown().contains("not signed"));
    }

    #[test]
    fn an_operators_engineers_learn_the_numbers_of_the_test_lines_that_they_may_call() {
        let config = Config { trunks: vec![trunk()], ..Config::default() };
        let text = "[[rule]]\nfrom = \"any\"\nmatch = [\"+3225559901\", \"999\"]\nto = \"line:echo\"\n\
                    [[rule]]\nmatch = \"+3225559902\"\nto = \"line:tone\"\n";
        let plan = parse_dialplan(Path::new("d.toml"), text, config.trunk_forms()).unwrap().dialplan;
        let text = Sheet::of(&config, &trunk()).with_test_lines(&plan).markdown();
        assert!(text.contains("| echo | +3225559901, 999: the caller hears itself |"), "{text}");
        assert!(!text.contains("+3225559902"), "only for users: {text}");
        let none = Dialplan::empty(config.trunk_forms());
        assert!(!Sheet::of(&config, &trunk()).with_test_lines(&none).markdown().contains("Test numbers"));
    }

    #[test]
    fn another_setting_makes_another_sheet() {
        let config = Config::default();
        let plain = Sheet::of(&config, &trunk()).markdown();
        let changes: [fn(&mut TrunkConfig); 7] = [
            |trunk| trunk.dtmf = DtmfMode::Inband,
            |trunk| trunk.srtp = SrtpMode::Sdes,
            |trunk| trunk.session_timer = Some(Duration::from_secs(1_800)),
            |trunk| trunk.early_media = false,
            |trunk| trunk.transport = Transport::Tls,
            |trunk| trunk.options = None,
            |trunk| trunk.stir_verify = StirVerify::Require,
        ];
        for change in changes {
            let mut other = trunk();
            change(&mut other);
            assert_ne!(Sheet::of(&config, &other).markdown(), plain);
        }
    }
}
