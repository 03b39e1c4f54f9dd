//! The far side of each profile in `config/trunks/`: what such an operator speaks, asks for, and puts into its calls.

use super::treatment::{Decision, Progress, Treatment};
use crate::simulator::agent::{Demand, Manner};
use crate::sip::message::{HeaderName, NameAddr, Request, Typed, Uri};
use crate::types::{AudioCodec, HostPort};

/// What an interconnect is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interconnect {
    pub name: &'static str,
    pub about: &'static str,
    /// Signalling over TLS and keys in SDP; else UDP and TCP without.
    pub secure: bool,
    /// Whom it asks for a password.
    pub guard: Guarded,
    pub codecs: &'static [AudioCodec],
    /// Early media in a 183 before the answer, not a bare 180.
    pub early_media: bool,
    pub reliable: bool,
    pub p_early_media: bool,
    /// In seconds; `None`: it knows no session timers.
    pub session_timer: Option<u32>,
    pub allow: &'static str,
    /// It is registered at for all numbers at once (RFC 6140), and says then which way calls go (RFC 3608).
    pub bulk: bool,
    /// It asks whether the gateway lives once it was asked itself, as Teams does with a trunk.
    pub asks_back: bool,
    /// What each call towards it must have.
    pub demands: &'static [Demanded],
    /// Numbers with their `+`.
    pub plus: bool,
    /// Who calls, in its own calls.
    pub tells: &'static [Told],
}

/// What has to be proven with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    Nothing,
    Calls,
    CallsAndRegistrations,
}

/// What a call must have, or it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demanded {
    /// P-Asserted-Identity (RFC 3325), beside Privacy too.
    AssertedIdentity,
    /// P-Preferred-Identity, of which it makes what it asserts.
    PreferredIdentity,
    /// The agreed host in From: 403 with Warning 399 as WhatsApp has it.
    FromHost,
    /// A called number of digits, with `+` or without it.
    Number,
    /// 100rel in Supported.
    ReliableProgress,
    /// An identifier for billing (RFC 7315 §4.6).
    ChargingVector,
    /// The way that came with the registration, as Route.
    ServiceRoute,
}

/// What its own calls say of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    AssertedIdentity,
    /// Who sent the call on: Diversion and History-Info.
    Diversion,
    /// What the call is billed under.
    ChargingVector,
    /// WhatsApp's name of the call.
    CallName,
}

const PLAIN: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO";
const RELIABLE: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK";
const G711: &[AudioCodec] = &[AudioCodec::Pcma, AudioCodec::Pcmu];

const ORDINARY: Interconnect = Interconnect {
    name: "",
    about: "",
    secure: false,
    guard: Guarded::Nothing,
    codecs: G711,
    early_media: false,
    reliable: false,
    p_early_media: false,
    session_timer: None,
    allow: PLAIN,
    bulk: false,
    asks_back: false,
    demands: &[Demanded::Number],
    plus: true,
    tells: &[],
};

/// One for each file of `config/trunks/`, under its name.
pub static INTERCONNECTS: [Interconnect; 7] = [
    Interconnect {
        name: "sipconnect-register",
        about: "SIPconnect 2.0 by registration of all numbers: digest for REGISTER and calls, Service-Route, 100rel, session timers",
        guard: Guarded::CallsAndRegistrations,
        reliable: true,
        session_timer: Some(1_800),
        allow: RELIABLE,
        bulk: true,
        demands: &[
            Demanded::Number,
            Demanded::PreferredIdentity,
            Demanded::ReliableProgress,
            Demanded::ServiceRoute,
        ],
        tells: &[Told::AssertedIdentity],
        ..ORDINARY
    },
    Interconnect {
        name: "sipconnect-static",
        about: "SIPconnect 2.0 by address: TLS, SRTP, digest for calls, 100rel, session timers",
        secure: true,
        guard: Guarded::Calls,
        reliable: true,
        session_timer: Some(1_800),
        allow: RELIABLE,
        demands: &[Demanded::Number, Demanded::PreferredIdentity, Demanded::ReliableProgress],
        tells: &[Told::AssertedIdentity],
        ..ORDINARY
    },
    Interconnect {
        name: "plain-ip",
        about: "two switches by address: asserted identities and diversion both ways",
        codecs: &[AudioCodec::Pcma],
        demands: &[Demanded::Number, Demanded::AssertedIdentity],
        tells: &[Told::AssertedIdentity, Told::Diversion],
        ..ORDINARY
    },
    Interconnect {
        name: "ims-nni",
        about: "an IMS border: reliable early media by authorisation, session timers, asserted identities",
        early_media: true,
        reliable: true,
        p_early_media: true,
        session_timer: Some(1_800),
        allow: RELIABLE,
        demands: &[
            Demanded::Number,
            Demanded::AssertedIdentity,
            Demanded::FromHost,
            Demanded::ReliableProgress,
            Demanded::ChargingVector,
        ],
        tells: &[Told::AssertedIdentity, Told::Diversion, Told::ChargingVector],
        ..ORDINARY
    },
    Interconnect {
        name: "cloud-trunk",
        about: "a cloud provider: TLS, SRTP, digest for calls, PCMU first, early media",
        secure: true,
        guard: Guarded::Calls,
        codecs: &[AudioCodec::Pcmu, AudioCodec::Pcma],
        early_media: true,
        demands: &[Demanded::Number, Demanded::AssertedIdentity],
        tells: &[Told::AssertedIdentity],
        ..ORDINARY
    },
    Interconnect {
        name: "teams-direct-routing",
        about: "Teams Direct Routing: TLS, SRTP, the SBC's name in From, early media, session timers",
        secure: true,
        early_media: true,
        session_timer: Some(3_600),
        asks_back: true,
        demands: &[Demanded::Number, Demanded::AssertedIdentity, Demanded::FromHost],
        tells: &[Told::AssertedIdentity, Told::Diversion],
        ..ORDINARY
    },
    Interconnect {
        name: "whatsapp-business-calling",
        about: "WhatsApp Business Calling: TLS, SRTP, Opus, digest, the agreed host in From, no PRACK or UPDATE",
        secure: true,
        guard: Guarded::Calls,
        codecs: &[AudioCodec::Opus, AudioCodec::Pcma],
        allow: "INVITE, ACK, BYE, CANCEL, NOTIFY, OPTIONS",
        demands: &[Demanded::Number, Demanded::FromHost],
        plus: false,
        tells: &[Told::CallName],
        ..ORDINARY
    },
];

/// The interconnect of that name.
pub fn interconnect(name: &str) -> Option<&'static Interconnect> {
    INTERCONNECTS.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

impl Interconnect {
    /// How calls towards it go, unless their number asks for something else.
    pub fn treatment(&self) -> Treatment {
        let challenge = match self.guard {
            Guarded::Nothing => None,
            Guarded::Calls | Guarded::CallsAndRegistrations => Some(Demand::Proxy),
        };
        let progress = if self.early_media { Progress::EarlyMedia } else { Progress::Ringing };
        Treatment { challenge, progress, decision: Decision::Answer, ..Treatment::default() }
    }

    /// What its user agent says beside plain SIP.
    pub fn manner(&self) -> Manner {
        Manner {
            allow: self.allow,
            reliable: self.reliable,
            p_early_media: self.p_early_media,
            session_timer: self.session_timer,
            bulk: self.bulk,
        }
    }

    /// Why a call is refused that lacks what it must have; `host` is what From must have.
    pub fn refusal(&self, invite: &Request, host: Option<&str>) -> Option<(u16, String)> {
        self.demands.iter().find_map(|demanded| {
            let has = |name: &HeaderName| invite.headers.get(name).is_some();
            let (fine, status, why) = match demanded {
                Demanded::AssertedIdentity => {
                    (has(&HeaderName::PAssertedIdentity), 403, "P-Asserted-Identity is missing")
                }
                Demanded::PreferredIdentity => {
                    (has(&HeaderName::PPreferredIdentity), 403, "P-Preferred-Identity is missing")
                }
                Demanded::FromHost => {
                    let from = invite.from().map(|from| from.uri.host.host).unwrap_or_default();
                    // A hidden caller has no host in From (RFC 3323 §4.1.1.3); who asserts it names the host then.
                    let hidden = self.demands.contains(&Demanded::AssertedIdentity)
                        && invite.headers.lists(&HeaderName::Privacy, "id")
                        && from.eq_ignore_ascii_case("anonymous.invalid");
                    let named = match invite.addresses(&HeaderName::PAssertedIdentity) {
                        Ok(asserted) if hidden => asserted
                            .first()
                            .map(|asserted| asserted.uri.host.host.clone())
                            .unwrap_or_default(),
                        Ok(_) | Err(_) => from,
                    };
                    let fine = host.is_none_or(|host| named.eq_ignore_ascii_case(host));
                    (fine, 403, "From does not have the agreed host")
                }
                Demanded::Number => {
                    let number = invite.uri.subscriber();
                    let digits = number.strip_prefix('+');
                    let fine = digits.is_some() == self.plus
                        && digits.unwrap_or(&number).bytes().all(|octet| octet.is_ascii_digit());
                    (fine, 484, "the number is not in the agreed form")
                }
                Demanded::ChargingVector => {
                    let vector = invite.headers.get(&HeaderName::PChargingVector);
                    let fine = vector.is_some_and(|vector| vector.contains("icid-value="));
                    (fine, 403, "P-Charging-Vector is missing")
                }
                Demanded::ServiceRoute => {
                    (has(&HeaderName::Route), 403, "the Route of the registration is missing")
                }
                Demanded::ReliableProgress => (invite.supports("100rel"), 421, "100rel is not supported"),
            };
            (!fine).then(|| (status, why.to_owned()))
        })
    }

    /// The called number of its own calls, as it writes it.
    pub fn number<'n>(&self, number: &'n str) -> &'n str {
        if self.plus { number } else { number.strip_prefix('+').unwrap_or(number) }
    }

    /// What its own calls say of the caller, who may wish not to be shown (RFC 3325 §7).
    pub fn fields(
        &self,
        calling: &str,
        host: &HostPort,
        name: &str,
        withheld: bool,
    ) -> Vec<(HeaderName, String)> {
        let address = |user: &str| NameAddr::new(Uri::sip(Some(user), host.clone())).to_string();
        let told = |told: &Told| match told {
            Told::AssertedIdentity => vec![
                (HeaderName::PAssertedIdentity, address(calling)),
                (HeaderName::Privacy, if withheld { "id" } else { "none" }.to_owned()),
            ],
            Told::Diversion => vec![
                (HeaderName::Diversion, format!("{};reason=unconditional", address("+3220000001"))),
                (HeaderName::HistoryInfo, format!("{};index=1", address("+3220000001"))),
            ],
            Told::ChargingVector => {
                let value = format!("icid-value=\"{name}\";orig-ioi=ims.example");
                vec![(HeaderName::PChargingVector, value)]
            }
            Told::CallName => {
                vec![(HeaderName::from("x-wa-meta-wacid"), format!("wacid.{name}"))]
            }
        };
        self.tells.iter().flat_map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Method;

    #[test]
    fn there_is_one_for_each_profile_of_a_trunk() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/trunks");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
            .collect();
        files.sort();
        let mut names: Vec<&str> = INTERCONNECTS.iter().map(|known| known.name).collect();
        names.sort_unstable();
        assert_eq!(files, names);
        assert!(interconnect("IMS-NNI").is_some() && interconnect("ims").is_none());
    }

    #[test]
    fn a_call_that_lacks_what_was_agreed_is_refused_and_says_why() {
        let invite = |uri: &str, fields: &[(HeaderName, &str)]| {
            let request = Request::new(Method::Invite, uri.parse().unwrap())
                .with_header(HeaderName::From, "<sip:+3225550001@sbc.example>;tag=1");
            fields.iter().fold(request, |request, (name, value)| request.with_header(name.clone(), *value))
        };
        let status = |name: &str, request: &Request| {
            interconnect(name).unwrap().refusal(request, Some("sbc.example")).map(|(status, _)| status)
        };
        let asserted = (HeaderName::PAssertedIdentity, "<sip:+3225550001@sbc.example>");
        let reliable = (HeaderName::Supported, "100rel, timer");
        let vector = (HeaderName::PChargingVector, "icid-value=\"1\"");
        let number = "sip:+32470123456@operator.example";
        assert_eq!(status("plain-ip", &invite(number, &[])), Some(403));
        assert_eq!(status("plain-ip", &invite(number, std::slice::from_ref(&asserted))), None);
        assert_eq!(
            status("plain-ip", &invite("sip:0470@operator.example", std::slice::from_ref(&asserted))),
            Some(484)
        );
        assert_eq!(status("ims-nni", &invite(number, std::slice::from_ref(&asserted))), Some(421));
        let complete = [asserted, reliable, vector];
        assert_eq!(status("ims-nni", &invite(number, &complete[..2])), Some(403), "P-Charging-Vector");
        assert_eq!(status("ims-nni", &invite(number, &complete)), None);
        assert_eq!(status("whatsapp-business-calling", &invite(number, &[])), Some(484), "without its plus");
        let plain = invite("sip:32470123456@wa.example", &[]);
        assert_eq!(status("whatsapp-business-calling", &plain), None);
        let elsewhere =
            interconnect("whatsapp-business-calling").unwrap().refusal(&plain, Some("other.example"));
        assert_eq!(elsewhere.map(|(status, _)| status), Some(403));
    }
}
