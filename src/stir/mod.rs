//! Signed caller identities, STIR and SHAKEN (RFC 8224, RFC 8225, RFC 8226, RFC 8588): made and checked.
//!
//! ```text
//! Identity field ──▶ PASSporT ──▶ certificate (kept, or fetched by `io`) ──▶ signature, numbers, time ──▶ StirResult
//! ```

pub mod cache_control;
pub mod certificate;
pub mod certificates;
pub mod claim_constraints;
pub mod date;
pub mod der;
pub mod field;
pub mod io;
pub mod passport;
pub mod replay;
pub mod sign;
pub mod tn_auth_list;
pub mod url;
pub mod verify;

pub use certificate::{Authorities, Certificate, CertificateFault, OwnCertificate};
pub use certificates::{Certificates, Lookup};
pub use replay::ReplayGuard;
pub use sign::{Signer, Statement};
pub use url::{Hosts, Location};
pub use verify::{Claim, Examined, Policy, Verdict, examine};
