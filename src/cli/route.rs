//! `tandem route`: what a call would do, and why, from the configuration alone.

use super::output::{self, Failure, Outcome, Table, shown};
use super::remote;
use crate::access::Directory;
use crate::admin::control::{RouteOutcomeView, RouteQuery, RouteTrunkView, RouteView};
use crate::admin::rfc3339;
use crate::app::explain::Explainer;
use crate::config::Loaded;
use crate::types::{Now, TimeZone, UnixMillis, WallClock};
use std::fmt::Write;
use std::path::PathBuf;

/// Explain a call: rules matched, number after each rewrite, trunks in order with cost, rate, longest duration
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem route --config tandem.toml --from alice --to 0470123456")]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Who calls: an app user's name, or trunk:NAME
    #[arg(long, value_name = "USER")]
    from: String,
    /// What is dialled, as the caller would send it
    #[arg(long, value_name = "NUMBER")]
    to: String,
    /// The number the caller presents
    #[arg(long, value_name = "NUMBER")]
    calling: Option<String>,
    /// When the call would be made: 2026-03-02T10:00 in the dialplan's time zone, or with an offset [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    let Loaded { config, dialplan, .. } = remote::load(&args.config)?;
    let at = args.at.as_deref().map(|text| moment(text, &dialplan.zone)).transpose()?;
    let rates = config.rate_table().map_err(|error| Failure::Failed(error.to_string()))?;
    let (directory, _) = Directory::new(config.file_users());
    let explainer = Explainer {
        config: &config,
        dialplan: &dialplan,
        directory: &directory,
        rates: &rates,
        unusable: &|_| None,
        registrations: &|_| 0,
    };
    let query = RouteQuery { from: args.from, to: args.to, calling: args.calling, at };
    let view =
        explainer.explain(&query, Now::read().unix_ms).map_err(|error| Failure::Failed(error.to_string()))?;
    if args.json { output::print_json(&view) } else { output::print(&told(&view)) }
}

/// A trunk's own tables, as far as they concern the call.
fn tell_trunk(text: &mut String, trunk: &RouteTrunkView) {
    let _ = writeln!(text, "\n{}", output::printable(&trunk.name));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<10}{}", output::printable(value));
    };
    line("numbers", &format!("called {}, calling {}", trunk.called_format, trunk.calling_format));
    line("codecs", &trunk.codecs.join(", "));
    for (index, header) in trunk.headers.iter().enumerate() {
        line(if index == 0 { "headers" } else { "" }, &format!("{}: {}", header.name, header.value));
    }
    let failures: Vec<String> =
        trunk.failover.iter().map(|entry| format!("{} {}", entry.failure, entry.action)).collect();
    line("failures", &format!("{}; else final", failures.join(", ")));
}

/// A time with an offset, or one of the dialplan's zone.
fn moment(text: &str, zone: &TimeZone) -> Result<UnixMillis, Failure> {
    if let Ok(unix_ms) = rfc3339::parse(text) {
        return Ok(unix_ms);
    }
    text.parse::<WallClock>().map(|wall| zone.unix_ms_of(wall)).map_err(Failure::Usage)
}

fn told(view: &RouteView) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11}{}", output::printable(value));
    };
    line("from", &view.from);
    line("dialled", &view.dialled);
    line("number", view.number.as_deref().unwrap_or(output::NONE));
    line("calling", view.calling.as_deref().unwrap_or(output::NONE));
    if view.emergency {
        line("emergency", "no limit holds it");
    }
    for (index, step) in view.matched.iter().enumerate() {
        line(if index == 0 { "because" } else { "" }, step);
    }
    match &view.outcome {
        RouteOutcomeView::Reject { status, cause, text } => {
            line("refused", &format!("{status} {} ({text})", cause.phrase()));
        }
        RouteOutcomeView::User { name, .. } => line("rings", &format!("every device of {name}")),
        RouteOutcomeView::Line { line: name } => line("test line", &format!("{name}: {}", name.meaning())),
        RouteOutcomeView::Trunks { .. } => {}
    }
    if let Some(rate) = &view.rate {
        line("rate", &format!("{} per minute ({})", rate.per_minute, rate.prefix));
    }
    if view.max_duration_seconds > 0 {
        line("longest", &output::clock(view.max_duration_seconds * 1000));
    }
    if let RouteOutcomeView::Trunks { trunks } = &view.outcome {
        let mut table = Table::new(&[">", "TRUNK", "CALLED", "CALLING", ">COST A MINUTE"]);
        for (index, trunk) in trunks.iter().enumerate() {
            table.row([
                (index + 1).to_string(),
                trunk.name.clone(),
                trunk.called.clone(),
                shown(trunk.calling.as_ref()),
                shown(trunk.cost.as_ref()),
            ]);
        }
        let _ = write!(text, "{table}");
        for trunk in trunks {
            tell_trunk(&mut text, trunk);
        }
    }
    text
}
