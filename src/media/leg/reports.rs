//! RTCP of one leg, and the quality that comes out of it.

use super::hearing::{Hearing, Stream};
use super::rating::heard;
use super::{Datagram, Leg, Media};
use crate::media::adaptation::Adaptation;
use crate::media::bursts::GMIN;
use crate::media::latch::Latched;
use crate::media::quality::{self, Impairment};
use crate::media::rtcp::{self, Compound, NtpTime, Received, Report, SenderInfo, VoipMetrics};
use crate::media::series::Totals;
use crate::media::transmit::{Channel, Out};
use crate::media::watch::Finding;
use crate::types::{AudioFault, LegKind, LegReport, Now, QualitySample};
use std::time::{Duration, Instant};

/// Mean time between reports (RFC 3550 §6.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// The first report comes early: with two parties nothing has to be waited for (RFC 3550 §6.2), and the round trip is
/// known sooner.
const FIRST: Duration = Duration::from_millis(800);

/// Sender reports of ours that are remembered: a peer answers the last that it got, and some are lost.
const TOLD: usize = 4;

/// What reports are made of and what they brought.
pub(super) struct Reports {
    next: Instant,
    random: u64,
    cname: [u8; 12],
    /// Packets of ours when the last report went out: an SR is due only if there were more since.
    sent_before: u32,
    /// One moment on both clocks: from it on only the one that never jumps is asked.
    anchor: Now,
    /// The peer's last SR: whose it was, the middle of its time, and when it came.
    last_sr: Option<(u32, u32, Instant)>,
    /// The peer's reports name the source that its packets name.
    keyed: bool,
    /// Our last SRs, the oldest of which is replaced next: whose, and the middle of their times.
    told: [(u32, u32); TOLD],
    oldest: usize,
    rtt: Option<Duration>,
    /// The round trip that was told since the last sample, in milliseconds.
    fresh_rtt: Option<f32>,
    remote: Option<Remote>,
    /// The highest number of ours that the peer had at its last report.
    highest: Option<u32>,
    /// It has reported on our stream by its name.
    tells: bool,
    hearing: Hearing,
    /// The peer's last extended report of our stream.
    voip: Option<VoipMetrics>,
    expected_loss: u8,
    /// Packets that had gone out when it reported last.
    sent_by_report: u64,
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
    pub(super) fn new(seed: u64, now: Now) -> Reports {
        // A name nobody can be told by (RFC 7022 §4.2).
        let mut cname = [0; 12];
        for (index, byte) in cname.iter_mut().enumerate() {
            *byte = b"0123456789abcdef"[(seed.rotate_left(5 * index as u32 + 11) & 15) as usize];
        }
        Reports {
            next: now.instant + FIRST,
            random: seed | 1,
            cname,
            sent_before: 0,
            anchor: now,
            last_sr: None,
            keyed: false,
            told: [(0, 0); TOLD],
            oldest: 0,
            rtt: None,
            fresh_rtt: None,
            remote: None,
            highest: None,
            tells: false,
            hearing: Hearing::default(),
            voip: None,
            expected_loss: 0,
            sent_by_report: 0,
            adaptation: Adaptation::default(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Another peer may report from now on, in another way.
    pub(super) fn expect_another(&mut self) {
        (self.highest, self.tells) = (None, false);
        self.note_move();
    }

    /// The far side is somewhere else.
    pub(super) fn note_move(&mut self) {
        self.adaptation.expect_another_way();
    }

    fn note_told(&mut self, ssrc: u32, time: NtpTime) {
        self.told[self.oldest] = (ssrc, time.middle());
        self.oldest = (self.oldest + 1) % TOLD;
    }

    /// True for a block that answers an SR of this source of ours, whatever source it names: some peers report from, and
    /// on, another than their packets do (a switch that numbers streams anew and passes reports on). Nobody knows the
    /// time in it who did not get one.
    fn is_answer(&self, report: &Report, ssrc: u32) -> bool {
        report.last_sr != 0 && self.told.contains(&(ssrc, report.last_sr))
    }

    /// LSR and DLSR are about the source that the block is about, not the one before it (RFC 3550 §6.4.1). A peer whose
    /// reports never named the source of its packets has no other SR to be answered.
    fn answer(&mut self, ssrc: u32) -> Option<(u32, Instant)> {
        let (sender, time, came) = self.last_sr?;
        self.keyed |= sender == ssrc;
        (sender == ssrc || !self.keyed).then_some((time, came))
    }

    /// A moment as our SRs state it. Round trips are differences of such times: where the calendar is set while a report
    /// is on its way, they stay true.
    fn ntp(&self, at: Instant) -> NtpTime {
        NtpTime::from_unix_millis(self.anchor.unix_ms)
            .after(at.saturating_duration_since(self.anchor.instant))
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
            Some(received) => {
                let block = media.block_on_us(&received);
                let listens = media.reports.has_come_further(block.as_ref());
                self.supervision.note_report(listens, now.instant);
                // Whoever is heard by an app is in its reports; some trunks have never anybody in theirs.
                let tells = self.kind == LegKind::App || media.reports.tells;
                if self.conversation.on
                    && let Some(lasted) = media.judge_hearing(&received, tells, now.instant)
                {
                    self.note_fault(Finding { fault: AudioFault::Unheard, lasted });
                }
            }
            None => self.counts.discarded += 1,
        }
    }

    /// Says goodbye to the far side (RFC 3550 §6.6).
    pub fn close(&mut self, now: Now, out: &mut Out<'_>) {
        if let Some(media) = &mut self.media {
            media.send_report(now, self.counts.unplayed, true, out);
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
            fault: self.conversation.fault,
            fault_ms: self.conversation.faulty.as_millis() as u64,
            last_media_at: self.last_media_at,
            fax: self.machine,
            ..LegReport::default()
        };
        if let Some(media) = &self.media {
            media.fill(&mut report);
        }
        report
    }

    /// The recent past in steps of five seconds, oldest first.
    pub fn series(&self) -> Vec<QualitySample> {
        self.media.as_ref().map(|media| media.series.samples().collect()).unwrap_or_default()
    }

    /// Takes a sample if one is due.
    pub(super) fn take_sample(&mut self, now: Now) {
        let counts = self.counts();
        let Some(media) = self.media.as_mut().filter(|media| media.series.poll_timeout() <= now.instant)
        else {
            return;
        };
        let totals = Totals {
            losses: media.stats.losses(),
            bytes_received: counts.bytes_received,
            bytes_sent: counts.bytes_sent,
        };
        let step = media.series.step(now.instant, totals);
        let heard = heard(step.losses);
        media.rating.note_jitter(media.stats.jitter_ms(), step.losses.packets);
        media.series.push(QualitySample {
            at: now.unix_ms,
            loss: heard.map(|heard| rounded(heard.loss, 1e4)),
            // What stands from before a step without packets was not measured in it.
            jitter_ms: heard.and(media.stats.jitter_ms()).map(|ms| rounded(ms, 1e2)),
            rtt_ms: media.reports.fresh_rtt.take().map(|ms| rounded(ms, 1e2)),
            mos_lq: heard.map(|heard| rounded(quality::mos_lq(media.impairment(), heard), 1e2)),
            bytes_received: step.bytes_received.min(u64::from(u32::MAX)) as u32,
            bytes_sent: step.bytes_sent.min(u64::from(u32::MAX)) as u32,
        });
    }
}

/// Records and views carry no digits that nobody measured.
fn rounded(value: f32, steps: f32) -> f32 {
    (value * steps).round() / steps
}

impl Reports {
    /// True if the peer has heard more of us than at its last report; `None` if it never said what it heard.
    fn has_come_further(&mut self, about_us: Option<&Report>) -> Option<bool> {
        let Some(about_us) = about_us else { return self.highest.map(|_| false) };
        let highest = Some(about_us.reception.highest_sequence);
        Some(std::mem::replace(&mut self.highest, highest) != highest)
    }

    /// The round trip we measured, else the one the peer did.
    fn rtt_ms(&self) -> Option<f32> {
        self.rtt.map(|rtt| rtt.as_secs_f32() * 1000.0).or_else(|| self.their_rtt_ms())
    }

    fn their_rtt_ms(&self) -> Option<f32> {
        self.voip.and_then(|voip| voip.round_trip_ms).map(f32::from)
    }
}

impl Media {
    fn impairment(&self) -> Impairment {
        let received = Impairment::of(self.config.codec, self.concealed);
        if self.heard_in == self.config.codec { received } else { received.coded_again(self.heard_in) }
    }

    /// Notes how the leg is heard, where that may have changed: what was before is rated as it was heard then. `begins`:
    /// somebody hears it from now on at the latest.
    #[inline]
    pub(super) fn rate(&mut self, begins: bool) {
        if begins || self.rating.is_heard() {
            let row = self.impairment();
            self.rating.turn(row, || self.stats.losses());
        }
    }

    fn packet_ms(&self) -> f32 {
        self.stats.packet_ms().unwrap_or(f32::from(self.config.ptime_ms))
    }

    /// As it is now, which is what a peer is told.
    fn one_way_ms(&self) -> Option<f32> {
        let (rtt, jitter) = (self.reports.rtt_ms(), self.stats.jitter_ms());
        quality::one_way_ms(rtt, jitter, self.packet_ms(), self.config.codec)
    }

    /// Adds how the stream is heard, and what the peer says of ours.
    fn fill(&self, report: &mut LegReport) {
        let reports = &self.reports;
        let losses = self.stats.losses();
        let jitter = self.rating.jitter_ms(self.stats.jitter_ms(), self.series.packets_since(&losses));
        let rtt = self.rating.rtt_ms().or(reports.rtt_ms());
        report.jitter_ms = jitter.map(|ms| rounded(ms, 1e3));
        report.rtt_ms = rtt.map(|ms| rounded(ms, 1e2));
        report.remote_loss = reports.remote.map(|remote| remote.loss);
        report.remote_jitter_ms = reports.remote.map(|remote| remote.jitter_ms);
        report.remote_discard = reports.voip.map(|voip| voip.discard);
        report.remote_mos_lq = reports.voip.and_then(|voip| voip.mos_lq);
        report.remote_mos_cq = reports.voip.and_then(|voip| voip.mos_cq);
        let Some(heard) = heard(losses) else { return };
        report.packets_unrepaired = Some(losses.missed);
        let packet_ms = self.packet_ms();
        report.burst_ratio = Some(rounded(heard.burst_ratio, 1e2));
        report.burst_density = Some(rounded(losses.burst_density(), 1e4));
        report.gap_density = Some(rounded(losses.gap_density(), 1e4));
        report.burst_ms = Some((losses.burst_length() * packet_ms).round());
        report.gap_ms = Some((losses.gap_length() * packet_ms).round());
        let Some(r) = self.rating.listening_r(self.impairment(), losses) else { return };
        report.mos_lq = Some(rounded(quality::mos(r), 1e2));
        let one_way = quality::one_way_ms(rtt, jitter, packet_ms, self.config.codec);
        let conversational = |delay| rounded(quality::mos(r - quality::delay_impairment(delay)), 1e2);
        report.mos_cq = one_way.map(conversational);
    }

    /// The same as RFC 3611 wants it told to the peer; `None` before there is anything to tell.
    fn voip_metrics(&self, unplayed: u64) -> Option<VoipMetrics> {
        let losses = self.stats.losses();
        let heard = heard(losses)?;
        let (packet_ms, delay) = (self.packet_ms(), self.one_way_ms());
        let impairment = self.impairment();
        let discard = (unplayed.min(losses.missed) as f32) / losses.packets as f32;
        let ms = |packets: f32| (packets * packet_ms).round().clamp(0.0, f32::from(u16::MAX)) as u16;
        Some(VoipMetrics {
            ssrc: self.stats.ssrc()?,
            loss: heard.loss - discard,
            discard,
            burst_density: losses.burst_density(),
            gap_density: losses.gap_density(),
            burst_ms: ms(losses.burst_length()),
            gap_ms: ms(losses.gap_length()),
            round_trip_ms: self.reports.rtt.map(|rtt| rtt.as_millis().min(u128::from(u16::MAX)) as u16),
            // No packet is held back but at a gap: what the gateway adds is the packet it fills and the codec's look-ahead.
            end_system_ms: Some((packet_ms + quality::codec_delay_ms(self.config.codec)) as u16),
            gmin: GMIN,
            // R counts the delay: where that is unknown, so is R (§4.7.5).
            r_factor: delay.map(|delay| quality::r_factor(impairment, heard, delay).round() as u8),
            mos_lq: Some(quality::mos_lq(impairment, heard)),
            mos_cq: delay.map(|delay| quality::mos_cq(impairment, heard, delay)),
            conceals: self.concealed,
            buffer_ms: self.waits_ms,
        })
    }
}

impl Media {
    /// `None` if the packet is not from the far side or not RTCP.
    fn take_rtcp(&mut self, datagram: Datagram<'_>, channel: Channel, now: Now) -> Option<Received> {
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
            // Many may share a host's address: from a port that nobody announced only those are believed who know
            // what is sent here, or have the key.
            let knows = self.stats.ssrc() == Some(received.ssrc) || received.about_us.is_some();
            if !knows && self.incoming.is_none() && !self.rtcp_latch.is_announced(from) {
                return None;
            }
            match self.rtcp_latch.heard(from, true, now.instant) {
                Latched::Unchanged | Latched::Moved(_) => {}
            }
        }
        // Whoever only guesses addresses knows neither the source that is heard nor the one that we send from.
        if let Some(source) = received.leaves {
            self.stats.note_goodbye(source, now.instant);
        }
        if received.sender_time.is_some() && received.about_us.is_some() {
            self.stats.announce(received.ssrc, now.instant);
        }
        if let Some(time) = received.sender_time {
            self.reports.last_sr = Some((received.ssrc, time, arrival));
            self.reports.keyed |= self.stats.ssrc() == Some(received.ssrc);
        }
        self.reports.tells |= received.about_us.is_some();
        if let Some(about_us) = self.block_on_us(&received) {
            self.take_report(&about_us, arrival, now);
        }
        if received.voip.is_some() {
            self.reports.voip = received.voip;
            self.reports.fresh_rtt = self.reports.fresh_rtt.or(self.reports.their_rtt_ms());
        }
        Some(received)
    }

    /// What a compound says of our stream, under whichever name.
    fn block_on_us(&self, received: &Received) -> Option<Report> {
        let answers = |report: &Report| self.reports.is_answer(report, self.tx.ssrc());
        received.about_us.or_else(|| received.about_another.filter(answers))
    }

    /// Both sides are to be heard from now on: what the far side did not hear before does not count.
    pub(super) fn ask_hearing(&mut self) {
        self.reports.hearing = Hearing::new(self.stream());
    }

    fn stream(&self) -> Stream {
        let (packets, _) = self.tx.stream_totals();
        Stream { ssrc: self.tx.ssrc(), packets, next_sequence: self.tx.next_sequence() }
    }

    /// For how much longer the far side has surely not heard us, by its report.
    fn judge_hearing(&mut self, received: &Received, tells: bool, now: Instant) -> Option<Duration> {
        let stream = self.stream();
        self.reports.hearing.judge(received, tells, stream, now)
    }

    fn take_report(&mut self, about_us: &Report, arrival: Instant, now: Now) {
        let reports = &mut self.reports;
        // With a time that was never told here, such as one of the peer's own clock, it would be a number of chance.
        let answers = reports.is_answer(about_us, self.tx.ssrc());
        let rtt = rtcp::round_trip(about_us, reports.ntp(arrival)).filter(|_| answers);
        if let Some(rtt) = rtt {
            reports.rtt = Some(rtt);
            self.rating.note_round_trip(rtt);
            reports.fresh_rtt = reports.rtt_ms();
        }
        let (sent, _) = self.tx.stream_totals();
        // What a relayed source lost on its own way is no loss of this one.
        let lost =
            about_us.reception.cumulative_lost.saturating_sub_unsigned(self.tx.skipped()).max(0) as f32;
        reports.remote = Some(Remote {
            loss: if sent > 0 { (lost / sent as f32).min(1.0) } else { 0.0 },
            jitter_ms: about_us.reception.jitter as f32 * 1000.0 / self.tx.clock_rate() as f32,
        });
        // Redundancy rises at once and falls slowly: loss comes in spells. An encoder told of none makes none: the least
        // loss counts as one percent for it. How full the network is, is judged by what is surely lost.
        let share = u32::from(about_us.reception.fraction_lost) * 100;
        let (reported, at_most) = ((share / 256) as u8, share.div_ceil(256) as u8);
        reports.expected_loss = at_most.max(reports.expected_loss - reports.expected_loss.div_ceil(4));
        let (sent, _) = self.tx.sent();
        let packets = sent.saturating_sub(std::mem::replace(&mut reports.sent_by_report, sent));
        let packets = u32::try_from(packets).unwrap_or(u32::MAX);
        let change = reports.adaptation.report(reported, packets, rtt, now.instant);
        if let Some(feed) = &mut self.feed {
            feed.set_expected_loss(reports.expected_loss);
            if let Some(diet) = change {
                feed.set_diet(diet);
            }
        }
    }

    /// What the peer's reports have taught is true of whatever is sent to it, a new source's voice too.
    pub(super) fn tell_feed(&mut self) {
        if let Some(feed) = &mut self.feed {
            feed.set_expected_loss(self.reports.expected_loss);
            feed.set_diet(self.reports.adaptation.current());
        }
    }

    /// Sends an SR, or an RR if nothing was sent since the last one.
    pub(super) fn send_report(&mut self, now: Now, unplayed: u64, bye: bool, out: &mut Out<'_>) {
        let (packets, octets) = self.tx.stream_totals();
        let sender = (packets != self.reports.sent_before).then(|| SenderInfo {
            ntp: self.reports.ntp(now.instant),
            rtp_timestamp: self.tx.position_at(now.instant),
            packets,
            octets,
        });
        self.reports.sent_before = packets;
        if let Some(sender) = &sender {
            self.reports.note_told(self.tx.ssrc(), sender.ntp);
        }
        let report = self.stats.reception().map(|reception| {
            let last_sr = self.reports.answer(reception.ssrc);
            let waited = |came| rtcp::in_units(now.instant.saturating_duration_since(came));
            Report {
                reception,
                last_sr: last_sr.map_or(0, |(time, _)| time),
                delay_since_last_sr: last_sr.map_or(0, |(_, came)| waited(came)),
            }
        });
        let cname = std::str::from_utf8(&self.reports.cname).unwrap_or_default();
        let voip = self.config.voip_metrics.then(|| self.voip_metrics(unplayed)).flatten();
        let compound = Compound { ssrc: self.tx.ssrc(), sender, report, voip, cname, bye };
        let buffer = &mut out.work.packet;
        if let Some(len) = compound.write(buffer) {
            let (channel, to) = if self.config.rtcp_mux {
                (Channel::Rtp, self.latch.remote())
            } else {
                (Channel::Rtcp, self.rtcp_latch.remote())
            };
            self.tx.send_rtcp(channel, to, len, out.wire, buffer);
        }
        self.waits_ms = 0;
        self.reports.schedule(now.instant);
    }
}
