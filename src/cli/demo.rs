//! `tandem demo`: one whole call on embedded parts.

use super::output;
use super::progress::TalkBar;
use super::{Failure, Outcome};
use crate::app::demo::{self, Fault, Progress};
use crate::config::LogFormat;
use crate::telemetry::logging;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Make one whole call on embedded parts: operator, gateway, app user; judge what each side heard
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem demo --output demo-output")]
pub struct Args {
    /// Where to keep the recordings, the picture and the operator's ledger
    #[arg(long, value_name = "FOLDER", default_value = "demo-output")]
    output: PathBuf,
    /// Let the operator's voice be wrong, to see that it is noticed: mute, tone, words or cut
    #[arg(long, value_name = "FAULT")]
    fault: Option<Fault>,
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
    let bar: Arc<Mutex<Option<TalkBar>>> = Arc::default();
    let talking = bar.clone();
    let tell = move |progress: Progress<'_>| {
        let mut bar = talking.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Step(what) => {
                // The bar gives its line back first.
                *bar = None;
                // Progress is for a person; a closed standard error is nobody's fault.
                let _ = writeln!(std::io::stderr(), "{:>6.2} s  {what}", started.elapsed().as_secs_f64());
            }
            Progress::Talking(talk) => {
                let bar = bar.insert(TalkBar::new("  both talk", talk));
                bar.begin(Instant::now());
            }
        }
    };
    let watched = async {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tick.tick().await;
            if let Some(bar) = &mut *bar.lock().unwrap_or_else(PoisonError::into_inner) {
                bar.draw(Instant::now());
            }
        }
    };
    let report = runtime.block_on(async {
        tokio::select! {
            report = demo::run(&args.output, log, args.fault, tell) => report,
            never = watched => never,
        }
    });
    let report = report.map_err(|error| failed(error.to_string()))?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report).map_err(|error| failed(error.to_string()))?,
        false => report.text(),
    };
    output::print(&(text + "\n"))?;
    match report.heard {
        true => Ok(()),
        false => Err(failed("the demo call was made, but not each side heard the other".to_owned())),
    }
}
