//! What an attempt shows of its trunk: that it lives, or that it may not.

use super::Call;
use super::hunt::is_unreachable;
use crate::call::targets::Route;
use crate::call::trunks::Trunks;
use crate::routing::{FailoverAction, Failure};
use crate::types::Now;

impl Call {
    /// The trunk rings somebody, has answered, or has told what a person or a number decided. That counts once for each
    /// attempt, and not where the attempt was given up already: an answer that comes too late helps no caller.
    pub(super) fn note_life(&mut self, trunks: &mut Trunks, now: Now, position: usize) {
        let leg = &mut self.callees[position];
        let (Some(trunk), true) = (leg.party.trunk_name(), leg.is_inviting()) else { return };
        let route = Route::of(&leg.peer);
        if leg.attempt.as_mut().is_some_and(|attempt| !std::mem::replace(&mut attempt.lives, true)) {
            trunks.succeeded(now, &trunk, route);
        }
    }

    /// An attempt at a trunk has failed. One call proves little: a trunk that says that it can't may only be unable to
    /// reach the one number, and anybody could call that three times.
    pub(super) fn note_failure(&self, trunks: &mut Trunks, now: Now, position: usize, why: Failure) {
        let leg = &self.callees[position];
        let Some(trunk) = leg.party.trunk() else { return };
        let next = trunk.config.failover.action(why) == FailoverAction::Next;
        let route = Route::of(&leg.peer);
        let elsewhere = next && is_unreachable(why) && trunks.target_failed(now, &trunk.name, route);
        // While another address of the trunk is there, the trunk itself is.
        if elsewhere {
            return;
        }
        match why {
            Failure::NoReply | Failure::Transport => trunks.failed(now, &trunk.name),
            // Where its table says that somebody has decided, it is believed.
            Failure::Status { code: 408 | 503, .. } if next => trunks.doubted(now, &trunk.name),
            Failure::Status { .. } | Failure::Credentials => {}
        }
    }
}

/// True for a final answer that only a working trunk gives. Its server errors say that something behind it does not
/// work, and not whether that is more than the way to this number.
pub(super) fn proves_life(status: u16) -> bool {
    !matches!(status, 401 | 407 | 408 | 500..=599)
}
