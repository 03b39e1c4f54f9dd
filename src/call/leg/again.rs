//! Requests that are sent once more as their answer asks: with credentials (401, 407), for a longer session (422,
//! RFC 4028 §7.3), after a pause (491, or 500 and 503 with Retry-After, RFC 3261 §14). Each answer may ask for the next one,
//! so that there is an end to it.

use crate::sip::message::{Method, Response, Typed};

/// A request is sent five times at most, whatever is answered to it.
const MOST: u8 = 4;

/// How often the request under way was sent again, of those kinds whose answers may ask for more than credentials.
#[derive(Debug, Default)]
pub struct Again {
    invite: u8,
    update: u8,
}

impl Again {
    /// True where a request may be sent once more. Beyond that its answer is a refusal, and the next one of its kind
    /// begins anew.
    pub fn allows(&mut self, method: &Method) -> bool {
        let Some(sent) = self.of(method) else { return true };
        let allowed = *sent < MOST;
        *sent = if allowed { *sent + 1 } else { 0 };
        allowed
    }

    /// A request has an answer that asks for no other one.
    pub fn settled(&mut self, method: &Method, answer: &Response) {
        if answer.status >= 200
            && !asks_again(answer)
            && let Some(sent) = self.of(method)
        {
            *sent = 0;
        }
    }

    fn of(&mut self, method: &Method) -> Option<&mut u8> {
        match method {
            Method::Invite => Some(&mut self.invite),
            Method::Update => Some(&mut self.update),
            // They are challenged at most, and credentials have limits of their own.
            Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Info
            | Method::Message
            | Method::Notify
            | Method::Options
            | Method::Prack
            | Method::Publish
            | Method::Refer
            | Method::Register
            | Method::Subscribe
            | Method::Other(_) => None,
        }
    }
}

/// True for an answer after which the same request may be sent again.
fn asks_again(answer: &Response) -> bool {
    match answer.status {
        401 | 407 | 422 | 491 => true,
        500 | 503 => answer.retry_after().is_some(),
        _ => false,
    }
}
