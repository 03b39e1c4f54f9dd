//! A CDR as rows of three tables, and back.

use std::collections::BTreeMap;

use super::{
    error::StoreError,
    numbers::NumberKeys,
    rows::{Columns, Value},
};
use crate::{
    billing::{Called, Caller, Cdr, CdrLeg, CdrState, Charge, NotRated, Rated, Side},
    types::{
        Attestation, AudioCodec, AudioFault, CallId, Direction, E164, Emergency, EndCause, Fax, LegReport,
        Money, Rate, ReleasedBy, StirResult, TestLine,
    },
};

/// One row to be written: columns with their values, the same columns for every row of a table.
pub(super) type Fields = Vec<(&'static str, Value)>;

/// A CDR as stored. In `cdr` a number is present while it is whole; here is what is left of it later.
#[derive(Debug, Clone, PartialEq)]
pub struct CdrRow {
    pub cdr: Cdr,
    pub caller_number: Option<String>,
    pub called_number: Option<String>,
    /// The numbers have lost their last four digits.
    pub numbers_shortened: bool,
}

pub(super) fn cdr_fields(cdr: &Cdr, keys: &NumberKeys) -> Fields {
    let hash =
        |number: &Option<E164>| Value::maybe_text(number.as_ref().and_then(|number| keys.hash(number)));
    let number = |number: &Option<E164>| Value::maybe_text(number.as_ref().map(E164::as_str));
    vec![
        ("id", Value::Id(cdr.id.to_string())),
        ("node", Value::text(&cdr.node)),
        ("boot", Value::int(cdr.boot)),
        ("seq", Value::int(cdr.seq)),
        ("revision", Value::int(cdr.revision)),
        ("state", Value::text(cdr.state.as_str())),
        ("direction", Value::text(cdr.direction.as_str())),
        ("transfer_of", Value::maybe_text(cdr.transfer_of.map(|call| call.to_string()))),
        ("forwarded_of", Value::maybe_text(cdr.forwarded_of.map(|call| call.to_string()))),
        ("emergency", Value::maybe_text(cdr.emergency.map(Emergency::as_str))),
        ("caller_user", Value::maybe_text(cdr.caller.user.as_deref())),
        ("account", Value::maybe_text(cdr.caller.account.as_deref())),
        ("caller_number", number(&cdr.caller.number)),
        ("caller_number_hash", hash(&cdr.caller.number)),
        ("dialled", Value::text(&cdr.called.dialled)),
        ("called_user", Value::maybe_text(cdr.called.user.as_deref())),
        ("called_line", Value::maybe_text(cdr.called.line.map(TestLine::as_str))),
        ("called_number", number(&cdr.called.number)),
        ("called_number_hash", hash(&cdr.called.number)),
        ("ingress_trunk", Value::maybe_text(cdr.ingress_trunk.as_deref())),
        ("egress_trunk", Value::maybe_text(cdr.egress_trunk.as_deref())),
        ("carrier", Value::maybe_text(cdr.carrier.as_deref())),
        ("attestation", Value::maybe_text(cdr.attestation.map(Attestation::as_str))),
        ("stir_result", Value::maybe_text(cdr.stir_result.map(StirResult::as_str))),
        ("started_at", Value::int(cdr.started_at)),
        ("ringing_at", Value::maybe_int(cdr.ringing_at)),
        ("answered_at", Value::maybe_int(cdr.answered_at)),
        ("last_media_at", Value::maybe_int(cdr.last_media_at)),
        ("released_at", Value::maybe_int(cdr.released_at)),
        ("pdd_ms", Value::maybe_int(cdr.pdd_ms)),
        ("duration_ms", Value::int(cdr.duration_ms)),
        ("heard_ms", Value::maybe_int(cdr.heard_ms)),
        ("end_cause", Value::maybe_text(cdr.end_cause.map(EndCause::as_str))),
        ("sip_code", Value::maybe_int(cdr.sip_code)),
        ("q850", Value::maybe_int(cdr.q850)),
        ("released_by", Value::maybe_text(cdr.released_by.map(ReleasedBy::as_str))),
        ("caller_codec", Value::maybe_text(cdr.caller_codec.map(AudioCodec::encoding_name))),
        ("callee_codec", Value::maybe_text(cdr.callee_codec.map(AudioCodec::encoding_name))),
        ("fax", Value::maybe_text(cdr.fax.map(Fax::as_str))),
        ("legs_omitted", Value::int(cdr.legs_omitted)),
        ("sell_not_rated", not_rated(&cdr.sell)),
        ("buy_not_rated", not_rated(&cdr.buy)),
    ]
}

fn not_rated(rated: &Option<Rated>) -> Value {
    match rated {
        Some(Rated::NotRated(reason)) => Value::text(reason.as_str()),
        Some(Rated::Charge(_)) | None => Value::Text(None),
    }
}

/// The caller's leg and every attempt, each leg once.
pub(super) fn leg_fields(cdr: &Cdr) -> Vec<Fields> {
    let caller = CdrLeg {
        index: 0,
        trunk: cdr.ingress_trunk.clone(),
        user: cdr.caller.user.clone(),
        target: String::new(),
        started_at: cdr.started_at,
        ringing_at: None,
        answered_at: cdr.answered_at,
        ended_at: cdr.released_at,
        sip_code: cdr.sip_code,
        end_cause: cdr.end_cause,
        chosen: false,
    };
    // Two rows of one leg in one statement would be an error of PostgreSQL.
    let mut legs: BTreeMap<u8, &CdrLeg> = cdr.legs.iter().map(|leg| (leg.index, leg)).collect();
    legs.insert(0, &caller);
    // A report without the attempt it is of still deserves a row.
    let unnamed = CdrLeg {
        index: legs.keys().last().map_or(1, |last| last.saturating_add(1)),
        trunk: cdr.egress_trunk.clone(),
        user: cdr.called.user.clone(),
        target: cdr.called.dialled.clone(),
        chosen: true,
        ..caller.clone()
    };
    if cdr.callee_leg.is_some() && !legs.values().any(|leg| leg.chosen) {
        legs.insert(unnamed.index, &unnamed);
    }
    let chosen = legs.values().find(|leg| leg.chosen).map(|leg| leg.index);
    let report = |leg: &CdrLeg| {
        if leg.index == 0 {
            cdr.caller_leg.as_ref()
        } else if Some(leg.index) == chosen {
            cdr.callee_leg.as_ref()
        } else {
            None
        }
    };
    legs.values().map(|leg| one_leg(cdr, leg, report(leg))).collect()
}

fn one_leg(cdr: &Cdr, leg: &CdrLeg, report: Option<&LegReport>) -> Fields {
    let count = |count: fn(&LegReport) -> u64| Value::maybe_int(report.map(count));
    let real = |real: fn(&LegReport) -> Option<f32>| Value::maybe_real(report.and_then(real));
    vec![
        ("cdr_id", Value::Id(cdr.id.to_string())),
        ("leg", Value::int(leg.index)),
        ("revision", Value::int(cdr.revision)),
        ("trunk", Value::maybe_text(leg.trunk.as_deref())),
        ("app_user", Value::maybe_text(leg.user.as_deref())),
        ("target", Value::text(&leg.target)),
        ("started_at", Value::int(leg.started_at)),
        ("ringing_at", Value::maybe_int(leg.ringing_at)),
        ("answered_at", Value::maybe_int(leg.answered_at)),
        ("ended_at", Value::maybe_int(leg.ended_at)),
        ("sip_code", Value::maybe_int(leg.sip_code)),
        ("end_cause", Value::maybe_text(leg.end_cause.map(EndCause::as_str))),
        ("chosen", Value::Flag(leg.chosen)),
        ("packets_received", count(|report| report.packets_received)),
        ("packets_sent", count(|report| report.packets_sent)),
        ("bytes_received", count(|report| report.bytes_received)),
        ("bytes_sent", count(|report| report.bytes_sent)),
        ("packets_lost", count(|report| report.packets_lost)),
        ("packets_unrepaired", Value::maybe_int(report.and_then(|report| report.packets_unrepaired))),
        ("packets_late", count(|report| report.packets_late)),
        ("packets_discarded", count(|report| report.packets_discarded)),
        ("burst_ratio", real(|report| report.burst_ratio)),
        ("burst_density", real(|report| report.burst_density)),
        ("gap_density", real(|report| report.gap_density)),
        ("burst_ms", real(|report| report.burst_ms)),
        ("gap_ms", real(|report| report.gap_ms)),
        ("jitter_ms", real(|report| report.jitter_ms)),
        ("rtt_ms", real(|report| report.rtt_ms)),
        ("mos_lq", real(|report| report.mos_lq)),
        ("mos_cq", real(|report| report.mos_cq)),
        ("remote_loss", real(|report| report.remote_loss)),
        ("remote_jitter_ms", real(|report| report.remote_jitter_ms)),
        ("remote_discard", real(|report| report.remote_discard)),
        ("remote_mos_lq", real(|report| report.remote_mos_lq)),
        ("remote_mos_cq", real(|report| report.remote_mos_cq)),
        ("fault", Value::maybe_text(report.and_then(|report| report.fault).map(AudioFault::as_str))),
        ("fault_ms", count(|report| report.fault_ms)),
        ("last_media_at", Value::maybe_int(report.and_then(|report| report.last_media_at))),
    ]
}

/// The charges of an ended call, as first rated.
pub(super) fn charge_fields(cdr: &Cdr) -> Vec<Fields> {
    if !cdr.state.is_ended() {
        return Vec::new();
    }
    let sides = [(Side::Sell, &cdr.sell), (Side::Buy, &cdr.buy)];
    let charge = |(side, rated): (Side, &Option<Rated>)| match rated {
        Some(Rated::Charge(charge)) => Some(vec![
            ("cdr_id", Value::Id(cdr.id.to_string())),
            ("side", Value::text(side.as_str())),
            ("revision", Value::int(1)),
            ("prefix", Value::text(&charge.prefix)),
            ("rate_per_minute_e8", Value::int(charge.rate.per_minute_e8)),
            ("currency", Value::text(charge.amount.currency.as_str())),
            ("billable_ms", Value::int(charge.billable_ms)),
            ("billed_s", Value::int(charge.billed_s)),
            ("amount_micros", Value::int(charge.amount.micros)),
        ]),
        Some(Rated::NotRated(_)) | None => None,
    };
    sides.into_iter().filter_map(charge).collect()
}

pub(super) fn read_cdr(row: &impl Columns) -> Result<CdrRow, StoreError> {
    let id = row.parsed("id", |text| text.parse::<CallId>().ok())?;
    let direction = |text: &str| Direction::ALL.into_iter().find(|direction| direction.as_str() == text);
    let state = |text: &str| CdrState::ALL.into_iter().find(|state| state.as_str() == text);
    let started_at = row.int("started_at")?;
    let (caller_number, called_number) = (row.maybe_text("caller_number")?, row.maybe_text("called_number")?);
    // A shortened number is no number any more.
    let whole = |number: &Option<String>| number.as_ref().and_then(|number| number.parse::<E164>().ok());
    let mut cdr = Cdr::new(id, row.parsed("direction", direction)?, started_at);
    cdr.node = row.text("node")?;
    cdr.boot = row.int("boot")?;
    cdr.seq = row.number("seq")?;
    cdr.revision = row.number("revision")?;
    cdr.state = row.parsed("state", state)?;
    cdr.caller = Caller {
        user: row.maybe_text("caller_user")?,
        account: row.maybe_text("account")?,
        number: whole(&caller_number),
    };
    cdr.called = Called {
        dialled: row.text("dialled")?,
        number: whole(&called_number),
        user: row.maybe_text("called_user")?,
        line: row.maybe_parsed("called_line", |text| {
            TestLine::ALL.into_iter().find(|line| line.as_str() == text)
        })?,
    };
    cdr.ingress_trunk = row.maybe_text("ingress_trunk")?;
    cdr.egress_trunk = row.maybe_text("egress_trunk")?;
    cdr.carrier = row.maybe_text("carrier")?;
    cdr.attestation = row.maybe_parsed("attestation", |text| {
        Attestation::ALL.into_iter().find(|attestation| attestation.as_str() == text)
    })?;
    cdr.stir_result = row.maybe_parsed("stir_result", |text| {
        StirResult::ALL.into_iter().find(|result| result.as_str() == text)
    })?;
    cdr.ringing_at = row.maybe_int("ringing_at")?;
    cdr.answered_at = row.maybe_int("answered_at")?;
    cdr.last_media_at = row.maybe_int("last_media_at")?;
    cdr.released_at = row.maybe_int("released_at")?;
    cdr.pdd_ms = row.maybe_number("pdd_ms")?;
    cdr.duration_ms = row.number("duration_ms")?;
    cdr.heard_ms = row.maybe_number("heard_ms")?;
    cdr.end_cause = row.maybe_parsed("end_cause", end_cause)?;
    cdr.sip_code = row.maybe_number("sip_code")?;
    cdr.q850 = row.maybe_number("q850")?;
    cdr.transfer_of = row.maybe_parsed("transfer_of", |text| text.parse().ok())?;
    cdr.forwarded_of = row.maybe_parsed("forwarded_of", |text| text.parse().ok())?;
    let emergency = |text: &str| Emergency::ALL.into_iter().find(|kind| kind.as_str() == text);
    cdr.emergency = row.maybe_parsed("emergency", emergency)?;
    let released_by = [ReleasedBy::Caller, ReleasedBy::Callee, ReleasedBy::Gateway];
    cdr.released_by =
        row.maybe_parsed("released_by", |text| released_by.into_iter().find(|by| by.as_str() == text))?;
    cdr.caller_codec = row.maybe_parsed("caller_codec", codec)?;
    cdr.callee_codec = row.maybe_parsed("callee_codec", codec)?;
    cdr.fax = row.maybe_parsed("fax", |text| Fax::ALL.into_iter().find(|fax| fax.as_str() == text))?;
    cdr.legs_omitted = row.number("legs_omitted")?;
    let reason = |text: &str| NotRated::ALL.into_iter().find(|reason| reason.as_str() == text);
    cdr.sell = row.maybe_parsed("sell_not_rated", reason)?.map(Rated::NotRated);
    cdr.buy = row.maybe_parsed("buy_not_rated", reason)?.map(Rated::NotRated);
    Ok(CdrRow { cdr, caller_number, called_number, numbers_shortened: row.flag("numbers_shortened")? })
}

/// Adds a row of `cdr_leg` to its CDR; rows come in order of their leg.
pub(super) fn read_leg(row: &impl Columns, cdr: &mut Cdr) -> Result<(), StoreError> {
    let index: u8 = row.number("leg")?;
    let chosen = row.flag("chosen")?;
    if index == 0 {
        cdr.caller_leg = read_report(row)?;
        return Ok(());
    }
    if chosen {
        cdr.callee_leg = read_report(row)?;
    }
    cdr.legs.push(CdrLeg {
        index,
        trunk: row.maybe_text("trunk")?,
        user: row.maybe_text("app_user")?,
        target: row.text("target")?,
        started_at: row.int("started_at")?,
        ringing_at: row.maybe_int("ringing_at")?,
        answered_at: row.maybe_int("answered_at")?,
        ended_at: row.maybe_int("ended_at")?,
        sip_code: row.maybe_number("sip_code")?,
        end_cause: row.maybe_parsed("end_cause", end_cause)?,
        chosen,
    });
    Ok(())
}

fn read_report(row: &impl Columns) -> Result<Option<LegReport>, StoreError> {
    let Some(packets_received) = row.maybe_number("packets_received")? else { return Ok(None) };
    let real = |name: &str| row.maybe_real(name).map(|real| real.map(|real| real as f32));
    Ok(Some(LegReport {
        packets_received,
        packets_sent: row.number("packets_sent")?,
        bytes_received: row.number("bytes_received")?,
        bytes_sent: row.number("bytes_sent")?,
        packets_lost: row.number("packets_lost")?,
        packets_unrepaired: row.maybe_number("packets_unrepaired")?,
        packets_late: row.number("packets_late")?,
        packets_discarded: row.number("packets_discarded")?,
        burst_ratio: real("burst_ratio")?,
        burst_density: real("burst_density")?,
        gap_density: real("gap_density")?,
        burst_ms: real("burst_ms")?,
        gap_ms: real("gap_ms")?,
        jitter_ms: real("jitter_ms")?,
        rtt_ms: real("rtt_ms")?,
        mos_lq: real("mos_lq")?,
        mos_cq: real("mos_cq")?,
        remote_loss: real("remote_loss")?,
        remote_jitter_ms: real("remote_jitter_ms")?,
        remote_discard: real("remote_discard")?,
        remote_mos_lq: real("remote_mos_lq")?,
        remote_mos_cq: real("remote_mos_cq")?,
        fault: row
            .maybe_parsed("fault", |text| AudioFault::ALL.into_iter().find(|fault| fault.as_str() == text))?,
        // A record of a gateway that did not look for faults has none.
        fault_ms: row.maybe_number("fault_ms")?.unwrap_or(0),
        last_media_at: row.maybe_int("last_media_at")?,
        fax: false,
    }))
}

/// Adds a row of `charge` to its CDR; rows come in order of their revision, so that the newest stays.
pub(super) fn read_charge(row: &impl Columns, cdr: &mut Cdr) -> Result<(), StoreError> {
    let side = row.parsed("side", |text| Side::ALL.into_iter().find(|side| side.as_str() == text))?;
    let currency = row.parsed("currency", |text| text.parse().ok())?;
    let charge = Rated::Charge(Charge {
        prefix: row.text("prefix")?,
        rate: Rate { per_minute_e8: row.int("rate_per_minute_e8")?, currency },
        billable_ms: row.number("billable_ms")?,
        billed_s: row.number("billed_s")?,
        amount: Money { micros: row.int("amount_micros")?, currency },
    });
    match side {
        Side::Sell => cdr.sell = Some(charge),
        Side::Buy => cdr.buy = Some(charge),
    }
    Ok(())
}

fn end_cause(text: &str) -> Option<EndCause> {
    EndCause::ALL.iter().copied().find(|cause| cause.as_str() == text)
}

fn codec(text: &str) -> Option<AudioCodec> {
    [AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu]
        .into_iter()
        .find(|codec| codec.encoding_name() == text)
}
