//! `tandem demo`: one whole call on embedded parts.

use super::{Failure, Outcome};
use crate::app::demo;
use crate::config::LogFormat;
use crate::telemetry::logging;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Make one whole call on embedded parts: operator, gateway, app user; judge what each side heard
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem demo --output demo-output")]
pub struct Args {
    /// Where to keep the recordings, the picture and the operator's ledger
    #[arg(long, value_name = "FOLDER", default_value = "demo-output")]
    output: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    let failed = |error: String| Failure::Failed(error);
    let log = logging::start(LogFormat::Text, "error").map_err(|error| failed(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let started = Instant::now();
    let step = move |what: &str| {
        // Progress is for a person; a closed standard error is nobody's fault.
        let _ = writeln!(std::io::stderr(), "{:>6.2} s  {what}", started.elapsed().as_secs_f64());
    };
    let report =
        runtime.block_on(demo::run(&args.output, log, step)).map_err(|error| failed(error.to_string()))?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report).map_err(|error| failed(error.to_string()))?,
        false => report.text(),
    };
    println!("{text}");
    match report.heard {
        true => Ok(()),
        false => Err(failed("the demo call was made, but not each side heard the other".to_owned())),
    }
}
