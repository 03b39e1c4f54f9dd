//! The lab of the demo: `config/lab.toml` and its dialplan as they were built in, on free ports and a scratch folder.

use super::DemoError;
use crate::app::StartError;
use crate::config::{Config, KeyLines, Loaded, parse_dialplan};
use crate::routing::PeerMatch;
use crate::types::{HostPort, Secret};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

pub const REALM: &str = "lab.example";
const CONFIGURATION: &str = include_str!("../../../config/lab.toml");
const DIALPLAN: &str = include_str!("../../../dialplans/lab.toml");

/// The lab's configuration with the operator where it really is.
pub fn configuration(scratch: &Path, operator: SocketAddr) -> Result<Loaded, DemoError> {
    let refused = |problems| DemoError::Start(StartError::Config(problems));
    let mut config =
        Config::parse(Path::new("config/lab.toml"), CONFIGURATION, &|_| None).map_err(refused)?;
    for listen in &mut config.sip.listen {
        listen.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    }
    config.gateway.data_dir = scratch.to_owned();
    config.billing.journal_dir = scratch.join("journal");
    config.database.url = Secret::new(format!("sqlite:{}", scratch.join("tandem.db").display()));
    config.admin.listen = None;
    for trunk in &mut config.trunks {
        trunk.proxy = vec![HostPort::from(operator)];
        trunk.peers = vec![PeerMatch::Exact(operator)];
    }
    let dialplan =
        parse_dialplan(Path::new("dialplans/lab.toml"), DIALPLAN, config.trunk_forms()).map_err(refused)?;
    Ok(Loaded { config, dialplan: dialplan.dialplan, warnings: Vec::new(), lines: KeyLines::new() })
}
