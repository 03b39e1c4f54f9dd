//! Two real phones meet and speak, and each hears the other's words.

use crate::scene::MOBILE;
use crate::support::{baresip::Baresip, linphone::Linphone, speech, wait};
use std::time::Duration;

/// The words take nine seconds, and what is late is still on its way.
pub const WORDS: Duration = Duration::from_secs(11);

/// The caller dials, both speak, the caller hangs up.
#[track_caller]
pub fn baresip(caller: &mut Baresip, callee: &Baresip, number: &str) {
    caller.dial(number);
    caller.wait_event("CALL_ESTABLISHED");
    wait::talk(WORDS);
    caller.hang_up();
    callee.wait_event("CALL_CLOSED");
    caller.wait_event("CALL_CLOSED");
    both_hear(caller, callee);
}

/// As [`baresip`], from a linphone to the mobile number.
#[track_caller]
pub fn linphone(caller: &mut Linphone, callee: &Baresip) {
    caller.call(&format!("sip:{MOBILE}@tandem.test"));
    caller.wait_answer_and_speak();
    wait::talk(WORDS);
    caller.hang_up();
    callee.wait_event("CALL_CLOSED");
    caller.quit();
    speech::assert_heard(caller.said(), callee.said(), &callee.heard());
    speech::assert_heard(callee.said(), caller.said(), caller.heard());
}

/// After the call: what each said is what the other heard, and nothing else.
#[track_caller]
pub fn both_hear(one: &Baresip, other: &Baresip) {
    speech::assert_heard(one.said(), other.said(), &other.heard());
    speech::assert_heard(other.said(), one.said(), &one.heard());
}
