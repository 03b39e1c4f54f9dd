//! Call records as CSV (RFC 4180), safe to open in a spreadsheet.

use super::{CdrView, RatedView};
use crate::admin::rfc3339;
use crate::types::LegReport;

/// One column: its name, and its cell of a record.
type Column = (&'static str, fn(&CdrView) -> Cell);

/// What stands in a cell. Only text can hold what somebody else wrote.
enum Cell {
    Text(Option<String>),
    /// A number, a time or a word of ours.
    Plain(Option<String>),
}

const COLUMNS: &[Column] = &[
    ("id", |c| plain(Some(c.id))),
    ("node", |c| text(&Some(&c.node))),
    ("state", |c| plain(Some(c.state.as_str()))),
    ("direction", |c| plain(Some(c.direction.as_str()))),
    ("transfer_of", |c| plain(c.transfer_of)),
    ("forwarded_of", |c| plain(c.forwarded_of)),
    ("emergency", |c| plain(c.emergency.map(|kind| kind.as_str()))),
    ("caller_user", |c| text(&c.caller_user)),
    ("account", |c| text(&c.account)),
    ("caller_number", |c| text(&c.caller_number)),
    ("dialled", |c| text(&Some(&c.dialled))),
    ("called_number", |c| text(&c.called_number)),
    ("called_user", |c| text(&c.called_user)),
    ("called_line", |c| plain(c.called_line)),
    ("numbers_shortened", |c| plain(Some(c.numbers_shortened))),
    ("ingress_trunk", |c| text(&c.ingress_trunk)),
    ("egress_trunk", |c| text(&c.egress_trunk)),
    ("carrier", |c| text(&c.carrier)),
    ("attestation", |c| plain(c.attestation.map(|attestation| attestation.as_str()))),
    ("verstat", |c| plain(c.verstat.clone())),
    ("stir_result", |c| plain(c.stir_result.map(|result| result.as_str()))),
    ("started_at", |c| time(Some(c.started_at))),
    ("ringing_at", |c| time(c.ringing_at)),
    ("answered_at", |c| time(c.answered_at)),
    ("last_media_at", |c| time(c.last_media_at)),
    ("released_at", |c| time(c.released_at)),
    ("pdd_ms", |c| plain(c.pdd_ms)),
    ("duration_ms", |c| plain(Some(c.duration_ms))),
    ("heard_ms", |c| plain(c.heard_ms)),
    ("outcome", |c| plain(c.outcome.map(|outcome| outcome.as_str()))),
    ("end_cause", |c| plain(c.end_cause.map(|cause| cause.as_str()))),
    ("sip_code", |c| plain(c.sip_code)),
    ("q850", |c| plain(c.q850)),
    ("released_by", |c| plain(c.released_by.map(|by| by.as_str()))),
    ("caller_codec", |c| plain(c.caller_codec)),
    ("callee_codec", |c| plain(c.callee_codec)),
    ("fax", |c| plain(c.fax.map(|fax| fax.as_str()))),
    ("caller_packets_received", |c| leg(&c.caller_leg, |leg| Some(leg.packets_received.to_string()))),
    ("caller_packets_lost", |c| leg(&c.caller_leg, |leg| Some(leg.packets_lost.to_string()))),
    ("caller_packets_unrepaired", |c| leg(&c.caller_leg, |leg| number(leg.packets_unrepaired))),
    ("caller_burst_ratio", |c| leg(&c.caller_leg, |leg| number(leg.burst_ratio))),
    ("caller_jitter_ms", |c| leg(&c.caller_leg, |leg| number(leg.jitter_ms))),
    ("caller_rtt_ms", |c| leg(&c.caller_leg, |leg| number(leg.rtt_ms))),
    ("caller_mos_lq", |c| leg(&c.caller_leg, |leg| number(leg.mos_lq))),
    ("caller_mos_cq", |c| leg(&c.caller_leg, |leg| number(leg.mos_cq))),
    ("caller_remote_loss", |c| leg(&c.caller_leg, |leg| number(leg.remote_loss))),
    ("caller_remote_mos_lq", |c| leg(&c.caller_leg, |leg| number(leg.remote_mos_lq))),
    ("caller_fault", |c| leg(&c.caller_leg, |leg| leg.fault.map(|fault| fault.as_str().to_owned()))),
    ("caller_fault_ms", |c| leg(&c.caller_leg, |leg| Some(leg.fault_ms.to_string()))),
    ("callee_packets_received", |c| leg(&c.callee_leg, |leg| Some(leg.packets_received.to_string()))),
    ("callee_packets_lost", |c| leg(&c.callee_leg, |leg| Some(leg.packets_lost.to_string()))),
    ("callee_packets_unrepaired", |c| leg(&c.callee_leg, |leg| number(leg.packets_unrepaired))),
    ("callee_burst_ratio", |c| leg(&c.callee_leg, |leg| number(leg.burst_ratio))),
    ("callee_jitter_ms", |c| leg(&c.callee_leg, |leg| number(leg.jitter_ms))),
    ("callee_rtt_ms", |c| leg(&c.callee_leg, |leg| number(leg.rtt_ms))),
    ("callee_mos_lq", |c| leg(&c.callee_leg, |leg| number(leg.mos_lq))),
    ("callee_mos_cq", |c| leg(&c.callee_leg, |leg| number(leg.mos_cq))),
    ("callee_remote_loss", |c| leg(&c.callee_leg, |leg| number(leg.remote_loss))),
    ("callee_remote_mos_lq", |c| leg(&c.callee_leg, |leg| number(leg.remote_mos_lq))),
    ("callee_fault", |c| leg(&c.callee_leg, |leg| leg.fault.map(|fault| fault.as_str().to_owned()))),
    ("callee_fault_ms", |c| leg(&c.callee_leg, |leg| Some(leg.fault_ms.to_string()))),
    ("attempts", |c| plain(Some(c.legs.len()))),
    ("sell_amount", |c| charge(&c.sell).0),
    ("sell_currency", |c| charge(&c.sell).1),
    ("sell_not_rated", |c| charge(&c.sell).2),
    ("buy_amount", |c| charge(&c.buy).0),
    ("buy_currency", |c| charge(&c.buy).1),
    ("buy_not_rated", |c| charge(&c.buy).2),
];

/// A head line and one line a record, each ended by CRLF.
pub(super) fn write(cdrs: &[CdrView]) -> String {
    let mut csv = COLUMNS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",") + "\r\n";
    for cdr in cdrs {
        for (index, (_, cell)) in COLUMNS.iter().enumerate() {
            if index > 0 {
                csv.push(',');
            }
            csv.push_str(&match cell(cdr) {
                Cell::Text(value) => value.as_deref().map(harmless).unwrap_or_default(),
                Cell::Plain(value) => value.unwrap_or_default(),
            });
        }
        csv.push_str("\r\n");
    }
    csv
}

/// A cell that no spreadsheet takes for a formula: what begins like one gets an apostrophe, which spreadsheets hide.
/// An E.164 number is such a case, and keeps its plus this way.
fn harmless(value: &str) -> String {
    let formula =
        value.trim_start().starts_with(['=', '+', '-', '@']) || value.starts_with(['\t', '\r', '\n']);
    let apostrophe = if formula { "'" } else { "" };
    // Quoted only where RFC 4180 §2.6 asks for it.
    if value.contains([',', '"', '\r', '\n']) {
        format!("\"{apostrophe}{}\"", value.replace('"', "\"\""))
    } else {
        format!("{apostrophe}{value}")
    }
}

fn text(value: &Option<impl AsRef<str>>) -> Cell {
    Cell::Text(value.as_ref().map(|value| value.as_ref().to_owned()))
}

fn plain(value: Option<impl ToString>) -> Cell {
    Cell::Plain(value.map(|value| value.to_string()))
}

fn time(unix_ms: Option<i64>) -> Cell {
    Cell::Plain(unix_ms.map(rfc3339::format))
}

fn leg(report: &Option<LegReport>, figure: fn(&LegReport) -> Option<String>) -> Cell {
    Cell::Plain(report.as_ref().and_then(figure))
}

/// Empty where it was not measured.
fn number(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Amount, currency, and the reason where there is no amount.
fn charge(rated: &Option<RatedView>) -> (Cell, Cell, Cell) {
    match rated {
        None => (Cell::Plain(None), Cell::Plain(None), Cell::Plain(None)),
        Some(RatedView::Charge { amount, currency, .. }) => {
            (plain(Some(amount)), plain(Some(currency)), Cell::Plain(None))
        }
        Some(RatedView::NotRated { not_rated }) => {
            (Cell::Plain(None), Cell::Plain(None), plain(Some(not_rated.as_str())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_can_not_be_a_formula_or_break_its_line() {
        for (value, cell) in [
            ("alice", "alice"),
            ("=HYPERLINK(\"http://evil\")", "\"'=HYPERLINK(\"\"http://evil\"\")\""),
            ("+32470123456", "'+32470123456"),
            ("-1+1", "'-1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" =1", "' =1"),
            ("\t=1", "'\t=1"),
            ("a,b\r\nc", "\"a,b\r\nc\""),
        ] {
            assert_eq!(harmless(value), cell);
        }
    }
}
