//! Many calls at once, far ends that do what they like, and a network that loses, repeats and reorders: whatever
//! happens, every call ends, leaves one End record, and nothing is kept of it.

mod doors;
mod features;
mod forks;
mod intervals;
mod strange;
mod streams;

use self::doors::Doors;
use self::forks::{Forks, Place, Play};
use self::intervals::Intervals;
use self::streams::Streams;
use super::far::Side;
use super::world::*;
use crate::billing::Cdr;
use crate::call::Input;
use crate::sip::message::{HeaderName, Message, Method, Request, Response, Typed};
use crate::types::EndCause;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// For so long new calls begin and far ends have ideas of their own.
const LIVELY: Duration = Duration::from_secs(90);
/// A call may ring for 40 s and last for 60 s; then come 64 × T1 for each thing that may be lost.
const QUIET: Duration = Duration::from_secs(400);

/// Those of our users that call.
const USERS: [&str; 2] = ["alice", "carol"];

/// One far end in one dialog.
struct Bot {
    side: Side,
    /// Something came back for its INVITE.
    heard: bool,
    /// Its INVITE has a final answer, or it gave one.
    decided: bool,
    /// The ACK of its answer came.
    acked: bool,
    over: bool,
    /// What it answered its INVITE with last.
    answer: Option<Message>,
    /// Some never acknowledge.
    acknowledges: bool,
    challenged: bool,
    /// It acknowledges progress that has to arrive.
    pracks: bool,
    /// The number of its last reliable response.
    rseq: u32,
    /// A REFER that may be asked for a password.
    referring: Option<Request>,
    /// That REFER leaves a phone to another call that still rings.
    leaves_ringing: bool,
}

type Key = (SocketAddr, String);

/// What is to happen.
enum Deed {
    /// A message reaches the gateway.
    Arrive(SocketAddr, Message),
    Dial,
    /// A far end repeats its INVITE while nothing came back.
    InviteAgain(Key, u32),
    GiveUp(Key),
    Update(Key),
    /// A far end that may have called somebody else meanwhile moves its call.
    Refer(Key),
    Answer(Key, u16),
    /// A far end repeats its 2xx while it is not acknowledged.
    AnswerAgain(Key, u32),
    Idea(Key),
    ByeAgain(Key, Message, u32),
    Fork(Place, Play),
    /// Something the gateway's own machinery does.
    Machinery,
}

struct Chaos {
    w: World,
    dice: Dice,
    deeds: BTreeMap<(Instant, u64), Deed>,
    bots: HashMap<Key, Bot>,
    /// Messages lost, of a hundred; half as many come twice.
    loss: u64,
    seen: usize,
    /// Transfers taken up while their target rang.
    left_ringing: usize,
    reloads: usize,
    doors: Doors,
    forks: Forks,
    intervals: Intervals,
    streams: Streams,
}

/// What seldom comes to pass: transferred calls that were answered, transfers taken up while their target rang, legs that
/// went to another media thread, attempts that went where a trunk sent them, calls for help that somebody answered, callers
/// whose signature was good, reloads, requests inside calls that an operator had asked for credentials and let in, sessions
/// made longer, changes of one of several phones before the answer, answers of such, streams of operators that broke, and
/// answers of the DNS.
type Rare = [usize; 13];

/// What a storm brought about.
struct Storm {
    ends: Vec<EndCause>,
    rare: Rare,
}

#[test]
fn whatever_happens_every_call_ends_and_nothing_is_left() {
    let only = std::env::var("TANDEM_CHAOS_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = only.map_or(0..120, |seed: u64| seed..seed + 1);
    let all = seeds.end - seeds.start > 1;
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rare = Rare::default();
    for seed in seeds {
        let storm = run(seed);
        rare = std::array::from_fn(|kind| rare[kind] + storm.rare[kind]);
        for cause in storm.ends {
            *causes.entry(cause.as_str()).or_default() += 1;
        }
    }
    assert!(!all || rare.iter().all(|count| *count > 0), "{rare:?}");
    // A storm in which nothing but calm comes to pass proves nothing.
    for cause in [
        EndCause::NormalClearing,
        EndCause::CallerCancelled,
        EndCause::NoAnswer,
        EndCause::Busy,
        EndCause::Declined,
        EndCause::NoAck,
        EndCause::DialogLost,
        EndCause::MaxDuration,
        EndCause::MediaTimeout,
        EndCause::AdminHangup,
        EndCause::JournalFailed,
        EndCause::GatewayCongested,
        EndCause::TrunkCongested,
        EndCause::TrunkTimeout,
        EndCause::TransportFailed,
        EndCause::NotAcceptable,
        EndCause::FarEndFailure,
        EndCause::SessionExpired,
        EndCause::NoPrack,
        EndCause::IdentityMissing,
        EndCause::IdentityInvalid,
        EndCause::IdentityStale,
        EndCause::IdentityUnreachable,
    ] {
        assert!(!all || causes.contains_key(cause.as_str()), "no {} in {causes:?}", cause.as_str());
    }
}

/// One storm.
fn run(seed: u64) -> Storm {
    let mut config = config();
    let mut dice = Dice(seed.wrapping_mul(0x1234_5678_9abc_def1) + 1);
    config.limits.ring = secs(if dice.percent(50) { 20 } else { 40 });
    config.limits.max_duration = secs(60);
    config.limits.max_calls_per_user = 50;
    config.billing.interim = secs(7);
    if dice.percent(40) {
        config.trunks[0].max_channels = Some(2);
        config.trunks[1].max_cps = Some(1);
    }
    features::shape(&mut config, &mut dice);
    strange::shape(&mut config, &mut dice);
    let doors = Doors::new(seed);
    doors.shape(&mut config);
    let streams = Streams::new(seed);
    streams.shape(&mut config);
    let mut w = World::seeded(config, seed);
    w.label = format!("TANDEM_CHAOS_SEED={seed}");
    strange::arm(&mut w);
    if dice.percent(30) {
        w.over_tcp(ALICE);
    }
    for device in [BOB, BOB2] {
        w.register("bob", device);
        w.inbox(device.parse().unwrap()).clear();
    }
    if dice.percent(10) {
        w.unreachable.push(A.parse().unwrap());
    }
    let loss = [0, 5, 20, 40][dice.below(4) as usize];
    let mut chaos = Chaos {
        w,
        dice,
        deeds: BTreeMap::new(),
        bots: HashMap::new(),
        loss,
        seen: 0,
        left_ringing: 0,
        reloads: 0,
        doors,
        forks: Forks::default(),
        intervals: Intervals::default(),
        streams,
    };
    for _ in 0..12 {
        let at = ms(chaos.dice.below(60_000));
        chaos.plan(at, Deed::Dial);
    }
    for _ in 0..8 {
        let at = ms(chaos.dice.below(80_000));
        chaos.plan(at, Deed::Machinery);
    }
    chaos.play();
    let unheard = chaos.unheard();
    assert!(loss > 0 || unheard.is_empty(), "operators that never heard of the end: {unheard:?}");
    let Chaos { w, left_ringing, reloads, doors, streams, forks, intervals, .. } = chaos;
    let open = doors.left_open(forks.left_open());
    assert!(loss > 0 || open.is_empty(), "legs that live on at an operator: {open:?}");
    assert!(intervals::most_asked(&w) <= 5, "a call that is asked for without end");
    // Calls whose room was never reserved have no Start; the others have one End each.
    w.assert_nothing_left();
    let ends = w.ends();
    let redirected = |cdr: &&&Cdr| cdr.legs.iter().any(|leg| leg.end_cause == Some(EndCause::Redirected));
    let answered =
        |wanted: fn(&Cdr) -> bool| ends.iter().filter(|cdr| cdr.answered_at.is_some() && wanted(cdr)).count();
    Storm {
        rare: [
            answered(|cdr| cdr.transfer_of.is_some()),
            left_ringing,
            w.media.moves,
            ends.iter().filter(redirected).count(),
            answered(|cdr| cdr.emergency.is_some()),
            w.events.iter().filter(strange::is_verified).count(),
            reloads,
            doors.proven,
            intervals.raised,
            forks.changed,
            forks.answered,
            streams.cuts,
            streams.moves,
        ],
        ends: ends.iter().filter_map(|cdr| cdr.end_cause).collect(),
    }
}

impl Chaos {
    fn plan(&mut self, after: Duration, deed: Deed) {
        let number = self.w.number();
        self.deeds.insert((self.w.now.instant + after, number), deed);
    }

    /// Jumps from one thing to the next until all is quiet.
    fn play(&mut self) {
        let end = self.w.start + QUIET;
        loop {
            self.whims();
            let next = self.deeds.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = next.into_iter().chain(self.w.next_due()).min().filter(|next| *next < end)
            else {
                break;
            };
            self.w.pass(next.saturating_duration_since(self.w.now.instant));
            while let Some(key) =
                self.deeds.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= self.w.now.instant)
            {
                let deed = self.deeds.remove(&key).expect("just seen");
                self.act(deed);
            }
            self.listen();
        }
        let left = end - self.w.now.instant;
        self.w.pass(left);
    }

    fn lively(&self) -> bool {
        self.w.now.instant < self.w.start + LIVELY
    }

    /// Journal and media path change their speed all the time, and fail now and then.
    fn whims(&mut self) {
        let verdict = |dice: &mut Dice| match dice.below(100) {
            0 => Verdict::Fails,
            1..=60 => Verdict::Durable(Duration::ZERO),
            _ => Verdict::Durable(ms(dice.below(300))),
        };
        self.w.journal.answer = verdict(&mut self.dice);
        self.w.journal.end = verdict(&mut self.dice);
        self.w.journal.has_room = !self.dice.percent(1);
        self.w.media.opens_after =
            if self.dice.percent(70) { Duration::ZERO } else { ms(self.dice.below(200)) };
        self.w.media.closes_after = Some(ms(self.dice.below(1_000) * self.dice.below(2)));
        self.w.media.worker = self.dice.below(2) as usize;
        self.w.media.free = if self.dice.percent(2) { 0 } else { 1_000 };
    }

    /// A far end says something; the network does with it what it likes.
    fn say(&mut self, at: SocketAddr, message: impl Into<Message>, after: Duration) {
        let message = message.into();
        let copies =
            if self.dice.percent(self.loss) { 0 } else { 1 + u64::from(self.dice.percent(self.loss / 2)) };
        for _ in 0..copies {
            let delay = after + ms(self.dice.below(if self.loss == 0 { 2 } else { 400 }));
            self.plan(delay, Deed::Arrive(at, message.clone()));
        }
    }

    /// All that reached far ends since the last time, as far as the network lets it through.
    fn listen(&mut self) {
        for (at, message) in self.w.everything() {
            if self.dice.percent(self.loss) {
                continue;
            }
            match message {
                Message::Request(request) => self.on_request(at, request),
                Message::Response(response) => self.on_response(at, response),
            }
        }
        self.fetch();
        let sent = self.w.trace.len();
        if self.dice.percent(1)
            && sent > self.seen
            && let Some(line) = self.w.trace[self.seen..].iter().rev().find(|line| line.sent)
        {
            let ticket = line.ticket;
            self.doors.excuse((line.far, line.message.call_id().unwrap().to_owned()));
            self.w.later(ms(5), Input::TransportFailed { ticket });
        }
        self.seen = sent;
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            Deed::Arrive(at, message) => {
                self.connect(at);
                self.w.send(at, message);
            }
            Deed::Dial => {
                let user = USERS[self.dice.below(2) as usize];
                self.dial(user);
            }
            Deed::InviteAgain(key, round) => self.invite_again(key, round),
            Deed::GiveUp(key) => {
                if let Some(bot) = self.bots.get(&key).filter(|bot| !bot.decided && bot.heard) {
                    let cancel = bot.side.cancel();
                    self.say(key.0, cancel.clone(), Duration::ZERO);
                    self.say(key.0, cancel, ms(500));
                }
            }
            Deed::Update(key) => self.update(&key),
            Deed::Refer(key) => {
                self.refer(&key);
                let next = ms(self.dice.below(8_000));
                self.plan(next, Deed::Idea(key));
            }
            Deed::Answer(key, status) => self.answer(key, status),
            Deed::AnswerAgain(key, round) => {
                let Some(bot) = self.bots.get(&key).filter(|bot| !bot.acked && round < 10) else { return };
                if let Some(answer) = bot.answer.clone() {
                    self.say(key.0, answer, Duration::ZERO);
                    self.plan(ms(500 << round.min(3)), Deed::AnswerAgain(key, round + 1));
                }
            }
            Deed::Idea(key) => self.idea(key),
            Deed::ByeAgain(key, bye, round) => {
                if self.bots.get(&key).is_some_and(|bot| !bot.over) && round < 6 {
                    self.doors.excuse(key.clone());
                    self.say(key.0, bye.clone(), Duration::ZERO);
                    self.plan(ms(500 << round), Deed::ByeAgain(key, bye, round + 1));
                }
            }
            Deed::Fork(place, play) => self.play_fork(place, play),
            Deed::Machinery => self.machinery(),
        }
    }

    /// A user calls somebody, or somebody calls from a trunk.
    fn dial(&mut self, user: &str) {
        let phone = self.w.phone_of(user);
        let trunk: SocketAddr = A.parse().unwrap();
        let mut side = match self.dice.below(7) {
            0 | 1 => {
                let side = self.w.side(phone, user, "sip:0470123456@example.org");
                side.with_password(user, &format!("{user}-secret"))
            }
            2 => {
                let side = self.w.side(phone, user, "sip:bob@example.org");
                side.with_password(user, &format!("{user}-secret"))
            }
            5 => {
                let line = self.dice.below(6) + 1;
                let side = self.w.side(phone, user, &format!("sip:+322555990{line}@example.org"));
                side.with_password(user, &format!("{user}-secret"))
            }
            6 => {
                let side = self.w.side(phone, user, "sip:112@example.org");
                side.with_password(user, &format!("{user}-secret"))
            }
            3 => self.w.side(trunk, "+33123456789", "sip:+3225550002@192.0.2.1"),
            _ => self.w.side(trunk, "+33123456789", "sip:+31201234567@192.0.2.1"),
        };
        let sdp = match self.dice.below(10) {
            0 => String::new(),
            1 => directed(OFFER, "sendonly"),
            2 => "v=0\r\n".to_owned(),
            _ => OFFER.to_owned(),
        };
        let mut invite = side.invite(&sdp);
        features::knowing(&mut invite, &mut self.dice);
        if let Some(running) = self.running_call_at(side.at).filter(|_| self.dice.percent(10)) {
            invite.headers.push(HeaderName::Replaces, running);
        }
        if side.at == trunk {
            strange::sign(&mut invite, self.w.now, &mut self.dice);
        }
        side.invite = invite.clone();
        let key = (side.at, side.call_id.clone());
        let acknowledges = !self.dice.percent(8);
        let mut bot = Bot::new(side, acknowledges);
        bot.pracks = !self.dice.percent(25);
        self.bots.insert(key.clone(), bot);
        self.say(key.0, &invite, Duration::ZERO);
        self.plan(ms(500), Deed::InviteAgain(key.clone(), 1));
        if self.dice.percent(30) {
            let patience = ms(self.dice.below(25_000));
            self.plan(patience, Deed::GiveUp(key));
        }
    }

    fn invite_again(&mut self, key: Key, round: u32) {
        let Some(bot) = self.bots.get(&key).filter(|bot| !bot.heard && !bot.over && round < 7) else {
            return;
        };
        let invite = bot.side.invite.clone();
        self.say(key.0, invite, Duration::ZERO);
        self.plan(ms(500 << round), Deed::InviteAgain(key, round + 1));
    }

    fn on_request(&mut self, at: SocketAddr, request: Request) {
        let key = (at, request.call_id().unwrap().to_owned());
        if self.is_too_short(&key, &request) || self.is_for_fork(&key, &request) {
            return;
        }
        self.streams.note(&request);
        if self.is_asked(&key, &request) {
            return;
        }
        match request.method {
            Method::Invite if request.to_tag().is_none() => self.on_invite(key, request),
            Method::Invite => self.on_reinvite(key, request),
            Method::Ack => {
                if let Some(bot) = self.bots.get_mut(&key) {
                    bot.acked = true;
                }
            }
            Method::Cancel => {
                let Some(bot) = self.bots.get_mut(&key) else { return };
                let answer = bot.side.response(&request, 200);
                let obeys = !bot.decided && self.dice.percent(85);
                self.say(at, answer, Duration::ZERO);
                if obeys {
                    self.plan(ms(1), Deed::Answer(key, 487));
                }
            }
            Method::Bye => {
                let answer = match self.bots.get_mut(&key) {
                    Some(bot) => {
                        bot.over = true;
                        let status = [200, 200, 200, 481][self.dice.below(4) as usize];
                        bot.side.response(&request, status)
                    }
                    None => Response::to_request(&request, 481),
                };
                if self.dice.percent(95) {
                    self.say(at, answer, Duration::ZERO);
                }
            }
            _ => {
                let status = [200, 200, 200, 500, 481][self.dice.below(5) as usize];
                self.streams.note_answer(&request, status);
                self.say(at, Response::to_request(&request, status), Duration::ZERO);
            }
        }
    }

    fn on_invite(&mut self, key: Key, invite: Request) {
        if let Some(bot) = self.bots.get(&key) {
            // A repetition: one that answers a challenge is the first that comes here.
            if let Some(answer) = bot.answer.clone() {
                self.say(key.0, answer, Duration::ZERO);
            }
            return;
        }
        let tag = format!("b{}", self.w.number());
        let side = Side::called(key.0, invite, &tag, self.w.via_of(key.0));
        let mut bot = Bot::new(side, true);
        bot.heard = true;
        if self.dice.percent(15) {
            self.fork_plays(&key, &bot.side.invite);
        }
        if self.dice.percent(15) {
            let at = ms(self.dice.below(3_000));
            self.plan(at, Deed::Update(key.clone()));
        }
        self.bots.insert(key.clone(), bot);
        if self.dice.percent(10) {
            return; // A black hole; it may still wake up when it is called off.
        }
        let mut at = self.dice.below(500);
        for status in [100, 180, 183] {
            if self.dice.percent(60) {
                self.plan(ms(at), Deed::Answer(key.clone(), status));
                at += self.dice.below(4_000);
            }
        }
        let last = [200, 200, 200, 200, 200, 486, 603, 503, 500, 404, 302, 0];
        let status = last[self.dice.below(last.len() as u64) as usize];
        if status != 0 {
            self.plan(ms(at), Deed::Answer(key, status));
        }
    }

    /// A far end answers its INVITE, if it has not yet.
    fn answer(&mut self, key: Key, status: u16) {
        let bodiless = self.dice.percent(3);
        let other = self.w.number();
        let Some(bot) = self.bots.get_mut(&key).filter(|bot| !bot.decided) else { return };
        let mut response = bot.side.response(&bot.side.invite, status);
        let describes = status == 183 || (status == 200 && !bodiless);
        if describes {
            let sdp = if key.0.to_string().starts_with("203") { ANSWER } else { OPUS_ANSWER };
            response = response.with_body("application/sdp", sdp);
        }
        if status == 302 {
            response.headers.set(HeaderName::Contact, format!("<sip:{}@{B}>", bot.side.invite.uri.user()));
        }
        response = features::saying(response, bot, &mut self.dice);
        bot.decided = status >= 200;
        bot.answer = Some(Message::Response(response.clone()));
        let fork = Side::called(key.0, bot.side.invite.clone(), &format!("fork{other}"), "UDP");
        self.say(key.0, response.clone(), Duration::ZERO);
        if status == 200 {
            self.plan(ms(500), Deed::AnswerAgain(key.clone(), 1));
            if self.dice.percent(10) {
                let second = fork.response(&fork.invite, 200).with_body("application/sdp", ANSWER);
                self.say(key.0, second, ms(self.dice.clone().below(2_000)));
            }
            let idea = ms(self.dice.below(30_000));
            self.plan(idea, Deed::Idea(key));
        }
    }

    fn on_response(&mut self, at: SocketAddr, response: Response) {
        let key = (at, response.call_id().unwrap().to_owned());
        let method = response.cseq().unwrap().method;
        if self.fork_hears(&response) {
            return;
        }
        let Some(bot) = self.bots.get_mut(&key) else { return };
        if method == Method::Bye && response.status >= 200 {
            bot.over = true;
        }
        if method == Method::Refer && response.status == 401 {
            self.prove_refer(&key, &response);
            return;
        }
        if method == Method::Refer && response.status == 202 {
            self.left_ringing += usize::from(std::mem::take(&mut bot.leaves_ringing));
        }
        if method != Method::Invite {
            return;
        }
        bot.heard = true;
        let current = response.cseq() == bot.side.invite.cseq();
        match response.status {
            100..=199 => {
                if response.status > 100 && !bot.decided {
                    bot.side.learn(&response);
                }
                self.acknowledge_progress(&key, &response);
                if self.dice.percent(10) {
                    self.plan(ms(100), Deed::Update(key));
                }
            }
            200..=299 => {
                let first = !bot.decided;
                bot.decided = true;
                if bot.acknowledges {
                    let mut ack = bot.side.ack(&response);
                    if bot.side.invite.body.is_empty() {
                        ack = ack.with_body("application/sdp", OFFER);
                    }
                    self.say(at, &ack, Duration::ZERO);
                }
                if first {
                    let idea = ms(self.dice.below(30_000));
                    self.plan(idea, Deed::Idea(key));
                }
            }
            status => {
                if current {
                    let ack = bot.side.ack_failure(&response);
                    let again = (status == 401 && bot.side.auth.is_some() && !bot.challenged).then(|| {
                        bot.challenged = true;
                        bot.heard = false;
                        let invite = bot.side.invite.clone();
                        bot.side.with_credentials(&invite, &response)
                    });
                    // A refused change leaves a conversation as it is.
                    if again.is_none() && (!bot.decided || response.to_tag() != bot.side.other.tag()) {
                        bot.decided = true;
                        bot.over = true;
                    }
                    self.say(at, &ack, Duration::ZERO);
                    if let Some(again) = again {
                        self.say(at, &again, Duration::ZERO);
                        self.plan(ms(500), Deed::InviteAgain(key, 1));
                    }
                }
            }
        }
    }

    /// A far end in a conversation does something of its own accord.
    fn idea(&mut self, key: Key) {
        let Some(bot) = self.bots.get_mut(&key).filter(|bot| !bot.over) else { return };
        match self.dice.below(7) {
            4 => {
                self.update(&key);
                self.plan(ms(900), Deed::Idea(key));
            }
            5 => {
                let user = USERS.into_iter().find(|user| self.w.phone_of(user) == key.0);
                let mut patience = Duration::ZERO;
                if let Some(user) = user.filter(|_| self.lively() && self.dice.percent(70)) {
                    self.dial(user);
                    patience = ms(self.dice.below(6_000));
                }
                self.plan(patience, Deed::Refer(key));
            }
            0 | 1 => {
                let bye = Message::Request(bot.side.request(Method::Bye));
                self.plan(Duration::ZERO, Deed::ByeAgain(key, bye, 0));
            }
            2 => {
                let way = ["sendonly", "sendrecv", "inactive", "recvonly"][self.dice.below(4) as usize];
                let sdp = if self.dice.percent(15) { String::new() } else { directed(OFFER, way) };
                let invite = bot.side.invite(&sdp);
                self.say(key.0, &invite, Duration::ZERO);
                self.say(key.0, &invite, ms(500));
                if self.lively() {
                    let next = ms(self.dice.below(5_000));
                    self.plan(next, Deed::Idea(key));
                }
            }
            // It forgets the call: the gateway's own limits end it.
            _ => {}
        }
    }
}

impl Bot {
    fn new(side: Side, acknowledges: bool) -> Bot {
        Bot {
            side,
            heard: false,
            decided: false,
            acked: false,
            over: false,
            answer: None,
            acknowledges,
            challenged: false,
            pracks: true,
            rseq: 40,
            referring: None,
            leaves_ringing: false,
        }
    }
}
