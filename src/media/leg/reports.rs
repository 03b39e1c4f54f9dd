//! RTCP of one leg, and the quality that comes out of it.

use super::{Datagram, Leg, Media};
use crate::media::adaptation::Adaptation;
use crate::media::latch::Latched;
use crate::media::quality::{self, Heard, Impairment};
use crate::media::rtcp::{self, Compound, NtpTime, Report, SenderInfo};
use crate::media::transmit::{Channel, Out};
use crate::types::{LegReport, Now};
use std::time::{Duration, Instant};

/// Mean time between reports (RFC 3550 §6.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// The first report comes early: with two parties nothing has to be waited for (RFC 3550 §6.2), and the round trip is
/// known sooner.
const FIRST: Duration = Duration::from_millis(800);

/// What reports are made of and what they brought.
pub(super) struct Reports {
    next: Instant,
    random: u64,
    cname: [u8; 12],
    /// Packets of ours when the last report went out: an SR is due only if there were more since.
    sent_before: u32,
    /// The peer's last SR: the middle of its time, and when it came.
    last_sr: Option<(u32, Instant)>,
    rtt: Option<Duration>,
    remote: Option<Remote>,
    expected_loss: u8,
    adaptation: Adaptation,
}

/// What the peer says of our stream.
#[derive(Clone, Copy)]
struct Remote {
    /// Share lost since the stream began, 0 to 1.
    loss: f32,
    jitter_ms: f32,
}

impl Reports {
    pub(super) fn new(seed: u64, now: Instant) -> Reports {
        // A name nobody can be told by (RFC 7022 §4.2).
        let mut cname = [0; 12];
        for (index, byte) in cname.iter_mut().enumerate() {
            *byte = b"0123456789abcdef"[(seed.rotate_left(5 * index as u32 + 11) & 15) as usize];
        }
        Reports {
            next: now + FIRST,
            random: seed | 1,
            cname,
            sent_before: 0,
            last_sr: None,
            rtt: None,
            remote: None,
            expected_loss: 0,
            adaptation: Adaptation::default(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Between half and one and a half times the interval, so that reports of many legs do not gather (RFC 3550
    /// §6.3.1).
    fn schedule(&mut self, now: Instant) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let spread = self.random % INTERVAL.as_millis() as u64;
        self.next = now + INTERVAL / 2 + Duration::from_millis(spread);
    }
}

impl Leg {
    /// Hears a datagram of the RTCP port, or an RTCP packet of the RTP port.
    pub fn receive_rtcp(&mut self, datagram: Datagram<'_>, channel: Channel, now: Now) {
        let Some(media) = &mut self.media else { return };
        match media.take_rtcp(datagram, channel, now) {
            Some(()) => self.supervision.since = now.instant,
            None => self.counts.discarded += 1,
        }
    }

    /// Says goodbye to the far side (RFC 3550 §6.6).
    pub fn close(&mut self, now: Now, out: &mut Out<'_>) {
        if let Some(media) = &mut self.media {
            media.send_report(now, true, out);
        }
    }

    /// What was measured so far.
    pub fn report(&self) -> LegReport {
        let counts = self.counts();
        let mut report = LegReport {
            packets_received: counts.packets_received,
            packets_sent: counts.packets_sent,
            bytes_received: counts.bytes_received,
            bytes_sent: counts.bytes_sent,
            packets_lost: counts.lost,
            packets_late: counts.late,
            packets_discarded: counts.discarded,
            last_media_at: self.last_media_at,
            ..LegReport::default()
        };
        let Some(media) = &self.media else { return report };
        report.jitter_ms = media.stats.jitter_ms();
        report.rtt_ms = media.reports.rtt.map(|rtt| rtt.as_secs_f32() * 1000.0);
        report.remote_loss = media.reports.remote.map(|remote| remote.loss);
        report.remote_jitter_ms = media.reports.remote.map(|remote| remote.jitter_ms);
        let expected = media.stats.expected();
        if expected > 0 && counts.packets_received > 0 {
            let unrecovered = counts.lost.saturating_sub(counts.recovered_fec);
            let loss = unrecovered as f32 / expected as f32;
            let heard = Heard { loss, burst_ratio: media.stats.burst_ratio() };
            let codec = media.config.codec;
            let impairment = Impairment::of(codec, media.concealed);
            report.mos_lq = Some(quality::mos_lq(impairment, heard));
            let delay = quality::one_way_ms(report.rtt_ms, report.jitter_ms, media.config.ptime_ms, codec);
            report.mos_cq = delay.map(|delay| quality::mos_cq(impairment, heard, delay));
        }
        report
    }
}

impl Media {
    /// `None` if the packet is not from the far side or not RTCP.
    fn take_rtcp(&mut self, datagram: Datagram<'_>, channel: Channel, now: Now) -> Option<()> {
        let Datagram { from, arrival, bytes } = datagram;
        let latch = match channel {
            Channel::Rtp => &self.latch,
            Channel::Rtcp => &self.rtcp_latch,
        };
        // RTCP may come from another port than RTP, never from another host.
        if !latch.may_hear(from) || from.ip() != self.latch.remote().ip() {
            return None;
        }
        let len = match &mut self.incoming {
            Some(srtp) => srtp.unprotect_rtcp(bytes).ok()?,
            None => bytes.len(),
        };
        let received = rtcp::parse(&bytes[..len], self.tx.ssrc()).ok()?;
        if channel == Channel::Rtcp {
            match self.rtcp_latch.heard(from) {
                Latched::Unchanged | Latched::Moved(_) => {}
            }
        }
        if let Some(time) = received.sender_time {
            self.reports.last_sr = Some((time, arrival));
        }
        if let Some(about_us) = received.about_us {
            self.take_report(&about_us, now);
        }
        Some(())
    }

    fn take_report(&mut self, about_us: &Report, now: Now) {
        let reports = &mut self.reports;
        if let Some(rtt) = rtcp::round_trip(about_us, NtpTime::from_unix_millis(now.unix_ms)) {
            reports.rtt = Some(rtt);
        }
        let (sent, _) = self.tx.stream_totals();
        let lost = about_us.reception.cumulative_lost.max(0) as f32;
        reports.remote = Some(Remote {
            loss: if sent > 0 { (lost / sent as f32).min(1.0) } else { 0.0 },
            jitter_ms: about_us.reception.jitter as f32 * 1000.0 / self.tx.clock_rate() as f32,
        });
        // Redundancy rises at once and falls slowly: loss comes in spells.
        let reported = (u32::from(about_us.reception.fraction_lost) * 100 / 256) as u8;
        reports.expected_loss = reported.max(reports.expected_loss - reports.expected_loss.div_ceil(4));
        let diet = reports.adaptation.report(reported, reports.rtt);
        if let Some(feed) = &mut self.feed {
            feed.set_expected_loss(reports.expected_loss);
            if let Some(diet) = diet {
                feed.set_diet(diet);
            }
        }
    }

    /// Sends an SR, or an RR if nothing was sent since the last one.
    pub(super) fn send_report(&mut self, now: Now, bye: bool, out: &mut Out<'_>) {
        let (packets, octets) = self.tx.stream_totals();
        let sender = (packets != self.reports.sent_before).then(|| SenderInfo {
            ntp: NtpTime::from_unix_millis(now.unix_ms),
            rtp_timestamp: self.tx.position_at(now.instant),
            packets,
            octets,
        });
        self.reports.sent_before = packets;
        let last_sr = self.reports.last_sr;
        let report = self.stats.reception().map(|reception| Report {
            reception,
            last_sr: last_sr.map_or(0, |(time, _)| time),
            delay_since_last_sr: last_sr
                .map_or(0, |(_, came)| rtcp::in_units(now.instant.saturating_duration_since(came))),
        });
        let cname = std::str::from_utf8(&self.reports.cname).unwrap_or_default();
        let compound = Compound { ssrc: self.tx.ssrc(), sender, report, cname, bye };
        let buffer = &mut out.work.packet;
        if let Some(len) = compound.write(buffer) {
            let (channel, to) = if self.config.rtcp_mux {
                (Channel::Rtp, self.latch.remote())
            } else {
                (Channel::Rtcp, self.rtcp_latch.remote())
            };
            self.tx.send_rtcp(channel, to, len, out.wire, buffer);
        }
        self.reports.schedule(now.instant);
    }
}
