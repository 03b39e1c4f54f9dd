//! What signalling tells a media worker, and what a worker tells signalling.

use super::ports::LegSockets;
use super::worker::{GivenLeg, Heir};
use crate::media::config::{LegConfig, Line, Tone};
use crate::types::{ActivityMark, AudioFault, LegId, LegKind, LegReport, QualitySample};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// One media thread. All legs of a call belong to the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub usize);

/// As the thread is called among those of the process.
impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "media-{}", self.0)
    }
}

/// An order to a worker; orders to one worker are carried out in the order they were given.
/// An order about a leg the worker does not know is ignored.
pub enum MediaCommand {
    /// Takes over the sockets of a leg. Without a configuration (no SDP yet) packets are drained and ignored.
    OpenLeg {
        leg: LegId,
        kind: LegKind,
        sockets: LegSockets,
        config: Option<Box<LegConfig>>,
    },
    /// Applies what a new SDP agreed; re-arms the latch.
    ConfigureLeg {
        leg: LegId,
        config: Box<LegConfig>,
    },
    /// Joins two legs of this worker; replaces any bridge either had. `mark` is told while media is heard.
    Bridge {
        a: LegId,
        b: LegId,
        mark: Option<Box<dyn ActivityMark>>,
    },
    Unbridge {
        leg: LegId,
    },
    /// Lets a test line answer on a leg that has no bridge; a bridge ends it. `mark` is told while media is heard.
    Serve {
        leg: LegId,
        line: Line,
        mark: Option<Box<dyn ActivityMark>>,
    },
    /// Plays into the leg until stopped; what a bridge would send there meanwhile is dropped. With `unless` nothing is
    /// played once that leg was heard: its voice ends the tone.
    PlayTone {
        leg: LegId,
        tone: Tone,
        unless: Option<LegId>,
    },
    StopTone {
        leg: LegId,
    },
    /// Supervises that the leg hears something at least this often; `None` (the start, and on hold) never gives up.
    SetTimeout {
        leg: LegId,
        after: Option<Duration>,
    },
    /// The call is answered and neither side holds (or no more): who is not heard is then missed.
    SetConversation {
        leg: LegId,
        on: bool,
    },
    /// Asks for [`MediaEvent::Report`].
    Report {
        leg: LegId,
        tag: u64,
    },
    /// Asks for how the leg is and was, told on the worker's thread.
    Look {
        leg: LegId,
        tell: Box<dyn FnOnce(LegReport, Vec<QualitySample>) + Send>,
    },
    /// Ends the leg; answered by [`MediaEvent::Closed`], which gives the sockets back.
    CloseLeg {
        leg: LegId,
    },
    /// Another worker gives this leg away to this one: orders about it wait until it is here.
    AwaitLeg {
        leg: LegId,
    },
    /// Gives a leg to another worker, which awaits it. It goes as it is, with what waits at its ports.
    GiveLeg {
        leg: LegId,
        to: Heir,
    },
    /// Here it is; `None` if it had ended.
    TakeLeg {
        leg: LegId,
        given: Option<GivenLeg>,
    },
}

impl MediaCommand {
    /// The legs an order is about.
    pub(super) fn legs(&self) -> [LegId; 2] {
        match self {
            MediaCommand::Bridge { a, b, .. } => [*a, *b],
            MediaCommand::PlayTone { leg, unless: Some(other), .. } => [*leg, *other],
            MediaCommand::OpenLeg { leg, .. }
            | MediaCommand::ConfigureLeg { leg, .. }
            | MediaCommand::Unbridge { leg }
            | MediaCommand::PlayTone { leg, unless: None, .. }
            | MediaCommand::Serve { leg, .. }
            | MediaCommand::StopTone { leg }
            | MediaCommand::SetTimeout { leg, .. }
            | MediaCommand::SetConversation { leg, .. }
            | MediaCommand::Report { leg, .. }
            | MediaCommand::Look { leg, .. }
            | MediaCommand::CloseLeg { leg }
            | MediaCommand::AwaitLeg { leg }
            | MediaCommand::GiveLeg { leg, .. }
            | MediaCommand::TakeLeg { leg, .. } => [*leg, *leg],
        }
    }
}

impl fmt::Debug for MediaCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, leg) = match self {
            MediaCommand::OpenLeg { leg, .. } => ("OpenLeg", leg),
            MediaCommand::ConfigureLeg { leg, .. } => ("ConfigureLeg", leg),
            MediaCommand::Bridge { a, .. } => ("Bridge", a),
            MediaCommand::Unbridge { leg } => ("Unbridge", leg),
            MediaCommand::Serve { leg, .. } => ("Serve", leg),
            MediaCommand::PlayTone { leg, .. } => ("PlayTone", leg),
            MediaCommand::StopTone { leg } => ("StopTone", leg),
            MediaCommand::SetTimeout { leg, .. } => ("SetTimeout", leg),
            MediaCommand::SetConversation { leg, .. } => ("SetConversation", leg),
            MediaCommand::Report { leg, .. } => ("Report", leg),
            MediaCommand::Look { leg, .. } => ("Look", leg),
            MediaCommand::CloseLeg { leg } => ("CloseLeg", leg),
            MediaCommand::AwaitLeg { leg } => ("AwaitLeg", leg),
            MediaCommand::GiveLeg { leg, .. } => ("GiveLeg", leg),
            MediaCommand::TakeLeg { leg, .. } => ("TakeLeg", leg),
        };
        write!(f, "{name}({leg})")
    }
}

/// News from a worker, given on the worker's thread: hand it on, don't work on it there.
#[derive(Debug)]
pub enum MediaEvent {
    /// The leg's media comes from, and now goes to, an address other than its SDP said.
    Latched {
        leg: LegId,
        remote: SocketAddr,
    },
    /// The first media packet of the leg was heard.
    FirstPacket {
        leg: LegId,
    },
    /// Nothing was heard for as long as `SetTimeout` allows. Said once; `SetTimeout` arms it again.
    TimedOut {
        leg: LegId,
    },
    /// While the other leg of the call is heard this one is not, or holds nothing. Said once a call.
    Fault {
        leg: LegId,
        fault: AudioFault,
    },
    Report {
        leg: LegId,
        tag: u64,
        report: LegReport,
    },
    /// The leg's last configuration could not be applied (its SRTP keys); it goes on as it was.
    Unusable {
        leg: LegId,
    },
    /// The leg has ended; `sockets` go back to the port allocator.
    Closed {
        leg: LegId,
        report: LegReport,
        sockets: LegSockets,
    },
}
