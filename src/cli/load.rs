//! Arguments of `tandem load`: both ends of many calls with real media.

/// Load a gateway: both ends of N calls at once with real media, and what the gateway added to it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem load --calls 50 --rate 10 --seconds 30")]
pub struct Args {
    /// Calls at once
    #[arg(long, value_name = "N")]
    pub calls: u32,
    /// New calls per second until they all run
    #[arg(long, value_name = "CPS", default_value_t = 10.0)]
    pub rate: f64,
    /// How long each call is held
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub seconds: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
