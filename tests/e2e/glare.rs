//! Glare: both ends of a leg offer a new session at once (RFC 3261 §14.1, §14.2).

use crate::scene::{alice, gateway, operator};
use crate::support::{lane::Lane, sipp::Played};

/// When the peer refused the gateway's offer, and when the gateway offered again, apart in milliseconds.
fn waited_ms(played: &Played) -> i64 {
    let refused = played.messages.iter().find(|message| message.sent && message.status() == Some(491));
    let refused = refused.expect("the peer refuses the gateway's offer").at_us;
    let again = played.requests("INVITE").into_iter().find(|invite| invite.at_us > refused);
    (again.expect("the gateway offers again").at_us - refused) / 1_000
}

/// Late by what a busy machine may be late.
const LATE_MS: i64 = 500;

#[test]
fn two_offers_that_cross_on_a_trunk_are_both_refused_and_ours_comes_again_after_two_to_four_seconds() {
    let lane = Lane::take("glare-trunk");
    let switch = operator(&lane, "operator-crosses-an-offer").start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-holds-and-is-hung-up-on").start();
    let switch = switch.succeed();
    caller.succeed();
    assert_eq!(switch.responses(491).len(), 1, "{switch}");
    // The Call-ID on a trunk is the gateway's own.
    let waited = waited_ms(&switch);
    assert!((2_100..=4_000 + LATE_MS).contains(&waited), "{waited} ms\n{switch}");
    gateway.wait_idle();
}

#[test]
fn two_offers_that_cross_at_the_callers_side_are_both_refused_and_ours_comes_again_within_two_seconds() {
    let lane = Lane::take("glare-caller");
    let switch = operator(&lane, "operator-holds-and-is-hung-up-on").start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-crosses-an-offer").start().succeed();
    switch.succeed();
    assert_eq!(caller.responses(491).len(), 1, "{caller}");
    // The Call-ID is the caller's.
    let waited = waited_ms(&caller);
    assert!((0..=2_000 + LATE_MS).contains(&waited), "{waited} ms\n{caller}");
    gateway.wait_idle();
}
