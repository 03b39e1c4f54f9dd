//! One leg's media: hears what may be heard, measures it, reports on it, and sends what its bridge, a tone or a test line
//! makes.

mod reports;

use super::announcer::{Announcer, Sound};
use super::codec::comfort_noise;
use super::config::{LegConfig, Line, Tone};
use super::dtmf::Event;
use super::feed::Feed;
use super::latch::{Latch, Latched};
use super::level::{Level, is_pause};
use super::readback::Readback;
use super::reception::ReceiveStats;
use super::recording::Recording;
use super::rtp::{self, Arrival, RtpPacket};
use super::series::Series;
use super::srtp::{self, SrtpError};
use super::transcoder::{Incoming, Outcome, law};
use super::transmit::{Channel, Out, Transmitter};
use super::watch::{Tally, Watch};
use crate::types::{AudioFault, LegKind, Now, SrtpKeys};
use reports::Reports;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Whose packets have failed to come for so long may send them from elsewhere, if a new SDP comes; no pause of a voice
/// is as long.
const MOVED_AFTER: Duration = Duration::from_secs(2);

/// A datagram as it came from a socket.
pub struct Datagram<'p> {
    pub from: SocketAddr,
    /// When the kernel took it from the network.
    pub arrival: Instant,
    pub bytes: &'p mut [u8],
}

/// A packet worth passing on.
#[derive(Debug, Clone, Copy)]
pub enum Heard<'p> {
    Voice(RtpPacket<'p>, Arrival),
    Event(RtpPacket<'p>, Arrival, Event),
    /// The far side is silent, and says what its silence sounds like (RFC 3389).
    Noise(RtpPacket<'p>, Arrival),
}

/// What signalling should know of; each is said once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    pub latched: Option<SocketAddr>,
    pub first_packet: bool,
    pub timed_out: bool,
    /// What is wrong with what is heard, at the first finding.
    pub fault: Option<AudioFault>,
}

/// Counts of a leg that other rooms publish, since its opening.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub packets_received: u64,
    pub bytes_received: u64,
    pub packets_sent: u64,
    pub bytes_sent: u64,
    pub lost: u64,
    /// Too late, or twice.
    pub late: u64,
    pub discarded: u64,
    /// Of those late or discarded: what came and was not played, because it was too late or its codec refused it.
    pub unplayed: u64,
    pub recovered_fec: u64,
    pub recovered_plc: u64,
}

/// The media of one leg, from the opening of its ports to their closing.
pub struct Leg {
    kind: LegKind,
    seed: u64,
    media: Option<Box<Media>>,
    counts: Counts,
    news: News,
    heard_first: bool,
    last_media_at: Option<i64>,
    supervision: Supervision,
    conversation: Conversation,
}

/// What exists once an SDP is agreed.
struct Media {
    config: LegConfig,
    latch: Latch,
    rtcp_latch: Latch,
    incoming: Option<srtp::Incoming>,
    stats: ReceiveStats,
    reports: Reports,
    series: Series,
    tx: Transmitter,
    feed: Option<Feed>,
    announcer: Option<Box<Announcer>>,
    /// The announcer ends where the voice of a bridge begins.
    gives_way: bool,
    attendant: Option<Attendant>,
    /// Our own gateway makes up for the losses of this leg.
    concealed: bool,
}

/// What answers where there is no other leg.
enum Attendant {
    Echo(Box<Feed>),
    Plays(Box<Announcer>),
}

/// What is known of the voice of a call that was answered.
#[derive(Debug, Clone, Copy, Default)]
struct Conversation {
    /// Both sides are to be heard at present.
    on: bool,
    /// There was a conversation before.
    begun: bool,
    tally: Tally,
    /// Over the leg this one is joined with.
    watch: Watch,
    fault: Option<AudioFault>,
    faulty: Duration,
}

/// The media time-out.
#[derive(Debug, Clone, Copy)]
struct Supervision {
    after: Option<Duration>,
    since: Instant,
}

impl Leg {
    /// `seed` is random; SSRC, first numbers and the pace of reports come from it.
    pub fn new(kind: LegKind, seed: u64, now: Instant) -> Leg {
        Leg {
            kind,
            seed,
            media: None,
            counts: Counts::default(),
            news: News::default(),
            heard_first: false,
            last_media_at: None,
            supervision: Supervision { after: None, since: now },
            conversation: Conversation::default(),
        }
    }

    pub fn kind(&self) -> LegKind {
        self.kind
    }

    /// Applies an SDP. Fails, changing nothing, if the SRTP keys can't be used.
    pub fn configure(&mut self, config: LegConfig, now: Now) -> Result<(), SrtpError> {
        match &mut self.media {
            None => {
                let (outgoing, incoming) = sessions(config.srtp.as_ref())?;
                self.media = Some(Box::new(Media {
                    latch: Latch::new(config.remote_rtp, config.latch),
                    rtcp_latch: Latch::new(config.remote_rtcp, config.latch),
                    incoming,
                    stats: ReceiveStats::new(config.codec.clock_rate()),
                    reports: Reports::new(self.seed, now.instant),
                    series: Series::new(now.instant),
                    tx: Transmitter::new(&config, outgoing, self.seed),
                    feed: None,
                    announcer: None,
                    gives_way: false,
                    attendant: None,
                    concealed: false,
                    config,
                }));
            }
            Some(media) => {
                let fresh = media.may_be_another(&config, now.instant);
                media.rekey(config.srtp.as_ref())?;
                self.seed = self.seed.rotate_left(17) ^ 0x9e37_79b9_7f4a_7c15;
                if (config.remote_rtp, config.codec) != (media.config.remote_rtp, media.config.codec) {
                    self.conversation.tally.forget_sound();
                }
                media.reconfigure(config, self.seed, fresh, now.instant);
            }
        }
        self.supervision.since = now.instant;
        Ok(())
    }

    pub fn config(&self) -> Option<&LegConfig> {
        self.media.as_ref().map(|media| &media.config)
    }

    /// True if the far side may be heard at present.
    pub fn receives(&self) -> bool {
        self.config().is_some_and(|config| config.direction.receives())
    }

    /// Gives the leg its source: packets of a leg configured as `from` will come to [`feed`](Self::feed).
    pub fn connect(&mut self, from: &LegConfig) {
        let Some(media) = &mut self.media else { return };
        media.attendant = None;
        match &mut media.feed {
            Some(feed) => feed.renew(from, &media.config),
            none => *none = Some(Feed::between(from, &media.config)),
        }
    }

    /// Takes its source away.
    pub fn disconnect(&mut self) {
        if let Some(media) = &mut self.media {
            media.feed = None;
            media.concealed = false;
        }
    }

    /// The source went on hold.
    pub fn pause_feed(&mut self) {
        if let Some(feed) = self.media.as_mut().and_then(|media| media.feed.as_mut()) {
            feed.pause();
        }
    }

    /// Notes whether the bridge makes up for losses of this leg; listening quality depends on it.
    pub fn set_concealed(&mut self, concealed: bool) {
        if let Some(media) = &mut self.media {
            media.concealed = concealed;
        }
    }

    /// A fax or a modem was heard on the way from the leg's source.
    #[inline]
    pub fn feed_is_clear(&self) -> bool {
        self.media.as_ref().and_then(|media| media.feed.as_ref()).is_some_and(Feed::is_clear)
    }

    /// A fax or a modem was heard on the way to the leg's source: the way back passes clear too.
    #[inline]
    pub fn clear_feed(&mut self) {
        let feed = self.media.as_mut().and_then(|media| media.feed.as_mut());
        if let Some(feed) = feed.filter(|feed| !feed.is_clear()) {
            feed.set_clear();
        }
    }

    /// True if what the leg gets from its source is concealed on the way.
    pub fn feed_conceals(&self) -> bool {
        self.media.as_ref().and_then(|media| media.feed.as_ref()).is_some_and(Feed::conceals)
    }

    /// Hears a datagram of the RTP port. What comes back is to be passed on to the bridge.
    #[inline]
    pub fn receive<'p>(&mut self, datagram: Datagram<'p>, now: Now) -> Option<Heard<'p>> {
        let Some(media) = &mut self.media else { return None };
        if !media.latch.may_hear(datagram.from) {
            self.counts.discarded += 1;
            return None;
        }
        if rtp::is_rtcp(datagram.bytes) {
            if media.config.rtcp_mux {
                self.receive_rtcp(datagram, Channel::Rtp, now);
            } else {
                self.counts.discarded += 1;
            }
            return None;
        }
        let wire_len = datagram.bytes.len();
        let Some(opened) = media.open(datagram.bytes) else {
            self.counts.discarded += 1;
            return None;
        };
        // The borrow of the bytes ends in a shared one: from here on nobody changes the packet.
        let bytes: &'p [u8] = datagram.bytes;
        let Some((packet, kind)) = media.read(&bytes[..opened]) else {
            self.counts.discarded += 1;
            return None;
        };
        let timestamp = (kind == PacketKind::Voice).then_some(packet.timestamp);
        let arrival = media.stats.record(packet.ssrc, packet.sequence, timestamp, datagram.arrival);
        match arrival {
            Arrival::Suspect => {
                self.counts.discarded += 1;
                return None;
            }
            Arrival::Duplicate => {
                self.counts.late += 1;
                return None;
            }
            Arrival::First | Arrival::Next | Arrival::Gap(_) | Arrival::Late => {}
        }
        if let Latched::Moved(remote) = media.latch.heard(datagram.from) {
            media.tx.set_remote(remote);
            self.news.latched = Some(remote);
        }
        self.counts.packets_received += 1;
        self.counts.bytes_received += wire_len as u64;
        self.conversation.tally.note_packet();
        self.supervision.since = now.instant;
        self.last_media_at = Some(now.unix_ms);
        if !self.heard_first {
            self.heard_first = true;
            self.news.first_packet = true;
        }
        match kind {
            PacketKind::Voice => Some(Heard::Voice(packet, arrival)),
            PacketKind::Event(event) => Some(Heard::Event(packet, arrival, event)),
            PacketKind::ComfortNoise => Some(Heard::Noise(packet, arrival)),
        }
    }

    /// Sends on what another leg heard.
    #[inline]
    pub fn feed(&mut self, heard: Heard<'_>, now: Instant, out: &mut Out<'_>) -> Outcome {
        let Some(media) = &mut self.media else { return Outcome::default() };
        if media.announcer.is_some() {
            if !(media.gives_way && matches!(heard, Heard::Voice(..))) {
                return Outcome::default();
            }
            media.silence();
        }
        if !media.config.direction.sends() {
            return Outcome::default();
        }
        let Some(feed) = &mut media.feed else { return Outcome::default() };
        pass(heard, feed, now, &mut media.tx, out)
    }

    /// Lets a test line answer on this leg; ignored before an SDP is agreed. A bridge ends it.
    pub fn serve(&mut self, line: Line, now: Instant) {
        let Some(media) = &mut self.media else { return };
        let config = &media.config;
        let plays = |sound| Attendant::Plays(Box::new(Announcer::new(sound, config, now)));
        media.attendant = Some(match line {
            Line::Echo => Attendant::Echo(Box::new(Feed::between(config, config))),
            Line::Tone(tone) => plays(Sound::tone(tone)),
            Line::Speech => plays(Sound::Speech(Recording::default())),
            Line::Digits => plays(Sound::Digits(Box::new(Readback::new(config)))),
        });
    }

    /// True where a test line answers.
    pub fn is_served(&self) -> bool {
        self.media.as_ref().is_some_and(|media| media.attendant.is_some())
    }

    /// Gives what the leg heard to the line that answers on it.
    pub fn attend(&mut self, heard: Heard<'_>, now: Instant, out: &mut Out<'_>) -> Outcome {
        let Some(media) = &mut self.media else { return Outcome::default() };
        match &mut media.attendant {
            Some(Attendant::Echo(feed)) if media.config.direction.sends() => {
                pass(heard, feed, now, &mut media.tx, out)
            }
            Some(Attendant::Plays(announcer)) => {
                announcer.hear(heard, now, &media.tx, out);
                Outcome::default()
            }
            Some(Attendant::Echo(_)) | None => Outcome::default(),
        }
    }

    /// Notes what became of a packet this leg heard.
    #[inline]
    pub fn note(&mut self, heard: Heard<'_>, outcome: Outcome) {
        let counts = &mut self.counts;
        counts.recovered_fec += u64::from(outcome.recovered_fec);
        counts.recovered_plc += u64::from(outcome.recovered_plc);
        counts.late += u64::from(outcome.too_late);
        counts.discarded += u64::from(outcome.unusable);
        let played = !(outcome.too_late || outcome.unusable);
        counts.unplayed += u64::from(!played);
        let Some(media) = &mut self.media else { return };
        let (packet, arrival) = match heard {
            Heard::Voice(packet, arrival) => {
                self.conversation.tally.note_level(media.level_of(packet.payload, outcome));
                (packet, arrival)
            }
            Heard::Noise(packet, arrival) => {
                self.conversation.tally.note_level(Level::Pause);
                (packet, arrival)
            }
            Heard::Event(packet, arrival, _) => (packet, arrival),
        };
        media.stats.note_recovered(outcome.recovered_fec);
        // A late packet that is not played may have been recovered before it came.
        if played == (arrival == Arrival::Late) {
            media.stats.note_heard(packet.sequence, played);
        }
    }

    /// Both sides are to be heard from now on, or no more (hold, one direction only, the end).
    pub fn set_conversation(&mut self, on: bool) {
        let conversation = &mut self.conversation;
        conversation.on = on;
        conversation.watch.reset();
        if on && !std::mem::replace(&mut conversation.begun, true) {
            // What sounded before the answer was not the one who answered.
            conversation.tally.forget_sound();
        }
    }

    /// True if it is time for [`judge`](Self::judge).
    #[inline]
    pub fn is_watching(&self, now: Instant) -> bool {
        self.conversation.on && self.conversation.watch.is_due(now)
    }

    /// Judges, as the one that is heard, whether its peer is heard too.
    pub fn judge(&mut self, peer: &mut Leg, now: Instant) {
        let theirs = &mut peer.conversation;
        if !theirs.on {
            return;
        }
        let ours = &mut self.conversation;
        let Some(finding) = ours.watch.judge(now, ours.tally, theirs.tally) else { return };
        theirs.faulty += finding.lasted;
        if theirs.fault.is_none() {
            theirs.fault = Some(finding.fault);
            peer.news.fault = Some(finding.fault);
        }
    }

    /// Plays a tone until [`stop_tone`](Self::stop_tone), or where it `gives_way` until the voice of a bridge is there;
    /// ignored before an SDP is agreed.
    pub fn play_tone(&mut self, tone: Tone, gives_way: bool, now: Instant) {
        if let Some(media) = &mut self.media {
            media.announcer = Some(Box::new(Announcer::new(Sound::tone(tone), &media.config, now)));
            media.gives_way = gives_way;
        }
    }

    pub fn stop_tone(&mut self) {
        if let Some(media) = &mut self.media {
            media.silence();
        }
    }

    /// Supervises that something is heard; `None` stops it.
    pub fn set_timeout(&mut self, after: Option<Duration>, now: Instant) {
        self.supervision = Supervision { after, since: now };
        self.news.timed_out = false;
    }

    /// News since the last call.
    #[inline]
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    pub fn has_news(&self) -> bool {
        self.news != News::default()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let supervision = self.supervision.after.map(|after| self.supervision.since + after);
        let media = self.media.as_ref().map(|media| media.poll_timeout());
        [supervision, media].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Out<'_>) {
        if let Some(after) = self.supervision.after
            && self.supervision.since + after <= now.instant
        {
            self.supervision.after = None;
            self.news.timed_out = true;
        }
        if let Some(media) = &mut self.media {
            media.handle_timeout(now, self.counts.unplayed, out);
        }
        self.take_sample(now);
    }

    /// Voice and event packets heard so far.
    #[inline]
    pub fn packets_received(&self) -> u64 {
        self.counts.packets_received
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        if let Some(media) = &self.media {
            counts.lost = media.stats.lost();
            (counts.packets_sent, counts.bytes_sent) = media.tx.sent();
        }
        counts
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PacketKind {
    Voice,
    Event(Event),
    ComfortNoise,
}

impl Media {
    /// The announcer says nothing more.
    fn silence(&mut self) {
        if self.announcer.take().is_some()
            && let Some(feed) = &mut self.feed
        {
            feed.forget();
        }
    }

    /// Checks the version and the SRTP tag; returns the length of the plain packet.
    #[inline]
    fn open(&mut self, bytes: &mut [u8]) -> Option<usize> {
        match &mut self.incoming {
            Some(srtp) => srtp.unprotect_rtp(bytes).ok(),
            None => Some(bytes.len()),
        }
    }

    /// Reads a packet of one of the agreed payload types.
    #[inline]
    fn read<'p>(&self, bytes: &'p [u8]) -> Option<(RtpPacket<'p>, PacketKind)> {
        let packet = rtp::parse(bytes).ok()?;
        if packet.payload_type == self.config.receive_payload_type {
            return Some((packet, PacketKind::Voice));
        }
        if self.config.dtmf.is_some_and(|format| format.receive_payload_type == packet.payload_type) {
            return Event::parse(packet.payload).map(|event| (packet, PacketKind::Event(event)));
        }
        (packet.payload_type == comfort_noise::PAYLOAD_TYPE).then_some((packet, PacketKind::ComfortNoise))
    }

    /// How loud a packet of voice is. Opus is judged where it is decoded; what is passed on untouched by its length.
    #[inline]
    fn level_of(&self, payload: &[u8], outcome: Outcome) -> Level {
        match law(self.config.codec) {
            _ if outcome.unusable => Level::Unknown,
            Some(law) => Level::of_g711(law, payload),
            // What libopus makes of a pause is comfort noise of its own.
            None if self.concealed && !is_pause(payload) => outcome.level,
            None => Level::of_opus(payload),
        }
    }

    /// Each direction keeps its rollover counter and replay window while its own key stays: nothing may be protected
    /// twice with the same numbers, whatever the other direction does.
    fn rekey(&mut self, keys: Option<&SrtpKeys>) -> Result<(), SrtpError> {
        let old = self.config.srtp.as_ref();
        let same_local = old.map(|k| (k.suite, &k.local)) == keys.map(|k| (k.suite, &k.local));
        let same_remote = old.map(|k| (k.suite, &k.remote)) == keys.map(|k| (k.suite, &k.remote));
        let outgoing =
            keys.filter(|_| !same_local).map(|k| srtp::Outgoing::new(k.suite, &k.local)).transpose()?;
        let incoming =
            keys.filter(|_| !same_remote).map(|k| srtp::Incoming::new(k.suite, &k.remote)).transpose()?;
        if !same_local {
            self.tx.set_srtp(outgoing);
        }
        if !same_remote {
            self.incoming = incoming;
        }
        if let Some(keys) = keys {
            self.tx.identify(&keys.local_mki)?;
            self.incoming.as_mut().map_or(Ok(()), |incoming| incoming.identify(&keys.remote_mki))?;
        }
        Ok(())
    }

    /// True if a new SDP may mean another source at the same address.
    fn may_be_another(&self, config: &LegConfig, now: Instant) -> bool {
        let key = |keys: &Option<SrtpKeys>| keys.as_ref().map(|keys| (keys.suite, keys.remote.clone()));
        key(&config.srtp) != key(&self.config.srtp) || self.stats.is_quiet(now, MOVED_AFTER)
    }

    fn reconfigure(&mut self, config: LegConfig, seed: u64, fresh: bool, now: Instant) {
        self.latch.renew(config.remote_rtp, config.latch, fresh);
        self.rtcp_latch.renew(config.remote_rtcp, config.latch, fresh);
        if fresh || config.remote_rtp != self.config.remote_rtp || config.codec != self.config.codec {
            self.stats.expect_change(now);
        }
        self.tx.configure(&config, seed);
        self.tx.set_remote(self.latch.remote());
        self.stats.set_clock_rate(config.codec.clock_rate());
        let other = |config: &LegConfig| (config.codec, config.ptime_ms, config.dtmf);
        if other(&config) != other(&self.config) {
            if let Some(announcer) = &mut self.announcer {
                announcer.renew(&config, now);
            }
            if let Some(Attendant::Plays(announcer)) = &mut self.attendant {
                announcer.renew(&config, now);
            }
        }
        if let Some(Attendant::Echo(feed)) = &mut self.attendant {
            feed.renew(&config, &config);
        }
        self.config = config;
    }

    fn poll_timeout(&self) -> Instant {
        let sound = match &self.announcer {
            _ if !self.config.direction.sends() => None,
            Some(announcer) => Some(announcer.poll_timeout()),
            None => match &self.attendant {
                Some(Attendant::Plays(announcer)) => Some(announcer.poll_timeout()),
                Some(Attendant::Echo(feed)) => feed.poll_timeout(),
                None => self.feed.as_ref().and_then(Feed::poll_timeout),
            },
        };
        let reports = self.reports.poll_timeout().min(self.series.poll_timeout());
        sound.map_or(reports, |sound| sound.min(reports))
    }

    fn handle_timeout(&mut self, now: Now, unplayed: u64, out: &mut Out<'_>) {
        if self.config.direction.sends() {
            match (&mut self.announcer, &mut self.attendant, &mut self.feed) {
                (Some(announcer), ..) | (None, Some(Attendant::Plays(announcer)), _) => {
                    announcer.handle_timeout(now.instant, &mut self.tx, out);
                }
                (None, Some(Attendant::Echo(feed)), _) => {
                    feed.handle_timeout(now.instant, &mut self.tx, out);
                }
                (None, None, Some(feed)) => feed.handle_timeout(now.instant, &mut self.tx, out),
                (None, None, None) => {}
            }
        }
        if self.reports.poll_timeout() <= now.instant {
            self.send_report(now, unplayed, false, out);
        }
    }
}

/// Sends on what was heard.
#[inline]
fn pass(heard: Heard<'_>, feed: &mut Feed, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) -> Outcome {
    match heard {
        Heard::Voice(packet, arrival) => feed.voice(Incoming { packet, arrival, now }, tx, out),
        Heard::Event(packet, arrival, event) => feed.event(Incoming { packet, arrival, now }, event, tx, out),
        Heard::Noise(packet, arrival) => feed.comfort_noise(Incoming { packet, arrival, now }, tx, out),
    }
}

fn sessions(keys: Option<&SrtpKeys>) -> Result<(Option<srtp::Outgoing>, Option<srtp::Incoming>), SrtpError> {
    match keys {
        Some(keys) => srtp::session(keys).map(|(outgoing, incoming)| (Some(outgoing), Some(incoming))),
        None => Ok((None, None)),
    }
}
