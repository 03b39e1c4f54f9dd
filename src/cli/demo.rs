//! Arguments of `tandem demo`: a whole call on one machine.

use std::path::PathBuf;

/// Run a whole call on embedded parts: gateway, operator, app user, speech both ways, CDR
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem demo --output demo-output")]
pub struct Args {
    /// Where to keep recordings, pictures and the report
    #[arg(long, value_name = "FOLDER", default_value = "demo-output")]
    pub output: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
