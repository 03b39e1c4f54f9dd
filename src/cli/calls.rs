//! `tandem calls`: the calls now running, and hanging up.

use super::Outcome;
use super::output::{self, Table, clock, shown};
use super::remote::{Remote, converse};
use crate::admin::client::escape;
use crate::admin::control::CallView;
use serde::{Deserialize, Serialize};

/// Live calls of a running gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem calls --trunk operator-a", args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Hangup(Hangup),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    remote: Remote,
    /// Only calls from or to this trunk
    #[arg(long)]
    trunk: Option<String>,
    /// Only calls from or to this app user
    #[arg(long)]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// End a call
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem calls hangup 0195a3b1-7f52-7cc1-9c5e-3f2b6a1d0e44")]
struct Hangup {
    #[command(flatten)]
    remote: Remote,
    /// The call's id, as `tandem calls` shows it
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
struct Calls {
    calls: Vec<CallView>,
}

pub fn run(args: Args) -> Outcome {
    match args.action {
        None => list(&args.list),
        Some(Action::Hangup(hangup)) => hang_up(&hangup),
    }
}

fn list(args: &List) -> Outcome {
    let filters = [("trunk", &args.trunk), ("user", &args.user)];
    let query: Vec<_> = filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let client = args.remote.client()?;
    let found: Calls = converse(async { Ok(client.get("/api/v1/calls", &query).await?) })?;
    if args.json { output::print_json(&found) } else { output::print(&table(&found.calls)) }
}

fn hang_up(args: &Hangup) -> Outcome {
    let client = args.remote.client()?;
    let path = format!("/api/v1/calls/{}", escape(&args.id));
    let call: CallView = converse(async { Ok(client.send("DELETE", &path, None::<&()>).await?) })?;
    if args.json {
        output::print_json(&call)
    } else {
        output::print(&format!("{} is being ended\n", call.id))
    }
}

fn table(calls: &[CallView]) -> String {
    let mut table =
        Table::new(&["ID", "STATE", "DIRECTION", "FROM", "TO", "TRUNK", ">TIME", ">MOS", "CODECS"]);
    for call in calls {
        let from = call.caller_user.as_ref().or(call.caller_number.as_ref());
        let to = call.callee_user.as_ref().or(call.number.as_ref()).unwrap_or(&call.dialled);
        // The worse of both legs is what someone hears.
        let legs = [&call.caller_leg, &call.callee_leg];
        let mos = legs.into_iter().flatten().filter_map(|leg| leg.mos_lq).reduce(f32::min);
        let codecs = [call.caller_codec, call.callee_codec].map(shown);
        table.row([
            call.id.to_string(),
            call.state.as_str().to_owned(),
            call.direction.as_str().to_owned(),
            shown(from),
            to.clone(),
            shown(call.egress_trunk.as_ref().or(call.ingress_trunk.as_ref())),
            clock(call.duration_ms),
            shown(mos.map(|mos| format!("{mos:.2}"))),
            if codecs.concat().is_empty() { String::new() } else { codecs.join("/") },
        ]);
    }
    format!("{table}{} live call{}\n", calls.len(), if calls.len() == 1 { "" } else { "s" })
}
