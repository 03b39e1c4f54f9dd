//! A call record as the API shows it. The JSON names are a contract with scripts.

use crate::admin::rfc3339;
use crate::billing::{CdrLeg, CdrState, NotRated, Rated};
use crate::store::CdrRow;
use crate::types::{
    Attestation, AudioCodec, CallId, Currency, Direction, Emergency, EndCause, Fax, LegReport, Outcome,
    ReleasedBy, StirResult, TestLine, UnixMillis, mask,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CdrView {
    pub id: CallId,
    /// Name of the gateway.
    pub node: String,
    pub state: CdrState,
    pub direction: Direction,
    /// The call that a transfer took this one out of.
    pub transfer_of: Option<CallId>,
    /// The call that a device of this one's user sent on to where this one goes.
    pub forwarded_of: Option<CallId>,
    /// A call for help, or one back to who asked for it.
    pub emergency: Option<Emergency>,
    pub caller_user: Option<String>,
    /// The account that pays.
    pub account: Option<String>,
    pub caller_number: Option<String>,
    /// What was dialled, as the caller sent it.
    pub dialled: String,
    pub called_number: Option<String>,
    pub called_user: Option<String>,
    /// The test line that was called.
    pub called_line: Option<TestLine>,
    /// The numbers have lost their last four digits, because their retention time is over.
    pub numbers_shortened: bool,
    pub ingress_trunk: Option<String>,
    pub egress_trunk: Option<String>,
    pub carrier: Option<String>,
    /// How well who signed the caller's identity knows the caller.
    pub attestation: Option<Attestation>,
    /// What the called device was told of the calling number.
    pub verstat: Option<String>,
    /// What came of checking the caller's signed identity.
    pub stir_result: Option<StirResult>,
    #[serde(with = "rfc3339")]
    pub started_at: UnixMillis,
    #[serde(with = "rfc3339::option", default)]
    pub ringing_at: Option<UnixMillis>,
    #[serde(with = "rfc3339::option", default)]
    pub answered_at: Option<UnixMillis>,
    #[serde(with = "rfc3339::option", default)]
    pub last_media_at: Option<UnixMillis>,
    #[serde(with = "rfc3339::option", default)]
    pub released_at: Option<UnixMillis>,
    /// From the caller's INVITE to the first ringing or answer.
    pub pdd_ms: Option<u64>,
    /// From answer to release; 0 if not answered.
    pub duration_ms: u64,
    /// From answer to the last media packet.
    pub heard_ms: Option<u64>,
    pub outcome: Option<Outcome>,
    pub end_cause: Option<EndCause>,
    pub sip_code: Option<u16>,
    pub q850: Option<u8>,
    pub released_by: Option<ReleasedBy>,
    pub caller_codec: Option<AudioCodec>,
    pub callee_codec: Option<AudioCodec>,
    /// It carried a fax or a modem.
    pub fax: Option<Fax>,
    pub caller_leg: Option<LegReport>,
    pub callee_leg: Option<LegReport>,
    /// Trunks tried and devices rung, in order.
    pub legs: Vec<CdrLegView>,
    /// What the account pays.
    pub sell: Option<RatedView>,
    /// What the carrier gets.
    pub buy: Option<RatedView>,
}

/// One trunk tried or device rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CdrLegView {
    pub leg: u8,
    pub trunk: Option<String>,
    pub user: Option<String>,
    /// The number as the trunk got it.
    pub target: String,
    #[serde(with = "rfc3339")]
    pub started_at: UnixMillis,
    #[serde(with = "rfc3339::option", default)]
    pub ringing_at: Option<UnixMillis>,
    #[serde(with = "rfc3339::option", default)]
    pub answered_at: Option<UnixMillis>,
    #[serde(with = "rfc3339::option", default)]
    pub ended_at: Option<UnixMillis>,
    pub sip_code: Option<u16>,
    pub end_cause: Option<EndCause>,
    /// Its answer was taken.
    pub chosen: bool,
}

/// One side's price: a charge, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RatedView {
    Charge {
        /// Decimal, in units of the currency.
        amount: String,
        currency: Currency,
        prefix: String,
        /// As `0.0125 EUR`.
        per_minute: String,
        billed_seconds: u64,
    },
    NotRated {
        not_rated: NotRated,
    },
}

impl From<Rated> for RatedView {
    fn from(rated: Rated) -> RatedView {
        match rated {
            Rated::NotRated(not_rated) => RatedView::NotRated { not_rated },
            Rated::Charge(charge) => RatedView::Charge {
                amount: charge.amount.to_string().trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned(),
                currency: charge.amount.currency,
                prefix: charge.prefix,
                per_minute: charge.rate.to_string(),
                billed_seconds: charge.billed_s,
            },
        }
    }
}

impl From<CdrLeg> for CdrLegView {
    fn from(leg: CdrLeg) -> CdrLegView {
        CdrLegView {
            leg: leg.index,
            trunk: leg.trunk,
            user: leg.user,
            target: leg.target,
            started_at: leg.started_at,
            ringing_at: leg.ringing_at,
            answered_at: leg.answered_at,
            ended_at: leg.ended_at,
            sip_code: leg.sip_code,
            end_cause: leg.end_cause,
            chosen: leg.chosen,
        }
    }
}

impl From<CdrRow> for CdrView {
    fn from(row: CdrRow) -> CdrView {
        let CdrRow { cdr, caller_number, called_number, numbers_shortened } = row;
        CdrView {
            id: cdr.id,
            node: cdr.node,
            state: cdr.state,
            direction: cdr.direction,
            transfer_of: cdr.transfer_of,
            forwarded_of: cdr.forwarded_of,
            emergency: cdr.emergency,
            caller_user: cdr.caller.user,
            account: cdr.caller.account,
            caller_number,
            dialled: cdr.called.dialled,
            called_number,
            called_user: cdr.called.user,
            called_line: cdr.called.line,
            numbers_shortened,
            ingress_trunk: cdr.ingress_trunk,
            egress_trunk: cdr.egress_trunk,
            carrier: cdr.carrier,
            attestation: cdr.attestation,
            verstat: cdr.stir_result.map(|result| result.verstat().as_str().to_owned()),
            stir_result: cdr.stir_result,
            started_at: cdr.started_at,
            ringing_at: cdr.ringing_at,
            answered_at: cdr.answered_at,
            last_media_at: cdr.last_media_at,
            released_at: cdr.released_at,
            pdd_ms: cdr.pdd_ms,
            duration_ms: cdr.duration_ms,
            heard_ms: cdr.heard_ms,
            outcome: cdr.end_cause.map(EndCause::outcome),
            end_cause: cdr.end_cause,
            sip_code: cdr.sip_code,
            q850: cdr.q850,
            released_by: cdr.released_by,
            caller_codec: cdr.caller_codec,
            callee_codec: cdr.callee_codec,
            fax: cdr.fax,
            caller_leg: cdr.caller_leg,
            callee_leg: cdr.callee_leg,
            legs: cdr.legs.into_iter().map(CdrLegView::from).collect(),
            sell: cdr.sell.map(RatedView::from),
            buy: cdr.buy.map(RatedView::from),
        }
    }
}

impl CdrView {
    /// The same record for a reader who may not see numbers.
    pub fn masked(mut self) -> CdrView {
        self.caller_number = self.caller_number.as_deref().map(mask);
        self.dialled = mask(&self.dialled);
        self.called_number = self.called_number.as_deref().map(mask);
        for leg in &mut self.legs {
            leg.target = mask(&leg.target);
        }
        self
    }
}
