//! `tandem trunks`: how the trunks are; block, unblock, drain.

use super::Outcome;
use super::output::{self, Table, shown};
use super::remote::{Remote, converse};
use crate::admin::client::escape;
use crate::admin::control::{TrunkAction, TrunkRegistration, TrunkView};
use serde::{Deserialize, Serialize};

/// Trunks of a running gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem trunks --json", args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Take no calls from or to a trunk until it is unblocked; running calls go on
    #[command(after_help = "Example: tandem trunks block operator-a")]
    Block(One),
    /// End a block or a drain
    #[command(after_help = "Example: tandem trunks unblock operator-a")]
    Unblock(One),
    /// Give a trunk no new calls; running calls go on
    #[command(after_help = "Example: tandem trunks drain operator-a")]
    Drain(One),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    remote: Remote,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct One {
    #[command(flatten)]
    remote: Remote,
    /// The trunk's name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
struct Trunks {
    trunks: Vec<TrunkView>,
}

pub fn run(args: Args) -> Outcome {
    match args.action {
        None => list(&args.list),
        Some(Action::Block(one)) => act(&one, TrunkAction::Block),
        Some(Action::Unblock(one)) => act(&one, TrunkAction::Unblock),
        Some(Action::Drain(one)) => act(&one, TrunkAction::Drain),
    }
}

fn list(args: &List) -> Outcome {
    let client = args.remote.client()?;
    let found: Trunks = converse(async { Ok(client.get("/api/v1/trunks", &[]).await?) })?;
    if args.json { output::print_json(&found) } else { output::print(&table(&found.trunks)) }
}

fn act(args: &One, action: TrunkAction) -> Outcome {
    let client = args.remote.client()?;
    let path = format!("/api/v1/trunks/{}/{}", escape(&args.name), action.as_str());
    let trunk: TrunkView = converse(async { Ok(client.send("POST", &path, None::<&()>).await?) })?;
    if args.json { output::print_json(&trunk) } else { output::print(&table(&[trunk])) }
}

fn table(trunks: &[TrunkView]) -> String {
    let mut table = Table::new(&[
        "NAME",
        "CARRIER",
        "STATE",
        ">CALLS",
        ">LIMIT",
        ">CPS",
        ">CPS IN",
        ">RTT MS",
        "REGISTERED",
        "WHY",
    ]);
    for trunk in trunks {
        let limit = |limit: u32| if limit == 0 { String::new() } else { limit.to_string() };
        let registered = match &trunk.registration {
            None => "",
            Some(TrunkRegistration::Registering) => "trying",
            Some(TrunkRegistration::Registered { .. }) => "yes",
            Some(TrunkRegistration::Failed { .. }) => "failed",
        };
        let registration_fault = match &trunk.registration {
            Some(TrunkRegistration::Failed { reason }) => Some(reason),
            None | Some(TrunkRegistration::Registering | TrunkRegistration::Registered { .. }) => None,
        };
        table.row([
            trunk.name.clone(),
            trunk.carrier.clone(),
            state(trunk),
            trunk.active_calls.to_string(),
            limit(trunk.max_channels),
            limit(trunk.max_cps),
            limit(trunk.max_cps_in),
            shown(trunk.options_rtt_ms.map(|rtt| format!("{rtt:.1}"))),
            registered.to_owned(),
            shown(trunk.reason.as_ref().or(registration_fault)),
        ]);
    }
    table.to_string()
}

/// What keeps calls away comes first.
fn state(trunk: &TrunkView) -> String {
    let mut words = Vec::new();
    if trunk.blocked {
        words.push("blocked");
    }
    if trunk.draining {
        words.push("draining");
    }
    words.push(trunk.health.as_str());
    words.join(", ")
}
