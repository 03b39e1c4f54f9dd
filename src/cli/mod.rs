//! The command line.
//!
//! Each command is one file: its arguments, and a function from them to an [`Outcome`]. A command stands in
//! [`Command`] once its function does its whole job.

mod call;
mod call_trace;
mod calls;
mod cdr;
mod check;
mod demo;
mod interconnect_sheet;
mod load;
mod operator;
mod output;
pub mod progress;
mod remote;
mod route;
mod run;
mod trunks;
mod user;

pub use output::{Failure, Outcome};

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// SIP interconnect gateway between app users (Opus) and telecom operators (G.711).
#[derive(Debug, Parser)]
#[command(name = "tandem", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 ok, 1 refused or failed, 2 wrong usage.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one a process")]
enum Command {
    Run(run::Args),
    Demo(demo::Args),
    Check(check::Args),
    Route(route::Args),
    Call(call::Args),
    Calls(calls::Args),
    CallTrace(call_trace::Args),
    Trunks(trunks::Args),
    Cdr(cdr::Args),
    User(user::Args),
    InterconnectSheet(interconnect_sheet::Args),
    Operator(operator::Args),
    Load(load::Args),
}

impl Command {
    fn run(self) -> Outcome {
        match self {
            Command::Run(args) => run::run(args),
            Command::Demo(args) => demo::run(args),
            Command::Check(args) => check::run(args),
            Command::Route(args) => route::run(args),
            Command::Call(args) => call::run(args),
            Command::Calls(args) => calls::run(args),
            Command::CallTrace(args) => call_trace::run(args),
            Command::Trunks(args) => trunks::run(args),
            Command::Cdr(args) => cdr::run(args),
            Command::User(args) => user::run(args),
            Command::InterconnectSheet(args) => interconnect_sheet::run(args),
            Command::Operator(args) => operator::run(args),
            Command::Load(args) => load::run(args),
        }
    }
}

/// Reads the process' arguments, does what they ask, and tells how it went: 0 ok, 1 refused or failed, 2 wrong usage.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A message may hold what a peer sent; a closed standard error is nobody's fault.
            let _ = writeln!(std::io::stderr(), "tandem: {}", output::printable(&failure.to_string()));
            ExitCode::from(failure.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Every command that does something, with its full name.
    fn leaves(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
        if !command.is_subcommand_required_set() {
            found.push((name.to_owned(), command.clone()));
        }
        for sub in command.get_subcommands() {
            leaves(sub, &format!("{name} {}", sub.get_name()), found);
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_has_an_example_that_parses() {
        let mut commands = Vec::new();
        leaves(&Cli::command(), "tandem", &mut commands);
        assert!(commands.len() > 3);
        for (name, mut command) in commands {
            let help = command.render_long_help().to_string();
            let example = help.lines().find_map(|line| line.trim().strip_prefix("Example: "));
            let example = example.unwrap_or_else(|| panic!("{name} --help has no example"));
            assert!(example.starts_with(&name), "{name}: {example}");
            let parsed = Cli::try_parse_from(example.split_whitespace());
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn the_simulators_take_what_users_were_promised() {
        let taken = |line: &str| Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string());
        let phone = "tandem call --server sip:gw --user u --password p --to 1 --play a.wav --record b.wav --seconds 3";
        for codec in ["opus", "pcma", "pcmu"] {
            taken(&format!("{phone} --codec {codec}")).unwrap();
        }
        assert!(taken(&format!("{phone} --codec g729")).unwrap_err().contains("opus, pcma or pcmu"));
        taken("tandem operator --listen 127.0.0.1:5070 --profile busy --ledger l.jsonl").unwrap();
        taken("tandem load --calls 50 --rate 10 --seconds 30").unwrap();
        taken("tandem demo").unwrap();
    }

    #[test]
    fn each_command_that_answers_can_answer_json() {
        let mut commands = Vec::new();
        leaves(&Cli::command(), "tandem", &mut commands);
        for (name, command) in commands.iter().filter(|(name, _)| name != "tandem run") {
            assert!(
                command.get_arguments().any(|argument| argument.get_id() == "json"),
                "{name} has no --json"
            );
        }
    }
}
