//! Session timers (RFC 4028): what two sides agree on, and the clock that follows from it.

use super::message::{HeaderName, Headers, Refresher, SessionExpires, Typed};
use std::time::{Duration, Instant};

/// The shortest session interval anybody may ask for, in seconds (RFC 4028 §4).
pub const SHORTEST: u32 = 90;
/// A far end that grants less than it may is still believed, but nobody is made to signal all the time.
const SHORTEST_CLOCK: Duration = Duration::from_secs(2);
/// How long before its end a session that was not refreshed is given up, at most (RFC 4028 §10).
const LEAD: Duration = Duration::from_secs(32);

/// What one side wants of session timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// The interval it asks for by itself, in seconds.
    pub interval: Option<u32>,
    /// It takes part where the far end asks.
    pub takes_part: bool,
}

/// Asked for less than the least: answered 422 with this Min-SE (RFC 4028 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSmall {
    pub least: u32,
}

/// What a session refresh request and its answer agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    pub seconds: u32,
    /// This side sends the refreshes.
    pub ours: bool,
}

/// What the answer to a session refresh request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    pub expires: SessionExpires,
    /// The asking side knows timers, and is held to this one.
    pub required: bool,
}

impl Reply {
    pub fn write(&self, headers: &mut Headers) {
        headers.set(HeaderName::SessionExpires, self.expires.to_string());
        if self.required {
            headers.push(HeaderName::Require, "timer");
        }
    }

    /// The same, seen from the side that answers.
    pub fn agreed(&self) -> Agreed {
        Agreed { seconds: self.expires.seconds, ours: self.expires.refresher != Some(Refresher::Uac) }
    }
}

/// Decides on a far end's session refresh request: INVITE, re-INVITE or UPDATE (RFC 4028 §9). `None`: no timer.
pub fn answer(request: &impl Typed, wishes: Wishes) -> Result<Option<Reply>, TooSmall> {
    if !wishes.takes_part {
        return Ok(None);
    }
    let knows = request.supports("timer");
    let asked = request.session_expires();
    if asked.is_some_and(|asked| asked.seconds < SHORTEST) && knows {
        return Err(TooSmall { least: SHORTEST });
    }
    // The interval may be lowered, not below what the far end or a proxy can bear, and never raised.
    let least = request.min_se().unwrap_or(SHORTEST).max(SHORTEST);
    let seconds = match (asked, wishes.interval) {
        (Some(asked), Some(wanted)) => asked.seconds.min(wanted.max(least)),
        (Some(asked), None) => asked.seconds,
        (None, Some(wanted)) => wanted.max(least),
        (None, None) => return Ok(None),
    };
    // RFC 4028 §9, table 2: who does not know timers can't be made the refresher.
    let refresher = match asked {
        _ if !knows => Refresher::Uas,
        Some(asked) => asked.refresher.unwrap_or(Refresher::Uac),
        None => Refresher::Uas,
    };
    let expires = SessionExpires { seconds, refresher: Some(refresher) };
    Ok(Some(Reply { expires, required: knows }))
}

/// What the answer to a session refresh request of ours agreed on (RFC 4028 §7.2). `asked` is the interval we asked
/// for: where the far end does not know timers, we refresh for our own good.
pub fn agreed(answer: &impl Typed, asked: Option<u32>) -> Option<Agreed> {
    match (answer.session_expires(), asked) {
        (Some(expires), _) => {
            let ours = expires.refresher != Some(Refresher::Uas);
            Some(Agreed { seconds: expires.seconds, ours })
        }
        (None, Some(seconds)) => Some(Agreed { seconds, ours: true }),
        (None, None) => None,
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Wait,
    /// This side has to refresh the session.
    Refresh,
    /// Nobody refreshed it: it ends with a BYE (RFC 4028 §10).
    Expired,
}

/// The clock of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTimer {
    agreed: Agreed,
    /// When we refresh; `None` while the far end does, or our refresh is out.
    refresh_at: Option<Instant>,
    expires_at: Instant,
}

impl SessionTimer {
    /// A session refresh request has just been answered.
    pub fn new(now: Instant, agreed: Agreed) -> SessionTimer {
        let interval = Duration::from_secs(agreed.seconds.into()).max(SHORTEST_CLOCK);
        // RFC 4028 §10: half the interval, so that a refresh that fails can be tried again.
        let refresh_at = agreed.ours.then(|| now + interval / 2);
        SessionTimer { agreed, refresh_at, expires_at: now + interval - LEAD.min(interval / 3) }
    }

    pub fn agreed(&self) -> Agreed {
        self.agreed
    }

    /// The refresh was refused for now or could not be sent: it is tried again while there is time.
    pub fn postpone(&mut self, now: Instant) {
        if self.agreed.ours {
            let left = self.expires_at.saturating_duration_since(now);
            self.refresh_at =
                Some(now + (left / 2).clamp(Duration::from_millis(500), Duration::from_secs(10)));
        }
    }

    /// It is tried again at once: the last try asked for the wrong thing.
    pub fn hurry(&mut self, now: Instant) {
        if self.agreed.ours {
            self.refresh_at = Some(now);
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        if self.expires_at <= now {
            return Due::Expired;
        }
        match self.refresh_at.take_if(|at| *at <= now) {
            Some(_) => Due::Refresh,
            None => Due::Wait,
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        self.refresh_at.map_or(self.expires_at, |at| at.min(self.expires_at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Method, Request};
    use super::*;

    fn request(fields: &[(HeaderName, &str)]) -> Request {
        let mut request = Request::new(Method::Invite, "sip:h".parse().unwrap());
        fields.iter().for_each(|(name, value)| request.headers.push(name.clone(), *value));
        request
    }

    const SILENT: Wishes = Wishes { interval: None, takes_part: true };
    const WANTS: Wishes = Wishes { interval: Some(1800), takes_part: true };

    fn reply(fields: &[(HeaderName, &str)], wishes: Wishes) -> Option<(String, bool)> {
        answer(&request(fields), wishes).unwrap().map(|reply| (reply.expires.to_string(), reply.required))
    }

    #[test]
    fn the_asking_side_says_who_refreshes_and_for_how_long() {
        let timer = (HeaderName::Supported, "timer");
        for (asked, wishes, expected) in [
            ("600;refresher=uac", SILENT, "600;refresher=uac"),
            ("600;refresher=uas", SILENT, "600;refresher=uas"),
            ("600", WANTS, "600;refresher=uac"),
            ("3600", WANTS, "1800;refresher=uac"),
        ] {
            let given = reply(&[timer.clone(), (HeaderName::SessionExpires, asked)], wishes);
            assert_eq!(given, Some((expected.to_owned(), true)), "{asked}");
        }
    }

    #[test]
    fn the_interval_is_not_lowered_below_what_the_far_end_can_bear() {
        let fields = [
            (HeaderName::Supported, "timer"),
            (HeaderName::SessionExpires, "3600"),
            (HeaderName::MinSe, "2400"),
        ];
        assert_eq!(reply(&fields, WANTS), Some(("2400;refresher=uac".into(), true)));
    }

    #[test]
    fn who_does_not_know_timers_is_not_made_the_refresher() {
        assert_eq!(reply(&[], WANTS), Some(("1800;refresher=uas".into(), false)));
        let by_a_proxy = [(HeaderName::SessionExpires, "600;refresher=uac")];
        assert_eq!(reply(&by_a_proxy, SILENT), Some(("600;refresher=uas".into(), false)));
        assert_eq!(reply(&[(HeaderName::Supported, "timer")], SILENT), None, "it only says that it could");
    }

    #[test]
    fn too_small_an_interval_is_refused_with_the_least_unless_the_far_end_would_not_understand() {
        let small = (HeaderName::SessionExpires, "89");
        let knows = request(&[(HeaderName::Supported, "timer"), small.clone()]);
        assert_eq!(answer(&knows, SILENT), Err(TooSmall { least: 90 }));
        assert!(answer(&request(&[small]), SILENT).unwrap().is_some());
    }

    #[test]
    fn who_takes_no_part_agrees_on_nothing() {
        let fields = [(HeaderName::Supported, "timer"), (HeaderName::SessionExpires, "10")];
        assert_eq!(answer(&request(&fields), Wishes::default()), Ok(None));
    }

    #[test]
    fn the_answering_side_decides_and_silence_leaves_the_refreshing_to_us() {
        let with = |value| request(&[(HeaderName::SessionExpires, value)]);
        let seconds = |agreed: Option<Agreed>| agreed.map(|agreed| (agreed.seconds, agreed.ours));
        assert_eq!(seconds(agreed(&with("600;refresher=uas"), Some(1800))), Some((600, false)));
        assert_eq!(seconds(agreed(&with("600;refresher=uac"), None)), Some((600, true)));
        assert_eq!(seconds(agreed(&request(&[]), Some(1800))), Some((1800, true)));
        assert_eq!(agreed(&request(&[]), None), None);
    }

    #[test]
    fn our_refresh_comes_at_half_time_and_the_end_a_third_or_32_seconds_before_expiry() {
        let start = Instant::now();
        for (seconds, refresh, end) in [(1800, 900, 1768), (90, 45, 60)] {
            let mut timer = SessionTimer::new(start, Agreed { seconds, ours: true });
            assert_eq!(timer.poll_timeout(), start + Duration::from_secs(refresh));
            assert_eq!(timer.handle_timeout(start + Duration::from_secs(refresh)), Due::Refresh);
            assert_eq!(timer.poll_timeout(), start + Duration::from_secs(end));
            assert_eq!(timer.handle_timeout(start + Duration::from_secs(end)), Due::Expired);
        }
        let theirs = SessionTimer::new(start, Agreed { seconds: 90, ours: false });
        assert_eq!(theirs.poll_timeout(), start + Duration::from_secs(60));
    }

    #[test]
    fn a_refused_refresh_is_tried_again_while_there_is_time() {
        let start = Instant::now();
        let mut timer = SessionTimer::new(start, Agreed { seconds: 1800, ours: true });
        let now = start + Duration::from_secs(900);
        assert_eq!(timer.handle_timeout(now), Due::Refresh);
        timer.postpone(now);
        assert_eq!(timer.poll_timeout(), now + Duration::from_secs(10));
    }

    #[test]
    fn an_absurd_interval_does_not_make_us_signal_all_the_time() {
        let start = Instant::now();
        let timer = SessionTimer::new(start, Agreed { seconds: 0, ours: true });
        assert_eq!(timer.poll_timeout(), start + Duration::from_secs(1));
    }
}
