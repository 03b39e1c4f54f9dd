//! Which methods and extensions of SIP are used with whom: as a trunk's configuration says, and as far as an app asks.

use super::session::LegSession;
use super::{Leg, Party};
use crate::config::{AppConfig, Config, Prack, Transfer, TrunkConfig};
use crate::sip::message::{HeaderName, Headers, Request, Typed};
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
        // What a user may take over is looked at where the call is known.
        let replaces = match self {
            Party::Trunk(trunk) => invite.requires("replaces") && trunk.config.transfer == Transfer::Off,
            Party::User { .. } => false,
        };
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

/// What the gateway does for a peer, as it tells it: on a trunk what its settings leave, else what app users have.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities<'a> {
    trunk: Option<&'a TrunkConfig>,
    app: &'a AppConfig,
}

impl<'a> Capabilities<'a> {
    pub fn of(trunk: Option<&'a TrunkConfig>, config: &'a Config) -> Capabilities<'a> {
        Capabilities { trunk, app: &config.app }
    }

    fn transfers(self) -> bool {
        self.trunk.map_or(self.app.transfer, |trunk| trunk.transfer) != Transfer::Off
    }

    /// The methods that are acted on (RFC 3261 §20.5): who finds one here may use it.
    pub fn methods(self) -> String {
        // Who is no trunk may insist on reliable progress.
        let reliable = self.trunk.is_none_or(|trunk| trunk.prack != Prack::Off);
        let some = [
            ("REGISTER", self.trunk.is_none()),
            ("PRACK", reliable),
            ("UPDATE", true),
            ("REFER", self.transfers()),
        ];
        let some = some.into_iter().filter_map(|(method, has)| has.then_some(method));
        ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO"]
            .into_iter()
            .chain(some)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The extensions that are offered (RFC 3261 §20.37).
    pub fn extensions(self) -> String {
        let (reliable, timer) = match self.trunk {
            Some(trunk) => (trunk.prack != Prack::Off, trunk.session_timer.is_some()),
            None => (false, true),
        };
        let all = [("100rel", reliable), ("timer", timer), ("replaces", self.transfers())];
        all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect::<Vec<_>>().join(", ")
    }

    pub fn tell_methods(self, headers: &mut Headers) {
        headers.push(HeaderName::Allow, self.methods());
    }

    pub fn tell(self, headers: &mut Headers) {
        self.tell_methods(headers);
        let extensions = self.extensions();
        if !extensions.is_empty() {
            headers.push(HeaderName::Supported, extensions);
        }
    }

    /// What a 200 to OPTIONS says (RFC 3261 §11.2).
    pub fn describe(self, headers: &mut Headers) {
        self.tell(headers);
        headers.push(HeaderName::Accept, "application/sdp");
        headers.push(HeaderName::AcceptEncoding, "identity");
        headers.push(HeaderName::AcceptLanguage, "en");
    }
}

impl Leg {
    /// What this leg's far end is told that it may use.
    pub fn capabilities<'a>(&'a self, config: &'a Config) -> Capabilities<'a> {
        let trunk = match &self.party {
            Party::Trunk(trunk) => Some(&trunk.config),
            Party::User { .. } => None,
        };
        Capabilities::of(trunk, config)
    }
}
