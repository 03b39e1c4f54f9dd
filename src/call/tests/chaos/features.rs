//! What far ends in the storm do beyond plain calls: PRACK, UPDATE, session timers, forks, transfers.

use super::{Bot, Chaos, Key};
use crate::call::tests::world::*;
use crate::config::{Config, Prack, Transfer};
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use std::net::SocketAddr;
use std::time::Duration;

/// Trunks differ from storm to storm.
pub fn shape(config: &mut Config, dice: &mut Dice) {
    for trunk in &mut config.trunks {
        trunk.prack =
            [Prack::Off, Prack::Supported, Prack::Supported, Prack::Required][dice.below(4) as usize];
        trunk.session_timer = dice.percent(60).then_some(secs(90));
        trunk.p_early_media = dice.percent(30);
        trunk.redirect_to = vec![B.parse::<SocketAddr>().unwrap().into()];
        trunk.transfer = if dice.percent(50) { Transfer::Users } else { Transfer::Off };
    }
}

/// What a caller says it knows.
pub fn knowing(invite: &mut Request, dice: &mut Dice) {
    if dice.percent(50) {
        let how = if dice.percent(20) { HeaderName::Require } else { HeaderName::Supported };
        invite.headers.push(how, "100rel");
    }
    if dice.percent(50) {
        invite.headers.push(HeaderName::Supported, "timer");
        let asked = ["90;refresher=uac", "90;refresher=uas", "100", "30"][dice.below(4) as usize];
        invite.headers.push(HeaderName::SessionExpires, asked);
    }
    if dice.percent(50) {
        invite.headers.push(HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, PRACK, UPDATE, REFER, NOTIFY");
    }
}

/// What a callee says beside its status.
pub fn saying(response: Response, bot: &mut Bot, dice: &mut Dice) -> Response {
    let mut response = response;
    match response.status {
        101..=199 if bot.side.invite.supports("100rel") && dice.percent(60) => {
            bot.rseq += 1;
            response.headers.push(HeaderName::Require, "100rel");
            response.headers.push(HeaderName::RSeq, bot.rseq.to_string());
        }
        200 => {
            if dice.percent(50) {
                response.headers.push(HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, UPDATE");
            }
            if bot.side.invite.supports("timer") && dice.percent(60) {
                let granted = ["10;refresher=uac", "10;refresher=uas", "90", "3"][dice.below(4) as usize];
                response.headers.push(HeaderName::SessionExpires, granted);
            }
        }
        _ => {}
    }
    response
}

impl Chaos {
    /// A far end is asked to change its session.
    pub fn on_reinvite(&mut self, key: Key, request: Request) {
        let Some(bot) = self.bots.get_mut(&key).filter(|bot| !bot.over) else {
            self.say(key.0, Response::to_request(&request, 481), Duration::ZERO);
            return;
        };
        let status = [200, 200, 200, 491, 488, 500, 481, 0][self.dice.below(8) as usize];
        self.streams.note_answer(&request, status);
        let mut answer = bot.side.response(&request, status.max(100));
        if status == 200 {
            let sdp = if key.0.to_string().starts_with("203") { ANSWER } else { OPUS_ANSWER };
            answer = answer.with_body("application/sdp", sdp);
        }
        if status != 0 {
            self.say(key.0, answer.clone(), Duration::ZERO);
            if status == 200 {
                self.say(key.0, answer, ms(500));
            }
        }
    }

    /// A caller acknowledges progress that has to arrive; some never do.
    pub fn acknowledge_progress(&mut self, key: &Key, progress: &Response) {
        let Some(bot) = self.bots.get_mut(key) else { return };
        let (Some(rseq), true) = (progress.rseq(), bot.pracks) else { return };
        bot.side.learn(progress);
        let owes = bot.side.invite.body.is_empty() && !progress.body.is_empty();
        let sdp = if owes { OFFER.replace("111", "96") } else { String::new() };
        let prack = bot.side.prack(rseq, &sdp);
        self.say(key.0, &prack, Duration::ZERO);
        self.say(key.0, &prack, ms(500));
    }

    /// A far end refreshes or changes the session without an INVITE, before the answer too.
    pub fn update(&mut self, key: &Key) {
        let offers = self.dice.percent(50);
        let Some(bot) = self.bots.get_mut(key) else { return };
        let mut update = bot.side.request(Method::Update);
        if offers {
            update = update.with_body("application/sdp", directed(OFFER, "sendonly"));
        }
        if self.dice.percent(50) {
            update.headers.push(HeaderName::Supported, "timer");
            update.headers.push(HeaderName::SessionExpires, "90;refresher=uac");
        }
        self.say(key.0, &update, Duration::ZERO);
    }

    /// A call that a phone could take over from another one.
    pub fn running_call_at(&self, at: SocketAddr) -> Option<String> {
        let mut running: Vec<_> = self
            .bots
            .iter()
            .filter(|(key, bot)| key.0 == at && !bot.over && (bot.decided || bot.heard))
            .filter_map(|(key, bot)| {
                let (to, from) = (bot.side.other.tag()?, bot.side.own.tag()?);
                Some(format!("{};to-tag={to};from-tag={from}", key.1))
            })
            .collect();
        // The map has no order of its own; a seed must play the same piece each time.
        running.sort();
        running.pop()
    }

    /// A far end wants the call somewhere else, once or to another call of its own.
    pub fn refer(&mut self, key: &Key) {
        let other = self.running_call_at(key.0).filter(|other| !other.starts_with(&key.1));
        let replaces = other.map(|other| {
            format!("<sip:carol@example.org?Replaces={}>", other.replace(';', "%3B").replace('=', "%3D"))
        });
        let places =
            ["<sip:bob@example.org>", "<sip:0470123456@example.org>", "<sip:0900123@example.org>", "<tel:x>"];
        let place = places[self.dice.below(4) as usize].to_owned();
        let replaces = replaces.filter(|_| self.dice.percent(80));
        let rings = replaces.as_ref().and_then(|place| {
            let named = |other: &&Key| other.0 == key.0 && place.contains(&format!("={}%3B", other.1));
            Some(!self.bots.get(self.bots.keys().find(named)?)?.decided)
        });
        let place = replaces.unwrap_or(place);
        let Some(bot) = self.bots.get_mut(key) else { return };
        bot.leaves_ringing = rings == Some(true);
        let refer = bot.side.request(Method::Refer).with_header(HeaderName::ReferTo, place);
        bot.referring = Some(refer.clone());
        self.say(key.0, &refer, Duration::ZERO);
    }

    /// The gateway wants to know who it is that moves a call.
    pub fn prove_refer(&mut self, key: &Key, challenge: &Response) {
        let Some(bot) = self.bots.get_mut(key) else { return };
        let Some(refer) = bot.referring.take().filter(|_| bot.side.auth.is_some()) else { return };
        let again = bot.side.with_credentials(&refer, challenge);
        self.say(key.0, &again, Duration::ZERO);
        self.say(key.0, &again, ms(500));
    }
}
