//! Which extensions of SIP are used with whom: as a trunk's configuration says, and as far as an app asks.

use super::Party;
use super::session::LegSession;
use crate::config::Prack;
use crate::sip::message::{Request, Typed};
use crate::sip::session_timer;
use crate::types::EndCause;

impl Party {
    /// What becomes of reliable provisional responses on legs of this party. An app's are ours to send only where it
    /// insists, since it has one hop to us.
    pub fn prack(&self) -> Prack {
        match self {
            Party::Trunk(trunk) => trunk.config.prack,
            Party::User { .. } => Prack::Off,
        }
    }

    /// Whether provisional responses to this party's INVITE have to arrive (RFC 3262 §3).
    pub fn wants_reliable(&self, invite: &Request) -> bool {
        match self {
            Party::User { .. } => invite.requires("100rel"),
            Party::Trunk(trunk) => match trunk.config.prack {
                Prack::Off => false,
                Prack::Supported | Prack::Required => invite.supports("100rel"),
            },
        }
    }

    /// What this party's INVITE requires that is known here and not used with it.
    pub fn denied_extensions(&self, invite: &Request) -> impl Iterator<Item = &'static str> {
        let reliable = invite.requires("100rel") && !self.wants_reliable(invite);
        let timer = invite.requires("timer") && !LegSession::new(self).wishes().takes_part;
        // Only phones of our users have calls that others of their phones may take over.
        let replaces = invite.requires("replaces") && matches!(self, Party::Trunk(_));
        [("100rel", reliable), ("timer", timer), ("replaces", replaces)]
            .into_iter()
            .filter_map(|(name, denied)| denied.then_some(name))
    }

    /// Why this party's INVITE does not go with its settings: an extension it needs or lacks, too short a session.
    pub fn extension_fault(&self, invite: &Request) -> Option<EndCause> {
        if self.denied_extensions(invite).next().is_some() {
            Some(EndCause::UnknownExtension)
        } else if self.prack() == Prack::Required && !invite.supports("100rel") {
            Some(EndCause::ExtensionRequired)
        } else if session_timer::answer(invite, LegSession::new(self).wishes()).is_err() {
            Some(EndCause::SessionTooShort)
        } else {
            None
        }
    }
}
