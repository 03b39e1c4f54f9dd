//! `tandem check`: everything that can be known to be wrong before the gateway starts.

use super::output::{self, Failure, Outcome};
use crate::app::preflight;
use crate::config::{Problem, Severity};
use serde::Serialize;
use std::path::PathBuf;

/// Check a configuration and its dialplan: each error with file, line and what to write instead
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem check --config /etc/tandem/tandem.toml")]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    problems: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    severity: &'static str,
    file: String,
    line: Option<usize>,
    message: &'a str,
}

pub fn run(args: Args) -> Outcome {
    let problems = preflight::check(&args.config);
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if args.json {
        output::print_json(&Report { ok: errors == 0, problems: problems.iter().map(finding).collect() })?;
    } else {
        output::print(&problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())?;
    }
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        return Err(Failure::Failed(format!("{errors} error{plural} in {}", args.config.display())));
    }
    if args.json { Ok(()) } else { output::print(&format!("{} is good\n", args.config.display())) }
}

fn finding(problem: &Problem) -> Finding<'_> {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    Finding {
        severity,
        file: problem.file.display().to_string(),
        line: problem.line,
        message: &problem.message,
    }
}
