//! What may be configured, each setting with its unit and its default.

use super::{
    stir::StirConfig,
    values::{DEFAULT_NETWORK, Listen},
};
use crate::media::{LoadLimit, Ringing};
use crate::sip::auth::Algorithm;
use crate::types::{AudioCodec, DtmfMode, E164, NetworkId, Place, Rate, Secret, SrtpSuite, Transport};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

pub use super::trunk::{CalledFrom, IdentityHeader, Prack, SrtpMode, TrunkAuth, TrunkConfig};

/// The whole configuration file. Relative paths are already joined to the file's directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub dialplan: PathBuf,
    pub gateway: GatewayConfig,
    pub sip: SipConfig,
    pub tls: TlsConfig,
    pub stir: StirConfig,
    pub dns: DnsConfig,
    /// Never empty; the first one is `default`. The index is the [`NetworkId`].
    pub networks: Vec<NetworkConfig>,
    pub app: AppConfig,
    pub registrar: RegistrarConfig,
    pub limits: LimitsConfig,
    pub lines: LinesConfig,
    pub guard: GuardConfig,
    pub media: MediaConfig,
    pub opus: OpusConfig,
    pub log: LogConfig,
    pub trace: TraceConfig,
    pub database: DatabaseConfig,
    pub admin: AdminConfig,
    pub billing: BillingConfig,
    pub rates: Vec<RateConfig>,
    pub users: Vec<UserConfig>,
    /// The index is the [`TrunkIndex`](crate::routing::TrunkIndex).
    pub trunks: Vec<TrunkConfig>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            dialplan: "../dialplans/default.toml".into(),
            gateway: GatewayConfig::default(),
            sip: SipConfig::default(),
            tls: TlsConfig::default(),
            stir: StirConfig::default(),
            dns: DnsConfig::default(),
            networks: vec![NetworkConfig::default()],
            app: AppConfig::default(),
            registrar: RegistrarConfig::default(),
            limits: LimitsConfig::default(),
            lines: LinesConfig::default(),
            guard: GuardConfig::default(),
            media: MediaConfig::default(),
            opus: OpusConfig::default(),
            log: LogConfig::default(),
            trace: TraceConfig::default(),
            database: DatabaseConfig::default(),
            admin: AdminConfig::default(),
            billing: BillingConfig::default(),
            rates: Vec::new(),
            users: Vec::new(),
            trunks: Vec::new(),
        }
    }
}

impl Config {
    pub fn network(&self, id: NetworkId) -> &NetworkConfig {
        self.networks.get(usize::from(id.0)).unwrap_or(&self.networks[0])
    }
    pub fn network_id(&self, name: &str) -> Option<NetworkId> {
        self.networks.iter().position(|network| network.name == name).map(|index| NetworkId(index as u8))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// Name of this gateway in CDRs, metrics and logs.
    pub name: String,
    /// Where state is kept that must survive a restart.
    pub data_dir: PathBuf,
    /// How long running calls may go on after SIGTERM before they get a BYE.
    pub drain: Duration,
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        GatewayConfig { name: "gw1".into(), data_dir: "data".into(), drain: Duration::from_secs(300) }
    }
}

/// What is kept and told of the signalling of calls.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// The ladders of so many calls are kept in memory; 0: none.
    pub calls: usize,
    /// Let the admin role see messages unmasked and take captures.
    pub whole: bool,
    /// Where copies of all messages go (HEP 3 over UDP), as they are; `None`: nowhere.
    pub hep: Option<SocketAddr>,
    /// How this gateway is called there.
    pub hep_id: u32,
    /// What it asks of those who send it copies; empty: nothing.
    pub hep_password: Secret,
}

impl Default for TraceConfig {
    fn default() -> TraceConfig {
        // Some 20 messages of 1 KB a call: 4 MB in all.
        TraceConfig { calls: 200, whole: false, hep: None, hep_id: 2001, hep_password: Secret::default() }
    }
}

/// Whom to ask where trunks are (RFC 3263).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DnsConfig {
    /// Empty: the servers of the system.
    pub servers: Vec<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SipConfig {
    pub listen: Vec<Listen>,
    /// The domain of the app users: digest realm and host part of their addresses.
    pub realm: String,
    /// Digest algorithms offered to callers, one challenge each, in this order (RFC 8760 §2.3). Never empty.
    pub digest: Vec<Algorithm>,
    /// Value of the Server and User-Agent headers; empty: neither is sent.
    pub user_agent: String,
    /// RFC 3261 §17.1.1.1: estimate of the round trip.
    pub t1: Duration,
    /// RFC 3261 §17.1.2.2: longest interval between retransmissions.
    pub t2: Duration,
    /// RFC 3261 §17.1.2.2: how long a message may stay in the network.
    pub t4: Duration,
    /// A larger message gets 513.
    pub max_message_bytes: usize,
    /// A stream without any byte for this long is closed.
    pub stream_idle: Duration,
    /// Streams from one address.
    pub max_streams_per_address: usize,
}

impl Default for SipConfig {
    fn default() -> SipConfig {
        let any = |transport| Listen {
            transport,
            bind: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 5060),
            network: NetworkId(0),
        };
        SipConfig {
            listen: vec![any(Transport::Udp), any(Transport::Tcp)],
            realm: "example.org".into(),
            // Old phones read only the first challenge and know only MD5.
            digest: vec![Algorithm::Md5, Algorithm::Sha256],
            user_agent: "Tandem".into(),
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            max_message_bytes: 32 * 1024,
            // Longer than the usual registration refresh, so that a device's stream outlives it.
            stream_idle: Duration::from_secs(3_900),
            max_streams_per_address: 64,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsConfig {
    /// Certificate chain in PEM; needed where a listener or trunk speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Private key in PEM.
    pub key: Option<PathBuf>,
    /// Authorities that trunks' certificates are checked against; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Authorities of client certificates; with it, callers over TLS are asked for one.
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    pub name: String,
    /// Addresses media is received on, one of each family at most where it is not unspecified.
    pub bind: Vec<IpAddr>,
    /// Advertised in SDP and Contact; at most one of each family. Empty: the source address of the route.
    pub public_address: Vec<IpAddr>,
    pub media_ports: RangeInclusive<u16>,
    pub dscp_signalling: u8,
    pub dscp_media: u8,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            name: DEFAULT_NETWORK.into(),
            bind: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            public_address: Vec::new(),
            media_ports: 20_000..=29_999,
            dscp_signalling: 24,
            dscp_media: 46,
        }
    }
}

impl NetworkConfig {
    /// The advertised address of the family of `peer`.
    pub fn public_address_for(&self, peer: IpAddr) -> Option<IpAddr> {
        self.public_address.iter().copied().find(|address| address.is_ipv4() == peer.to_canonical().is_ipv4())
    }
}

/// How SRTP is used towards app users' devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppSrtp {
    Off,
    /// Keys in SDP (RFC 4568), always.
    Sdes,
    /// Keys in SDP for devices that are registered over TLS, plain RTP for the others.
    Auto,
}

/// The app users' side.
#[derive(Debug, Clone, PartialEq)]
pub struct AppConfig {
    /// In order of preference.
    pub codecs: Vec<AudioCodec>,
    pub dtmf: DtmfMode,
    pub srtp: AppSrtp,
    /// Suites offered to devices, best first, and taken from them. Never empty.
    pub srtp_suites: Vec<SrtpSuite>,
    /// Send media to where it comes from rather than to the address in SDP: devices sit behind NAT.
    pub latch: bool,
    /// What a REFER of a user may do.
    pub transfer: Transfer,
    /// What a 302 of a user's device may do.
    pub forward: Transfer,
}

/// How far a REFER may move a call (RFC 3515), or a 302 of a device send it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    Off,
    /// To app users.
    Users,
    /// To whatever its sender may call.
    All,
}

impl Default for AppConfig {
    fn default() -> AppConfig {
        AppConfig {
            codecs: vec![AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu],
            dtmf: DtmfMode::Rfc4733,
            srtp: AppSrtp::Auto,
            srtp_suites: SrtpSuite::USUAL.to_vec(),
            latch: true,
            // Its user proves itself and pays for where it goes.
            transfer: Transfer::All,
            // Its user pays here too, and the device was let in with its password.
            forward: Transfer::All,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct RegistrarConfig {
    /// A shorter registration gets 423 with this (RFC 3261 §10.3).
    pub min_expires: Duration,
    /// A longer registration is shortened to this.
    pub max_expires: Duration,
    /// Where the device asks for no time.
    pub default_expires: Duration,
    /// Devices of one user.
    pub max_bindings: usize,
}

impl Default for RegistrarConfig {
    fn default() -> RegistrarConfig {
        RegistrarConfig {
            min_expires: Duration::from_secs(60),
            max_expires: Duration::from_secs(3_600),
            default_expires: Duration::from_secs(3_600),
            max_bindings: 8,
        }
    }
}

/// What one gateway and one user may use.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitsConfig {
    /// Calls at once; `None`: as many as there are media ports.
    pub max_calls: Option<u32>,
    /// Calls of one user at once, unless the user has its own limit.
    pub max_calls_per_user: u32,
    /// An answered call is ended after this.
    pub max_duration: Duration,
    /// A call that nobody answers is ended after this.
    pub ring: Duration,
    /// So long after an emergency call its caller can be called back whatever the limits say.
    pub emergency_callback: Duration,
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            max_calls: None,
            // A person with two devices, one of them transferring, needs four; a stolen password gets no more.
            max_calls_per_user: 4,
            max_duration: Duration::from_secs(4 * 3_600),
            ring: Duration::from_secs(120),
            // A line that broke down, or a helper that asks for the way, calls back within minutes.
            emergency_callback: Duration::from_secs(1_800),
        }
    }
}

/// The test lines that a dialplan rule leads to with `to = "line:NAME"`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinesConfig {
    /// An answered call to a test line is ended after this.
    pub max_duration: Duration,
    /// Frequency of the tone line, in Hz.
    pub tone_hertz: u16,
    /// Its level, in dBm0.
    pub tone_dbm0: i8,
}

impl Default for LinesConfig {
    fn default() -> LinesConfig {
        LinesConfig {
            // Long enough to measure, too short to park on.
            max_duration: Duration::from_secs(300),
            // Not 1000 Hz: a tone that divides the sampling rate exercises few of the code's steps (ITU-T O.133).
            tone_hertz: 1_004,
            tone_dbm0: -10,
        }
    }
}

/// Protection from floods and password guessing.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardConfig {
    /// Requests a second that one unproven address may send on average.
    pub requests_per_second: u32,
    /// Requests it may send at once.
    pub burst: u32,
    /// Wrong passwords for one user from one address before answers are delayed.
    pub auth_failures: u32,
    /// First delay after them; every further failure doubles it.
    pub auth_backoff: Duration,
    pub auth_backoff_max: Duration,
    /// Life of a digest nonce.
    pub nonce_lifetime: Duration,
}

impl Default for GuardConfig {
    fn default() -> GuardConfig {
        GuardConfig {
            // An office of a hundred phones behind one address re-registers at once after a power cut.
            requests_per_second: 50,
            burst: 400,
            auth_failures: 5,
            auth_backoff: Duration::from_secs(2),
            auth_backoff_max: Duration::from_secs(900),
            nonce_lifetime: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MediaConfig {
    /// Media threads; 0 = one per core.
    pub workers: usize,
    /// A leg without media for this long ends the call; `None`: never.
    pub timeout: Option<Duration>,
    /// Packet time we send with.
    pub ptime_ms: u8,
    /// How ringing sounds where the gateway makes it itself.
    pub ringback: Ringing,
    /// How busy a media thread may be before new calls are refused.
    pub load_limit: LoadLimit,
}

impl Default for MediaConfig {
    fn default() -> MediaConfig {
        MediaConfig {
            workers: 0,
            timeout: Some(Duration::from_secs(30)),
            ptime_ms: 20,
            ringback: Ringing::default(),
            load_limit: LoadLimit::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OpusConfig {
    /// Bits a second.
    pub bitrate: u32,
    /// 0 (cheapest) to 10 (best).
    pub complexity: u8,
    /// In-band forward error correction (RFC 7587 §3.2).
    pub fec: bool,
    /// Discontinuous transmission in silence (RFC 7587 §3.1.3).
    pub dtx: bool,
}

impl Default for OpusConfig {
    fn default() -> OpusConfig {
        OpusConfig { bitrate: 24_000, complexity: 5, fec: true, dtx: true }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    pub format: LogFormat,
    /// Filter as of tracing-subscriber: `info,tandem::sip=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { format: LogFormat::Text, level: "info,tandem::sip=info".into() }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseConfig {
    /// `sqlite:PATH` or `postgres://user:password@host/name`. It may carry a password.
    pub url: Secret,
}

impl Default for DatabaseConfig {
    fn default() -> DatabaseConfig {
        DatabaseConfig { url: Secret::new("sqlite:data/tandem.db") }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct AdminConfig {
    /// `None`: no admin API.
    pub listen: Option<SocketAddr>,
    /// May do everything. `None`: only health and metrics are served.
    pub token: Option<Secret>,
    /// May look and act on calls and trunks.
    pub operate_token: Option<Secret>,
    /// May look.
    pub read_token: Option<Secret>,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            listen: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080)),
            token: None,
            operate_token: None,
            read_token: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct BillingConfig {
    /// Where call records are safe before they are in the database.
    pub journal_dir: PathBuf,
    /// Preallocated size of the journal in MiB; when it is full, new calls are refused.
    pub journal_mib: u32,
    /// An interim record of a running call is written this often.
    pub interim: Duration,
    /// After this a number in a CDR loses its last four digits.
    pub number_retention_days: u32,
}

impl Default for BillingConfig {
    fn default() -> BillingConfig {
        BillingConfig {
            journal_dir: "data/journal".into(),
            // About 250,000 records: a day of one call a second while the database is away.
            journal_mib: 256,
            interim: Duration::from_secs(60),
            number_retention_days: 90,
        }
    }
}

/// A price per minute for a prefix of the called number.
#[derive(Debug, Clone, PartialEq)]
pub struct RateConfig {
    /// `+` and digits; `+` alone is every number.
    pub prefix: String,
    pub rate: Rate,
    /// The trunk whose price this is (buy side); `None`: what the account pays (sell side).
    pub trunk: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct UserConfig {
    pub name: String,
    pub password: Secret,
    /// Numbers it may present; the first is the default.
    pub caller_ids: Vec<E164>,
    /// Numbers that ring it.
    pub dids: Vec<E164>,
    pub account: String,
    /// Its own limit of calls at once; `None`: `limits.max_calls_per_user`.
    pub max_calls: Option<u32>,
    /// Where it is, for emergency calls whose device does not say.
    pub place: Place,
}
