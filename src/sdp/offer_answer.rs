//! Offer and answer for one audio stream of a leg (RFC 3264): what we offered, what was agreed.

use super::{
    agreement::{AnswerError, Capability, DtmfFormat, Loopback, Negotiated, Randomness, Refusal, SrtpPolicy},
    opus_fmtp::OpusRemote,
    sdes::Crypto,
    session::{Address, Media, MediaDraft, MediaKind, Payload, Profile, Session},
};
use crate::types::{AudioCodec, MediaDirection, SrtpKeys, SrtpSuite};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The block of RTCP XR that we ask for and send (RFC 3611 §5.1).
const VOIP_METRICS: &str = "voip-metrics";

/// A format whose payload type stays the same for the life of a leg (RFC 3264 §8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Voice(AudioCodec),
    Event {
        clock_rate: u32,
    },
    /// Comfort noise (RFC 3389); at 8 kHz its number is static.
    Noise,
}

impl Format {
    /// The number to take where nobody has said another: the static ones, and those most stacks use.
    fn usual(self) -> u8 {
        match self {
            Format::Voice(AudioCodec::Pcmu) => 0,
            Format::Voice(AudioCodec::Pcma) => 8,
            Format::Voice(AudioCodec::Opus) => 96,
            Format::Event { clock_rate: 8_000 } => 101,
            Format::Event { clock_rate: _ } => 100,
            Format::Noise => 13,
        }
    }

    fn of(payload: &Payload<'_>) -> Option<Format> {
        let is = |name: &str| payload.encoding.eq_ignore_ascii_case(name);
        // Some stacks leave out the `/2` that RFC 7587 §7 demands.
        if is("opus") && payload.clock_rate == 48_000 {
            Some(Format::Voice(AudioCodec::Opus))
        } else if is("PCMA") && payload.clock_rate == 8_000 && payload.channels == 1 {
            Some(Format::Voice(AudioCodec::Pcma))
        } else if is("PCMU") && payload.clock_rate == 8_000 && payload.channels == 1 {
            Some(Format::Voice(AudioCodec::Pcmu))
        } else if is("telephone-event") && payload.clock_rate > 0 {
            Some(Format::Event { clock_rate: payload.clock_rate })
        } else if is("CN") && payload.number == 13 {
            Some(Format::Noise)
        } else {
            None
        }
    }
}

/// A stream of the leg's descriptions; their number never shrinks (RFC 3264 §8).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Audio,
    Refused(MediaDraft),
}

/// The master key of one suite, made once a leg: a re-offer must not restart SRTP (RFC 4568 §7.1.4).
#[derive(Clone)]
struct OwnKey {
    suite: SrtpSuite,
    key: Vec<u8>,
    /// Its identifier: one like that of a far side that gives its key one, for it may want ours to have one too.
    mki: Vec<u8>,
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnKey({})", self.suite.as_str())
    }
}

/// Our side of a leg's descriptions: identity, version, payload types and keys, kept so that re-offers stay stable.
#[derive(Debug, Clone)]
pub struct Local {
    session_id: u64,
    version: u64,
    capability: Capability,
    slots: Vec<Slot>,
    /// The profile as written in the audio line.
    protocol: String,
    payload_types: Vec<(Format, u8)>,
    /// One bit for each payload type the far side has bound to a format.
    foreign: u128,
    keys: Vec<OwnKey>,
    codec: Option<AudioCodec>,
    /// The description written last.
    last: Option<Box<str>>,
}

/// What makes an offered audio stream acceptable.
struct Choice {
    codec: AudioCodec,
    payload_type: u8,
    event: Option<(u8, u32)>,
    noise: bool,
    crypto: Option<Crypto>,
    remote: Remote,
}

/// Where a description wants its packets.
#[derive(Clone, Copy)]
struct Remote {
    rtp: SocketAddr,
    rtcp: SocketAddr,
    mux: bool,
    hold: bool,
}

impl Local {
    /// `session_id` is the numeric `sess-id` of the `o=` line, unique per leg.
    pub fn new(session_id: u64, capability: Capability) -> Local {
        let protocol = match capability.srtp {
            SrtpPolicy::Off => "RTP/AVP",
            SrtpPolicy::Sdes => "RTP/SAVP",
        };
        Local {
            session_id,
            version: 0,
            capability,
            slots: Vec::new(),
            protocol: protocol.to_owned(),
            payload_types: Vec::new(),
            foreign: 0,
            keys: Vec::new(),
            codec: None,
            last: None,
        }
    }

    pub fn capability(&self) -> &Capability {
        &self.capability
    }

    /// Asks for another direction; takes effect with the next offer or answer (hold and resume).
    pub fn set_direction(&mut self, direction: MediaDirection) {
        self.capability.direction = direction;
    }

    /// Goes back to a codec that was agreed before: the next offer names it first.
    pub fn set_codec(&mut self, codec: AudioCodec) {
        self.codec = Some(codec);
    }

    /// An offer of ours was refused: the description before it is the last one (RFC 3261 §14.1).
    pub fn take_back(&mut self, last: Option<String>) {
        self.last = last.map(String::into_boxed_str);
    }

    /// The description written last, for a 200 that repeats the answer of its 183.
    pub fn last(&self) -> Option<String> {
        self.last.as_deref().map(str::to_owned)
    }

    /// Writes an offer. The codec in use goes first, so that the far side has no reason to change it.
    pub fn offer(&mut self, random: Randomness<'_>) -> String {
        if self.slots.is_empty() {
            self.slots.push(Slot::Audio);
        }
        let mut codecs = self.capability.codecs.clone();
        if let Some(in_use) = self.codec {
            codecs.sort_by_key(|codec| *codec != in_use);
        }
        let mut formats: Vec<Format> = codecs.iter().map(|codec| Format::Voice(*codec)).collect();
        if self.capability.dtmf {
            for codec in codecs {
                let event = Format::Event { clock_rate: codec.clock_rate() };
                if !formats.contains(&event) {
                    formats.push(event);
                }
            }
        }
        let g711 = |codec: &AudioCodec| *codec != AudioCodec::Opus;
        if self.capability.comfort_noise && self.capability.codecs.iter().any(g711) {
            formats.push(Format::Noise);
        }
        let formats: Vec<(u8, Format)> =
            formats.into_iter().filter_map(|format| Some((self.payload_type(format)?, format))).collect();
        let crypto = match self.capability.srtp {
            SrtpPolicy::Off => Vec::new(),
            SrtpPolicy::Sdes => (1..)
                .zip(self.capability.suites.clone())
                .map(|(tag, suite)| {
                    let OwnKey { suite, key, mki } = self.own_key(suite, None, random);
                    Crypto { tag, suite, key, mki }
                })
                .collect(),
        };
        let audio = self.audio_line(&formats, &crypto, self.capability.direction, self.capability.rtcp_mux);
        self.write(audio)
    }

    /// Answers an offer: the first audio stream we can do is taken with one codec, every other stream gets port 0.
    /// Changes nothing when it refuses, so that a refused re-INVITE leaves the call as it was (RFC 3261 §14.2).
    pub fn answer(
        &mut self,
        offer: &Session,
        random: Randomness<'_>,
    ) -> Result<(String, Negotiated), Refusal> {
        let (index, media, choice) = self.choose(offer)?;
        let voice = Format::Voice(choice.codec);
        self.learn(&media);
        self.bind(voice, choice.payload_type);
        let mut formats = vec![(choice.payload_type, voice)];
        if let Some((payload_type, clock_rate)) = choice.event {
            self.bind(Format::Event { clock_rate }, payload_type);
            formats.push((payload_type, Format::Event { clock_rate }));
        }
        if choice.noise {
            self.bind(Format::Noise, Format::Noise.usual());
            formats.push((Format::Noise.usual(), Format::Noise));
        }
        let srtp = choice.crypto.as_ref().map(|theirs| {
            let own = self.own_key(theirs.suite, Some(&theirs.mki), random);
            SrtpKeys {
                suite: theirs.suite,
                local: own.key,
                remote: theirs.key.clone(),
                local_mki: own.mki,
                remote_mki: theirs.mki.clone(),
            }
        });
        let ours = choice
            .crypto
            .iter()
            .zip(&srtp)
            .map(|(theirs, keys)| Crypto {
                tag: theirs.tag,
                suite: keys.suite,
                key: keys.local.clone(),
                mki: keys.local_mki.clone(),
            })
            .collect::<Vec<_>>();

        let direction = direction(self.capability.direction, &media, choice.remote);
        self.protocol = media.protocol().to_owned();
        self.slots = offer
            .medias()
            .enumerate()
            .map(|(i, media)| if i == index { Slot::Audio } else { Slot::Refused(media.refused()) })
            .collect();
        let audio = self.audio_line(&formats, &ours, direction, choice.remote.mux);
        let text = self.write(audio);
        self.codec = Some(choice.codec);
        let negotiated = Negotiated {
            codec: choice.codec,
            send_payload_type: choice.payload_type,
            receive_payload_type: choice.payload_type,
            // We answer with one voice, and what was offered beside it is not spoken any more.
            other_law: None,
            dtmf: choice.event.map(|(payload_type, clock_rate)| DtmfFormat {
                send_payload_type: payload_type,
                receive_payload_type: payload_type,
                clock_rate,
            }),
            comfort_noise: choice.noise,
            clear: carries_modems(&media, choice.payload_type),
            remote_rtp: choice.remote.rtp,
            remote_rtcp: choice.remote.rtcp,
            rtcp_mux: choice.remote.mux,
            voip_metrics: asks_for_voip_metrics(&media),
            direction,
            ptime_ms: self.ptime(&media, choice.codec),
            srtp,
            opus_fmtp: opus_fmtp(&media, choice.codec, choice.payload_type),
            on_hold_address: choice.remote.hold,
        };
        Ok((text, negotiated))
    }

    /// Whether an answer to the offer exists.
    pub fn can_answer(&self, offer: &Session) -> Result<(), Refusal> {
        self.choose(offer).map(drop)
    }

    /// The first audio stream of an offer that we can do, and as what.
    fn choose<'o>(&self, offer: &'o Session) -> Result<(usize, Media<'o>, Choice), Refusal> {
        let mut refusal = None;
        let chosen = offer
            .medias()
            .enumerate()
            .filter(|(_, media)| media.kind() == MediaKind::Audio && media.port() != 0)
            .find_map(|(index, media)| match self.judge(&media) {
                Ok(choice) => Some((index, media, choice)),
                Err(why) => {
                    refusal.get_or_insert(why);
                    None
                }
            });
        chosen.ok_or(refusal.unwrap_or(Refusal::NoAudio))
    }

    /// Takes the answer to our last offer. May be called again: for the same answer in 183 and 200, for another one
    /// from another branch of a fork.
    pub fn accept(&mut self, answer: &Session) -> Result<Negotiated, AnswerError> {
        let index = self.slots.iter().position(|slot| *slot == Slot::Audio).ok_or(AnswerError::NoOffer)?;
        let media = answer.medias().nth(index).ok_or(AnswerError::NoAudio)?;
        if media.kind() != MediaKind::Audio {
            return Err(AnswerError::NoAudio);
        }
        if media.port() == 0 {
            return Err(AnswerError::AudioRefused);
        }
        let srtp = match (self.capability.srtp, media.profile()) {
            (SrtpPolicy::Off, Profile::Plain) => None,
            // An answer repeats the profile; ours may have been RTP/AVP with keys, taken from an earlier offer.
            (SrtpPolicy::Sdes, Profile::Secure | Profile::Plain) => {
                Some(self.answered_keys(&media).ok_or(AnswerError::BadCrypto)?)
            }
            (SrtpPolicy::Off, Profile::Secure | Profile::Dtls | Profile::Other)
            | (SrtpPolicy::Sdes, Profile::Dtls | Profile::Other) => return Err(AnswerError::Profile),
        };
        let remote = remote(&media, &self.capability).ok_or(AnswerError::BadAddress)?;

        let answered: Vec<(u8, Format)> = media
            .payloads()
            .iter()
            .filter_map(|payload| match Format::of(payload) {
                Some(format) => Some((payload.number, format)),
                // An answer that forgot the map of a dynamic type can only mean what was offered by that number.
                None if payload.encoding.is_empty() => self.offered_as(payload.number),
                None => None,
            })
            .collect();
        let (send_payload_type, codec, receive_payload_type) = answered
            .iter()
            .find_map(|(number, format)| match format {
                Format::Voice(codec) if self.capability.codecs.contains(codec) => {
                    Some((*number, *codec, self.bound(*format)?))
                }
                Format::Voice(_) | Format::Event { .. } | Format::Noise => None,
            })
            .ok_or(AnswerError::CodecNotOffered)?;
        let other_law = self.other_law(codec, &answered);
        let comfort_noise = self.takes_noise(codec, &answered) && !is_never_silent(&media);
        let dtmf = event(codec, &answered)
            .filter(|_| self.capability.dtmf)
            .and_then(|(number, clock_rate)| {
                Some((number, clock_rate, self.bound(Format::Event { clock_rate })?))
            })
            .map(|(send_payload_type, clock_rate, receive_payload_type)| DtmfFormat {
                send_payload_type,
                receive_payload_type,
                clock_rate,
            });

        self.learn(&media);
        self.codec = Some(codec);
        Ok(Negotiated {
            codec,
            send_payload_type,
            receive_payload_type,
            other_law,
            dtmf,
            comfort_noise,
            clear: carries_modems(&media, send_payload_type),
            remote_rtp: remote.rtp,
            remote_rtcp: remote.rtcp,
            rtcp_mux: remote.mux,
            voip_metrics: asks_for_voip_metrics(&media),
            direction: direction(self.capability.direction, &media, remote),
            ptime_ms: self.ptime(&media, codec),
            srtp,
            opus_fmtp: opus_fmtp(&media, codec, send_payload_type),
            on_hold_address: remote.hold,
        })
    }

    /// Decides on one offered audio stream, changing nothing.
    fn judge(&self, media: &Media<'_>) -> Result<Choice, Refusal> {
        let crypto = match (self.capability.srtp, media.profile()) {
            (SrtpPolicy::Off, Profile::Plain) => None,
            (SrtpPolicy::Off, Profile::Secure) => return Err(Refusal::SrtpUnsupported),
            (SrtpPolicy::Off | SrtpPolicy::Sdes, Profile::Dtls | Profile::Other) => {
                return Err(Refusal::Profile);
            }
            (SrtpPolicy::Sdes, Profile::Plain | Profile::Secure) => {
                let usable = media
                    .attributes("crypto")
                    .filter_map(|line| Crypto::parse(line).ok())
                    .find(|crypto| self.capability.suites.contains(&crypto.suite));
                match (usable, media.profile()) {
                    (Some(crypto), _) => Some(crypto),
                    (None, Profile::Plain) => return Err(Refusal::SrtpRequired),
                    (None, Profile::Secure | Profile::Dtls | Profile::Other) => {
                        return Err(Refusal::BadCrypto);
                    }
                }
            }
        };
        let remote = remote(media, &self.capability).ok_or(Refusal::BadAddress)?;
        let offered: Vec<(u8, Format)> =
            media.payloads().iter().filter_map(|p| Some((p.number, Format::of(p)?))).collect();
        let find = |codec: AudioCodec| {
            offered
                .iter()
                .find(|(_, format)| *format == Format::Voice(codec))
                .map(|(number, _)| (codec, *number))
        };
        let (codec, payload_type) = self
            .codec
            .into_iter()
            .chain(self.capability.codecs.iter().copied())
            .filter(|codec| self.capability.codecs.contains(codec))
            .find_map(find)
            .ok_or(Refusal::NoSharedCodec)?;
        let event = event(codec, &offered).filter(|_| self.capability.dtmf);
        let noise = self.takes_noise(codec, &offered) && !is_never_silent(media);
        Ok(Choice { codec, payload_type, event, noise, crypto, remote })
    }

    /// Whether both sides take comfort noise beside a codec; Opus has its own.
    fn takes_noise(&self, codec: AudioCodec, formats: &[(u8, Format)]) -> bool {
        let offered = formats.iter().any(|(_, format)| *format == Format::Noise);
        offered && self.capability.comfort_noise && codec != AudioCodec::Opus
    }

    /// Of several voices in an answer its sender may speak any (RFC 3264 §6.1). Between the two laws of G.711 that takes
    /// no other codec, only the number we asked for.
    fn other_law(&self, codec: AudioCodec, answered: &[(u8, Format)]) -> Option<u8> {
        let other = match codec {
            AudioCodec::Pcma => AudioCodec::Pcmu,
            AudioCodec::Pcmu => AudioCodec::Pcma,
            AudioCodec::Opus => return None,
        };
        let named = answered.iter().any(|(_, format)| *format == Format::Voice(other));
        let offered = self.capability.codecs.contains(&other);
        self.bound(Format::Voice(other)).filter(|_| named && offered)
    }

    /// The keys of an answer: its one crypto line must take up a line of our offer (RFC 4568 §5.1.3).
    fn answered_keys(&self, media: &Media<'_>) -> Option<SrtpKeys> {
        let theirs = media.attributes("crypto").find_map(|line| Crypto::parse(line).ok())?;
        // Tags were counted from 1 in the order of the suites; tag and suite must name the same line.
        let line = usize::try_from(theirs.tag).ok()?.checked_sub(1)?;
        if self.capability.suites.get(line) != Some(&theirs.suite) {
            return None;
        }
        let own = self.keys.iter().find(|own| own.suite == theirs.suite)?;
        Some(SrtpKeys {
            suite: theirs.suite,
            local: own.key.clone(),
            remote: theirs.key,
            local_mki: own.mki.clone(),
            remote_mki: theirs.mki,
        })
    }

    /// Our key of a suite, with an identifier like the far side's where that is known.
    fn own_key(&mut self, suite: SrtpSuite, mki: Option<&[u8]>, random: Randomness<'_>) -> OwnKey {
        let position = self.keys.iter().position(|own| own.suite == suite).unwrap_or_else(|| {
            let (key_len, salt_len) = suite.key_and_salt_len();
            let mut key = vec![0; key_len + salt_len];
            random(&mut key);
            self.keys.push(OwnKey { suite, key, mki: Vec::new() });
            self.keys.len() - 1
        });
        let own = &mut self.keys[position];
        if let Some(mki) = mki {
            mki.clone_into(&mut own.mki);
        }
        own.clone()
    }

    fn bound(&self, format: Format) -> Option<u8> {
        self.payload_types.iter().find(|(bound, _)| *bound == format).map(|(_, number)| *number)
    }

    fn offered_as(&self, number: u8) -> Option<(u8, Format)> {
        self.payload_types.iter().find(|(_, bound)| *bound == number).map(|(format, _)| (number, *format))
    }

    fn bind(&mut self, format: Format, number: u8) {
        self.payload_types.retain(|(bound, _)| *bound != format);
        self.payload_types.push((format, number));
    }

    /// Notes the payload types the far side uses for formats we don't share, so that no offer of ours rebinds them.
    fn learn(&mut self, media: &Media<'_>) {
        for payload in media.payloads() {
            self.foreign |= 1 << payload.number;
        }
    }

    /// The payload type to offer for a format: the bound one, the usual one, or a free dynamic one.
    fn payload_type(&mut self, format: Format) -> Option<u8> {
        if let Some(number) = self.bound(format) {
            return Some(number);
        }
        let taken = |number: u8| {
            self.payload_types.iter().any(|(_, bound)| *bound == number)
                || (number >= 96 && self.foreign & (1 << number) != 0)
        };
        let number = Some(format.usual()).into_iter().chain(96..=127).find(|number| !taken(*number))?;
        self.bind(format, number);
        Some(number)
    }

    /// Milliseconds in a packet we send: the far side's wish, else ours as far as it takes that; for Opus the longest
    /// frame that is no longer. 30 and 50 ms would be frames of 10 ms in one packet: more bits for the same voice, and
    /// redundancy that reaches back over the last 10 ms of a lost packet alone.
    fn ptime(&self, media: &Media<'_>, codec: AudioCodec) -> u8 {
        let ours = u32::from(self.capability.ptime_ms).min(media.max_ptime_ms().unwrap_or(u32::MAX));
        let wish = media.ptime_ms().unwrap_or(ours).clamp(10, 60) as u8;
        match codec {
            AudioCodec::Pcma | AudioCodec::Pcmu => wish / 10 * 10,
            AudioCodec::Opus => [60, 40, 20].into_iter().find(|frame| *frame <= wish).unwrap_or(10),
        }
    }

    fn audio_line(
        &self,
        formats: &[(u8, Format)],
        crypto: &[Crypto],
        direction: MediaDirection,
        mux: bool,
    ) -> MediaDraft {
        let mut attributes: Vec<(&'static str, Option<String>)> = Vec::new();
        for line in crypto {
            attributes.push(("crypto", Some(line.to_value())));
        }
        for (number, format) in formats {
            match format {
                Format::Voice(codec) => {
                    let channels = if *codec == AudioCodec::Opus { "/2" } else { "" };
                    let map = format!("{number} {}/{}{channels}", codec.encoding_name(), codec.clock_rate());
                    attributes.push(("rtpmap", Some(map)));
                    if *codec == AudioCodec::Opus {
                        attributes
                            .push(("fmtp", Some(format!("{number} {}", self.capability.opus.to_fmtp()))));
                    }
                }
                Format::Event { clock_rate } => {
                    attributes.push(("rtpmap", Some(format!("{number} telephone-event/{clock_rate}"))));
                    attributes.push(("fmtp", Some(format!("{number} 0-16"))));
                }
                Format::Noise => attributes.push(("rtpmap", Some(format!("{number} CN/8000")))),
            }
        }
        attributes.push(("ptime", Some(self.capability.ptime_ms.to_string())));
        attributes.push(("rtcp-xr", Some(VOIP_METRICS.to_owned())));
        let direction = match direction {
            MediaDirection::SendRecv => "sendrecv",
            MediaDirection::SendOnly => "sendonly",
            MediaDirection::RecvOnly => "recvonly",
            MediaDirection::Inactive => "inactive",
        };
        attributes.push((direction, None));
        let port = self.capability.address.port();
        if mux {
            attributes.push(("rtcp-mux", None));
        }
        if Some(self.capability.rtcp_port) != port.checked_add(1) {
            attributes.push(("rtcp", Some(self.capability.rtcp_port.to_string())));
        }
        let numbers: Vec<String> = formats.iter().map(|(number, _)| number.to_string()).collect();
        MediaDraft {
            kind: "audio".to_owned(),
            port,
            protocol: self.protocol.clone(),
            formats: numbers.join(" "),
            attributes,
        }
    }

    /// Writes the description with the audio line in its slot; the version grows only with a change (RFC 3264 §8).
    fn write(&mut self, audio: MediaDraft) -> String {
        let medias = self.slots.iter().map(|slot| match slot {
            Slot::Audio => audio.clone(),
            Slot::Refused(draft) => draft.clone(),
        });
        let ip = self.capability.address.ip();
        let mut session = Session::new(self.session_id, self.version, ip, medias.collect());
        let mut text = session.text();
        if self.last.as_deref().is_some_and(|last| last != text) {
            self.version += 1;
            session.set_version(self.version);
            text = session.text();
        }
        self.last = Some(text.as_str().into());
        text
    }
}

/// The telephone-event that goes with a codec: the one of its clock rate (RFC 4733 §2.1), else any, because some app
/// stacks offer only 8000 beside Opus.
fn event(codec: AudioCodec, formats: &[(u8, Format)]) -> Option<(u8, u32)> {
    let events = || {
        formats.iter().filter_map(|(number, format)| match format {
            Format::Event { clock_rate } => Some((*number, *clock_rate)),
            Format::Voice(_) | Format::Noise => None,
        })
    };
    events().find(|(_, rate)| *rate == codec.clock_rate()).or_else(|| events().next())
}

fn opus_fmtp(media: &Media<'_>, codec: AudioCodec, payload_type: u8) -> OpusRemote {
    match codec {
        AudioCodec::Opus => {
            let remote = media.fmtp(payload_type).map(OpusRemote::parse).unwrap_or_default();
            let max_ptime_ms =
                media.max_ptime_ms().map_or(remote.max_ptime_ms, |most| most.clamp(10, 60) as u8);
            OpusRemote { max_ptime_ms, ..remote }
        }
        AudioCodec::Pcma | AudioCodec::Pcmu => OpusRemote::default(),
    }
}

/// Whether a payload type is for voice-band data: `a=gpmd:8 vbd=yes` (V.152 §6.1).
fn carries_modems(media: &Media<'_>, payload_type: u8) -> bool {
    media.attributes("gpmd").any(|line| {
        let Some((number, parameters)) = line.split_once(' ') else { return false };
        let is_data = |parameter: &str| parameter.trim().eq_ignore_ascii_case("vbd=yes");
        number.parse() == Ok(payload_type) && parameters.split(';').any(is_data)
    })
}

/// Whether the far side wants no silence suppressed: `a=silenceSupp:off - - - -` (RFC 3108 §5.6.3.2).
fn is_never_silent(media: &Media<'_>) -> bool {
    media.attribute("silenceSupp").is_some_and(|value| value.trim_start().starts_with("off"))
}

/// Whether the far side asks for VoIP metrics. Each side asks for itself (RFC 3611 §5.2).
fn asks_for_voip_metrics(media: &Media<'_>) -> bool {
    media
        .attribute("rtcp-xr")
        .is_some_and(|blocks| blocks.split_ascii_whitespace().any(|block| block == VOIP_METRICS))
}

/// Our direction: what we want, as far as theirs allows (RFC 3264 §6.1). An unspecified address can't be sent to.
fn direction(wanted: MediaDirection, media: &Media<'_>, remote: Remote) -> MediaDirection {
    let theirs = media.direction();
    let sends = wanted.sends() && theirs.receives() && !remote.hold;
    let receives = wanted.receives() && theirs.sends();
    match (sends, receives) {
        (true, true) => MediaDirection::SendRecv,
        (true, false) => MediaDirection::SendOnly,
        (false, true) => MediaDirection::RecvOnly,
        (false, false) => MediaDirection::Inactive,
    }
}

/// Where the far side wants its packets. `None`: nowhere we could or should send: a name, a group, another family, or what
/// would reach a program of this machine and never the far side.
fn remote(media: &Media<'_>, capability: &Capability) -> Option<Remote> {
    let usable = |ip: IpAddr| {
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        !ip.is_multicast()
            && !broadcast
            && (ip.is_ipv4() == capability.address.is_ipv4() || ip.is_unspecified())
            && !(capability.loopback == Loopback::Refused && is_loopback(ip))
    };
    let reached = |ip: IpAddr| match capability.loopback {
        Loopback::Unknown if is_loopback(ip) && ip.is_ipv4() => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Loopback::Unknown if is_loopback(ip) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Loopback::Reached | Loopback::Unknown | Loopback::Refused => ip,
    };
    let ip = match media.address()? {
        Address::Ip(ip) => Some(ip).filter(|ip| usable(*ip))?,
        Address::Name(_) => return None,
    };
    let hold = ip.is_unspecified();
    let rtp = SocketAddr::new(reached(ip), media.port());
    // Our own port is nobody else's: a description that comes back as it was sent.
    if rtp == capability.address {
        return None;
    }
    let mux = capability.rtcp_mux && media.has("rtcp-mux");
    let rtcp = match media.rtcp() {
        _ if mux => rtp,
        Some((port, other)) => SocketAddr::new(reached(other.filter(|ip| usable(*ip)).unwrap_or(ip)), port),
        None => SocketAddr::new(rtp.ip(), media.port().checked_add(1).unwrap_or(media.port())),
    };
    Some(Remote { rtp, rtcp, mux, hold })
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
