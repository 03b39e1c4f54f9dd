//! One side's media of a call as a machine: sends a packet each ptime, takes what comes, counts and records it.
//!
//! Made of the pure RTP, RTCP, SRTP and codec pieces, but not of the gateway's legs and bridges.

use super::voice::{Recorder, Speaker, Speech};
use super::wav::Wav;
use crate::media::OpusSettings;
use crate::media::codec::opus::{MAX_ENCODED, OpusError};
use crate::media::dtmf::{EVENT_LEN, Event};
use crate::media::quality::{Heard, Impairment, mos_cq, mos_lq, one_way_ms};
use crate::media::reception::ReceiveStats;
use crate::media::rtcp::{self, Compound, NtpTime, Report, SenderInfo};
use crate::media::rtp::{self, MAX_PACKET, RtpHeader};
use crate::media::srtp::{self, SrtpError};
use crate::sdp::Negotiated;
use crate::types::{LegReport, Now, UnixMillis};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The first two reports come early, so that a short call has a round trip; then the RFC's 5 s (RFC 3550 §6.2).
const FIRST_RTCP: Duration = Duration::from_millis(700);
const SECOND_RTCP: Duration = Duration::from_millis(1_500);
const RTCP_INTERVAL: Duration = Duration::from_secs(5);
/// How long a key is pressed.
const KEY_MS: u32 = 160;
/// Pause between two keys.
const KEY_PAUSE_MS: u32 = 80;
/// The end of an event is said three times (RFC 4733 §2.5.1.4).
const END_PACKETS: u8 = 3;
/// −10 dBm0, what most phones send.
const KEY_VOLUME: u8 = 10;
/// A sender that was held up this long does not try to catch up.
const HELD_UP: Duration = Duration::from_millis(500);

/// What a stream does besides carrying voice.
#[derive(Debug, Clone, Default)]
pub struct StreamPlan {
    pub speech: Option<Speech>,
    /// Speak as soon as there is media, before the answer too; else only after [`Stream::begin`].
    pub early: bool,
    /// Send nothing at all, whatever the SDP says: a side that is heard no more.
    pub mute: bool,
    pub record: bool,
    /// Note when each packet was sent and came, for latency.
    pub clock: bool,
    pub opus: OpusSettings,
}

/// Numbers a stream starts with; random, given by the shell.
#[derive(Debug, Clone, Copy)]
pub struct StreamSeed {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
}

/// When one packet passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its place on the stream's time line in microseconds, from the first packet on.
    pub media_us: i64,
    /// Wall clock in nanoseconds since the epoch.
    pub unix_ns: i64,
}

/// Why a stream could not be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Codec(#[from] OpusError),
    #[error(transparent)]
    Srtp(#[from] SrtpError),
}

/// Everything a stream found out.
#[derive(Debug, Default)]
pub struct StreamOutcome {
    pub report: LegReport,
    pub recording: Option<Wav>,
    /// Keys received, as `12#`.
    pub keys: String,
    /// Milliseconds from the stream's opening to the first voice packet.
    pub first_packet_ms: Option<i64>,
    pub sent: Vec<Stamp>,
    pub received: Vec<Stamp>,
}

/// One stream.
pub struct Stream {
    plan: StreamPlan,
    opened: Now,
    /// The speech may be said now; before, silence is sent.
    begun: bool,
    media: Option<Agreed>,
    sender: Sender,
    stats: Option<ReceiveStats>,
    recorder: Option<Recorder>,
    outcome: StreamOutcome,
    keys_to_send: VecDeque<u8>,
    last_key: Option<u32>,
    rtcp_at: Option<Instant>,
    /// The first report has gone out.
    reported: bool,
    last_sr: Option<(u32, Instant)>,
    rtt_ms: Option<f32>,
    received_from: Option<(u32, u32)>,
    discarded: u64,
}

/// What the SDP said.
struct Agreed {
    negotiated: Negotiated,
    speaker: Speaker,
    srtp: Option<(srtp::Outgoing, srtp::Incoming)>,
}

struct Sender {
    ssrc: u32,
    sequence: u16,
    /// Of the next frame.
    timestamp: u32,
    clock_us: i64,
    next_at: Option<Instant>,
    marker: bool,
    packets: u32,
    octets: u32,
    sent_since_report: bool,
    key: Option<Key>,
}

/// A key being pressed.
struct Key {
    code: u8,
    timestamp: u32,
    duration_ms: u32,
    ends_left: u8,
    pause_ms: u32,
}

impl Stream {
    /// A stream that waits for its SDP.
    pub fn new(now: Now, plan: StreamPlan, seed: StreamSeed) -> Stream {
        let recorder = plan.record.then(Recorder::default);
        Stream {
            begun: plan.early,
            plan,
            opened: now,
            media: None,
            sender: Sender {
                ssrc: seed.ssrc,
                sequence: seed.sequence,
                timestamp: seed.timestamp,
                clock_us: 0,
                next_at: None,
                marker: true,
                packets: 0,
                octets: 0,
                sent_since_report: false,
                key: None,
            },
            stats: None,
            recorder,
            outcome: StreamOutcome::default(),
            keys_to_send: VecDeque::new(),
            last_key: None,
            rtcp_at: None,
            reported: false,
            last_sr: None,
            rtt_ms: None,
            received_from: None,
            discarded: 0,
        }
    }

    /// Applies what was agreed; again after a re-INVITE. Speech goes on unless the codec changes.
    pub fn configure(&mut self, now: Now, negotiated: Negotiated) -> Result<(), StreamError> {
        let old = self.media.take();
        let (speaker, srtp) = match old {
            Some(old) => {
                let same_voice = old.negotiated.codec == negotiated.codec
                    && old.negotiated.ptime_ms == negotiated.ptime_ms;
                let speaker = if same_voice { old.speaker } else { self.speaker(&negotiated)? };
                // New contexts would begin at rollover 0 and take replays: only new keys need them.
                let srtp =
                    if old.negotiated.srtp == negotiated.srtp { old.srtp } else { contexts(&negotiated)? };
                (speaker, srtp)
            }
            None => {
                self.rtcp_at = Some(now.instant + FIRST_RTCP);
                (self.speaker(&negotiated)?, contexts(&negotiated)?)
            }
        };
        let clock_rate = negotiated.codec.clock_rate();
        match self.stats.as_mut() {
            Some(stats) => stats.set_clock_rate(clock_rate),
            None => self.stats = Some(ReceiveStats::new(clock_rate)),
        }
        if self.sender.next_at.is_none() {
            self.sender.next_at = Some(now.instant);
        }
        self.media = Some(Agreed { negotiated, speaker, srtp });
        Ok(())
    }

    /// The call is answered: the speech begins, once.
    pub fn begin(&mut self) -> Result<(), StreamError> {
        if !std::mem::replace(&mut self.begun, true)
            && let Some(mut media) = self.media.take()
        {
            media.speaker = self.speaker(&media.negotiated)?;
            self.media = Some(media);
        }
        Ok(())
    }

    /// Says something else from now on.
    pub fn say(&mut self, speech: Speech) -> Result<(), StreamError> {
        self.plan.speech = Some(speech);
        self.begun = true;
        if let Some(mut media) = self.media.take() {
            media.speaker = self.speaker(&media.negotiated)?;
            self.media = Some(media);
        }
        Ok(())
    }

    /// When the last packet was heard so far.
    pub fn heard_at(&self) -> Option<UnixMillis> {
        self.outcome.report.last_media_at
    }

    fn speaker(&self, negotiated: &Negotiated) -> Result<Speaker, StreamError> {
        let speech = self.plan.speech.clone().filter(|_| self.begun).unwrap_or(Speech::Quiet);
        let wish = negotiated.opus_fmtp.maxaveragebitrate.unwrap_or(u32::MAX);
        let opus = OpusSettings {
            bitrate: self.plan.opus.bitrate.min(wish),
            fec: self.plan.opus.fec && negotiated.opus_fmtp.useinbandfec,
            ..self.plan.opus
        };
        Ok(Speaker::new(negotiated.codec, negotiated.ptime_ms, opus, speech)?)
    }

    /// Presses keys one after the other, as telephone events. What is no key is passed over.
    pub fn press(&mut self, keys: &str) {
        self.keys_to_send.extend(keys.chars().filter_map(key_code));
    }

    /// When the next packet is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.sender.next_at, self.rtcp_at) {
            (Some(voice), Some(rtcp)) => Some(voice.min(rtcp)),
            (voice, rtcp) => voice.or(rtcp),
        }
    }

    /// True once all speech is said and all keys are pressed.
    pub fn is_done(&self) -> bool {
        let said = self.media.as_ref().is_some_and(|media| media.speaker.is_done());
        self.begun && said && self.keys_to_send.is_empty() && self.sender.key.is_none()
    }

    /// The next voice or key packet that is due: its length in `out` and where it goes.
    pub fn poll_rtp(&mut self, now: Now, out: &mut [u8; MAX_PACKET]) -> Option<(usize, SocketAddr)> {
        let media = self.media.as_mut()?;
        let sender = &mut self.sender;
        let ptime = Duration::from_millis(u64::from(media.negotiated.ptime_ms));
        loop {
            let due = sender.next_at.filter(|due| *due <= now.instant)?;
            sender.next_at = Some(match now.instant.saturating_duration_since(due) < HELD_UP {
                true => due + ptime,
                false => now.instant + ptime,
            });
            let clock_rate = media.negotiated.codec.clock_rate();
            let timestamp = sender.timestamp;
            let step = clock_rate / 1000 * u32::from(media.negotiated.ptime_ms);
            sender.timestamp = timestamp.wrapping_add(step);
            let media_us = sender.clock_us;
            sender.clock_us += ptime.as_micros() as i64;

            let mut payload = [0; MAX_ENCODED];
            let spoken = media.speaker.next(&mut payload).unwrap_or(None);
            if self.plan.mute
                || !media.negotiated.direction.sends()
                || media.negotiated.remote_rtp.port() == 0
            {
                sender.marker = true;
                continue;
            }
            let event = match media.negotiated.dtmf {
                Some(format) => sender
                    .key_packet(
                        &mut self.keys_to_send,
                        timestamp,
                        media.negotiated.ptime_ms,
                        format.clock_rate,
                    )
                    .map(|(event, at, first)| (event, at, first, format.send_payload_type)),
                None => None,
            };
            let (header, len) = match event {
                Some((event, at, first, payload_type)) => {
                    payload[..EVENT_LEN].copy_from_slice(&event.to_bytes());
                    let (sequence, ssrc) = (sender.sequence, sender.ssrc);
                    (RtpHeader { payload_type, marker: first, sequence, timestamp: at, ssrc }, EVENT_LEN)
                }
                None => {
                    let Some(len) = spoken else {
                        sender.marker = true;
                        continue;
                    };
                    let header = RtpHeader {
                        payload_type: media.negotiated.send_payload_type,
                        marker: std::mem::take(&mut sender.marker),
                        sequence: sender.sequence,
                        timestamp,
                        ssrc: sender.ssrc,
                    };
                    if self.plan.clock {
                        self.outcome.sent.push(Stamp { media_us, unix_ns: 0 });
                    }
                    (header, len)
                }
            };
            sender.sequence = sender.sequence.wrapping_add(1);
            let mut total = header.write(&payload[..len], out)?;
            sender.packets = sender.packets.wrapping_add(1);
            sender.octets = sender.octets.wrapping_add(len as u32);
            sender.sent_since_report = true;
            if let Some((outgoing, _)) = media.srtp.as_mut() {
                total = outgoing.protect_rtp(out, total).ok()?;
            }
            self.outcome.report.packets_sent += 1;
            self.outcome.report.bytes_sent += total as u64;
            return Some((total, media.negotiated.remote_rtp));
        }
    }

    /// Notes when the packet of the last [`poll_rtp`](Self::poll_rtp) really went out.
    pub fn note_sent(&mut self, unix_ns: i64) {
        if let Some(stamp) = self.outcome.sent.last_mut().filter(|stamp| stamp.unix_ns == 0) {
            stamp.unix_ns = unix_ns;
        }
    }

    /// The RTCP compound that is due, if any; with `bye` the last one.
    pub fn poll_rtcp(
        &mut self,
        now: Now,
        bye: bool,
        out: &mut [u8; MAX_PACKET],
    ) -> Option<(usize, SocketAddr)> {
        if !bye {
            self.rtcp_at.filter(|due| *due <= now.instant)?;
        }
        let pause = if std::mem::replace(&mut self.reported, true) { RTCP_INTERVAL } else { SECOND_RTCP };
        self.rtcp_at = Some(now.instant + pause);
        let media = self.media.as_mut()?;
        if media.negotiated.remote_rtcp.port() == 0 || media.negotiated.remote_rtcp.ip().is_unspecified() {
            return None;
        }
        let ntp = NtpTime::from_unix_millis(now.unix_ms);
        let sender = &mut self.sender;
        let info = SenderInfo {
            ntp,
            rtp_timestamp: sender.timestamp,
            packets: sender.packets,
            octets: sender.octets,
        };
        let info = std::mem::take(&mut sender.sent_since_report).then_some(info);
        let (last_sr, delay_since_last_sr) = match self.last_sr {
            Some((middle, at)) => {
                let delay = now.instant.saturating_duration_since(at);
                (middle, (delay.as_micros() as u64 * 65_536 / 1_000_000) as u32)
            }
            None => (0, 0),
        };
        let report = self.stats.as_mut().and_then(ReceiveStats::reception).map(|reception| Report {
            reception,
            last_sr,
            delay_since_last_sr,
        });
        let compound =
            Compound { ssrc: sender.ssrc, sender: info, report, voip: None, cname: "simulator", bye };
        let mut len = compound.write(out)?;
        if let Some((outgoing, _)) = media.srtp.as_mut() {
            len = outgoing.protect_rtcp(out, len).ok()?;
        }
        Some((len, media.negotiated.remote_rtcp))
    }

    /// Takes a packet from the RTP socket; RTCP on the same port too. `unix_ns` is when it really came.
    pub fn handle_rtp(&mut self, now: Now, packet: &mut [u8], unix_ns: i64) {
        if rtp::is_rtcp(packet) {
            return self.handle_rtcp(now, packet);
        }
        let Some(media) = self.media.as_mut() else {
            self.discarded += 1;
            return;
        };
        let received = packet.len();
        let len = match media.srtp.as_mut().map(|(_, incoming)| incoming.unprotect_rtp(packet)) {
            Some(Ok(len)) => len,
            Some(Err(_)) => {
                self.discarded += 1;
                return;
            }
            None => received,
        };
        let (Ok(packet), Some(stats)) = (rtp::parse(&packet[..len]), self.stats.as_mut()) else {
            self.discarded += 1;
            return;
        };
        let report = &mut self.outcome.report;
        let dtmf = media.negotiated.dtmf.filter(|format| format.receive_payload_type == packet.payload_type);
        if let Some(_format) = dtmf {
            stats.record(packet.ssrc, packet.sequence, None, now.instant);
            if let Some(event) = Event::parse(packet.payload)
                && self.last_key != Some(packet.timestamp)
            {
                self.last_key = Some(packet.timestamp);
                self.outcome.keys.extend(key_name(event.code));
            }
        } else if packet.payload_type == media.negotiated.receive_payload_type {
            stats.record(packet.ssrc, packet.sequence, Some(packet.timestamp), now.instant);
            let ms = now.instant.saturating_duration_since(self.opened.instant).as_millis() as i64;
            self.outcome.first_packet_ms.get_or_insert(ms);
            let codec = media.negotiated.codec;
            if let Some(recorder) = self.recorder.as_mut() {
                recorder.push(codec, packet.ssrc, packet.timestamp, ms, packet.payload);
            }
            if self.plan.clock {
                let (ssrc, first) = *self.received_from.get_or_insert((packet.ssrc, packet.timestamp));
                if ssrc == packet.ssrc {
                    let units = i64::from(packet.timestamp.wrapping_sub(first) as i32);
                    let media_us = units * 1_000_000 / i64::from(codec.clock_rate());
                    self.outcome.received.push(Stamp { media_us, unix_ns });
                }
            }
        } else {
            self.discarded += 1;
            return;
        }
        report.packets_received += 1;
        report.bytes_received += received as u64;
        report.last_media_at = Some(now.unix_ms);
    }

    /// Takes a packet from the RTCP socket.
    pub fn handle_rtcp(&mut self, now: Now, packet: &mut [u8]) {
        let Some(media) = self.media.as_mut() else { return };
        let len = match media.srtp.as_mut().map(|(_, incoming)| incoming.unprotect_rtcp(packet)) {
            Some(Ok(len)) => len,
            Some(Err(_)) => {
                self.discarded += 1;
                return;
            }
            None => packet.len(),
        };
        let Ok(received) = rtcp::parse(&packet[..len], self.sender.ssrc) else { return };
        if let Some(middle) = received.sender_time {
            self.last_sr = Some((middle, now.instant));
        }
        let Some(about_us) = received.about_us else { return };
        self.outcome.report.remote_loss = Some(f32::from(about_us.reception.fraction_lost) / 256.0);
        let jitter = about_us.reception.jitter as f32 * 1000.0 / media.negotiated.codec.clock_rate() as f32;
        self.outcome.report.remote_jitter_ms = Some(jitter);
        if about_us.last_sr != 0 {
            // RFC 3550 §6.4.1: A − LSR − DLSR, in 1/65536 s.
            let arrival = NtpTime::from_unix_millis(now.unix_ms).middle();
            let units =
                arrival.wrapping_sub(about_us.last_sr).wrapping_sub(about_us.delay_since_last_sr) as i32;
            self.rtt_ms = Some(units.max(0) as f32 * 1000.0 / 65_536.0);
        }
    }

    /// Ends the stream.
    pub fn finish(mut self) -> StreamOutcome {
        let report = &mut self.outcome.report;
        report.packets_discarded = self.discarded;
        report.rtt_ms = self.rtt_ms;
        if let (Some(stats), Some(media)) = (self.stats.as_ref(), self.media.as_ref()) {
            report.packets_lost = stats.lost();
            report.packets_late = stats.late() + stats.duplicates();
            report.jitter_ms = stats.jitter_ms();
            if stats.expected() > 0 {
                let heard = Heard {
                    loss: stats.lost() as f32 / stats.expected() as f32,
                    burst_ratio: stats.losses().burst_ratio(),
                };
                let Negotiated { codec, ptime_ms, .. } = media.negotiated;
                let impairment = Impairment::of(codec, false);
                report.mos_lq = Some(mos_lq(impairment, heard));
                report.mos_cq = one_way_ms(self.rtt_ms, report.jitter_ms, f32::from(ptime_ms), codec)
                    .map(|one_way| mos_cq(impairment, heard, one_way));
            }
        }
        self.outcome.recording = self.recorder.map(Recorder::finish);
        self.outcome
    }
}

fn contexts(negotiated: &Negotiated) -> Result<Option<(srtp::Outgoing, srtp::Incoming)>, SrtpError> {
    negotiated.srtp.as_ref().map(srtp::session).transpose()
}

impl Sender {
    /// The event packet for this frame, its timestamp, and whether it is the first of its key.
    fn key_packet(
        &mut self,
        waiting: &mut VecDeque<u8>,
        timestamp: u32,
        ptime_ms: u8,
        clock_rate: u32,
    ) -> Option<(Event, u32, bool)> {
        let ptime_ms = u32::from(ptime_ms);
        if self.key.is_none() {
            let code = waiting.pop_front()?;
            self.key =
                Some(Key { code, timestamp, duration_ms: 0, ends_left: END_PACKETS, pause_ms: KEY_PAUSE_MS });
        }
        let key = self.key.as_mut()?;
        let first = key.duration_ms == 0;
        if key.duration_ms < KEY_MS {
            key.duration_ms += ptime_ms;
        } else if key.ends_left > 0 {
            key.ends_left -= 1;
        } else if key.pause_ms > ptime_ms {
            key.pause_ms -= ptime_ms;
            return None;
        } else {
            self.key = None;
            return None;
        }
        let end = key.ends_left < END_PACKETS;
        let duration = (key.duration_ms * (clock_rate / 1000)) as u16;
        Some((Event { code: key.code, end, volume: KEY_VOLUME, duration }, key.timestamp, first))
    }
}

fn key_code(key: char) -> Option<u8> {
    match key {
        '0'..='9' => Some(key as u8 - b'0'),
        '*' => Some(10),
        '#' => Some(11),
        'A'..='D' => Some(key as u8 - b'A' + 12),
        _ => None,
    }
}

fn key_name(code: u8) -> Option<char> {
    "0123456789*#ABCD".chars().nth(usize::from(code))
}

#[cfg(test)]
mod tests;
