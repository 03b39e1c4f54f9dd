//! What commands print: tables for people, JSON for machines, and failures with their exit code.

use crate::admin::client::ClientError;
use serde::Serialize;
use std::io::{self, Write};

/// How a command ended.
pub type Outcome = Result<(), Failure>;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The question itself is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It was refused or did not work: exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Failed(_) => 1,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::BadUrl(_) => Failure::Usage(error.to_string()),
            ClientError::Refused(ref problem) if problem.status == 401 => Failure::Failed(
                "the gateway wants a token that it knows: give --token, or --config".to_owned(),
            ),
            ClientError::Unreachable { .. } | ClientError::Refused(_) | ClientError::Garbled { .. } => {
                Failure::Failed(error.to_string())
            }
        }
    }
}

/// Prints text as it is. A reader that has gone away, as `head` does, is no failure.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(error.to_string())),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a document for machines.
pub fn print_json(document: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(document).map_err(|error| Failure::Failed(error.to_string()))?;
    print(&format!("{text}\n"))
}

/// What stands in for a value that is not there.
pub const NONE: &str = "-";

/// Text that can't steer a terminal, whatever a peer sent.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Columns of text with a head line.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of figures, which stand to the right.
    figures: Vec<bool>,
}

impl Table {
    /// `head` names the columns; one that begins with `>` holds figures.
    pub fn new(head: &[&str]) -> Table {
        let figures = head.iter().map(|name| name.starts_with('>')).collect();
        let names = head.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        Table { rows: vec![names], figures }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells = cells.into_iter().map(|cell| {
            let cell = printable(&cell).replace('\n', " ");
            if cell.is_empty() { NONE.to_owned() } else { cell }
        });
        self.rows.push(cells.collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.figures.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &figure) in row.iter().zip(&widths).zip(&self.figures) {
                line.push_str(&if figure {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:<width$}  ")
                });
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The value, or nothing (which a table shows as `-`).
pub fn shown<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A duration as `1:02:03` or `2:03`.
pub fn clock(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// An RFC 3339 time as `2026-03-01 12:00:00`.
pub fn calendar(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_figures_stand_to_the_right() {
        let mut table = Table::new(&["NAME", ">CALLS"]);
        table.row(["é".to_owned(), "7".to_owned()]);
        table.row(["operator-a".to_owned(), "120".to_owned()]);
        table.row([String::new(), String::new()]);
        assert_eq!(
            table.to_string(),
            "NAME        CALLS\né               7\noperator-a    120\n-               -\n"
        );
    }

    #[test]
    fn a_peer_can_not_steer_the_terminal() {
        let mut table = Table::new(&["AGENT"]);
        table.row(["\u{1b}[2Jevil\nline".to_owned()]);
        assert_eq!(table.to_string(), "AGENT\n\\u{1b}[2Jevil line\n");
    }

    #[test]
    fn durations_read_as_clocks() {
        assert_eq!([clock(999), clock(61_000), clock(3_723_000)], ["0:00", "1:01", "1:02:03"]);
    }
}
