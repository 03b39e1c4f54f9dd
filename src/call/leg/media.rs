//! The voice side of a leg: its ports, what was offered and agreed, and what the media worker is told.

use crate::call::event::MediaPorts;
use crate::call::settings::{Settings, Trunk};
use crate::config::{AppSrtp, SrtpMode};
use crate::media::{DtmfFormat, LegConfig, OpusSettings};
use crate::sdp::session::{Address, MediaKind};
use crate::sdp::{
    AnswerError, Capability, Local, Loopback, Negotiated, OpusParams, Refusal, Session, SrtpPolicy,
};
use crate::types::{AudioCodec, DtmfMode, LegReport, MediaDirection, Peer, SrtpSuite};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

/// What a leg may do with media, before anything is agreed.
#[derive(Debug, Clone)]
pub struct MediaPolicy {
    pub codecs: Vec<AudioCodec>,
    pub srtp: SrtpMode,
    pub suites: Vec<SrtpSuite>,
    pub latch: bool,
    /// The far end is a program of this machine.
    pub on_this_host: bool,
    pub dtmf: DtmfMode,
    pub comfort_noise: bool,
    pub ptime_ms: u8,
    pub opus: OpusSettings,
    /// The other side of the call is a telephone: the app need not send or expect more than it can carry.
    pub narrowband: bool,
}

impl MediaPolicy {
    pub fn trunk(trunk: &Trunk, peer: &Peer, settings: &Settings) -> MediaPolicy {
        MediaPolicy {
            codecs: trunk.config.codecs.clone(),
            srtp: trunk.config.srtp,
            suites: trunk.config.srtp_suites.clone(),
            latch: trunk.config.latch,
            on_this_host: peer.is_on_this_host(),
            dtmf: trunk.config.dtmf,
            comfort_noise: trunk.config.comfort_noise,
            ptime_ms: settings.media.ptime_ms,
            opus: opus_settings(settings),
            narrowband: false,
        }
    }

    /// Media of an app user is encrypted where its signalling is, unless the configuration says otherwise.
    pub fn user(peer: &Peer, settings: &Settings) -> MediaPolicy {
        let srtp = match settings.app.srtp {
            AppSrtp::Off => SrtpMode::Off,
            AppSrtp::Sdes => SrtpMode::Sdes,
            AppSrtp::Auto if peer.transport.is_secure() => SrtpMode::Sdes,
            AppSrtp::Auto => SrtpMode::Off,
        };
        MediaPolicy {
            codecs: settings.app.codecs.clone(),
            srtp,
            suites: settings.app.srtp_suites.clone(),
            latch: settings.app.latch,
            on_this_host: peer.is_on_this_host(),
            dtmf: settings.app.dtmf,
            // Apps are silent in Opus.
            comfort_noise: false,
            ptime_ms: settings.media.ptime_ms,
            opus: opus_settings(settings),
            narrowband: false,
        }
    }
}

impl MediaPolicy {
    fn capability(&self, address: SocketAddr, rtcp_port: u16) -> Capability {
        let opus = OpusParams {
            max_average_bitrate: self.opus.bitrate,
            fec: self.opus.fec,
            dtx: self.opus.dtx,
            ..OpusParams::default()
        };
        Capability {
            codecs: self.codecs.clone(),
            opus: if self.narrowband { opus.narrowband() } else { opus },
            dtmf: self.dtmf == DtmfMode::Rfc4733,
            comfort_noise: self.comfort_noise,
            srtp: match self.srtp {
                SrtpMode::Off => SrtpPolicy::Off,
                SrtpMode::Sdes => SrtpPolicy::Sdes,
            },
            suites: self.suites.clone(),
            address,
            rtcp_port,
            rtcp_mux: false,
            loopback: match (self.on_this_host, self.latch) {
                (true, _) => Loopback::Reached,
                (false, true) => Loopback::Unknown,
                (false, false) => Loopback::Refused,
            },
            ptime_ms: self.ptime_ms,
            direction: MediaDirection::SendRecv,
        }
    }

    /// Whether an answer to the offer exists: a shared codec, and encryption as both want it. Nothing is kept of the
    /// try; the real answer is made once the ports are known. `address` is where our media will be: an offer of the
    /// other family can't be answered.
    pub fn try_answer(&self, offer: &Session, address: IpAddr) -> Result<(), Refusal> {
        // No stream that is wanted has this port, so that none is taken for our own.
        let nowhere = SocketAddr::new(address, 0);
        Local::new(0, self.capability(nowhere, 0)).can_answer(offer)
    }
}

/// What a description of the far end lets us do with its audio (RFC 3264 §6.1). An unspecified address can't be sent
/// to: the old way to hold (RFC 2543 §B.5).
pub fn allowed_by(description: &Session) -> MediaDirection {
    let audio = description.medias().find(|media| media.kind() == MediaKind::Audio && media.port() != 0);
    audio.map_or(MediaDirection::Inactive, |audio| {
        let held = matches!(audio.address(), Some(Address::Ip(ip)) if ip.is_unspecified());
        let ours = audio.direction().reversed();
        direction(ours.sends() && !held, ours.receives())
    })
}

fn direction(sends: bool, receives: bool) -> MediaDirection {
    match (sends, receives) {
        (true, true) => MediaDirection::SendRecv,
        (true, false) => MediaDirection::SendOnly,
        (false, true) => MediaDirection::RecvOnly,
        (false, false) => MediaDirection::Inactive,
    }
}

/// The codecs of an offer that this gateway knows, in its order of preference.
pub fn offered_codecs(offer: &Session) -> Vec<AudioCodec> {
    let known = [AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu];
    let audio = offer.medias().find(|media| media.kind() == MediaKind::Audio && media.port() != 0);
    let payloads = audio.map(|media| media.payloads()).unwrap_or_default();
    let named =
        |encoding: &str| known.into_iter().find(|codec| codec.encoding_name().eq_ignore_ascii_case(encoding));
    payloads.iter().filter_map(|payload| named(payload.encoding)).collect()
}

fn opus_settings(settings: &Settings) -> OpusSettings {
    let opus = &settings.opus;
    OpusSettings {
        bitrate: opus.bitrate,
        complexity: opus.complexity,
        fec: opus.fec,
        dtx: opus.dtx,
        ..OpusSettings::default()
    }
}

/// What was agreed with one of several far ends behind a leg.
#[derive(Debug, Clone)]
pub struct Agreed {
    negotiated: Negotiated,
    allowed: MediaDirection,
    told: MediaDirection,
    answered: Option<Bytes>,
}

/// Media state of one leg.
#[derive(Debug)]
pub struct LegMedia {
    pub policy: MediaPolicy,
    /// Ports were asked for and are not here yet.
    pub opening: bool,
    pub ports: Option<MediaPorts>,
    pub negotiated: Option<Negotiated>,
    /// What the far end lets us do with the stream, by its own offers and answers, whatever we wanted ourselves.
    pub allowed: MediaDirection,
    /// What we asked for last in an offer or an answer; it tells the far end what the other leg does.
    pub told: MediaDirection,
    /// Counts so far; the last word once `closed`.
    pub report: Option<Box<LegReport>>,
    /// The worker was told to close it.
    pub closing: bool,
    pub closed: bool,
    local: Option<Box<Local>>,
    /// The answer taken last: the same again, in a 200 after its 183, changes nothing.
    answered: Option<Bytes>,
}

impl LegMedia {
    pub fn new(policy: MediaPolicy) -> LegMedia {
        LegMedia {
            policy,
            opening: false,
            ports: None,
            negotiated: None,
            allowed: MediaDirection::SendRecv,
            told: MediaDirection::SendRecv,
            report: None,
            closing: false,
            closed: false,
            local: None,
            answered: None,
        }
    }

    /// True once the worker has nothing of the leg any more, or never had.
    pub fn is_settled(&self) -> bool {
        !self.opening && (self.ports.is_none() || self.closed)
    }

    fn local(&mut self, address: IpAddr, session_id: u64) -> Option<&mut Local> {
        let ports = self.ports?;
        if self.local.is_none() {
            let capability = self.policy.capability(SocketAddr::new(address, ports.rtp), ports.rtcp);
            self.local = Some(Box::new(Local::new(session_id, capability)));
        }
        self.local.as_deref_mut()
    }

    /// The session description sent last, repeated word for word where the same answer goes out again.
    pub fn described(&self) -> Option<String> {
        self.local.as_ref()?.last()
    }

    /// Our offer.
    pub fn offer(
        &mut self,
        address: IpAddr,
        session_id: u64,
        direction: MediaDirection,
        randomness: &mut dyn FnMut(&mut [u8]),
    ) -> Option<String> {
        let local = self.local(address, session_id)?;
        local.set_direction(direction);
        let text = local.offer(randomness);
        self.told = direction;
        Some(text)
    }

    /// Our answer to the peer's offer. `direction` is what we want; the offer may allow less.
    pub fn answer(
        &mut self,
        address: IpAddr,
        session_id: u64,
        offer: &Session,
        direction: MediaDirection,
        randomness: &mut dyn FnMut(&mut [u8]),
    ) -> Result<String, Refusal> {
        let told = self.told;
        let local = self.local(address, session_id).ok_or(Refusal::NoAudio)?;
        local.set_direction(direction);
        let (text, negotiated) =
            local.answer(offer, randomness).inspect_err(|_| local.set_direction(told))?;
        self.allowed = allowed_by(offer);
        self.told = direction;
        self.negotiated = Some(negotiated);
        Ok(text)
    }

    /// Our offer was refused: what was said and told before it holds.
    pub fn take_back(&mut self, told: MediaDirection, described: Option<String>) {
        self.told = told;
        if let Some(local) = self.local.as_deref_mut() {
            local.set_direction(told);
            local.take_back(described);
        }
    }

    /// Takes the peer's answer to our offer. False when it is the one that was taken before.
    pub fn accept(&mut self, body: &Bytes) -> Result<bool, AnswerError> {
        let local = self.local.as_deref_mut().ok_or(AnswerError::NoOffer)?;
        let answer = Session::parse(body).map_err(|_| AnswerError::NoAudio)?;
        let negotiated = local.accept(&answer)?;
        // An answer can't allow more than was offered: what we did not ask for it says nothing about.
        let (asked, says) = (self.told, allowed_by(&answer));
        let sends = if asked.sends() { says.sends() } else { self.allowed.sends() };
        let receives = if asked.receives() { says.receives() } else { self.allowed.receives() };
        self.allowed = direction(sends, receives);
        let new = self.answered.as_ref() != Some(body) || self.negotiated.as_ref() != Some(&negotiated);
        self.negotiated = Some(negotiated);
        self.answered = Some(body.clone());
        Ok(new)
    }

    /// What is agreed now, to come back to it.
    pub fn agreed(&self) -> Option<Agreed> {
        Some(Agreed {
            negotiated: self.negotiated.clone()?,
            allowed: self.allowed,
            told: self.told,
            answered: self.answered.clone(),
        })
    }

    /// What was agreed with another far end counts again.
    pub fn return_to(&mut self, agreed: Agreed) {
        if let Some(local) = self.local.as_deref_mut() {
            local.set_codec(agreed.negotiated.codec);
            local.set_direction(agreed.told);
        }
        (self.allowed, self.told, self.answered) = (agreed.allowed, agreed.told, agreed.answered);
        self.negotiated = Some(agreed.negotiated);
    }

    /// What the media worker is told once something is agreed.
    pub fn config(&self) -> Option<LegConfig> {
        let agreed = self.negotiated.as_ref()?;
        let mut opus = self.policy.opus;
        if let Some(limit) = agreed.opus_fmtp.maxaveragebitrate {
            opus.bitrate = opus.bitrate.min(limit);
            opus.most_bitrate = limit;
        }
        opus.fec &= agreed.opus_fmtp.useinbandfec;
        opus.dtx &= agreed.opus_fmtp.usedtx;
        opus.cbr = agreed.opus_fmtp.cbr;
        opus.max_ptime_ms = agreed.opus_fmtp.max_ptime_ms;
        Some(LegConfig {
            codec: agreed.codec,
            send_payload_type: agreed.send_payload_type,
            receive_payload_type: agreed.receive_payload_type,
            other_law: agreed.other_law,
            dtmf: agreed.dtmf.as_ref().map(|dtmf| DtmfFormat {
                send_payload_type: dtmf.send_payload_type,
                receive_payload_type: dtmf.receive_payload_type,
                clock_rate: dtmf.clock_rate,
            }),
            comfort_noise: agreed.comfort_noise,
            remote_rtp: agreed.remote_rtp,
            remote_rtcp: agreed.remote_rtcp,
            rtcp_mux: false,
            voip_metrics: agreed.voip_metrics,
            direction: agreed.direction,
            ptime_ms: agreed.ptime_ms,
            srtp: agreed.srtp.clone(),
            latch: self.policy.latch,
            dtmf_mode: self.policy.dtmf,
            opus,
            clear: agreed.clear,
        })
    }

    /// True while the peer neither sends nor hears: its silence is no fault.
    pub fn is_held(&self) -> bool {
        self.negotiated.as_ref().is_some_and(|agreed| agreed.direction != MediaDirection::SendRecv)
    }
}
