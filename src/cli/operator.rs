//! Arguments of `tandem operator`: a simulated operator trunk.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Be an operator's trunk: answer calls by their number, with faults on demand and a ledger of its own
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem operator --listen 127.0.0.1:5070 --ledger calls.jsonl")]
pub struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// How to behave
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Where to write each call as the operator saw it, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
