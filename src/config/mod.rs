//! The configuration file: what may be set, its defaults, and clear errors.

mod check;
mod dialplan;
mod header_rules;
mod model;
mod parties;
mod problem;
mod read;
mod reload;
mod setup;
mod source;
mod stir;
mod trunk;
mod values;

pub use check::{check, check_with, run_expectations};
pub use dialplan::{ExpectFrom, Expectation, LoadedDialplan, load_dialplan, parse_dialplan};
pub use model::*;
pub use parties::user_name;
pub use problem::{Problem, Severity};
pub use reload::Reloaded;
pub use source::KeyLines;
pub use stir::{StirConfig, StirVerify};
pub use values::{DEFAULT_NETWORK, Listen, SecretSources, host_port};

use crate::routing::Dialplan;
use std::path::Path;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub dialplan: Dialplan,
    /// What works, but hardly as meant.
    pub warnings: Vec<Problem>,
    /// Where the keys of the file stand.
    pub lines: KeyLines,
}

impl Config {
    /// Reads a configuration file and its dialplan, checked as [`check`] does: what this takes, can run.
    ///
    /// # Errors
    /// Every problem of both files.
    pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
        Config::load_with(path, &|name| std::env::var(name).ok())
    }

    /// As [`load`](Config::load), with another environment for `env:` secrets.
    ///
    /// # Errors
    /// As [`load`](Config::load).
    pub fn load_with(
        path: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, Vec<Problem>> {
        let examined = check::examine(path, environment);
        if examined.problems.iter().any(Problem::is_error) {
            return Err(examined.problems);
        }
        match (examined.config, examined.dialplan) {
            (Some(config), Some(dialplan)) => {
                Ok(Loaded { config, dialplan, warnings: examined.problems, lines: examined.lines })
            }
            (_, None) | (None, _) => Err(examined.problems),
        }
    }

    /// Reads the text of a configuration file; its paths are relative to the directory of `path`.
    ///
    /// # Errors
    /// Every problem of the file, in the order of its lines.
    pub fn parse(
        path: &Path,
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, Vec<Problem>> {
        let base = path.parent().unwrap_or(Path::new(""));
        let read = read::read(path, text, base, environment);
        if read.problems.iter().any(Problem::is_error) { Err(read.problems) } else { Ok(read.config) }
    }
}

#[cfg(test)]
mod tests;
