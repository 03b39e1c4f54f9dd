//! `tandem cdr`: call records of a running gateway.

use super::output::{self, Failure, Outcome, Table, calendar, clock, shown};
use super::remote::{Remote, converse};
use crate::admin::cdrs::{CdrView, CdrsPage, RatedView};
use crate::admin::client::Client;
use crate::admin::rfc3339;

/// The most one request gives; longer lists are fetched in pages of this.
const PAGE: u32 = 1_000;

/// Call records
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(Box<List>),
}

/// Find call records, newest first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: tandem cdr list --user alice --from 2026-03-01T00:00:00Z --outcome answered"
)]
struct List {
    #[command(flatten)]
    remote: Remote,
    /// Started at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Started before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// From or to this app user
    #[arg(long)]
    user: Option<String>,
    /// Came from or went to this trunk
    #[arg(long)]
    trunk: Option<String>,
    /// Paid by this account
    #[arg(long)]
    account: Option<String>,
    /// From or to this E.164 number
    #[arg(long)]
    number: Option<String>,
    /// app_to_trunk, trunk_to_app, app_to_app or trunk_to_trunk
    #[arg(long)]
    direction: Option<String>,
    /// answered, busy, no_answer, declined, cancelled, not_found, blocked, no_route, congestion, trunk_failure,
    /// media_failure or server_error
    #[arg(long)]
    outcome: Option<String>,
    /// started_at, released_at, duration_ms or pdd_ms; with - before it for descending
    #[arg(long, default_value = "-started_at", allow_hyphen_values = true)]
    sort: String,
    /// Most records to show
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    match args.action {
        Action::List(list) => find(&list),
    }
}

fn find(args: &List) -> Outcome {
    let client = args.remote.client()?;
    if args.csv {
        let limit = args.limit.clamp(1, PAGE).to_string();
        let query = args.query(&limit);
        let csv = converse(async { Ok(client.get_text("/api/v1/cdrs", &query, "text/csv").await?) })?;
        return output::print(&csv);
    }
    let page = converse(collect(&client, args))?;
    if args.json { output::print_json(&page) } else { output::print(&table(&page)) }
}

impl List {
    fn query<'a>(&'a self, limit: &'a str) -> Vec<(&'a str, &'a str)> {
        let filters = [
            ("from", &self.from),
            ("until", &self.until),
            ("user", &self.user),
            ("trunk", &self.trunk),
            ("account", &self.account),
            ("number", &self.number),
            ("direction", &self.direction),
            ("outcome", &self.outcome),
        ];
        let filters = filters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        filters.chain([("sort", self.sort.as_str()), ("limit", limit)]).collect()
    }
}

/// As many pages as the limit takes; `next` of the last one stays, so that the caller sees that there is more.
async fn collect(client: &Client, args: &List) -> Result<CdrsPage, Failure> {
    let mut all = CdrsPage { cdrs: Vec::new(), next: None };
    loop {
        let wanted = args.limit.saturating_sub(all.cdrs.len() as u32);
        if wanted == 0 {
            return Ok(all);
        }
        let limit = wanted.min(PAGE).to_string();
        let mut query = args.query(&limit);
        if let Some(cursor) = &all.next {
            query.push(("cursor", cursor));
        }
        let page: CdrsPage = client.get("/api/v1/cdrs", &query).await?;
        all.cdrs.extend(page.cdrs);
        all.next = page.next;
        if all.next.is_none() {
            return Ok(all);
        }
    }
}

fn table(page: &CdrsPage) -> String {
    let head = [
        "STARTED", "FROM", "TO", "TRUNK", "OUTCOME", "CAUSE", ">TIME", ">PDD MS", ">MOS", ">CHARGE", "NOTES",
        "ID",
    ];
    let mut table = Table::new(&head);
    for cdr in &page.cdrs {
        table.row(row(cdr));
    }
    let more = if page.next.is_some() { ", and there are more (--limit)" } else { "" };
    let plural = if page.cdrs.len() == 1 { "" } else { "s" };
    format!("{table}{} record{plural}{more}\n", page.cdrs.len())
}

/// What is out of the ordinary about a call.
fn notes(cdr: &CdrView) -> Option<String> {
    let notes = [
        cdr.transfer_of.map(|_| "transferred"),
        cdr.forwarded_of.map(|_| "forwarded"),
        cdr.fax.map(|_| "fax"),
        cdr.emergency.map(|_| "emergency"),
    ];
    let notes: Vec<&str> = notes.into_iter().flatten().collect();
    (!notes.is_empty()).then(|| notes.join(", "))
}

fn row(cdr: &CdrView) -> [String; 12] {
    let from = cdr.caller_user.as_ref().or(cdr.caller_number.as_ref());
    let to = cdr.called_user.as_ref().or(cdr.called_number.as_ref()).unwrap_or(&cdr.dialled);
    // The worse of both legs is what someone heard.
    let mos = [&cdr.caller_leg, &cdr.callee_leg]
        .into_iter()
        .flatten()
        .filter_map(|leg| leg.mos_lq)
        .reduce(f32::min);
    let charge = match &cdr.sell {
        Some(RatedView::Charge { amount, currency, .. }) => format!("{amount} {currency}"),
        Some(RatedView::NotRated { .. }) | None => String::new(),
    };
    [
        calendar(&rfc3339::format(cdr.started_at)),
        shown(from),
        to.clone(),
        shown(cdr.egress_trunk.as_ref().or(cdr.ingress_trunk.as_ref())),
        shown(cdr.outcome.map(|outcome| outcome.as_str()).or(Some(cdr.state.as_str()))),
        shown(cdr.end_cause.map(|cause| cause.as_str())),
        clock(cdr.duration_ms),
        shown(cdr.pdd_ms),
        shown(mos.map(|mos| format!("{mos:.2}"))),
        charge,
        shown(notes(cdr)),
        cdr.id.to_string(),
    ]
}
