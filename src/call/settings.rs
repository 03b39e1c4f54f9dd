//! What the B2BUA is told to do: a snapshot of the configuration, replaced whole by a reload.

use crate::config::{Config, TrunkAuth, TrunkConfig};
use crate::sip::auth::{ClientAuth, Credentials};
use crate::stir::{Authorities, Hosts, Policy, Signer};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// One interconnect peer: its configuration, and its names ready to be handed out.
#[derive(Debug)]
pub struct Trunk {
    pub name: Arc<str>,
    pub carrier: Arc<str>,
    pub config: TrunkConfig,
    /// What we answer its challenges with.
    pub credentials: Option<Credentials>,
    /// Longest wait for an answer after the call was placed.
    pub ring: Duration,
    pub max_duration: Duration,
}

impl Trunk {
    pub fn registers(&self) -> bool {
        match self.config.auth {
            TrunkAuth::Register => true,
            TrunkAuth::Ip | TrunkAuth::Digest => false,
        }
    }

    /// What answers its challenges, on one leg or registration.
    pub fn client_auth(&self) -> Option<ClientAuth> {
        let auth = ClientAuth::new(self.credentials.clone()?);
        Some(auth.only_realm(self.config.realm.clone()))
    }

    /// The host that From and To of calls carry where it is not our own address: as configured, and where we have an
    /// account, the account's.
    pub fn own_domain(&self) -> Option<&str> {
        match self.config.auth {
            TrunkAuth::Register => Some(self.config.domain()),
            TrunkAuth::Ip | TrunkAuth::Digest => self.config.domain.as_deref(),
        }
    }
}

/// Everything the call machines are told from outside.
#[derive(Debug)]
pub struct Settings {
    pub config: Config,
    pub trunks: Vec<Arc<Trunk>>,
    /// What the files of `[stir]` hold.
    pub stir_material: StirMaterial,
    pub stir_policy: Policy,
}

/// Our signing identity, and whose signatures are believed.
#[derive(Debug, Clone, Default)]
pub struct StirMaterial {
    pub signer: Option<Signer>,
    pub authorities: Authorities,
}

impl Settings {
    pub fn new(config: Config) -> Settings {
        let trunks = config.trunks.iter().map(|trunk| Arc::new(Settings::trunk(&config, trunk))).collect();
        let stir_policy = Policy {
            hosts: Hosts::new(&config.stir.hosts),
            freshness: config.stir.freshness.as_secs() as i64,
        };
        Settings { config, trunks, stir_material: StirMaterial::default(), stir_policy }
    }

    /// The same with what the files of `[stir]` hold.
    pub fn with_stir(mut self, material: StirMaterial) -> Settings {
        self.stir_material = material;
        self
    }

    /// A trunk with what it has of the gateway.
    pub fn trunk(config: &Config, trunk: &TrunkConfig) -> Trunk {
        let credentials = match trunk.auth {
            TrunkAuth::Ip => None,
            TrunkAuth::Digest | TrunkAuth::Register => {
                Some(Credentials { user: trunk.username.clone(), password: trunk.password.clone() })
            }
        };
        Trunk {
            name: trunk.name.as_str().into(),
            carrier: trunk.carrier.as_str().into(),
            credentials,
            ring: trunk.ring.unwrap_or(config.limits.ring),
            max_duration: trunk.max_duration.unwrap_or(config.limits.max_duration),
            config: trunk.clone(),
        }
    }
}

impl Deref for Settings {
    type Target = Config;
    fn deref(&self) -> &Config {
        &self.config
    }
}
