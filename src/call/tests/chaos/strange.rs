//! What else a storm has: calls for help, signed callers whose certificates may never come, header rules, and a new
//! configuration in its middle.

use super::Chaos;
use crate::call::settings::StirMaterial;
use crate::call::tests::world::*;
use crate::call::{Event, Input, Settings};
use crate::config::{Config, StirVerify};
use crate::sip::header_rules::{Action, HeaderRules, Rule, Scope, Side};
use crate::sip::message::{HeaderName, Method, Request};
use crate::stir::certificate::Certificate;
use crate::stir::certificate::tests::Authority;
use crate::stir::io::Key;
use crate::stir::tn_auth_list::Entry;
use crate::stir::{Signer, Statement};
use crate::types::{Attestation, EndCause, LegId, Now, StirResult};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const X5U: &str = "https://cert.example.org/shaken.pem";

/// Who signs in all storms: keys take their time to make.
struct Signers {
    material: StirMaterial,
    pem: Vec<u8>,
}

fn signers() -> &'static Signers {
    static SIGNERS: OnceLock<Signers> = OnceLock::new();
    SIGNERS.get_or_init(|| {
        let authority = Authority::new();
        let span = (1_700_000_000, 1_900_000_000);
        let issued = authority.issue_between(&[Entry::Provider("1234".into())], span.0, span.1);
        let certificate = Certificate::read(issued.pem.as_bytes()).unwrap();
        let key = Arc::new(Key::read(issued.key.as_bytes(), &certificate).unwrap());
        let signer = Signer::new(key, X5U.into(), certificate.not_after);
        let material = StirMaterial { signer: Some(signer), authorities: authority.trust() };
        Signers { material, pem: issued.pem.into_bytes() }
    })
}

/// Trunks differ from storm to storm.
pub fn shape(config: &mut Config, dice: &mut Dice) {
    config.trunks[0].stir_verify =
        [StirVerify::Off, StirVerify::Mark, StirVerify::Require][dice.below(3) as usize];
    config.trunks[1].stir_sign = dice.percent(50);
    for trunk in &mut config.trunks {
        if dice.percent(40) {
            trunk.header_rules = rules();
        }
    }
}

fn rules() -> HeaderRules {
    let rule = |side, action, name: &str| Rule {
        side,
        scope: Scope::Requests(vec![Method::Invite, Method::Bye]),
        name: HeaderName::new(name),
        action,
        when: None,
    };
    HeaderRules(vec![
        rule(Side::To, Action::Add("{call_id}".parse().unwrap()), "X-Call"),
        rule(Side::To, Action::Copy { from: HeaderName::Reason }, "X-Reason"),
        rule(Side::From, Action::Copy { from: HeaderName::new("X-Storm") }, "X-Storm"),
        rule(Side::From, Action::Remove, "X-Storm"),
    ])
}

/// Gives the gateway of a world its key and whom it believes.
pub fn arm(w: &mut World) {
    let config = w.exchange.settings().config.clone();
    load(w, config);
}

fn load(w: &mut World, config: Config) {
    let (directory, dialplan) = (directory(&config), dialplan(&config));
    let settings = Settings::new(config).with_stir(signers().material.clone());
    w.exchange.reload(w.now, Arc::new(settings), directory, dialplan);
    w.resolve();
}

/// A trunk's caller is signed, well or not, or not at all.
pub fn sign(invite: &mut Request, now: Now, dice: &mut Dice) {
    invite.headers.push(HeaderName::new("X-Storm"), "1");
    let iat = now.unix_ms / 1_000;
    let (orig, iat) = match dice.below(10) {
        0 | 1 => return,
        2 => {
            invite.headers.push(HeaderName::Identity, "neither;info=<this>;alg=ES256");
            return;
        }
        3 => ("33999999999", iat),
        4 => ("33123456789", iat - 3_600),
        _ => ("33123456789", iat),
    };
    let dest = invite.uri.user().trim_start_matches('+').to_owned();
    let statement = Statement { orig, dest: &dest, attestation: Attestation::A, origid: "far", iat };
    let signer = signers().material.signer.as_ref().unwrap();
    invite.headers.push(HeaderName::Identity, signer.identity(statement).unwrap().to_string());
}

impl Chaos {
    /// Certificates that were asked for come, come late, turn out to be something else, or never come.
    pub fn fetch(&mut self) {
        for url in std::mem::take(&mut self.w.fetches) {
            let fetched = match self.dice.below(10) {
                0 | 1 => continue,
                2 => Err(StirResult::Unreachable),
                3 => Ok((b"no certificate".to_vec(), None)),
                _ => Ok((signers().pem.clone(), None)),
            };
            let after = ms(self.dice.below(2_500));
            self.w.later(after, Input::CertificateFetched { url, fetched });
        }
    }

    /// Somebody writes another configuration.
    pub fn reload(&mut self) {
        let mut config = self.w.exchange.settings().config.clone();
        let dice = &mut self.dice;
        config.trunks[0].max_channels = dice.percent(50).then(|| dice.below(4) as u32 + 1);
        config.trunks[1].header_rules = if dice.percent(50) { rules() } else { HeaderRules::default() };
        config.limits.ring = Duration::from_secs(dice.below(30) + 10);
        if dice.percent(30) {
            config.trunks.reverse();
        }
        load(&mut self.w, config);
        self.reloads += 1;
    }

    /// Media that falls silent, an operator that hangs up, a connection that breaks.
    pub fn machinery(&mut self) {
        if self.dice.percent(15) {
            return self.reload();
        }
        self.shake();
        let calls: Vec<_> = self.w.exchange.calls().map(|call| call.id).collect();
        let mut calls = calls;
        calls.sort();
        let Some(call) = calls.get(self.dice.below(calls.len().max(1) as u64) as usize).copied() else {
            return;
        };
        match self.dice.below(3) {
            0 => {
                let index = self.dice.below(3) as u8;
                self.w.input(Input::MediaTimedOut { leg: LegId { call, index } });
            }
            1 => {
                self.w.exchange.hang_up(self.w.now, call, EndCause::AdminHangup);
                self.w.settle();
            }
            _ => {
                if let Some(stream) = self.w.streams.get(&ALICE.parse().unwrap()) {
                    let connection = stream.connection;
                    self.w.input(Input::ConnectionClosed { connection });
                }
            }
        }
    }
}

pub fn is_verified(event: &&Event) -> bool {
    matches!(event, Event::StirVerified { result: StirResult::Passed, .. })
}
