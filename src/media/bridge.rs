//! Two legs joined: what one hears the other sends, or one that a test line answers. Packet in, packets out, at a given
//! time.

use super::leg::{Datagram, Leg};
use super::transcoder::{Outcome, Untold};
use super::transmit::Out;
use crate::types::Now;

/// Joins two legs, or joins them anew after one was configured. Call it after every [`Leg::configure`] of either.
/// Has no effect until both are configured.
pub fn join(a: &mut Leg, b: &mut Leg) {
    let (Some(config_a), Some(config_b)) = (a.config().cloned(), b.config().cloned()) else { return };
    a.connect(&config_b);
    b.connect(&config_a);
    a.set_concealed(b.feed_conceals());
    b.set_concealed(a.feed_conceals());
    a.set_heard_in(config_b.codec);
    b.set_heard_in(config_a.codec);
    // Nothing goes from who is on hold, or to whom: that is no gap to fill or to keep.
    if !(config_a.direction.receives() && config_b.direction.sends()) {
        b.pause_feed();
    }
    if !(config_b.direction.receives() && config_a.direction.sends()) {
        a.pause_feed();
    }
}

/// Takes two legs apart.
pub fn part(a: &mut Leg, b: &mut Leg) {
    a.disconnect();
    b.disconnect();
}

/// Hears a datagram of `from`'s RTP port and sends what `to` gets of it. `out` leads to `to`'s sockets.
#[inline]
pub fn forward(from: &mut Leg, to: &mut Leg, datagram: Datagram<'_>, now: Now, out: &mut Out<'_>) -> Outcome {
    let Some(heard) = from.receive(datagram, now) else { return Outcome::default() };
    if !from.receives() {
        return Outcome::default();
    }
    let outcome = to.feed(heard, from.slack(), now.instant, out);
    if to.feed_is_clear() {
        from.clear_feed();
        from.note_machine(to.feed_heard_machine());
        to.set_concealed(from.feed_conceals());
    }
    // A relay that gave way to what cuts its packets anew conceals from then on.
    if to.feed_conceals() != from.is_concealed() {
        from.set_concealed(to.feed_conceals());
    }
    from.note(heard, outcome);
    let outcome = match to.take_untold() {
        Some(untold) => untold.iter().fold(outcome, |all, (sequence, waited)| {
            from.note_waited(*sequence, *waited);
            all.and(*waited)
        }),
        None => outcome,
    };
    if from.is_watching(now.instant) {
        from.judge(to, now.instant);
    }
    outcome
}

/// Hears a datagram of the RTP port of a leg that has no other; where a test line answers, it hears it.
pub fn attend(leg: &mut Leg, datagram: Datagram<'_>, now: Now, out: &mut Out<'_>) {
    let Some(heard) = leg.receive(datagram, now) else { return };
    if leg.receives() && leg.is_served() {
        let outcome = leg.attend(heard, now.instant, out);
        leg.note(heard, outcome);
        let untold = leg.take_untold();
        untold
            .iter()
            .flat_map(Untold::iter)
            .for_each(|(sequence, waited)| leg.note_waited(*sequence, *waited));
    }
}

#[cfg(test)]
mod tests;
