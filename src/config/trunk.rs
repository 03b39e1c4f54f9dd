//! The `[[trunk]]` section: an interconnect peer, how it is reached, recognised and spoken to.

use super::{
    header_rules,
    model::Transfer,
    source::{At, Section},
    stir::{self, StirConfig, StirVerify},
    values::{self, SecretSources, word},
};
use crate::{
    routing::{EmergencyFormat, FailoverTable, NumberFormat, PeerMatch, Screening, ScreeningAction},
    sip::header_rules::HeaderRules,
    types::{AudioCodec, DtmfMode, E164, HostPort, NetworkId, Secret, SrtpSuite, Transport},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How we authenticate towards a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrunkAuth {
    /// By our address or certificate.
    Ip,
    /// By answering its digest challenges.
    Digest,
    /// By a registration that is kept alive, and by digest.
    Register,
}

/// SRTP towards a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpMode {
    Off,
    /// Keys in SDP (RFC 4568).
    Sdes,
}

/// Reliable provisional responses (RFC 3262).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prack {
    Off,
    Supported,
    Required,
}

/// The header field in which our calls tell the caller's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityHeader {
    Off,
    /// P-Asserted-Identity (RFC 3325).
    Asserted,
    /// P-Preferred-Identity (RFC 3325): the trunk decides what it asserts.
    Preferred,
    /// Remote-Party-ID, for those who never changed.
    RemoteParty,
}

/// Where a trunk's calls say whom they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalledFrom {
    /// The Request-URI (RFC 3261 §8.2.2.1).
    Uri,
    /// To, where the Request-URI is our registered Contact.
    To,
    /// P-Called-Party-ID (RFC 7315 §4.2): what the Request-URI was before the operator put our Contact there.
    CalledParty,
}

/// A trunk group and the name or prefix it means something in (RFC 4904).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkGroup {
    pub name: String,
    pub context: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TrunkConfig {
    pub name: String,
    /// The company behind it; the name of the trunk where none is written.
    pub carrier: String,
    pub network: NetworkId,
    /// Tried in order; never empty.
    pub proxy: Vec<HostPort>,
    pub transport: Transport,
    /// Let NAPTR records of the proxy's name choose the transport (RFC 3263 §4.1).
    pub naptr: bool,
    pub auth: TrunkAuth,
    pub username: String,
    pub password: Secret,
    /// Answer only challenges of this realm; `None`: any realm of this trunk.
    pub realm: Option<String>,
    /// Host of From, To and of the registration; `None`: the host of the proxy.
    pub domain: Option<String>,
    /// Registration we ask for (auth = "register").
    pub register: Duration,
    /// Register for all of our numbers at once (RFC 6140).
    pub register_bulk: bool,
    /// Where its calls say whom they are for.
    pub called_from: CalledFrom,
    /// Where its calls come from; empty: the addresses its proxies resolve to.
    pub peers: Vec<PeerMatch>,
    /// The least that carries its calls where their address is what they are known by; `None`: `transport`.
    pub calls_over: Option<Transport>,
    /// Only calls to this host are this trunk's: tells two trunks of one SBC apart.
    pub match_host: Option<String>,
    /// Only calls that name this trunk group are this trunk's (RFC 4904).
    pub match_trunk_group: Option<String>,
    /// What our calls name: the trunk group in its context; `None`: nothing.
    pub trunk_group: Option<TrunkGroup>,
    /// Tell it where a number was ported to (RFC 4694).
    pub portability: bool,
    /// The name its certificate must carry, and by which its calls over mutual TLS are known;
    /// `None`: the proxy's host must be in its certificate.
    pub tls_name: Option<String>,
    /// Authorities for this trunk alone; `None`: `tls.ca`.
    pub tls_ca: Option<PathBuf>,
    /// Check chain and name of its certificate.
    pub tls_verify: bool,
    pub codecs: Vec<AudioCodec>,
    /// Calls at once, both directions; `None`: no limit.
    pub max_channels: Option<u32>,
    /// Calls a second that we send; `None`: no limit.
    pub max_cps: Option<u32>,
    /// Calls a second that it may send us; `None`: no limit.
    pub max_cps_in: Option<u32>,
    pub called_format: NumberFormat,
    pub calling_format: NumberFormat,
    pub identity: IdentityHeader,
    /// Its word counts (RFC 3325 §2.3): what it asserts of its callers is believed.
    pub trusted: bool,
    /// Tell it numbers that are withheld, with the wish that it shows them to nobody; `None`: as `trusted`.
    pub tell_withheld: Option<bool>,
    /// Another app's voice network (WhatsApp and the like): its calls may never reach a phone network, nor come from one.
    pub app_side: bool,
    /// How it wants the called party of emergency calls.
    pub emergency_format: EmergencyFormat,
    /// Tell it where the caller of an emergency call is.
    pub location: bool,
    /// Names of callers go to it, and its callers' names to whom they call.
    pub calling_name: bool,
    /// Tell it who answers its calls, and believe whom it says that ours have reached.
    pub connected_number: bool,
    /// Calls have an identifier for billing (P-Charging-Vector, RFC 7315 §4.6).
    pub charging_vector: bool,
    /// Tell it who sent a call on before (Diversion, History-Info).
    pub diversion: bool,
    /// What its own callers may call with.
    pub screening: Screening,
    /// Between OPTIONS that ask whether it is alive; `None`: it is never asked.
    pub options: Option<Duration>,
    /// No answer at all to an INVITE for this long, not even 100, and the next trunk is tried.
    pub reply_timeout: Duration,
    /// Its own longest call; `None`: `limits.max_duration`.
    pub max_duration: Option<Duration>,
    /// Its own time to answer; `None`: `limits.ring`.
    pub ring: Option<Duration>,
    pub dtmf: DtmfMode,
    /// Offer and accept comfort noise (RFC 3389) in place of a silence that is sent.
    pub comfort_noise: bool,
    pub srtp: SrtpMode,
    /// Suites we offer it, best first, and take from it. Never empty.
    pub srtp_suites: Vec<SrtpSuite>,
    pub prack: Prack,
    /// Session timer (RFC 4028); `None`: off.
    pub session_timer: Option<Duration>,
    /// Pass the trunk's media before the answer on to the caller (183); else the caller hears ringback.
    pub early_media: bool,
    /// Ask whether its early media may be heard, and believe the answer (P-Early-Media, RFC 5009).
    pub p_early_media: bool,
    /// Where its 3xx may send a call on, with the same number; empty: a 3xx is a failure.
    pub redirect_to: Vec<HostPort>,
    /// What its REFER may do.
    pub transfer: Transfer,
    /// Send media to where it comes from rather than to the address in SDP.
    pub latch: bool,
    /// Sign who calls in calls to it (RFC 8224).
    pub stir_sign: bool,
    pub stir_verify: StirVerify,
    pub failover: FailoverTable,
    /// What becomes of header fields on the way to it and from it.
    pub header_rules: HeaderRules,
}

impl TrunkConfig {
    /// A trunk with every setting at its default.
    pub fn new(name: impl Into<String>, proxy: Vec<HostPort>) -> TrunkConfig {
        let name = name.into();
        TrunkConfig {
            carrier: name.clone(),
            name,
            network: NetworkId(0),
            proxy,
            transport: Transport::Udp,
            naptr: false,
            auth: TrunkAuth::Ip,
            username: String::new(),
            password: Secret::default(),
            realm: None,
            domain: None,
            register: Duration::from_secs(3_600),
            register_bulk: false,
            called_from: CalledFrom::Uri,
            peers: Vec::new(),
            calls_over: None,
            match_host: None,
            match_trunk_group: None,
            trunk_group: None,
            portability: false,
            tls_name: None,
            tls_ca: None,
            tls_verify: true,
            codecs: vec![AudioCodec::Pcma, AudioCodec::Pcmu],
            max_channels: None,
            max_cps: None,
            max_cps_in: None,
            called_format: NumberFormat::PlusE164,
            calling_format: NumberFormat::PlusE164,
            identity: IdentityHeader::Off,
            trusted: false,
            tell_withheld: None,
            app_side: false,
            emergency_format: EmergencyFormat::Number,
            location: true,
            calling_name: false,
            connected_number: false,
            charging_vector: false,
            diversion: false,
            screening: Screening::default(),
            options: Some(Duration::from_secs(30)),
            // A black hole must be left in under 4 s; Timer A repeats at 0.5, 1.5 and 3.5 s (RFC 3261 §17.1.1.2).
            reply_timeout: Duration::from_millis(3_400),
            max_duration: None,
            ring: None,
            dtmf: DtmfMode::Rfc4733,
            comfort_noise: false,
            srtp: SrtpMode::Off,
            srtp_suites: SrtpSuite::USUAL.to_vec(),
            prack: Prack::Off,
            session_timer: None,
            early_media: true,
            p_early_media: false,
            redirect_to: Vec::new(),
            transfer: Transfer::Off,
            latch: false,
            stir_sign: false,
            stir_verify: StirVerify::Off,
            failover: FailoverTable::default(),
            header_rules: HeaderRules::default(),
        }
    }

    /// The least that carries its calls: where a forged source would do, an operator has to say so.
    pub fn calls_over(&self) -> Transport {
        self.calls_over.unwrap_or(self.transport)
    }

    /// Whether its certificate names it when it calls, where certificates are asked for.
    pub fn is_known_by_name(&self) -> bool {
        self.tls_name.is_some() && self.calls_over().is_secure()
    }

    /// Whether it learns the numbers of those who withhold them.
    pub fn knows_withheld(&self) -> bool {
        self.tell_withheld.unwrap_or(self.trusted)
    }

    /// Whether it learns the caller's own number though it is withheld. P-Preferred-Identity exists for that: who gets it
    /// asserts the number to its own network and shows it to nobody (RFC 3325 §9.2). Of anybody else that says nothing.
    pub fn knows_hidden_caller(&self) -> bool {
        self.tell_withheld.unwrap_or(self.trusted || self.identity == IdentityHeader::Preferred)
    }

    /// The host that From, To and a registration carry.
    pub fn domain(&self) -> &str {
        match &self.domain {
            Some(domain) => domain,
            None => self.proxy.first().map_or("", |proxy| &proxy.host),
        }
    }
}

/// Reads one `[[trunk]]`; `None` where it has no usable name or proxy (which is reported).
pub(super) fn read(
    section: Section<'_>,
    network: impl Fn(&str) -> Result<NetworkId, String>,
    secrets: &SecretSources<'_>,
    base: &Path,
    stir: &StirConfig,
) -> Option<At<TrunkConfig>> {
    let s = &section;
    let name = s.required("name", "\"operator-a\"");
    let proxy = proxy(s);
    let default = TrunkConfig::new(name.as_ref().map_or("", |name| &name.value), proxy);
    let trusted = s.flag("trusted", default.trusted);
    let identity = s.parsed("identity", identity).unwrap_or(default.identity);
    let carried = s.parsed("transport", transport).unwrap_or(default.transport);
    let calls_over = s.parsed("calls_over", transport);
    let trunk = TrunkConfig {
        carrier: s.text_or("carrier", default.carrier),
        network: s.parsed("network", network).unwrap_or(default.network),
        transport: carried,
        naptr: s.flag("naptr", default.naptr),
        auth: s.parsed("auth", auth).unwrap_or(default.auth),
        username: s.text_or("username", default.username),
        password: s.parsed("password", |text| secrets.read(text)).unwrap_or(default.password),
        realm: some(s.text_or("realm", String::new())),
        domain: some(s.text_or("domain", String::new())),
        register: seconds(s.number("register_seconds", 3_600, 60..=86_400, "seconds the registration lasts")),
        register_bulk: s.flag("register_bulk", default.register_bulk),
        called_from: s.parsed("called_from", called_from).unwrap_or(default.called_from),
        peers: s.values("peers", default.peers, values::peer),
        calls_over: calls_over.filter(|over| *over != carried),
        match_host: s.parsed("match_host", host).flatten(),
        match_trunk_group: s.parsed("match_trunk_group", group).flatten(),
        trunk_group: trunk_group(s),
        portability: s.parsed("portability", portability).unwrap_or(default.portability),
        tls_name: s.parsed("tls_name", host).flatten(),
        tls_ca: some(s.text_or("tls_ca", String::new())).map(|path| base.join(path)),
        tls_verify: s.flag("tls_verify", default.tls_verify),
        codecs: s.values("codecs", default.codecs, values::codec),
        max_channels: optional(s.number("max_channels", 0, 0..=100_000, "calls at once, 0 = no limit")),
        max_cps: optional(s.number("max_cps", 0, 0..=10_000, "calls a second, 0 = no limit")),
        max_cps_in: optional(s.number("max_cps_in", 0, 0..=10_000, "calls a second, 0 = no limit")),
        called_format: s.parsed("called_format", str::parse).unwrap_or(default.called_format),
        calling_format: s.parsed("calling_format", str::parse).unwrap_or(default.calling_format),
        identity,
        trusted,
        tell_withheld: tell_withheld(s, trusted, identity),
        app_side: s.flag("app_side", default.app_side),
        emergency_format: s.parsed("emergency_format", emergency_format).unwrap_or(default.emergency_format),
        location: s.flag("location", default.location),
        calling_name: s.flag("calling_name", default.calling_name),
        connected_number: s.flag("connected_number", default.connected_number),
        charging_vector: s.flag("charging_vector", default.charging_vector),
        diversion: s.flag("diversion", default.diversion),
        screening: Screening {
            ranges: s.values("calling_ranges", Vec::new(), values::number_prefix),
            default: s.parsed("calling_default", calling_default).flatten(),
            action: s.parsed("calling_screening", screening).unwrap_or_default(),
        },
        options: optional_seconds(s.number(
            "options_seconds",
            30,
            0..=3_600,
            "seconds between OPTIONS, 0 = off",
        )),
        reply_timeout: Duration::from_millis(s.number(
            "reply_timeout_ms",
            default.reply_timeout.as_millis() as u64,
            200..=32_000,
            "milliseconds without any answer before the next trunk is tried",
        )),
        max_duration: optional_seconds(s.number(
            "max_duration_seconds",
            0,
            0..=86_400 * 7,
            "longest call in seconds, 0 = limits.max_duration_seconds",
        )),
        ring: optional_seconds(s.number(
            "ring_seconds",
            0,
            0..=600,
            "seconds until a call nobody answers ends, 0 = limits.ring_seconds",
        )),
        dtmf: s.parsed("dtmf", dtmf).unwrap_or(default.dtmf),
        comfort_noise: s.flag("comfort_noise", default.comfort_noise),
        srtp: s.parsed("srtp", srtp).unwrap_or(default.srtp),
        srtp_suites: values::suites(s, default.srtp_suites),
        prack: s.parsed("prack", prack).unwrap_or(default.prack),
        session_timer: optional_seconds(s.number(
            "session_timer_seconds",
            0,
            0..=86_400,
            "session timer in seconds, 0 = off",
        )),
        early_media: s.flag("early_media", default.early_media),
        p_early_media: s.flag("p_early_media", default.p_early_media),
        redirect_to: s.values("redirect_to", default.redirect_to, values::host_port),
        transfer: s.parsed("transfer", transfer).unwrap_or(default.transfer),
        latch: s.flag("latch", default.latch),
        stir_sign: s.flag("stir_sign", default.stir_sign),
        stir_verify: s.parsed("stir_verify", stir::verify).unwrap_or(default.stir_verify),
        failover: failover(s),
        header_rules: header_rules::read(s),
        name: default.name,
        proxy: default.proxy,
    };
    check(s, &trunk);
    stir::check_trunk(s, trunk.stir_sign, trunk.stir_verify, stir);
    let span = s.span();
    section.finish();
    let usable = name.is_some() && !trunk.proxy.is_empty();
    usable.then_some(At { value: trunk, span })
}

fn proxy(s: &Section<'_>) -> Vec<HostPort> {
    let example = "write proxy = [\"sbc.operator.example\"]";
    if !s.has("proxy") {
        s.error(s.span(), format!("trunk.proxy is missing; {example}"));
    }
    if s.is_empty_list("proxy") {
        s.error(s.place("proxy"), format!("trunk.proxy is empty; {example}"));
    }
    s.values("proxy", Vec::new(), values::host_port)
}

/// Rules between the keys of one trunk.
fn check(s: &Section<'_>, trunk: &TrunkConfig) {
    match trunk.auth {
        TrunkAuth::Ip => {}
        TrunkAuth::Digest | TrunkAuth::Register => {
            let auth = if trunk.auth == TrunkAuth::Digest { "digest" } else { "register" };
            if trunk.username.is_empty() {
                s.error(
                    s.place("auth"),
                    format!("auth = \"{auth}\" needs username = \"…\" (or write auth = \"ip\")"),
                );
            }
            if trunk.password.expose().is_empty() && !s.has("password") {
                s.error(
                    s.place("auth"),
                    format!("auth = \"{auth}\" needs password = \"…\" (or write auth = \"ip\")"),
                );
            }
        }
    }
    if trunk.register_bulk && trunk.auth != TrunkAuth::Register {
        s.error(
            s.place("register_bulk"),
            "trunk.register_bulk is about a registration; write auth = \"register\"",
        );
    }
    if trunk.screening.action != ScreeningAction::Pass && trunk.screening.ranges.is_empty() {
        s.error(
            s.place("calling_screening"),
            "trunk.calling_screening needs calling_ranges = [\"+3225550\"], the numbers this trunk may call with",
        );
    }
    if trunk.charging_vector && !trunk.trusted {
        // RFC 7315 §4.6.2: it means nothing outside a trust domain, and must not leave it.
        s.error(s.place("charging_vector"), "trunk.charging_vector needs trusted = true (RFC 7315 §4.6.2)");
    }
    if trunk.codecs.is_empty() {
        s.error(s.place("codecs"), "trunk.codecs is empty; write codecs = [\"PCMA\", \"PCMU\"]");
    }
    if trunk.session_timer.is_some_and(|timer| timer < Duration::from_secs(90)) {
        // RFC 4028 §4: the absolute minimum of Session-Expires.
        s.error(
            s.place("session_timer_seconds"),
            "trunk.session_timer_seconds is below 90 (RFC 4028 §4); write 1800",
        );
    }
    for place in trunk.redirect_to.iter().filter(|place| place.host.parse::<std::net::IpAddr>().is_err()) {
        // Nobody looks a name up in the middle of a call.
        s.error(
            s.place("redirect_to"),
            format!(
                "trunk.redirect_to has \"{place}\"; write an address, as \"192.0.2.8\" or \"192.0.2.8:5060\""
            ),
        );
    }
    match trunk.transfer {
        Transfer::Off | Transfer::Users => {}
        // Nobody would pay for where it goes.
        Transfer::All => s.error(
            s.place("transfer"),
            "trunk.transfer = \"all\" would let the trunk call phone numbers; write \"users\" or \"off\"",
        ),
    }
    if trunk.transport.is_reliable() && trunk.calls_over() == Transport::Udp {
        let message = "calls_over = \"udp\" takes whoever writes one of the trunk's addresses as the source of a datagram for the \
                       trunk; leave it out if its calls come by connections";
        s.source.warning(s.place("calls_over"), message);
    }
    match trunk.srtp {
        SrtpMode::Off => {}
        SrtpMode::Sdes => {
            if !trunk.transport.is_secure() {
                let message =
                    "srtp = \"sdes\" sends its keys in clear over this transport; write transport = \"tls\"";
                s.source.warning(s.place("srtp"), message);
            }
        }
    }
    if !trunk.transport.is_secure() {
        let written = [
            ("tls_name", trunk.tls_name.is_some()),
            ("tls_ca", trunk.tls_ca.is_some()),
            ("tls_verify", !trunk.tls_verify),
        ];
        for (key, _) in written.into_iter().filter(|(_, written)| *written) {
            s.source.warning(s.place(key), format!("trunk.{key} has no effect; write transport = \"tls\""));
        }
    }
}

/// Where it says what it would be anyway it says nothing.
fn tell_withheld(s: &Section<'_>, trusted: bool, identity: IdentityHeader) -> Option<bool> {
    let tell = s.has("tell_withheld").then(|| s.flag("tell_withheld", trusted));
    tell.filter(|tell| *tell != trusted || identity == IdentityHeader::Preferred)
}

fn failover(s: &Section<'_>) -> FailoverTable {
    let mut table = FailoverTable::default();
    for (key, action) in s.entries("failover") {
        match (key.value.parse(), action.value.parse()) {
            (Ok(key), Ok(action)) => table.set(key, action),
            (Err(message), _) => s.error(key.span, format!("trunk.failover: {message}")),
            (_, Err(message)) => s.error(action.span, format!("trunk.failover.\"{}\": {message}", key.value)),
        }
    }
    table
}

fn transport(text: &str) -> Result<Transport, String> {
    word(text, &[("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)])
}

fn auth(text: &str) -> Result<TrunkAuth, String> {
    word(text, &[("ip", TrunkAuth::Ip), ("digest", TrunkAuth::Digest), ("register", TrunkAuth::Register)])
}

fn called_from(text: &str) -> Result<CalledFrom, String> {
    word(
        text,
        &[("uri", CalledFrom::Uri), ("to", CalledFrom::To), ("p-called-party-id", CalledFrom::CalledParty)],
    )
}

fn identity(text: &str) -> Result<IdentityHeader, String> {
    word(
        text,
        &[
            ("off", IdentityHeader::Off),
            ("pai", IdentityHeader::Asserted),
            ("ppi", IdentityHeader::Preferred),
            ("rpid", IdentityHeader::RemoteParty),
        ],
    )
}

fn emergency_format(text: &str) -> Result<EmergencyFormat, String> {
    word(text, &[("number", EmergencyFormat::Number), ("urn", EmergencyFormat::Urn)])
}

fn portability(text: &str) -> Result<bool, String> {
    word(text, &[("drop", false), ("pass", true)])
}

/// `trunk_group` and `trunk_context`, which mean nothing without each other (RFC 4904 §5).
fn trunk_group(s: &Section<'_>) -> Option<TrunkGroup> {
    let name = s.parsed("trunk_group", group).flatten();
    let context = s.parsed("trunk_context", group).flatten();
    if name.is_some() != context.is_some() {
        let written = if name.is_some() { "trunk_group" } else { "trunk_context" };
        s.error(
            s.place(written),
            "a trunk group needs both: trunk_group = \"TG-1\" and trunk_context = \"example.com\"",
        );
    }
    Some(TrunkGroup { name: name?, context: context? })
}

/// Characters that stand in a parameter of a number unescaped (RFC 3966 §3).
fn group(text: &str) -> Result<Option<String>, String> {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._+!".contains(&b)) && text.len() <= 64 {
        Ok(some(text.to_owned()))
    } else {
        Err(format!("\"{text}\" can't stand in a number; write letters, digits, - . _ as \"TG-1\""))
    }
}

fn screening(text: &str) -> Result<ScreeningAction, String> {
    word(
        text,
        &[
            ("pass", ScreeningAction::Pass),
            ("replace", ScreeningAction::Replace),
            ("reject", ScreeningAction::Reject),
        ],
    )
}

fn calling_default(text: &str) -> Result<Option<E164>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| format!("\"{text}\" is no E.164 number; write \"+3225550000\", or \"\" for none"))
}

pub(super) fn dtmf(text: &str) -> Result<DtmfMode, String> {
    word(text, &[("rfc4733", DtmfMode::Rfc4733), ("inband", DtmfMode::Inband)])
}

fn srtp(text: &str) -> Result<SrtpMode, String> {
    if text == "dtls" {
        return Err("\"dtls\" is not spoken to trunks by this version; write \"sdes\" or \"off\"".into());
    }
    word(text, &[("off", SrtpMode::Off), ("sdes", SrtpMode::Sdes)])
}

pub(super) fn transfer(text: &str) -> Result<Transfer, String> {
    word(text, &[("off", Transfer::Off), ("users", Transfer::Users), ("all", Transfer::All)])
}

fn prack(text: &str) -> Result<Prack, String> {
    word(text, &[("off", Prack::Off), ("supported", Prack::Supported), ("required", Prack::Required)])
}

/// A host name, lower case; `None` where the text is empty.
fn host(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let host = values::host_port(text)?;
    match host.port {
        None => Ok(Some(host.host)),
        Some(_) => Err(format!("\"{text}\" has a port; write the host alone: \"{}\"", host.host)),
    }
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn optional_seconds(count: u64) -> Option<Duration> {
    (count > 0).then(|| seconds(count))
}

pub(super) fn optional(count: u32) -> Option<u32> {
    (count > 0).then_some(count)
}

pub(super) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
