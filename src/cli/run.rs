//! `tandem run`: the gateway.

use super::{Failure, Outcome, output};
use crate::config::{Config, Problem};
use crate::runtime;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// Runs the gateway. SIGHUP reloads the configuration, SIGTERM drains, a second SIGTERM ends at once
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example: tandem run --config config/tandem.example.toml")]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(args: Args) -> Outcome {
    let loaded = Config::load(&args.config).map_err(|problems| Failure::Failed(listed(&problems)))?;
    runtime::run(&args.config, loaded).map_err(|error| Failure::Failed(error.to_string()))
}

/// Problems, one a line.
pub fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| output::printable(&problem.to_string())).collect::<Vec<_>>().join("\n")
}
