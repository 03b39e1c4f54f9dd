//! The configuration file: what may be set, its defaults, and clear errors.

mod model;
mod problem;
mod read;
mod source;
mod trunk;
mod values;

pub use model::*;
pub use problem::{Problem, Severity};
pub use read::user_name;
pub use values::{DEFAULT_NETWORK, Listen, SecretSources, host_port};

use std::path::Path;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// What works, but hardly as meant.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads a configuration file with the environment of the process for `env:` secrets.
    ///
    /// # Errors
    /// Every problem of the file, in the order of its lines.
    pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![Problem::error(
                path,
                None,
                format!("{error}; write the path of a configuration file: --config FILE"),
            )]
        })?;
        Config::parse(path, &text, &|name| std::env::var(name).ok())
    }

    /// Reads the text of a configuration file; its paths are relative to the directory of `path`.
    ///
    /// # Errors
    /// As [`load`](Config::load).
    pub fn parse(
        path: &Path,
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, Vec<Problem>> {
        let base = path.parent().unwrap_or(Path::new(""));
        let read = read::read(path, text, base, environment);
        if read.problems.iter().any(Problem::is_error) {
            return Err(read.problems);
        }
        Ok(Loaded { config: read.config, warnings: read.problems })
    }
}
