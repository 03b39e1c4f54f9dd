//! What a world stands on: its configuration, its dialplan, its users, and its dice.

use super::world::{A, B};
use crate::access::Directory;
use crate::config::{Config, TrunkConfig, UserConfig, parse_dialplan};
use crate::routing::Dialplan;
use crate::types::{HostPort, Secret};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Two trunks, three users.
pub fn config() -> Config {
    let user = |name: &str, number: &str| UserConfig {
        name: name.into(),
        password: Secret::new(format!("{name}-secret")),
        caller_ids: vec![number.parse().unwrap()],
        dids: vec![number.parse().unwrap()],
        account: name.into(),
        max_calls: None,
        place: Default::default(),
    };
    let trunk = |name: &str, proxies: &[&str]| {
        let proxies =
            proxies.iter().map(|text| HostPort::from(text.parse::<SocketAddr>().unwrap())).collect();
        TrunkConfig { options: None, ..TrunkConfig::new(name, proxies) }
    };
    Config {
        users: vec![user("alice", "+3225550001"), user("bob", "+3225550002"), user("carol", "+3225550003")],
        trunks: vec![trunk("a", &[A]), trunk("b", &[B])],
        ..Config::default()
    }
}

const DIALPLAN: &str = r#"
country_code = "32"
[[rule]]
name = "echo"
from = "any"
match = "+3225559901"
to = "line:echo"
[[rule]]
name = "tone"
from = "any"
match = "+3225559902"
to = "line:tone"
[[rule]]
name = "speech"
from = "any"
match = "+3225559903"
to = "line:speech"
[[rule]]
name = "busy"
from = "any"
match = "+3225559904"
to = "line:busy"
[[rule]]
name = "no answer"
from = "any"
match = "+3225559905"
to = "line:no-answer"
[[rule]]
name = "digits"
from = "any"
match = "+3225559906"
to = "line:digits"
[[rule]]
name = "our numbers"
from = "any"
match = "+322555"
to = "users"
[[rule]]
name = "premium"
match = "+32900"
reject = 403
[[rule]]
name = "help"
emergency = true
match = ["112", "urn:service:sos"]
trunks = ["a", "b"]
[[rule]]
name = "only a"
match = "+32499"
trunks = ["a"]
[[rule]]
name = "Belgium"
match = "+32"
trunks = ["a", "b"]
[[rule]]
name = "transit"
from = "trunk:a"
match = "+31"
trunks = ["b"]
"#;

pub fn dialplan(config: &Config) -> Arc<Dialplan> {
    let parsed = parse_dialplan(Path::new("dialplan.toml"), DIALPLAN, config.trunk_forms());
    Arc::new(parsed.unwrap_or_else(|problems| panic!("{problems:?}")).dialplan)
}

pub fn directory(config: &Config) -> Arc<Directory> {
    Arc::new(Directory::new(config.file_users()).0)
}

/// Small, quick and repeatable (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    pub fn fill(&mut self, octets: &mut [u8]) {
        for chunk in octets.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}
