//! One call: a caller's leg, the legs tried towards the callee, and what becomes of them.
//!
//! ```text
//! Opening ──ports, journal space──▶ Hunting ──2xx──▶ Answering ──durable──▶ Talking
//!    │                                 │                 │                     │
//!    └───────────────┬─────────────────┴─────────────────┴─────────────────────┘
//!                    ▼
//!                 Closing: media reports ──▶ record ──durable──▶ final answers ──▶ gone
//! ```

mod answer;
mod audio;
mod close;
mod connected;
mod dialog;
mod emergency;
mod forward;
mod hunt;
mod life;
mod line;
mod progress;
mod reason;
mod record;
mod redirect;
mod reinvite;
mod ringback;
mod session_timer;
mod transfer;
mod update;

pub use close::{refusal_of, with_hints};
pub use forward::{Forward, SentOn};
pub use hunt::ANONYMOUS;
pub use reason::FarReason;
pub use transfer::{Joined, Note, Parting, Transfer};

use super::core::Core;
use super::event::{Event, MediaPorts, Output, PortsExhausted, RecordStep};
use super::identity::Identity;
use super::leg::media::allowed_by;
use super::leg::{Leg, LegState, Party};
use super::location::Location;
use super::provenance::{Check, Provenance};
use super::settings::Trunk;
use super::targets::Route;
use crate::billing::Cdr;
use crate::routing::Channel;
use crate::sdp::Session;
use crate::sip::message::Request;
use crate::sip::transaction::ServerKey;
use crate::stir::Verdict;
use crate::types::{
    Attestation, AudioFault, CallId, Direction, E164, Emergency, EndCause, LegId, LegReport, Now, Peer,
    ReleasedBy, StirResult, TestLine,
};
use emergency::Help;
use hunt::Failed;
use ringback::Ringback;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// One device of a called user.
#[derive(Debug, Clone)]
pub struct Device {
    pub user: Arc<str>,
    /// The contact URI it registered: the Request-URI of its INVITE.
    pub contact: String,
    pub peer: Peer,
}

/// One trunk that may carry the call, with the numbers as it wants them.
#[derive(Debug, Clone)]
pub struct TrunkCandidate {
    pub trunk: Arc<Trunk>,
    pub called: String,
    pub calling: String,
    /// The caller's own number as the trunk wants it.
    pub network: Option<String>,
}

/// What is still to be tried, in order.
#[derive(Debug)]
pub enum Plan {
    /// All devices of a user ring together.
    Devices(Vec<Device>),
    /// Trunks one after the other.
    Trunks(VecDeque<TrunkCandidate>),
    /// Nobody is rung: the caller's phone takes a running call of its user over from another phone (RFC 3891), and
    /// this one remains.
    TakesOver { remaining: LegId },
    /// Nobody is rung: a test line of the gateway answers, or does not.
    Line(TestLine),
    /// Nobody: the caller is proven, but the call may not be made.
    Refused { cause: EndCause, status: Option<u16> },
}

/// Where a call stands.
#[derive(Debug)]
enum Stage {
    Opening,
    Hunting {
        give_up_at: Instant,
    },
    /// A callee answered; nobody is told before the record is durable.
    Answering {
        callee: Callee,
        cancelled: bool,
    },
    Talking {
        callee: Callee,
        ends_at: Instant,
        interim_at: Instant,
    },
    Closing(close::Closing),
}

/// With whom a caller talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callee {
    /// The leg of this index.
    Leg(u8),
    /// Nobody: what answers is inside the gateway.
    Line(TestLine),
    /// A leg of another call.
    Elsewhere,
}

impl Callee {
    /// The leg of this call that it is.
    fn leg(self) -> Option<u8> {
        match self {
            Callee::Leg(index) => Some(index),
            Callee::Line(_) | Callee::Elsewhere => None,
        }
    }
}

/// How far a call has come, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPhase {
    Trying,
    Ringing,
    EarlyMedia,
    Answered,
    Ending,
}

/// What the admission found out about a new call.
pub struct Admitted {
    pub id: CallId,
    pub direction: Direction,
    pub caller: Party,
    pub account: Option<Arc<str>>,
    /// Number of the caller in E.164 or its user name.
    pub calling: String,
    /// What was dialled, as it came.
    pub dialled: String,
    pub number: Option<E164>,
    pub callee_user: Option<Arc<str>>,
    pub max_forwards: u8,
    /// The channel of the trunk it comes from.
    pub incoming_channel: Option<Channel>,
    pub plan: Plan,
    /// What the caller says of itself.
    pub identity: Identity,
    /// What is signed of it, and what that is worth.
    pub provenance: Provenance,
    /// Of a caller whose signature passed.
    pub attestation: Option<Attestation>,
    /// Where its caller says the number was ported to, as it stands in a URI.
    pub portability: String,
    /// It is a call for help, or back to one.
    pub emergency: Option<Emergency>,
    /// Where the caller is, for those who are to help.
    pub location: Option<Location>,
    /// Why its offer can't be answered (RFC 3261 §20.43).
    pub warning: Option<u16>,
    /// The call that a transfer takes it out of, or whose caller waits for the one it looks for.
    pub transfer_of: Option<CallId>,
    /// A device of its user has sent it on.
    pub forward: Option<Box<Forward>>,
    /// A call of the same user, whose media worker it shares: a transfer may join the two.
    pub beside: Option<CallId>,
}

/// One call attempt.
pub struct Call {
    pub id: CallId,
    pub direction: Direction,
    pub started: Now,
    pub caller: Leg,
    pub callees: Vec<Leg>,
    pub calling: String,
    pub dialled: String,
    pub number: Option<E164>,
    portability: String,
    /// What a trunk that sent the call on made of it; for that trunk alone.
    moved: Option<Box<redirect::Moved>>,
    pub emergency: Option<Emergency>,
    /// Where the caller is, and how far the search for help has come.
    help: Option<Box<Help>>,
    identity: Identity,
    /// Whom the caller is connected with, until its answer.
    connected: Option<Box<connected::Connected>>,
    pub provenance: Provenance,
    max_forwards: u8,
    plan: Plan,
    /// The trunk being tried and those of its addresses that were tried.
    retry: Option<(TrunkCandidate, Vec<Route>)>,
    /// How often a trunk sent it on.
    redirects: u8,
    stage: Stage,
    /// The caller's offer, until it is answered and acknowledged.
    offer: Option<Box<Session>>,
    /// The caller's INVITE had no body: our 2xx carries the offer.
    delayed_offer: bool,
    /// Worst news so far, told if nothing better comes.
    failure: Option<(EndCause, u16, FarReason)>,
    /// What the far end that ended the call said about it.
    far: FarReason,
    pub ringing: Option<Now>,
    pub answered: Option<Now>,
    released: Option<Now>,
    /// Interim reports still to come.
    reports_due: usize,
    /// What was told of audio that is not heard, each kind once.
    faults: Vec<AudioFault>,
    /// The leg that the caller hears before the answer.
    early: Option<u8>,
    /// The tone that the caller hears meanwhile.
    ringback: Ringback,
    /// The callee's leg that is joined with the caller's at the media worker.
    bridged: Option<u8>,
    /// The callee's leg whose answer was taken.
    winner: Option<u8>,
    /// What the caller was told last of the progress, whether with media, and when.
    progress: Option<(u16, bool, Instant)>,
    /// How much progress was told so far.
    told: u8,
    /// BYEs that are answered once the End record is durable.
    byes: Vec<Asked>,
    /// The attempt was counted where the call comes from.
    counted: bool,
    cdr: Box<Cdr>,
    /// The user that is rung.
    pub callee_user: Option<Arc<str>>,
    beside: Option<CallId>,
    /// Its caller has its dialog in the call that is transferred: nobody waits for a 200 here.
    serves_transfer: bool,
    pub transfer_of: Option<CallId>,
    /// Devices of a user sent it on, or it is where they sent it.
    forward: Option<Box<Forward>>,
    /// A REFER that is being carried out.
    pub transfer: Option<Transfer>,
    /// There was one before.
    referred: bool,
    pub joined: Option<Joined>,
    /// What other calls have to know; the exchange carries it there.
    pub notes: Vec<Note>,
    /// The channel of the trunk the call comes from.
    incoming_channel: Option<Channel>,
    /// Channels this call needs no more; the exchange gives them back.
    pub freed_channels: Vec<Channel>,
}

impl Call {
    /// A new call whose caller was proven and whose number was routed. Asks for ports and journal space.
    pub fn open(core: &mut Core, now: Now, admitted: Admitted, caller: Leg, offer: Option<Session>) -> Call {
        let cdr = Box::new(record::opening(now, &admitted));
        let takes_over = matches!(admitted.plan, Plan::TakesOver { .. });
        let help = Help::of(&admitted).map(Box::new);
        let mut call = Call {
            id: admitted.id,
            direction: admitted.direction,
            started: now,
            caller,
            callees: Vec::new(),
            calling: admitted.calling,
            dialled: admitted.dialled,
            number: admitted.number,
            portability: admitted.portability,
            moved: None,
            emergency: admitted.emergency,
            help,
            identity: admitted.identity,
            connected: None,
            provenance: admitted.provenance,
            max_forwards: admitted.max_forwards,
            plan: admitted.plan,
            retry: None,
            redirects: 0,
            stage: Stage::Opening,
            delayed_offer: offer.is_none(),
            offer: offer.map(Box::new),
            failure: None,
            far: FarReason { warning: admitted.warning, ..FarReason::default() },
            ringing: None,
            answered: None,
            released: None,
            reports_due: 0,
            faults: Vec::new(),
            early: None,
            ringback: Ringback::Silent,
            bridged: None,
            winner: None,
            progress: None,
            told: 0,
            byes: Vec::new(),
            counted: false,
            cdr,
            callee_user: admitted.callee_user,
            beside: admitted.beside,
            serves_transfer: admitted.transfer_of.is_some() && !takes_over,
            transfer_of: admitted.transfer_of,
            forward: admitted.forward,
            transfer: None,
            referred: false,
            joined: None,
            notes: Vec::new(),
            incoming_channel: admitted.incoming_channel,
            freed_channels: Vec::new(),
        };
        if let Some(offer) = &call.offer {
            call.caller.media.allowed = allowed_by(offer);
        }
        core.emit(Output::Reserve { call: call.id });
        call
    }

    /// The journal has room for the call's records, or has not.
    pub fn on_reserved(
        &mut self,
        core: &mut Core,
        trunks: &mut super::trunks::Trunks,
        now: Now,
        reserved: bool,
    ) {
        if !matches!(self.stage, Stage::Opening) {
            return;
        }
        // A call for help has its record if there is room for it.
        if !reserved && self.emergency.is_none() {
            self.close(core, now, EndCause::JournalFailed, ReleasedBy::Gateway, None);
            return;
        }
        self.record_start(core);
        if let Plan::Refused { cause, status } = self.plan {
            self.close(core, now, cause, ReleasedBy::Gateway, status);
            return;
        }
        if self.serves_transfer {
            self.begin_hunt(core, trunks, now);
        } else {
            self.caller.open_media(core, self.beside);
        }
    }

    /// The shell opened a leg's media, or could not.
    pub fn on_media_opened(
        &mut self,
        core: &mut Core,
        trunks: &mut super::trunks::Trunks,
        now: Now,
        leg: LegId,
        result: Result<MediaPorts, PortsExhausted>,
    ) {
        if leg.index == 0 {
            self.caller.media.opening = false;
            let waits = result.is_err() && self.wait_for_ports(now);
            match (result, &self.stage) {
                (Ok(ports), Stage::Opening) => {
                    self.caller.media.ports = Some(ports);
                    self.set_out(core, trunks, now);
                }
                (
                    Ok(ports),
                    Stage::Hunting { .. }
                    | Stage::Answering { .. }
                    | Stage::Talking { .. }
                    | Stage::Closing(_),
                ) => {
                    // Ended while the ports were opened: they go straight back.
                    self.caller.media.ports = Some(ports);
                    self.caller.close_media(core);
                }
                (Err(PortsExhausted), Stage::Opening) if waits => {}
                (Err(PortsExhausted), _) => {
                    self.close(core, now, EndCause::GatewayCongested, ReleasedBy::Gateway, None);
                }
            }
            self.close_step(core, now);
            return;
        }
        let Some(position) = self.callee_position(leg.index) else { return };
        let waits = matches!(self.callees[position].state, LegState::Allocating);
        self.callees[position].media.opening = false;
        match result {
            Ok(ports) => {
                self.callees[position].media.ports = Some(ports);
                if waits {
                    self.place(core, trunks, now, position);
                } else {
                    self.callees[position].close_media(core);
                }
            }
            Err(PortsExhausted) if waits && self.help.is_some() => {
                self.callee_failed(core, trunks, now, position, Failed::ours(EndCause::GatewayCongested));
            }
            Err(PortsExhausted) if waits => {
                self.callees[position].vanish(core);
                let end = record::AttemptEnd { status: 503, cause: EndCause::GatewayCongested };
                self.end_attempt(core, now, position, end);
                self.close(core, now, EndCause::GatewayCongested, ReleasedBy::Gateway, None);
            }
            Err(PortsExhausted) => {}
        }
        self.close_step(core, now);
    }

    /// Looks for somebody who answers, once it is known who calls and where the caller's media goes.
    fn set_out(&mut self, core: &mut Core, trunks: &mut super::trunks::Trunks, now: Now) {
        match self.provenance.check {
            Check::Waits { .. } => {}
            Check::None | Check::Done { .. } => self.begin_hunt(core, trunks, now),
        }
    }

    /// The check of the caller's signed identity has ended, or the call waits for it no longer.
    pub fn on_identity_checked(
        &mut self,
        core: &mut Core,
        trunks: &mut super::trunks::Trunks,
        now: Now,
        verdict: Verdict,
    ) {
        let Check::Waits { required, .. } = self.provenance.check else { return };
        self.provenance.check = Check::Done { result: verdict.result, required };
        self.cdr.stir_result = Some(verdict.result);
        self.cdr.attestation = verdict.attestation;
        if let Some(trunk) = self.caller.party.trunk_name() {
            core.event(Event::StirVerified { call: self.id, trunk, result: verdict.result });
        }
        if !matches!(self.stage, Stage::Opening) {
            return;
        }
        match self.provenance.refusal() {
            Some(cause) => self.close(core, now, cause, ReleasedBy::Gateway, None),
            None if self.caller.media.ports.is_some() => self.begin_hunt(core, trunks, now),
            None => {}
        }
    }

    /// A leg's media is closed and has its last report.
    pub fn on_media_closed(&mut self, core: &mut Core, now: Now, leg: LegId, report: LegReport) {
        let Some(leg) = self.leg_mut(leg.index) else { return };
        leg.media.report = Some(Box::new(report));
        leg.media.closed = true;
        self.close_step(core, now);
    }

    /// An interim report arrived.
    pub fn on_media_report(&mut self, core: &mut Core, now: Now, leg: LegId, report: LegReport) {
        let Some(leg) = self.leg_mut(leg.index) else { return };
        if !leg.media.closed {
            leg.media.report = Some(Box::new(report));
        }
        self.on_interim_report(core, now);
    }

    /// A leg that should have heard something heard nothing for too long.
    pub fn on_media_timeout(&mut self, core: &mut Core, now: Now) {
        match self.stage {
            // The worker may have said so just before it heard of the hold.
            Stage::Talking { .. } if self.is_held() => {}
            Stage::Talking { .. } => self.close(core, now, EndCause::MediaTimeout, ReleasedBy::Gateway, None),
            // Before the answer silence is normal; the ring timer watches.
            Stage::Opening | Stage::Hunting { .. } | Stage::Answering { .. } | Stage::Closing(_) => {}
        }
    }

    /// A record became durable, or could not.
    pub fn on_recorded(&mut self, core: &mut Core, now: Now, step: RecordStep, durable: bool) {
        match (step, durable) {
            (RecordStep::Answer, true) => self.answer_durable(core, now),
            // Help does not wait for a disk.
            (RecordStep::Answer, false) if self.emergency.is_some() => self.answer_durable(core, now),
            (RecordStep::Answer, false) => {
                self.close(core, now, EndCause::JournalFailed, ReleasedBy::Gateway, None);
            }
            (RecordStep::End, _) => self.end_recorded(core, now, durable),
        }
    }

    /// Ends the call by order of the gateway.
    pub fn hang_up(&mut self, core: &mut Core, now: Now, cause: EndCause) {
        self.close(core, now, cause, ReleasedBy::Gateway, None);
    }

    /// True once nothing is left to do and the call can be dropped.
    pub fn is_finished(&self) -> bool {
        match &self.stage {
            Stage::Closing(closing) => {
                closing.is_recorded() && self.legs().all(|leg| leg.is_gone() && leg.media.is_settled())
            }
            Stage::Opening | Stage::Hunting { .. } | Stage::Answering { .. } | Stage::Talking { .. } => false,
        }
    }

    /// True while the call counts as going on: it has no end yet.
    pub fn is_live(&self) -> bool {
        !matches!(self.stage, Stage::Closing(_))
    }

    /// When the call ended, if it has.
    pub fn released_at(&self) -> Option<Now> {
        self.released
    }

    /// How far the call has come, for views.
    pub fn phase(&self) -> CallPhase {
        match self.stage {
            // Nobody knows of an answer before its record is durable.
            Stage::Hunting { .. } | Stage::Answering { .. } if self.early.is_some() => CallPhase::EarlyMedia,
            Stage::Hunting { .. } | Stage::Answering { .. } if self.ringing.is_some() => CallPhase::Ringing,
            Stage::Opening | Stage::Hunting { .. } | Stage::Answering { .. } => CallPhase::Trying,
            Stage::Talking { .. } => CallPhase::Answered,
            Stage::Closing(_) => CallPhase::Ending,
        }
    }

    /// The callee's leg of a call in conversation, or the one that was tried last.
    pub fn callee(&self) -> Option<&Leg> {
        match self.stage {
            Stage::Talking { callee, .. } | Stage::Answering { callee, .. } => {
                let index = callee.leg()?;
                self.callees.iter().find(|leg| leg.id.index == index)
            }
            Stage::Opening | Stage::Hunting { .. } => self.callees.last(),
            Stage::Closing(_) => match self.winner {
                Some(winner) => self.callees.iter().find(|leg| leg.id.index == winner),
                None => self.callees.last(),
            },
        }
    }

    /// True for a number that this call is for, as it was dialled or as a trunk was given it.
    pub fn had(&self, dialled: &str, number: Option<&E164>) -> bool {
        let mut attempts = self.callees.iter().filter_map(|leg| leg.attempt.as_ref());
        self.dialled == dialled
            || (number.is_some() && self.number.as_ref() == number)
            || attempts.any(|attempt| attempt.called == dialled)
    }

    pub fn legs(&self) -> impl Iterator<Item = &Leg> {
        std::iter::once(&self.caller).chain(self.callees.iter())
    }

    pub fn leg(&self, index: u8) -> Option<&Leg> {
        self.legs().find(|leg| leg.id.index == index)
    }

    pub fn leg_mut(&mut self, index: u8) -> Option<&mut Leg> {
        std::iter::once(&mut self.caller).chain(self.callees.iter_mut()).find(|leg| leg.id.index == index)
    }

    fn callee_position(&self, index: u8) -> Option<usize> {
        self.callees.iter().position(|leg| leg.id.index == index)
    }

    /// The next moment this call wants to be woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Opening => {
                let ports = self.help.as_ref().and_then(|help| help.ports_again_at);
                ports.into_iter().chain(self.provenance.deadline()).min()
            }
            Stage::Answering { .. } => self.unrecorded_at(),
            Stage::Hunting { give_up_at } => {
                let give_up_at = Some(*give_up_at).filter(|_| !self.has_left());
                self.ringback.poll_timeout().into_iter().chain(give_up_at).min()
            }
            Stage::Talking { ends_at, interim_at, .. } => Some(*ends_at.min(interim_at)),
            Stage::Closing(closing) => closing.deadline(),
        };
        self.legs().filter_map(Leg::deadline).chain(stage).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, core: &mut Core, trunks: &mut super::trunks::Trunks, now: Now) {
        self.emergency_timeout(core, trunks, now);
        match &mut self.stage {
            Stage::Hunting { give_up_at } if *give_up_at <= now.instant && self.help.is_none() => {
                self.rung_in_vain(core, now);
            }
            Stage::Talking { ends_at, .. } if *ends_at <= now.instant => {
                self.close(core, now, EndCause::MaxDuration, ReleasedBy::Gateway, None);
            }
            Stage::Talking { interim_at, .. } if *interim_at <= now.instant => {
                *interim_at = now.instant + core.settings.billing.interim;
                self.ask_reports(core);
            }
            Stage::Opening if self.provenance.deadline().is_some_and(|at| at <= now.instant) => {
                self.on_identity_checked(core, trunks, now, StirResult::Unreachable.into());
            }
            Stage::Closing(closing) if closing.deadline().is_some_and(|at| at <= now.instant) => {
                self.end_overdue(core, now);
            }
            Stage::Opening
            | Stage::Hunting { .. }
            | Stage::Answering { .. }
            | Stage::Talking { .. }
            | Stage::Closing(_) => {}
        }
        self.ringback_timeout(core, now);
        self.legs_timeout(core, trunks, now);
    }
}

/// What a request inside a dialog needs to be answered.
#[derive(Debug)]
pub struct Asked {
    pub key: ServerKey,
    pub peer: Peer,
    pub request: Request,
}
