//! Builds the [`Config`] from the text of a file and checks what one section must know of another.

use super::{
    model::*,
    parties,
    problem::Problem,
    source::{At, KeyLines, Section, Source, nearest},
    stir,
    trunk::{self, optional, optional_seconds, seconds, some},
    values::{self, DEFAULT_NETWORK, Listen, SecretSources, word},
};
use crate::{
    media::LoadLimit,
    sip::auth::Algorithm,
    types::{NetworkId, Secret, Transport},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// A file that was read: what it says, where its parts stand, and what is wrong with it.
pub(super) struct Read {
    pub config: Config,
    pub problems: Vec<Problem>,
    /// Line of each trunk's header, in the order of `config.trunks`.
    pub trunk_lines: Vec<usize>,
    /// Line where the dialplan is named.
    pub dialplan_line: Option<usize>,
    /// Where the keys stand that the file writes.
    pub lines: KeyLines,
    /// Every key that exists, as `section.key`.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the test of the example file asks"))]
    pub known: Vec<String>,
}

/// Reads the text of a configuration file. Relative paths are joined to `base`, the file's directory.
pub(super) fn read(
    file: &Path,
    text: &str,
    base: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Read {
    let source = Source::new(file, text);
    let root = source.parse(text);
    let secrets = SecretSources { environment, base };
    let mut config = Config::default();
    let mut trunk_lines = Vec::new();
    let dialplan_line;
    {
        let top = Section::top(&source, &root);
        dialplan_line = top.has("dialplan").then(|| source.line(top.place("dialplan").start));
        config.dialplan = path(&top, "dialplan", base, config.dialplan);
        config.gateway = gateway(top.section("gateway"), base);
        config.networks = networks(&top);
        let networks = config.networks.clone();
        let network = |name: &str| network_id(&networks, name);
        config.sip = sip(top.section("sip"), &network);
        config.tls = tls(top.section("tls"), base);
        config.stir = stir::read(top.section("stir"), base);
        config.dns = dns(top.section("dns"));
        config.app = app(top.section("app"));
        config.registrar = registrar(top.section("registrar"));
        config.limits = limits(top.section("limits"));
        config.lines = lines(top.section("lines"));
        config.guard = guard(top.section("guard"));
        config.media = media(top.section("media"));
        config.opus = opus(top.section("opus"));
        config.log = log(top.section("log"));
        config.trace = trace(top.section("trace"), &secrets);
        config.database = database(top.section("database"), base, &secrets);
        config.admin = admin(top.section("admin"), &secrets);
        config.billing = billing(top.section("billing"), base);
        config.users = parties::users(&top, &secrets);
        let mut names: HashMap<String, usize> = HashMap::new();
        for section in top.sections("trunk") {
            let Some(At { value: trunk, span }) = trunk::read(section, network, &secrets, base, &config.stir)
            else {
                continue;
            };
            let line = source.line(span.start);
            if let Some(first) = names.insert(trunk.name.clone(), line) {
                source.error(
                    span,
                    format!("trunk \"{}\" exists already at line {first}; give it its own name", trunk.name),
                );
                continue;
            }
            config.trunks.push(trunk);
            trunk_lines.push(line);
        }
        config.rates = parties::rates(&top, &config.trunks);
        certificates(&top, &config);
        top.finish();
    }
    drop(root);
    let (problems, known, lines) = source.finish();
    Read { config, problems, trunk_lines, dialplan_line, lines, known }
}

fn path(s: &Section<'_>, key: &'static str, base: &Path, default: PathBuf) -> PathBuf {
    match s.text(key) {
        Some(text) if text.value.is_empty() => {
            s.error(text.span, format!("{key} is empty; write a path: {key} = \"{}\"", default.display()));
            base.join(default)
        }
        Some(text) => base.join(text.value),
        None => base.join(default),
    }
}

fn optional_path(s: &Section<'_>, key: &'static str, base: &Path) -> Option<PathBuf> {
    some(s.text_or(key, String::new())).map(|path| base.join(path))
}

fn network_id(networks: &[NetworkConfig], name: &str) -> Result<NetworkId, String> {
    match networks.iter().position(|network| network.name == name) {
        Some(index) => Ok(NetworkId(index as u8)),
        None => {
            let names: Vec<&str> = networks.iter().map(|network| network.name.as_str()).collect();
            Err(match nearest(name, &names) {
                Some(near) => format!("there is no network \"{name}\"; did you mean \"{near}\"?"),
                None => format!("there is no network \"{name}\"; write [[network]] name = \"{name}\""),
            })
        }
    }
}

fn trace(s: Section<'_>, secrets: &SecretSources<'_>) -> TraceConfig {
    let d = TraceConfig::default();
    let hep = s.parsed("hep", |text| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            format!("\"{text}\" is no address with a port; write \"192.0.2.60:9060\", or \"\" for none")
        }),
    });
    let config = TraceConfig {
        calls: s.number("calls", d.calls, 0..=100_000, "calls whose ladder is kept, 0 = none"),
        whole: s.flag("whole", d.whole),
        hep: hep.unwrap_or(d.hep),
        hep_id: s.number("hep_id", d.hep_id, 0..=u32::MAX, "number of this gateway at the capture server"),
        hep_password: s.parsed("hep_password", |text| secrets.read(text)).unwrap_or(d.hep_password),
    };
    s.finish();
    config
}

fn dns(s: Section<'_>) -> DnsConfig {
    let config = DnsConfig { servers: s.values("servers", Vec::new(), values::dns_server) };
    s.finish();
    config
}

fn gateway(s: Section<'_>, base: &Path) -> GatewayConfig {
    let d = GatewayConfig::default();
    let config = GatewayConfig {
        name: s.parsed("name", label).unwrap_or(d.name),
        data_dir: path(&s, "data_dir", base, d.data_dir),
        drain: seconds(s.number(
            "drain_seconds",
            d.drain.as_secs(),
            0..=86_400,
            "seconds for running calls to end",
        )),
    };
    s.finish();
    config
}

/// A name that is safe in metrics, paths and headers.
fn label(text: &str) -> Result<String, String> {
    let fine = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is no name; write letters, digits, - _ and ."))
    }
}

fn networks(top: &Section<'_>) -> Vec<NetworkConfig> {
    let mut networks: Vec<NetworkConfig> = vec![NetworkConfig::default()];
    let mut seen: HashMap<String, usize> = HashMap::new();
    for s in top.sections("network") {
        let d = NetworkConfig::default();
        let name = s.required("name", "\"ipx\"").map(|name| name.value);
        let network = NetworkConfig {
            name: name.clone().unwrap_or_default(),
            bind: s.values("bind", d.bind, address),
            public_address: public_address(&s),
            media_ports: s.parsed("media_ports", values::port_range).unwrap_or(d.media_ports),
            dscp_signalling: s.parsed("dscp_signalling", values::dscp).unwrap_or(d.dscp_signalling),
            dscp_media: s.parsed("dscp_media", values::dscp).unwrap_or(d.dscp_media),
        };
        if network.bind.is_empty() && s.has("bind") {
            s.error(s.place("bind"), "network.bind holds no address; write bind = [\"0.0.0.0\", \"::\"]");
        }
        let span = s.span();
        let line = top.source.line(span.start);
        s.finish();
        let Some(name) = name else { continue };
        if let Some(first) = seen.insert(name.clone(), line) {
            top.error(
                span,
                format!("network \"{name}\" exists already at line {first}; give it its own name"),
            );
        } else if name == DEFAULT_NETWORK {
            networks[0] = network;
        } else if networks.len() > usize::from(u8::MAX) {
            top.error(span, "there are more than 256 networks");
        } else {
            networks.push(network);
        }
    }
    networks
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no address; write \"192.0.2.7\" or \"2001:db8::1\""))
}

fn public_address(s: &Section<'_>) -> Vec<IpAddr> {
    let list =
        s.list("public_address", |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) });
    let mut found: Vec<IpAddr> = Vec::new();
    for At { value, span } in list.unwrap_or_default() {
        let Some(value) = value else { continue };
        if value.is_unspecified() {
            s.error(
                span,
                format!("network.public_address: {value} is no address to advertise; write the public one"),
            );
        } else if found.iter().any(|known| known.is_ipv4() == value.is_ipv4()) {
            let message = "network.public_address takes one IPv4 and one IPv6 address; \
                           write [\"192.0.2.7\", \"2001:db8::1\"]";
            s.error(span, message);
        } else {
            found.push(value);
        }
    }
    found
}

fn sip(s: Section<'_>, network: &dyn Fn(&str) -> Result<NetworkId, String>) -> SipConfig {
    let d = SipConfig::default();
    let ms = |key, default: Duration, meaning| {
        Duration::from_millis(s.number(key, default.as_millis() as u64, 10..=60_000, meaning))
    };
    let listen = s.list("listen", |text| {
        let (transport, bind, name) = values::listen(text)?;
        if matches!(transport, Transport::Ws | Transport::Wss) {
            return Err(format!(
                "\"{text}\": this version does not listen on WebSocket; write udp, tcp or tls"
            ));
        }
        Ok(Listen { transport, bind, network: network(&name)? })
    });
    let mut sockets: Vec<Listen> = Vec::new();
    if let Some(list) = &listen {
        for At { value, span } in list {
            let same = |known: &&Listen| {
                known.bind == value.bind
                    && value.bind.port() != 0
                    && known.transport.is_reliable() == value.transport.is_reliable()
            };
            if sockets.iter().find(same).is_some() {
                s.error(span.clone(), format!("sip.listen has {} twice; write another port", value.bind));
            }
            sockets.push(*value);
        }
        if list.is_empty() {
            s.error(s.place("listen"), "sip.listen holds no listener; write listen = [\"udp:0.0.0.0:5060\"]");
        }
    }
    let config = SipConfig {
        listen: if listen.is_some() { sockets } else { d.listen },
        realm: s.parsed("realm", realm).unwrap_or(d.realm),
        digest: s.values("digest", d.digest, digest_algorithm),
        user_agent: s.parsed("user_agent", header_text).unwrap_or(d.user_agent),
        t1: ms("t1_ms", d.t1, "milliseconds, estimate of the round trip (RFC 3261 §17.1.1.1)"),
        t2: ms("t2_ms", d.t2, "milliseconds, longest retransmission interval"),
        t4: ms("t4_ms", d.t4, "milliseconds a message may stay in the network"),
        max_message_bytes: s.number(
            "max_message_bytes",
            d.max_message_bytes as u64,
            4_096..=65_535,
            "bytes of the largest message taken",
        ) as usize,
        stream_idle: seconds(s.number(
            "stream_idle_seconds",
            d.stream_idle.as_secs(),
            10..=86_400,
            "seconds until a silent stream is closed",
        )),
        max_streams_per_address: s.number(
            "max_streams_per_address",
            d.max_streams_per_address as u64,
            1..=100_000,
            "streams from one address",
        ) as usize,
    };
    if config.t1 > config.t2 {
        s.error(s.place("t1_ms"), "sip.t1_ms is longer than sip.t2_ms; write t1_ms = 500 and t2_ms = 4000");
    }
    if config.digest.is_empty() {
        s.error(s.place("digest"), "sip.digest holds no algorithm; write digest = [\"MD5\", \"SHA-256\"]");
    }
    s.finish();
    config
}

/// Those of which a user's HA1 is stored.
fn digest_algorithm(text: &str) -> Result<Algorithm, String> {
    word(text, &[Algorithm::Md5, Algorithm::Sha256].map(|known| (known.as_str(), known)))
}

fn realm(text: &str) -> Result<String, String> {
    let host = values::host_port(text).map_err(|_| {
        format!(
            "\"{text}\" is no domain; write the part after @ of your users' addresses, as \"example.org\""
        )
    })?;
    if host.port.is_some() {
        Err(format!("\"{text}\" has a port; write \"{}\"", host.host))
    } else {
        Ok(host.host)
    }
}

fn header_text(text: &str) -> Result<String, String> {
    if text.len() <= 128 && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err("it must be one line of printable ASCII; write \"Tandem\"".into())
    }
}

fn tls(s: Section<'_>, base: &Path) -> TlsConfig {
    let config = TlsConfig {
        certificate: optional_path(&s, "certificate", base),
        key: optional_path(&s, "key", base),
        ca: optional_path(&s, "ca", base),
        client_ca: optional_path(&s, "client_ca", base),
    };
    if config.certificate.is_some() != config.key.is_some() {
        s.error(s.span(), "tls needs both: certificate = \"tls/cert.pem\" and key = \"tls/key.pem\"");
    }
    s.finish();
    config
}

fn app(s: Section<'_>) -> AppConfig {
    let d = AppConfig::default();
    let srtp = [("off", AppSrtp::Off), ("sdes", AppSrtp::Sdes), ("auto", AppSrtp::Auto)];
    let config = AppConfig {
        codecs: s.values("codecs", d.codecs, values::codec),
        dtmf: s.parsed("dtmf", trunk::dtmf).unwrap_or(d.dtmf),
        srtp: s.parsed("srtp", |text| word(text, &srtp)).unwrap_or(d.srtp),
        srtp_suites: super::values::suites(&s, d.srtp_suites),
        latch: s.flag("latch", d.latch),
        transfer: s.parsed("transfer", trunk::transfer).unwrap_or(d.transfer),
        forward: s.parsed("forward", trunk::transfer).unwrap_or(d.forward),
    };
    if config.codecs.is_empty() {
        s.error(
            s.place("codecs"),
            "app.codecs holds no codec; write codecs = [\"opus\", \"PCMA\", \"PCMU\"]",
        );
    }
    s.finish();
    config
}

fn registrar(s: Section<'_>) -> RegistrarConfig {
    let d = RegistrarConfig::default();
    let time =
        |key, default: Duration, meaning| seconds(s.number(key, default.as_secs(), 1..=604_800, meaning));
    let config = RegistrarConfig {
        min_expires: time("min_expires_seconds", d.min_expires, "seconds of the shortest registration"),
        max_expires: time("max_expires_seconds", d.max_expires, "seconds of the longest registration"),
        default_expires: time(
            "default_expires_seconds",
            d.default_expires,
            "seconds where the device asks for none",
        ),
        max_bindings: s.number("max_bindings", d.max_bindings as u64, 1..=100, "devices of one user")
            as usize,
    };
    if config.min_expires > config.max_expires {
        s.error(
            s.place("min_expires_seconds"),
            "registrar.min_expires_seconds is longer than max_expires_seconds",
        );
    }
    s.finish();
    config
}

fn lines(s: Section<'_>) -> LinesConfig {
    let d = LinesConfig::default();
    let config = LinesConfig {
        max_duration: seconds(s.number(
            "max_duration_seconds",
            d.max_duration.as_secs(),
            1..=86_400,
            "seconds of the longest call to a test line",
        )),
        tone_hertz: s.number("tone_hertz", d.tone_hertz, 200..=3_400, "Hz, what a telephone line carries"),
        tone_dbm0: s.number("tone_dbm0", d.tone_dbm0, -60..=0, "dBm0, 0 is the digital milliwatt"),
    };
    s.finish();
    config
}

fn limits(s: Section<'_>) -> LimitsConfig {
    let d = LimitsConfig::default();
    let config = LimitsConfig {
        max_calls: optional(s.number(
            "max_calls",
            0,
            0..=1_000_000,
            "calls at once, 0 = as many as ports allow",
        )),
        max_calls_per_user: s.number(
            "max_calls_per_user",
            d.max_calls_per_user,
            1..=10_000,
            "calls of one user at once",
        ),
        max_duration: seconds(s.number(
            "max_duration_seconds",
            d.max_duration.as_secs(),
            1..=604_800,
            "seconds of the longest call",
        )),
        ring: seconds(s.number(
            "ring_seconds",
            d.ring.as_secs(),
            1..=600,
            "seconds until an unanswered call ends",
        )),
        emergency_callback: seconds(s.number(
            "emergency_callback_seconds",
            d.emergency_callback.as_secs(),
            0..=86_400,
            "seconds in which the caller of an emergency call can be called back, 0 = none",
        )),
    };
    s.finish();
    config
}

fn guard(s: Section<'_>) -> GuardConfig {
    let d = GuardConfig::default();
    let time =
        |key, default: Duration, meaning| seconds(s.number(key, default.as_secs(), 1..=86_400, meaning));
    let config = GuardConfig {
        requests_per_second: s.number(
            "requests_per_second",
            d.requests_per_second,
            1..=100_000,
            "requests a second from one unproven address",
        ),
        burst: s.number("burst", d.burst, 1..=1_000_000, "requests at once from one unproven address"),
        auth_failures: s.number(
            "auth_failures",
            d.auth_failures,
            1..=1_000,
            "wrong passwords before a delay",
        ),
        auth_backoff: time("auth_backoff_seconds", d.auth_backoff, "seconds of the first delay"),
        auth_backoff_max: time(
            "auth_backoff_max_seconds",
            d.auth_backoff_max,
            "seconds of the longest delay",
        ),
        nonce_lifetime: time("nonce_seconds", d.nonce_lifetime, "seconds a nonce is taken"),
    };
    s.finish();
    config
}

fn media(s: Section<'_>) -> MediaConfig {
    let d = MediaConfig::default();
    let ptime = s.number("ptime_ms", d.ptime_ms, 10..=60, "milliseconds of a packet: 10, 20, 30, 40 or 60");
    if !matches!(ptime, 10 | 20 | 30 | 40 | 60) {
        // Opus has no other frame lengths in this range that G.711 shares (RFC 6716 §2.1.4).
        s.error(s.place("ptime_ms"), format!("media.ptime_ms is {ptime}; write 10, 20, 30, 40 or 60"));
    }
    let config = MediaConfig {
        workers: s.number("workers", d.workers as u64, 0..=256, "media threads, 0 = one per core") as usize,
        timeout: optional_seconds(s.number(
            "timeout_seconds",
            30,
            0..=86_400,
            "seconds without media, 0 = never",
        )),
        ptime_ms: ptime,
        ringback: s.parsed("ringback", values::ringing).unwrap_or(d.ringback),
        load_limit: LoadLimit::new(
            f32::from(s.number(
                "load_limit",
                85u8,
                1..=100,
                "percent of a media thread's time, above which new calls are refused",
            )) / 100.0,
        ),
    };
    s.finish();
    config
}

fn opus(s: Section<'_>) -> OpusConfig {
    let d = OpusConfig::default();
    let config = OpusConfig {
        bitrate: s.number("bitrate", d.bitrate, 6_000..=128_000, "bits a second"),
        complexity: s.number("complexity", d.complexity, 0..=10, "0 is cheapest, 10 best"),
        fec: s.flag("fec", d.fec),
        dtx: s.flag("dtx", d.dtx),
    };
    s.finish();
    config
}

fn log(s: Section<'_>) -> LogConfig {
    let d = LogConfig::default();
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let config = LogConfig {
        format: s.parsed("format", |text| word(text, &formats)).unwrap_or(d.format),
        level: s.parsed("level", log_level).unwrap_or(d.level),
    };
    s.finish();
    config
}

/// Checks the filter's shape: `level` or `target=level`, separated by commas.
fn log_level(text: &str) -> Result<String, String> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',').map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !levels.contains(&level.to_ascii_lowercase().as_str()) {
            return Err(match nearest(level, &levels) {
                Some(near) => format!("\"{level}\" is no level; did you mean \"{near}\"?"),
                None => format!("\"{level}\" is no level; write {} or tandem::sip=debug", levels.join(", ")),
            });
        }
    }
    Ok(text.to_owned())
}

fn database(s: Section<'_>, base: &Path, secrets: &SecretSources<'_>) -> DatabaseConfig {
    let default = DatabaseConfig::default().url;
    let url = s.parsed("url", |text| database_url(secrets.read(text)?)).unwrap_or(default);
    let url = match url.expose().strip_prefix("sqlite:") {
        Some(path) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            let (file, options) = path.split_once('?').unwrap_or((path, ""));
            let options = if options.is_empty() { String::new() } else { format!("?{options}") };
            if file == ":memory:" {
                url
            } else {
                Secret::new(format!("sqlite:{}{options}", base.join(file).display()))
            }
        }
        None => url,
    };
    s.finish();
    DatabaseConfig { url }
}

fn database_url(url: Secret) -> Result<Secret, String> {
    let text = url.expose();
    if text.strip_prefix("sqlite:").is_some_and(|path| !path.is_empty())
        || text.starts_with("postgres://")
        || text.starts_with("postgresql://")
    {
        Ok(url)
    } else {
        // The value may hold a password, so it is not repeated.
        Err("it is no database; write \"sqlite:data/tandem.db\" or \"postgres://user:password@host/tandem\""
            .into())
    }
}

fn admin(s: Section<'_>, secrets: &SecretSources<'_>) -> AdminConfig {
    let d = AdminConfig::default();
    let token = |key| {
        let secret = s.parsed(key, |text| secrets.read(text))?;
        (!secret.expose().is_empty()).then_some(secret)
    };
    let listen = s.parsed("listen", |text| {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| format!("\"{text}\" is no address and port; write \"127.0.0.1:8080\""))
    });
    let config = AdminConfig {
        listen: listen.unwrap_or(d.listen),
        token: token("token"),
        operate_token: token("operate_token"),
        read_token: token("read_token"),
    };
    s.finish();
    config
}

fn billing(s: Section<'_>, base: &Path) -> BillingConfig {
    let d = BillingConfig::default();
    let config = BillingConfig {
        journal_dir: path(&s, "journal_dir", base, d.journal_dir),
        journal_mib: s.number("journal_mib", d.journal_mib, 8..=65_536, "MiB of the journal"),
        interim: seconds(s.number(
            "interim_seconds",
            d.interim.as_secs(),
            1..=3_600,
            "seconds between interim records",
        )),
        number_retention_days: s.number(
            "number_retention_days",
            d.number_retention_days,
            0..=36_500,
            "days until numbers are shortened",
        ),
    };
    s.finish();
    config
}

/// A TLS listener needs a certificate; a client certificate is only asked for there.
fn certificates(top: &Section<'_>, config: &Config) {
    if config.tls.certificate.is_some() {
        return;
    }
    if let Some(listen) = config.sip.listen.iter().find(|listen| listen.transport.is_secure()) {
        let message = format!(
            "sip.listen has {}:{}, which needs [tls] certificate = \"tls/cert.pem\" and key = \"tls/key.pem\"",
            listen.transport.as_str(),
            listen.bind
        );
        top.error(top.place("sip"), message);
    }
}
