//! Feeds arbitrary text to the readers of signed identities: Identity fields, PASSporTs, certificates' number lists, URLs
//! and Cache-Control fields. Nothing may panic, and what is read is written as it was read.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the target compiles whole rooms and calls only part of them")]

#[path = "../../src/stir"]
mod stir {
    pub mod cache_control;
    pub mod claim_constraints;
    pub mod der;
    pub mod field;
    pub mod passport;
    pub mod tn_auth_list;
    pub mod url;
}
#[path = "../../src/types/mod.rs"]
mod types;

use stir::field::IdentityField;
use stir::passport::{Passport, Signed};
use stir::url::{Hosts, Location};
use stir::{cache_control, claim_constraints, tn_auth_list};

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    if let Some(entries) = tn_auth_list::read(octets) {
        let _ = tn_auth_list::covers(&entries, "3225550001");
    }
    if let Some(constraints) = claim_constraints::read(octets) {
        let _ = constraints.allow(&serde_json::Map::new());
    }
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if let Ok(field) = IdentityField::parse(text) {
        let written = field.to_string();
        // A parameter's value may hold what would be another one; nothing but that changes on the way.
        if let Ok(again) = IdentityField::parse(&written) {
            assert_eq!((again.token, again.info), (field.token.clone(), field.info.clone()));
        }
        read_token(&field.token);
        if let Some(location) = Location::parse(&field.info) {
            let _ = Hosts::default().allow(&location);
        }
    }
    read_token(text);
    let _ = cache_control::max_age(text);
    if let Some(location) = Location::parse(text) {
        assert!(location.path.starts_with('/') && !location.host.is_empty() && location.port > 0);
        assert!(!location.authority().contains(['\r', '\n', ' ', '/']), "one line of a request, and nothing behind");
    }
});

fn read_token(token: &str) {
    if let Ok(signed) = Signed::read(token) {
        let written = signed.passport.full_form(&signed.signature);
        let again = Signed::read(&written).expect("our own");
        assert_eq!(again.passport, signed.passport);
        assert_eq!(again.passport.signing_input(), again.input, "what we write is what is signed");
        let _ = Signed::read_compact(&Passport::compact_form(&signed.signature), signed.passport);
    }
}
