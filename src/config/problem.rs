//! What is wrong in a file: where, what, and what to write instead.

use std::{fmt, path::PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file can't be used.
    Error,
    /// The file works, but hardly as meant.
    Warning,
}

/// One finding of `tandem check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub file: PathBuf,
    /// Counted from 1; `None` where the problem is the file as a whole.
    pub line: Option<usize>,
    pub message: String,
}

impl Problem {
    pub fn error(file: impl Into<PathBuf>, line: Option<usize>, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Error, file: file.into(), line, message: message.into() }
    }
    pub fn is_error(&self) -> bool {
        match self.severity {
            Severity::Error => true,
            Severity::Warning => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match self.severity {
            Severity::Error => write!(f, ": error: {}", self.message),
            Severity::Warning => write!(f, ": warning: {}", self.message),
        }
    }
}
