//! Conversations that tests begin with, and their end.

use super::super::far::Side;
use super::{A, ANSWER, BOB, OPUS_ANSWER, World};
use crate::sip::message::Method;

impl World {
    /// A call from alice over trunk `a` that was answered a moment ago: the two sides.
    pub fn talking(&mut self) -> (Side, Side) {
        let mut alice = self.dial("alice", "0470123456");
        let callee = self.invited(A);
        self.reply_with(&callee, 200, ANSWER);
        assert_eq!(self.heard(A), ["ACK"]);
        self.ack(&mut alice);
        (alice, callee)
    }

    /// As [`World::talking`], but the trunk called and bob answered.
    pub fn talking_in(&mut self) -> (Side, Side) {
        self.register("bob", BOB);
        let mut caller = self.call_in(A, "+3225550002");
        let bob = self.invited(BOB);
        self.reply_with(&bob, 200, OPUS_ANSWER);
        assert_eq!(self.heard(BOB), ["ACK"]);
        self.ack(&mut caller);
        (caller, bob)
    }

    /// The far end of a leg answers a BYE, and the caller's is answered too: all is over.
    pub fn hang_up(&mut self, by: &mut Side, other: &Side) {
        self.bye(by);
        self.ok(other, Method::Bye);
        self.response(by.at, 200);
    }
}
