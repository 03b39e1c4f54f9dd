//! One leg's media: hears what may be heard, measures it, reports on it, and sends what its bridge, a tone or a test line
//! makes.

mod hearing;
mod media;
mod rating;
mod reports;

use super::announcer::{Announcer, Sound};
use super::config::{LegConfig, Line, Tone};
use super::dtmf::Event;
use super::feed::Feed;
use super::fetch::fetch;
use super::latch::{Latch, Latched};
use super::readback::Readback;
use super::reception::ReceiveStats;
use super::recording::Recording;
use super::recovery::spread::Slack;
use super::rtp::{self, Arrival, RtpPacket};
use super::series::Series;
use super::srtp::{self, SrtpError};
use super::transcoder::{Outcome, Untold};
use super::transmit::{Channel, Out, Transmitter};
use super::watch::{Finding, Tally, Watch};
use crate::types::{AudioCodec, AudioFault, LegKind, Now};
use media::{PacketKind, pass, sessions};
use rating::Rating;
use reports::Reports;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Whose packets have failed to come for so long may send them from elsewhere, if a new SDP comes; no pause of a voice
/// is as long.
const MOVED_AFTER: Duration = Duration::from_secs(2);

/// How long an SDP that names the same address may still be the word of one that moved, and then falls silent here.
const MOVES_WITHIN: Duration = Duration::from_secs(10);

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
    /// What is wrong with what is heard, at the first finding of the fault that is told.
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

impl Counts {
    /// Adds what became of a packet; false if it was not played.
    #[inline]
    fn note(&mut self, outcome: Outcome) -> bool {
        self.recovered_fec += u64::from(outcome.recovered_fec);
        self.recovered_plc += u64::from(outcome.recovered_plc);
        self.late += u64::from(outcome.too_late);
        self.discarded += u64::from(outcome.unusable);
        let played = !(outcome.too_late || outcome.unusable);
        self.unplayed += u64::from(!played);
        played
    }
}

/// The media of one leg, from the opening of its ports to their closing.
pub struct Leg {
    kind: LegKind,
    seed: u64,
    media: Option<Box<Media>>,
    counts: Counts,
    /// Its far end is a fax or a modem.
    machine: bool,
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
    /// Until when the last SDP, which named the same address, counts as a new one if nothing more is heard from there.
    moves_until: Option<Instant>,
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
    /// Whoever hears this leg hears it in this codec.
    heard_in: AudioCodec,
    rating: Rating,
    /// The longest that one of its packets might wait for another since the last report, in milliseconds.
    waits_ms: u16,
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
    /// When the far side was last known to speak or to listen.
    alive: Instant,
}

/// Reports alone, of a far side that neither speaks nor listens, hold the time-out off for so many times its length.
const REPORTS_HOLD: u32 = 2;

impl Supervision {
    fn new(after: Option<Duration>, now: Instant) -> Supervision {
        Supervision { after, since: now, alive: now }
    }

    #[inline]
    fn note_media(&mut self, now: Instant) {
        (self.since, self.alive) = (now, now);
    }

    /// Who is muted may send nothing but reports, for as long as they show that it listens; `None`: they never say.
    fn note_report(&mut self, listens: Option<bool>, now: Instant) {
        match (listens, self.after) {
            (Some(true), _) => self.note_media(now),
            (Some(false), Some(after)) => {
                self.since = self.since.max(now.min(self.alive + after * REPORTS_HOLD));
            }
            (Some(false), None) | (None, _) => self.since = now,
        }
    }
}

/// An odd step: adding it comes back to a seed only after all others.
const WEYL: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a stream after the first counts from (splitmix64): one key may protect many of them, each with an SSRC of its
/// own (RFC 3711 §9.1).
fn mixed(seed: u64) -> u64 {
    let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

impl Leg {
    /// `seed` is random; SSRC, first numbers and the pace of reports come from it.
    pub fn new(kind: LegKind, seed: u64, now: Instant) -> Leg {
        Leg {
            kind,
            seed,
            media: None,
            counts: Counts::default(),
            machine: false,
            news: News::default(),
            heard_first: false,
            last_media_at: None,
            supervision: Supervision::new(None, now),
            conversation: Conversation::default(),
        }
    }

    /// Brings nearer what the next packet needs.
    #[inline]
    pub fn fetch(&self) {
        if let Some(media) = &self.media {
            fetch(&**media);
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
                let mut stats = ReceiveStats::new(config.codec.clock_rate());
                stats.set_authentic(incoming.is_some());
                self.media = Some(Box::new(Media {
                    latch: Latch::new(config.remote_rtp, config.latch),
                    rtcp_latch: Latch::new(config.remote_rtcp, config.latch),
                    moves_until: None,
                    incoming,
                    stats,
                    reports: Reports::new(self.seed, now),
                    series: Series::new(now.instant),
                    tx: Transmitter::new(&config, outgoing, self.seed),
                    feed: None,
                    announcer: None,
                    gives_way: false,
                    attendant: None,
                    concealed: false,
                    heard_in: config.codec,
                    rating: Rating::default(),
                    waits_ms: 0,
                    config,
                }));
            }
            Some(media) => {
                let fresh = media.may_be_another(&config, now.instant);
                let weyl = self.seed.wrapping_add(WEYL);
                media.rekey(config.srtp.as_ref(), mixed(weyl))?;
                self.seed = weyl;
                if (config.remote_rtp, config.codec) != (media.config.remote_rtp, media.config.codec) {
                    self.conversation.tally.forget_sound();
                }
                media.reconfigure(config, mixed(weyl), fresh, now.instant);
            }
        }
        self.supervision.note_media(now.instant);
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
        media.tell_feed();
    }

    /// Takes its source away. How the leg was heard while it was joined stays true; what it missed of the one that is gone
    /// is not to be laid at the next one's door.
    pub fn disconnect(&mut self) {
        self.conversation.watch.reset();
        if let Some(media) = &mut self.media {
            media.feed = None;
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
            media.rate(false);
        }
    }

    /// True if losses of this leg are made up for here.
    #[inline]
    pub fn is_concealed(&self) -> bool {
        self.media.as_ref().is_some_and(|media| media.concealed)
    }

    /// Notes the codec in which the leg is heard; listening quality depends on it too.
    pub fn set_heard_in(&mut self, codec: AudioCodec) {
        if let Some(media) = &mut self.media {
            media.heard_in = codec;
            media.rate(true);
        }
    }

    /// A fax or a modem was heard on the way from the leg's source.
    #[inline]
    pub fn feed_is_clear(&self) -> bool {
        self.media.as_ref().and_then(|media| media.feed.as_ref()).is_some_and(Feed::is_clear)
    }

    /// True once the leg's source was heard to be a fax or a modem.
    #[inline]
    pub fn feed_heard_machine(&self) -> bool {
        self.media.as_ref().and_then(|media| media.feed.as_ref()).is_some_and(Feed::heard_machine)
    }

    /// The leg's far end was heard to be a fax or a modem.
    #[inline]
    pub fn note_machine(&mut self, heard: bool) {
        self.machine |= heard;
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
    #[inline]
    pub fn feed_conceals(&self) -> bool {
        self.media.as_ref().and_then(|media| media.feed.as_ref()).is_some_and(Feed::conceals)
    }

    /// A datagram came that is longer than any packet.
    pub fn note_too_long(&mut self) {
        self.counts.discarded += 1;
    }

    /// Hears a datagram of the RTP port. What comes back is to be passed on to the bridge.
    #[inline]
    pub fn receive<'p>(&mut self, datagram: Datagram<'p>, now: Now) -> Option<Heard<'p>> {
        let Some(media) = &mut self.media else { return None };
        if !media.latch.may_hear(datagram.from) && !media.may_have_moved(now.instant) {
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
        media.settle_law(&mut datagram.bytes[..opened]);
        // The borrow of the bytes ends in a shared one: from here on nobody changes the packet.
        let bytes: &'p [u8] = datagram.bytes;
        let Some((packet, kind)) = media.read(&bytes[..opened]) else {
            self.counts.discarded += 1;
            return None;
        };
        // Who has sent one packet from somewhere is not answered for by another address.
        if !media.latch.may_go_on(datagram.from) && media.stats.ssrc() == Some(packet.ssrc) {
            self.counts.discarded += 1;
            return None;
        }
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
        let sure = media.incoming.is_some();
        if let Latched::Moved(remote) = media.latch.heard(datagram.from, sure, now.instant) {
            media.follow(remote);
            self.news.latched = Some(remote);
        }
        self.counts.packets_received += 1;
        self.counts.bytes_received += wire_len as u64;
        self.conversation.tally.note_packet();
        self.supervision.note_media(now.instant);
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
    pub fn feed(&mut self, heard: Heard<'_>, slack: Slack, now: Instant, out: &mut Out<'_>) -> Outcome {
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
        pass(heard, slack, feed, now, &mut media.tx, out)
    }

    /// How much longer than the last packet heard others may be on their way.
    #[inline]
    pub fn slack(&self) -> Slack {
        self.media.as_ref().map_or(Slack::default(), |media| media.stats.slack())
    }

    /// Lets a test line answer on this leg; ignored before an SDP is agreed. A bridge ends it.
    pub fn serve(&mut self, line: Line, now: Instant) {
        let Some(media) = &mut self.media else { return };
        (media.concealed, media.heard_in) = (false, media.config.codec);
        media.rate(true);
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
                pass(heard, media.stats.slack(), feed, now, &mut media.tx, out)
            }
            Some(Attendant::Plays(announcer)) => {
                announcer.hear(heard, now, &media.tx, out);
                Outcome::default()
            }
            Some(Attendant::Echo(_)) | None => Outcome::default(),
        }
    }

    /// What became of packets of the other leg that waited here.
    #[inline]
    pub fn take_untold(&mut self) -> Option<Untold> {
        let media = self.media.as_mut()?;
        match (&mut media.feed, &mut media.attendant) {
            (Some(feed), _) => feed.take_untold(),
            (None, Some(Attendant::Echo(feed))) => feed.take_untold(),
            (None, Some(Attendant::Plays(_)) | None) => None,
        }
    }

    /// Notes what became of a packet this leg heard after it had waited.
    pub fn note_waited(&mut self, sequence: u16, outcome: Outcome) {
        let played = self.counts.note(outcome);
        let Some(media) = &mut self.media else { return };
        self.conversation.tally.note_level(outcome.level);
        media.stats.note_recovered(sequence, outcome.recovered_fec);
        if !played {
            media.stats.note_heard(sequence, false);
        }
    }

    /// Notes what became of a packet this leg heard.
    #[inline]
    pub fn note(&mut self, heard: Heard<'_>, outcome: Outcome) {
        let played = self.counts.note(outcome);
        let Some(media) = &mut self.media else { return };
        let (packet, arrival) = match heard {
            Heard::Voice(packet, arrival) => {
                self.conversation.tally.note_level(media.level_of(packet.payload, outcome));
                (packet, arrival)
            }
            Heard::Noise(packet, arrival) => {
                self.conversation.tally.note_description(packet.payload);
                (packet, arrival)
            }
            Heard::Event(packet, arrival, _) => (packet, arrival),
        };
        media.waits_ms = media.waits_ms.max(outcome.waits_ms);
        media.stats.note_recovered(packet.sequence, outcome.recovered_fec);
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
        if let Some(media) = &mut self.media {
            media.ask_hearing();
        }
    }

    /// True if it is time for [`judge`](Self::judge).
    #[inline]
    pub fn is_watching(&self, now: Instant) -> bool {
        self.conversation.on && self.conversation.watch.is_due(now)
    }

    /// Judges, as the one that is heard, whether its peer is heard too.
    pub fn judge(&mut self, peer: &mut Leg, now: Instant) {
        if !peer.conversation.on {
            return;
        }
        let ours = &mut self.conversation;
        if let Some(finding) = ours.watch.judge(now, ours.tally, peer.conversation.tally) {
            peer.note_fault(finding);
        }
    }

    fn note_fault(&mut self, finding: Finding) {
        let conversation = &mut self.conversation;
        match conversation.fault {
            // What is seen here itself is surer than what is told, and whom nobody hears is missed most.
            Some(AudioFault::Unheard) if finding.fault == AudioFault::Missing => {
                conversation.faulty = finding.lasted;
                conversation.fault = Some(finding.fault);
                self.news.fault = Some(finding.fault);
            }
            // Who is not heard and does not hear has one time of it.
            Some(known) if known != finding.fault && known.is_one_way() && finding.fault.is_one_way() => {}
            Some(_) => conversation.faulty += finding.lasted,
            None => {
                conversation.faulty += finding.lasted;
                conversation.fault = Some(finding.fault);
                self.news.fault = Some(finding.fault);
            }
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
        self.supervision = Supervision::new(after, now);
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
