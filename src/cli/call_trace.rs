//! `tandem call-trace`: the SIP ladder of a live or recent call, both legs' media and a verdict.

use super::Outcome;
use super::output::{self, shown};
use super::remote::{Remote, converse};
use crate::admin::client::escape;
use crate::telemetry::trace::{TraceLeg, TraceView};
use std::fmt::Write;

/// SIP ladder of a call: who said what when, what each leg heard, what went wrong
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem call-trace 0195a3b1-7f52-7cc1-9c5e-3f2b6a1d0e44")]
pub struct Args {
    #[command(flatten)]
    remote: Remote,
    /// The call's id, as `tandem calls` and `tandem cdr list` show it
    id: String,
    /// Print the messages too
    #[arg(long)]
    messages: bool,
    /// As they were, with whole numbers: takes the admin role and trace.whole, and is noted in the gateway's log
    #[arg(long, requires = "messages")]
    whole: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    let client = args.remote.client()?;
    let path = format!("/api/v1/calls/{}/trace", escape(&args.id));
    let query: &[(&str, &str)] = if args.whole { &[("whole", "true")] } else { &[] };
    let view: TraceView = converse(async { Ok(client.get(&path, query).await?) })?;
    if args.json { output::print_json(&view) } else { output::print(&text(&view, args.messages)) }
}

fn text(view: &TraceView, messages: bool) -> String {
    let mut text = format!("call {}\n\n{}", view.id, view.draw());
    text.push('\n');
    for leg in &view.legs {
        let _ = writeln!(text, "{}", media(leg, view.verdict.cause.is_none()));
    }
    let verdict = &view.verdict;
    let facts = [
        Some(verdict.cause.map_or("still going on", |cause| cause.as_str()).to_owned()),
        verdict.ringing_after_ms.map(|ms| format!("rang after {ms:.0} ms")),
        verdict.answered_after_ms.map(|ms| format!("answered after {ms:.0} ms")),
        verdict.duration_ms.map(|ms| format!("lasted {:.1} s", ms as f64 / 1e3)),
        (verdict.retransmissions > 0).then(|| format!("{} messages repeated", verdict.retransmissions)),
    ];
    let _ = writeln!(text, "\n{}", facts.into_iter().flatten().collect::<Vec<_>>().join("; "));
    for note in &verdict.notes {
        let _ = writeln!(text, "! {note}");
    }
    if messages {
        for message in &view.messages {
            let _ = write!(
                text,
                "\n--- {:.1} ms, {} over {} {} {}\n{}",
                message.after_ms,
                message.flow,
                message.transport,
                if message.flow == "sent" { "to" } else { "from" },
                message.remote,
                message.text
            );
        }
    }
    text
}

fn media(leg: &TraceLeg, lives: bool) -> String {
    let Some(report) = &leg.report else {
        let why =
            if lives { "measured when the call has ended; `tandem calls` shows it now" } else { "no media" };
        return format!("leg {} {}: {why}", leg.index, leg.party);
    };
    format!(
        "leg {} {}: received {} packets, lost {}, jitter {}, MOS {}; sent {}",
        leg.index,
        leg.party,
        report.packets_received,
        report.packets_lost,
        shown(report.jitter_ms.map(|ms| format!("{ms:.1} ms"))),
        shown(report.mos_lq.map(|mos| format!("{mos:.2}"))),
        report.packets_sent
    )
}
