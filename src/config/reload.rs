//! What a running gateway takes of a changed configuration, and what has to wait for a restart.

use super::{Problem, model::Config};
use crate::types::NetworkId;

/// A configuration that a running gateway can change to.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// The new one, with what can't change in a running gateway as it was.
    pub config: Config,
    /// The settings that differ and need a restart, as `section.key`.
    pub not_taken: Vec<String>,
}

impl Config {
    /// Prepares the change to `new`. Sockets, ports, the database and where state is kept stay as they are.
    ///
    /// # Errors
    /// Where a part of `new` needs what only a restart brings: then nothing may be taken.
    pub fn reload(&self, new: Config) -> Result<Reloaded, Vec<Problem>> {
        let mut not_taken = Vec::new();
        let mut config = new.clone();
        macro_rules! keep {
            ($($key:literal: $($field:ident).+;)*) => {
                $(if self.$($field).+ != new.$($field).+ {
                    not_taken.push($key.to_owned());
                    config.$($field).+ = self.$($field).+.clone();
                })*
            };
        }
        keep! {
            "gateway.name": gateway.name;
            "gateway.data_dir": gateway.data_dir;
            "sip.listen": sip.listen;
            "sip.realm": sip.realm;
            "sip.t1_ms": sip.t1;
            "sip.t2_ms": sip.t2;
            "sip.t4_ms": sip.t4;
            "sip.max_message_bytes": sip.max_message_bytes;
            "sip.stream_idle_seconds": sip.stream_idle;
            "sip.max_streams_per_address": sip.max_streams_per_address;
            "tls.client_ca": tls.client_ca;
            "network": networks;
            "media.workers": media.workers;
            "log.format": log.format;
            "database.url": database.url;
            "admin.listen": admin.listen;
            "billing.journal_dir": billing.journal_dir;
            "billing.journal_mib": billing.journal_mib;
        }
        let mut problems = Vec::new();
        for trunk in &mut config.trunks {
            // Its number counts the networks of the new file; the running ones may stand in another order.
            let name = &new.network(trunk.network).name;
            match self.network_id(name) {
                Some(id) => trunk.network = id,
                None => {
                    trunk.network = NetworkId(0);
                    problems.push(Problem::error(
                        "reload",
                        None,
                        format!(
                            "trunk \"{}\" needs network \"{name}\", which only a restart brings",
                            trunk.name
                        ),
                    ));
                }
            }
        }
        if problems.is_empty() { Ok(Reloaded { config, not_taken }) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("t.toml"), text, &|_| None).unwrap()
    }

    #[test]
    fn trunks_and_users_are_taken_and_sockets_wait_for_a_restart() {
        let old = config("");
        let new = config(
            "[sip]\nlisten = [\"udp:127.0.0.1:5080\"]\n[opus]\nbitrate = 16000\n[database]\nurl = \"sqlite:other.db\"\n\
             [[user]]\nname = \"alice\"\npassword = \"x\"\n[[trunk]]\nname = \"a\"\nproxy = [\"a.example\"]\n",
        );
        let reloaded = old.reload(new).unwrap();
        assert_eq!(reloaded.not_taken, ["sip.listen", "database.url"]);
        assert_eq!(reloaded.config.sip.listen, old.sip.listen);
        assert_eq!(reloaded.config.database, old.database);
        assert_eq!(reloaded.config.opus.bitrate, 16_000);
        assert_eq!((reloaded.config.users.len(), reloaded.config.trunks.len()), (1, 1));
    }

    #[test]
    fn a_trunk_keeps_its_network_by_name_though_the_file_has_another_order() {
        let networks =
            |names: [&str; 2]| names.map(|name| format!("[[network]]\nname = \"{name}\"\n")).concat();
        let trunk = "[[trunk]]\nname = \"a\"\nproxy = [\"a.example\"]\nnetwork = \"ipx\"\n";
        let old = config(&networks(["ipx", "lan"]));
        let reloaded = old.reload(config(&(networks(["lan", "ipx"]) + trunk))).unwrap();
        assert_eq!(old.network(reloaded.config.trunks[0].network).name, "ipx");
        assert_eq!(reloaded.not_taken, ["network"]);
        let problems = config("").reload(config(&(networks(["lan", "ipx"]) + trunk))).unwrap_err();
        assert!(problems[0].message.contains("network \"ipx\", which only a restart brings"));
    }

    #[test]
    fn nothing_changed_is_nothing_to_take() {
        let text = include_str!("../../config/tandem.example.toml");
        assert_eq!(config(text).reload(config("")).unwrap().not_taken, Vec::<String>::new());
    }
}
