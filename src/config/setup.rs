//! What the domains are given of the configuration: dialplan forms, peers, limits, users, prices.

use super::model::Config;
use crate::{
    access::{Credentials, Directory, FloodSettings, GuardSettings, RegistrarSettings, User, UserSource},
    billing::{Price, RateRow, RateTable, Side, rating::RateError},
    routing::{
        HealthSettings, Limits, PeerTable, Subscribers, TrunkForm, TrunkIndex, TrunkPeers, TrunkSettings,
    },
    types::E164,
};

/// The directory as routing asks it.
impl Subscribers for Directory {
    fn is_user(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
    fn user_of_did(&self, did: &E164) -> Option<String> {
        self.by_did(did).map(|user| user.name.to_string())
    }
}

impl Config {
    /// The trunks as the dialplan sees them, by [`TrunkIndex`].
    pub fn trunk_forms(&self) -> Vec<TrunkForm> {
        let form = |trunk: &super::TrunkConfig| TrunkForm {
            name: trunk.name.clone(),
            called_format: trunk.called_format,
            calling_format: trunk.calling_format,
            screening: trunk.screening.clone(),
            app_side: trunk.app_side,
            emergency_format: trunk.emergency_format,
        };
        self.trunks.iter().map(form).collect()
    }

    /// Limits and health of the trunks, by [`TrunkIndex`].
    pub fn trunk_settings(&self) -> Vec<TrunkSettings> {
        let settings = |trunk: &super::TrunkConfig| TrunkSettings {
            name: trunk.name.as_str().into(),
            limits: Limits { channels: trunk.max_channels, cps: trunk.max_cps, cps_in: trunk.max_cps_in },
            health: HealthSettings { interval: trunk.options, ..HealthSettings::default() },
        };
        self.trunks.iter().map(settings).collect()
    }

    /// How calls from trunks are recognised. Trunks without `peers` wait for what their proxies resolve to.
    pub fn peer_table(&self) -> PeerTable {
        let peers = self.trunks.iter().enumerate().map(|(index, trunk)| TrunkPeers {
            trunk: TrunkIndex(index as u16),
            network: trunk.network,
            tls_name: trunk.tls_name.clone().unwrap_or_default(),
            named: self.tls.client_ca.is_some() && trunk.is_known_by_name(),
            over: trunk.calls_over(),
            matches: trunk.peers.clone(),
            match_host: trunk.match_host.clone(),
            match_trunk_group: trunk.match_trunk_group.clone(),
        });
        PeerTable::new(peers.collect())
    }

    /// The app users of the file. Their passwords end here: only HA1 goes on.
    pub fn file_users(&self) -> Vec<User> {
        let user = |user: &super::UserConfig| User {
            name: user.name.as_str().into(),
            credentials: Credentials::new(&user.name, &self.sip.realm, &user.password),
            caller_ids: user.caller_ids.clone(),
            dids: user.dids.clone(),
            account: user.account.clone(),
            max_calls: user.max_calls,
            place: user.place.clone(),
            source: UserSource::File,
        };
        self.users.iter().map(user).collect()
    }

    pub fn registrar_settings(&self) -> RegistrarSettings {
        RegistrarSettings {
            min_expires: self.registrar.min_expires,
            max_expires: self.registrar.max_expires,
            default_expires: self.registrar.default_expires,
            max_bindings: self.registrar.max_bindings,
        }
    }

    pub fn guard_settings(&self) -> GuardSettings {
        GuardSettings {
            free_failures: self.guard.auth_failures,
            first_pause: self.guard.auth_backoff,
            longest_pause: self.guard.auth_backoff_max,
            ..GuardSettings::default()
        }
    }

    pub fn flood_settings(&self) -> FloodSettings {
        FloodSettings {
            rate: self.guard.requests_per_second,
            burst: self.guard.burst,
            ..FloodSettings::default()
        }
    }

    /// What a trunk costs per minute for a number, in 10⁻⁸ of its currency: the longest prefix of its prices.
    pub fn buy_price(&self, trunk: TrunkIndex, number: &E164) -> Option<i64> {
        let name = &self.trunks.get(usize::from(trunk.0))?.name;
        self.rates
            .iter()
            .filter(|rate| rate.trunk.as_ref() == Some(name) && number.as_str().starts_with(&rate.prefix))
            .max_by_key(|rate| rate.prefix.len())
            .map(|rate| rate.rate.per_minute_e8)
    }

    /// All prices, ready to look up.
    ///
    /// # Errors
    /// A price list that contradicts itself, which reading the file has ruled out.
    pub fn rate_table(&self) -> Result<RateTable, RateError> {
        RateTable::new(self.rates.iter().map(|rate| RateRow {
            side: if rate.trunk.is_some() { Side::Buy } else { Side::Sell },
            trunk: rate.trunk.clone(),
            prefix: rate.prefix.clone(),
            price: Price::per_minute(rate.rate),
        }))
    }
}
