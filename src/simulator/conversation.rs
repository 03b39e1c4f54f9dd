//! Leads one call from its first sign to its end: waits, talks, presses keys, holds, hangs up, and reports.

use super::agent::{CallEvent, EndedBy};
use super::heard::{self, Sound, Verdict};
use super::io::endpoint::{Session, SessionEvent};
use super::stream::{Stamp, StreamOutcome};
use super::wav::Wav;
use crate::types::{AudioCodec, LegReport, MediaDirection, Now, UnixMillis};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What to do during a call.
#[derive(Debug, Clone)]
pub struct Script {
    /// An outgoing call that nobody answers in this time is given up.
    pub ring: Duration,
    /// After the answer, hang up once this has passed; `None`: the far end hangs up.
    pub talk: Option<Duration>,
    /// Keys to press, and how long after the answer.
    pub keys: Option<(Duration, String)>,
    /// Hold this long after the answer, and resume after the second time.
    pub hold: Option<(Duration, Duration)>,
    /// Once notified, end at once, whether answered or not.
    pub stop: Option<Arc<Notify>>,
}

impl Default for Script {
    /// A minute of ringing, as a patient caller; the far end hangs up.
    fn default() -> Script {
        Script { ring: Duration::from_secs(60), talk: None, keys: None, hold: None, stop: None }
    }
}

/// What happens on the way, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Trying,
    Ringing,
    EarlyMedia(AudioCodec),
    Answered(AudioCodec),
    Held,
    Resumed,
    Ended,
}

/// Milliseconds from the call's first message; `None` for what did not happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SetUp {
    /// 100 Trying.
    pub trying_ms: Option<u32>,
    /// The first 180 or 183: the post-dial delay.
    pub ringing_ms: Option<u32>,
    /// The first provisional response with media.
    pub early_media_ms: Option<u32>,
    pub answered_ms: Option<u32>,
    /// From the answer to the first voice packet.
    pub first_voice_ms: Option<i64>,
}

/// How a call went, as this side saw it.
#[derive(Debug, Clone, Serialize)]
pub struct CallReport {
    pub call_id: String,
    pub started_at: UnixMillis,
    pub answered_at: Option<UnixMillis>,
    pub ended_at: UnixMillis,
    pub set_up: SetUp,
    /// From answer to end.
    pub talked_ms: u32,
    /// The final status: 200 for an answered call.
    pub status: u16,
    pub phrase: String,
    /// The Reason header of what ended the call.
    pub reason: Option<String>,
    pub ended_by: EndedBy,
    pub codec: Option<AudioCodec>,
    /// Milliseconds in a packet sent.
    pub ptime_ms: Option<u8>,
    pub srtp: bool,
    /// Re-INVITEs that changed the media, ours and theirs.
    pub updates: u32,
    /// Keys received.
    pub keys: String,
    pub media: LegReport,
    /// Whether this side truly heard what it should have, if that was known.
    pub heard: Option<Verdict>,
    /// What can be told without knowing what was said; `None` where nothing was recorded.
    pub sound: Option<Sound>,
    pub recording: Option<PathBuf>,
    /// What was heard.
    #[serde(skip)]
    pub wav: Option<Wav>,
    #[serde(skip)]
    pub sent: Vec<Stamp>,
    #[serde(skip)]
    pub received: Vec<Stamp>,
}

impl CallReport {
    pub fn was_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// Looks for sound in the recording, and for our own words among it.
    pub fn listen(&mut self, own: Option<&Wav>) {
        self.sound = self.wav.as_ref().map(|wav| heard::listen(wav, own));
    }

    /// Judges the recording against what the far end said and what this side said itself.
    pub fn judge(&mut self, said: &Wav, own: Option<&Wav>) {
        let empty = Wav { rate: said.rate, samples: Vec::new() };
        self.heard = Some(heard::judge(said, self.wav.as_ref().unwrap_or(&empty), own));
    }
}

/// What is next on the script.
#[derive(Default)]
struct Agenda {
    give_up: Option<Instant>,
    hang_up: Option<Instant>,
    press: Option<(Instant, String)>,
    hold: Option<Instant>,
    resume: Option<Instant>,
}

impl Agenda {
    fn next(&self) -> Option<Instant> {
        let press = self.press.as_ref().map(|(at, _)| *at);
        [self.give_up, self.hang_up, press, self.hold, self.resume].into_iter().flatten().min()
    }
}

/// Leads a call that was made or answered elsewhere; `started` is when its first message passed.
pub async fn lead(
    mut session: Session,
    started: Now,
    script: &Script,
    mut watch: impl FnMut(Moment),
) -> CallReport {
    let mut agenda = Agenda { give_up: Some(started.instant + script.ring), ..Agenda::default() };
    let mut report = CallReport {
        call_id: session.call_id.clone(),
        started_at: started.unix_ms,
        answered_at: None,
        ended_at: started.unix_ms,
        set_up: SetUp::default(),
        talked_ms: 0,
        status: 0,
        phrase: String::new(),
        reason: None,
        ended_by: EndedBy::Failure,
        codec: None,
        ptime_ms: None,
        srtp: false,
        updates: 0,
        keys: String::new(),
        media: LegReport::default(),
        heard: None,
        sound: None,
        recording: None,
        wav: None,
        sent: Vec::new(),
        received: Vec::new(),
    };
    let mut answered: Option<Instant> = None;
    let mut stop = script.stop.clone();
    loop {
        let deadline = agenda.next();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let stopped = async {
            match &stop {
                Some(stop) => stop.notified().await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = session.next() => event,
            () = stopped => {
                session.hang_up(480);
                (agenda, stop) = (Agenda::default(), None);
                continue;
            }
            () = timer => {
                act(&session, &mut agenda, script).await;
                continue;
            }
        };
        match event {
            Some(SessionEvent::Call(event, now)) => {
                let since = now.instant.saturating_duration_since(started.instant).as_millis() as u32;
                match event {
                    CallEvent::Progress { status: 100, .. } => {
                        report.set_up.trying_ms.get_or_insert(since);
                        watch(Moment::Trying);
                    }
                    CallEvent::Progress { status, media, .. } => {
                        if matches!(status, 180 | 183) && report.set_up.ringing_ms.is_none() {
                            report.set_up.ringing_ms = Some(since);
                            watch(Moment::Ringing);
                        }
                        if let Some(media) = media
                            && report.set_up.early_media_ms.is_none()
                        {
                            report.set_up.early_media_ms = Some(since);
                            watch(Moment::EarlyMedia(media.codec));
                        }
                    }
                    CallEvent::Answered { media } => {
                        report.set_up.answered_ms = Some(since);
                        report.answered_at = Some(now.unix_ms);
                        answered = Some(now.instant);
                        report.codec = Some(media.codec);
                        report.ptime_ms = Some(media.ptime_ms);
                        report.srtp = media.srtp.is_some();
                        agenda.give_up = None;
                        agenda.hang_up = script.talk.map(|talk| now.instant + talk);
                        agenda.press =
                            script.keys.as_ref().map(|(after, keys)| (now.instant + *after, keys.clone()));
                        agenda.hold = script.hold.map(|(after, _)| now.instant + after);
                        watch(Moment::Answered(media.codec));
                    }
                    CallEvent::Updated { media, by_us: _ } => {
                        report.updates += 1;
                        report.codec = Some(media.codec);
                        let held = media.direction != MediaDirection::SendRecv;
                        watch(if held { Moment::Held } else { Moment::Resumed });
                    }
                    CallEvent::Ended(ending) => {
                        agenda = Agenda::default();
                        report.ended_at = now.unix_ms;
                        if let Some(answered) = answered {
                            report.talked_ms =
                                now.instant.saturating_duration_since(answered).as_millis() as u32;
                        }
                        report.status = ending.status;
                        report.phrase = ending.phrase;
                        report.reason = ending.reason;
                        report.ended_by = ending.by;
                        watch(Moment::Ended);
                    }
                    CallEvent::Incoming(_) | CallEvent::Acknowledged | CallEvent::UpdateRefused { .. } => {}
                }
            }
            Some(SessionEvent::Media(outcome)) => {
                if report.status == 0 {
                    // The agent was stopped under the call.
                    report.ended_at = Now::read().unix_ms;
                }
                let StreamOutcome { report: media, recording, keys, first_packet_ms, sent, received } =
                    *outcome;
                report.media = media;
                report.wav = recording;
                report.keys = keys;
                let answered = report.set_up.answered_ms.map(i64::from);
                report.set_up.first_voice_ms =
                    first_packet_ms.zip(answered).map(|(voice, answered)| (voice - answered).max(0));
                report.sent = sent;
                report.received = received;
                return report;
            }
            None => return report,
        }
    }
}

/// Does what is due on the agenda.
async fn act(session: &Session, agenda: &mut Agenda, script: &Script) {
    let now = Instant::now();
    if agenda.give_up.take_if(|at| *at <= now).is_some() || agenda.hang_up.take_if(|at| *at <= now).is_some()
    {
        session.hang_up(480);
    }
    if let Some((_, keys)) = agenda.press.take_if(|(at, _)| *at <= now) {
        session.press(&keys);
    }
    if agenda.hold.take_if(|at| *at <= now).is_some() {
        session.update(MediaDirection::SendOnly).await;
        agenda.resume = script.hold.map(|(_, pause)| now + pause);
    }
    if agenda.resume.take_if(|at| *at <= now).is_some() {
        session.update(MediaDirection::SendRecv).await;
    }
}
