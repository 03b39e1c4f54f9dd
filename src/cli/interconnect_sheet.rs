//! `tandem interconnect-sheet`: what an operator's interconnect form asks for, as Markdown.

use super::output::{self, Failure, Outcome};
use super::remote;
use crate::app::sheet::Sheet;
use crate::config::Loaded;
use crate::stir::OwnCertificate;
use std::path::PathBuf;

/// What an operator asks for before an interconnect: addresses, ports, codecs, timers, number formats, features
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem interconnect-sheet --config tandem.toml --trunk operator-a")]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The trunk
    #[arg(long, value_name = "NAME")]
    trunk: String,
    /// Print JSON instead of Markdown
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    let Loaded { config, dialplan, .. } = remote::load(&args.config)?;
    let Some(trunk) = config.trunks.iter().find(|trunk| trunk.name == args.trunk) else {
        let names: Vec<&str> = config.trunks.iter().map(|trunk| trunk.name.as_str()).collect();
        return Err(Failure::Failed(format!(
            "there is no trunk \"{}\" in {}; it has {}",
            args.trunk,
            args.config.display(),
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        )));
    };
    let mut sheet = Sheet::of(&config, trunk);
    if let Some(path) = &config.tls.certificate {
        // Whether the file can be used at all, `tandem check` says.
        let own = std::fs::read(path).ok().and_then(|pem| OwnCertificate::read(&pem).ok());
        sheet = own.map_or(sheet.clone(), |own| sheet.with_certificate(trunk, &own));
    }
    let sheet = sheet.with_test_lines(&dialplan);
    if args.json { output::print_json(&sheet) } else { output::print(&sheet.markdown()) }
}
