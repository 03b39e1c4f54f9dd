//! Numbers, dialplan, trunk selection and limits.

mod decision;
mod dialplan;
mod emergency;
mod failover;
mod health;
mod limits;
mod numbers;
mod order;
mod peers;
mod schedule;
mod screening;
mod trunks;

pub use decision::{Caller, CostOf, RouteDecision, RouteOutcome, RouteRequest, Subscribers, TrunkCandidate};
pub use dialplan::{
    CallerMatch, Dialplan, NumberMatch, Rewrite, Rule, RuleAction, RuleFrom, TrunkForm, TrunkOrder,
    WeightedTrunk,
};
pub use emergency::{EmergencyFormat, SOS, service};
pub use failover::{FailoverAction, FailoverKey, FailoverTable, Failure};
pub use health::{Evidence, Health, HealthOutput, HealthSettings, TrunkHealth};
pub use limits::{LimitReached, Limits, TrunkLimits};
pub use numbers::{Dialled, NumberError, NumberFormat, NumberPlan, routing_number};
pub use peers::{Ambiguity, Origin, PeerMatch, PeerTable, TrunkPeers};
pub use schedule::{Hours, Schedule, parse_days};
pub use screening::{NotItsNumber, Screening, ScreeningAction};
pub use trunks::{AdminState, Channel, Refusal, TrunkOutput, TrunkSettings, TrunkTable, TrunkView};

/// Which configured trunk: its place in the list of `[[trunk]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrunkIndex(pub u16);
