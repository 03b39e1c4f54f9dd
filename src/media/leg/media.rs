//! What exists of a leg once an SDP is agreed: its streams both ways, and what changes with the next SDP.

use super::{Attendant, Heard, MOVED_AFTER, MOVES_WITHIN, Media};
use crate::media::codec::comfort_noise;
use crate::media::config::LegConfig;
use crate::media::dtmf::Event;
use crate::media::feed::Feed;
use crate::media::latch::Latch;
use crate::media::level::{Level, is_pause};
use crate::media::recovery::spread::Slack;
use crate::media::rtp::{self, RtpPacket};
use crate::media::srtp::{self, SrtpError};
use crate::media::transcoder::{Incoming, Outcome, law};
use crate::media::transmit::{Out, Transmitter};
use crate::types::{MediaDirection, Now, SrtpKeys};
use std::net::SocketAddr;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketKind {
    Voice,
    Event(Event),
    ComfortNoise,
}

impl Media {
    /// The announcer says nothing more.
    pub(super) fn silence(&mut self) {
        if self.announcer.take().is_some()
            && let Some(feed) = &mut self.feed
        {
            feed.forget();
        }
    }

    /// Checks the version and the SRTP tag; returns the length of the plain packet.
    #[inline]
    pub(super) fn open(&mut self, bytes: &mut [u8]) -> Option<usize> {
        match &mut self.incoming {
            Some(srtp) => srtp.unprotect_rtp(bytes).ok(),
            None => Some(bytes.len()),
        }
    }

    /// Writes a packet of the other law anew in the one that was agreed first, as if it had come so.
    #[inline]
    pub(super) fn settle_law(&self, bytes: &mut [u8]) {
        if let (Some(other), [_, second, ..]) = (self.config.other_law, &*bytes)
            && second & 0x7f == other
        {
            self.turn_law(bytes);
        }
    }

    #[cold]
    fn turn_law(&self, bytes: &mut [u8]) {
        let (Some(law), Some(start), Ok(packet)) =
            (law(self.config.codec), rtp::header_len(bytes), rtp::parse(bytes))
        else {
            return;
        };
        // Padding is no sound.
        let end = start + packet.payload.len();
        law.other().turn(&mut bytes[start..end]);
        bytes[1] = bytes[1] & 0x80 | self.config.receive_payload_type;
    }

    /// Reads a packet of one of the agreed payload types.
    #[inline]
    pub(super) fn read<'p>(&self, bytes: &'p [u8]) -> Option<(RtpPacket<'p>, PacketKind)> {
        let packet = rtp::parse(bytes).ok()?;
        if packet.payload_type == self.config.receive_payload_type {
            return Some((packet, PacketKind::Voice));
        }
        if self.config.dtmf.is_some_and(|format| format.receive_payload_type == packet.payload_type) {
            return Event::parse(packet.payload).map(|event| (packet, PacketKind::Event(event)));
        }
        // Beside G.711 the number is nobody else's (RFC 3551 §6): trunks send it without saying so. Opus has none.
        let noise = packet.payload_type == comfort_noise::PAYLOAD_TYPE && law(self.config.codec).is_some();
        noise.then_some((packet, PacketKind::ComfortNoise))
    }

    /// How loud a packet of voice is. Opus is judged where it is decoded; what is passed on untouched by its length.
    #[inline]
    pub(super) fn level_of(&self, payload: &[u8], outcome: Outcome) -> Level {
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
    pub(super) fn rekey(&mut self, keys: Option<&SrtpKeys>, seed: u64) -> Result<(), SrtpError> {
        let old = self.config.srtp.as_ref();
        let same_local = old.map(|k| (k.suite, &k.local)) == keys.map(|k| (k.suite, &k.local));
        let same_remote = old.map(|k| (k.suite, &k.remote)) == keys.map(|k| (k.suite, &k.remote));
        let outgoing =
            keys.filter(|_| !same_local).map(|k| srtp::Outgoing::new(k.suite, &k.local)).transpose()?;
        let mut incoming =
            keys.filter(|_| !same_remote).map(|k| srtp::Incoming::new(k.suite, &k.remote)).transpose()?;
        if !same_local {
            self.tx.set_srtp(outgoing, seed);
        }
        if !same_remote {
            if let (Some(incoming), Some(former)) = (&mut incoming, &self.incoming) {
                incoming.follow(former);
            }
            self.incoming = incoming;
            self.stats.set_authentic(self.incoming.is_some());
        }
        if let Some(keys) = keys {
            self.tx.identify(&keys.local_mki)?;
            self.incoming.as_mut().map_or(Ok(()), |incoming| incoming.identify(&keys.remote_mki))?;
        }
        Ok(())
    }

    /// True if a new SDP may mean another source at the same address.
    pub(super) fn may_be_another(&self, config: &LegConfig, now: Instant) -> bool {
        let key = |keys: &Option<SrtpKeys>| keys.as_ref().map(|keys| (keys.suite, keys.remote.clone()));
        key(&config.srtp) != key(&self.config.srtp) || self.stats.is_quiet(now, MOVED_AFTER)
    }

    /// A phone whose NAT has another way for it says so with an SDP that is the same as before, at once; that its
    /// packets no longer come the old way shows only later.
    #[cold]
    pub(super) fn may_have_moved(&mut self, now: Instant) -> bool {
        if self.moves_until.is_none_or(|until| now > until) || !self.stats.is_quiet(now, MOVED_AFTER) {
            return false;
        }
        self.moves_until = None;
        self.latch.renew(self.config.remote_rtp, self.config.latch, true, now);
        self.rtcp_latch.renew(self.config.remote_rtcp, self.config.latch, true, now);
        self.stats.expect_change(now);
        self.config.latch
    }

    /// Voice is heard from there, and goes there from now on. RTCP may come from another port of that host and from no
    /// other one: what was learnt of it elsewhere came from somebody else.
    #[cold]
    pub(super) fn follow(&mut self, remote: SocketAddr) {
        self.tx.set_remote(remote);
        self.reports.note_move();
        if self.rtcp_latch.remote().ip() != remote.ip() {
            self.rtcp_latch = Latch::new(self.config.remote_rtcp, self.config.latch);
        }
    }

    pub(super) fn reconfigure(&mut self, config: LegConfig, seed: u64, fresh: bool, now: Instant) {
        // Who holds may be silent wherever it is.
        let may_move = config.latch && !fresh && config.direction == MediaDirection::SendRecv;
        self.moves_until = may_move.then_some(now + MOVES_WITHIN);
        self.latch.renew(config.remote_rtp, config.latch, fresh, now);
        self.rtcp_latch.renew(config.remote_rtcp, config.latch, fresh, now);
        if fresh || config.remote_rtp != self.config.remote_rtp || config.codec != self.config.codec {
            self.stats.expect_change(now);
        }
        if config.remote_rtp != self.config.remote_rtp {
            self.reports.expect_another();
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
        if config.codec != self.config.codec {
            self.heard_in = config.codec;
        }
        if self.config.direction.sends() && !config.direction.sends() {
            // What waits to be sent, and what would be made up, is old when something may be sent again.
            let echo = match &mut self.attendant {
                Some(Attendant::Echo(feed)) => Some(&mut **feed),
                Some(Attendant::Plays(_)) | None => None,
            };
            [self.feed.as_mut(), echo].into_iter().flatten().for_each(Feed::forget);
        }
        self.config = config;
        self.rate(false);
    }

    pub(super) fn poll_timeout(&self) -> Instant {
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

    pub(super) fn handle_timeout(&mut self, now: Now, unplayed: u64, out: &mut Out<'_>) {
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
pub(super) fn pass(
    heard: Heard<'_>,
    slack: Slack,
    feed: &mut Feed,
    now: Instant,
    tx: &mut Transmitter,
    out: &mut Out<'_>,
) -> Outcome {
    let incoming = |packet, arrival| Incoming { packet, arrival, now, slack };
    match heard {
        Heard::Voice(packet, arrival) => feed.voice(incoming(packet, arrival), tx, out),
        Heard::Event(packet, arrival, event) => feed.event(incoming(packet, arrival), event, tx, out),
        Heard::Noise(packet, arrival) => feed.comfort_noise(incoming(packet, arrival), tx, out),
    }
}

pub(super) fn sessions(
    keys: Option<&SrtpKeys>,
) -> Result<(Option<srtp::Outgoing>, Option<srtp::Incoming>), SrtpError> {
    match keys {
        Some(keys) => srtp::session(keys).map(|(outgoing, incoming)| (Some(outgoing), Some(incoming))),
        None => Ok((None, None)),
    }
}
