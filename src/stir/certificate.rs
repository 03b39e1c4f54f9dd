//! Certificates of signers (RFC 8226): read, led back to an authority, and asked for whom they speak.

use super::claim_constraints::{self, Constraints};
use super::tn_auth_list::{self, Entry};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::oid_registry::OID_EC_P256;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Certificates in one chain, the signer's included.
const LONGEST_CHAIN: usize = 8;
/// id-pe-TNAuthList (RFC 8226 §9).
const TN_AUTH_LIST: Oid<'static> = oid!(1.3.6.1.5.5.7.1.26);
/// id-pe-JWTClaimConstraints (RFC 8226 §8) and id-pe-eJWTClaimConstraints (RFC 9118 §3).
const CLAIM_CONSTRAINTS: [Oid<'static>; 2] = [oid!(1.3.6.1.5.5.7.1.27), oid!(1.3.6.1.5.5.7.1.33)];

/// Why a certificate can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("it is no certificate in PEM")]
    Unreadable,
    #[error("its key is not of the curve P-256")]
    NotP256,
    #[error("it leads to no trusted authority")]
    Untrusted,
    #[error("it is not valid now")]
    Expired,
}

/// The authorities whose certificates are believed.
#[derive(Clone, Default)]
pub struct Authorities(Vec<TrustAnchor<'static>>);

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

impl Authorities {
    /// Of one or more certificates in PEM.
    ///
    /// # Errors
    /// There is none, or one that can't be an authority.
    pub fn read(pem: &[u8]) -> Result<Authorities, CertificateFault> {
        let anchors = all(pem, usize::MAX)?;
        let anchors = anchors.iter().map(|der| {
            webpki::anchor_from_trusted_cert(der)
                .map(|anchor| anchor.to_owned())
                .map_err(|_| CertificateFault::Unreadable)
        });
        Ok(Authorities(anchors.collect::<Result<_, _>>()?))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a signer's certificate says of itself; nobody has been asked yet whether that is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The point of its public key, uncompressed: 65 octets.
    pub key: Vec<u8>,
    /// In seconds since the epoch; the shortest of its chain.
    pub not_before: i64,
    pub not_after: i64,
    /// For whom it speaks; `None`: it does not say.
    pub entries: Option<Vec<Entry>>,
    /// What its signatures may claim.
    pub constraints: Vec<Constraints>,
}

impl Certificate {
    /// Reads the first certificate of a chain in PEM.
    ///
    /// # Errors
    /// It is none, or has a key that ES256 can't be done with.
    pub fn read(pem: &[u8]) -> Result<Certificate, CertificateFault> {
        let chain = chain(pem)?;
        let mut own = leaf(chain.first().ok_or(CertificateFault::Unreadable)?)?;
        for above in &chain[1..] {
            let (_, above) = X509Certificate::from_der(above).map_err(|_| CertificateFault::Unreadable)?;
            own.not_before = own.not_before.max(above.validity().not_before.timestamp());
            own.not_after = own.not_after.min(above.validity().not_after.timestamp());
        }
        Ok(own)
    }

    /// Reads a chain and makes sure that one of the authorities stands behind it.
    ///
    /// # Errors
    /// As [`CertificateFault`] says.
    pub fn trusted(pem: &[u8], authorities: &Authorities, now: i64) -> Result<Certificate, CertificateFault> {
        let own = Certificate::read(pem)?;
        let chain = chain(pem)?;
        if !own.is_valid(now) {
            return Err(CertificateFault::Expired);
        }
        let provider = rustls::crypto::ring::default_provider();
        let leaf = EndEntityCert::try_from(&chain[0]).map_err(|_| CertificateFault::Unreadable)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
        // Where a certificate says what its key may be used for at all, proving who one is must be part of it.
        leaf.verify_for_usage(
            provider.signature_verification_algorithms.all,
            &authorities.0,
            &chain[1..],
            time,
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|_| CertificateFault::Untrusted)?;
        Ok(own)
    }

    pub fn is_valid(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// RFC 8226 §9: a certificate speaks for the numbers of its list, and without one for none.
    pub fn covers(&self, digits: &str) -> bool {
        self.entries.as_deref().is_some_and(|entries| tn_auth_list::covers(entries, digits))
    }

    /// RFC 8226 §8: whatever else is signed must be refused.
    pub fn allows(&self, claims: &Map<String, Value>) -> bool {
        self.constraints.iter().all(|constraints| constraints.allow(claims))
    }
}

/// What a certificate of ours says to those who meet it, whatever it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCertificate {
    /// The names it is for (RFC 5922 §7.1).
    pub names: Vec<String>,
    pub issuer: String,
    /// When it ends.
    pub until: String,
}

impl OwnCertificate {
    /// Reads the first certificate of a chain in PEM.
    ///
    /// # Errors
    /// It is none.
    pub fn read(pem: &[u8]) -> Result<OwnCertificate, CertificateFault> {
        let chain = chain(pem)?;
        let (_, own) = X509Certificate::from_der(&chain[0]).map_err(|_| CertificateFault::Unreadable)?;
        let names = own.subject_alternative_name().map_err(|_| CertificateFault::Unreadable)?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => address(octets),
            _ => None,
        });
        Ok(OwnCertificate {
            names: names.collect(),
            issuer: own.issuer().to_string(),
            until: own.validity().not_after.to_string(),
        })
    }
}

fn address(octets: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|ip| ip.to_string())
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    all(pem, LONGEST_CHAIN)
}

/// Up to `most` certificates; at least one.
fn all(pem: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let found = CertificateDer::pem_slice_iter(pem).take(most).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty()).ok_or(CertificateFault::Unreadable)
}

fn leaf(der: &CertificateDer<'_>) -> Result<Certificate, CertificateFault> {
    let (_, leaf) = X509Certificate::from_der(der).map_err(|_| CertificateFault::Unreadable)?;
    let spki = leaf.public_key();
    let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    let key = match spki.parsed() {
        Ok(PublicKey::EC(point)) if curve == Some(OID_EC_P256) => point.data().to_vec(),
        Ok(_) | Err(_) => return Err(CertificateFault::NotP256),
    };
    let list = leaf.get_extension_unique(&TN_AUTH_LIST).map_err(|_| CertificateFault::Unreadable)?;
    let entries = match list {
        Some(list) => Some(tn_auth_list::read(list.value).ok_or(CertificateFault::Unreadable)?),
        None => None,
    };
    let mut constraints = Vec::new();
    for oid in &CLAIM_CONSTRAINTS {
        let found = leaf.get_extension_unique(oid).map_err(|_| CertificateFault::Unreadable)?;
        if let Some(found) = found {
            constraints.push(claim_constraints::read(found.value).ok_or(CertificateFault::Unreadable)?);
        }
    }
    Ok(Certificate {
        key,
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
        entries,
        constraints,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::stir::claim_constraints::tests::permitting;
    use crate::stir::tn_auth_list::tests::write;
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
        PKCS_ECDSA_P384_SHA384,
    };
    use time::OffsetDateTime;

    /// A moment in which the certificates of tests are valid.
    pub(crate) const NOW: i64 = 1_700_000_000;

    /// An authority that gives certificates to signers.
    pub(crate) struct Authority {
        pub pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    /// A signer's chain and key in PEM.
    pub(crate) struct Issued {
        pub pem: String,
        pub key: String,
    }

    impl Authority {
        pub(crate) fn new() -> Authority {
            let key = KeyPair::generate().unwrap();
            let params = authority_params("authority");
            Authority { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
        }

        pub(crate) fn trust(&self) -> Authorities {
            Authorities::read(self.pem.as_bytes()).unwrap()
        }

        pub(crate) fn issue(&self, entries: &[Entry]) -> Issued {
            self.issue_between(entries, NOW - 1_000, NOW + 100_000)
        }

        pub(crate) fn issue_between(&self, entries: &[Entry], from: i64, until: i64) -> Issued {
            let key = KeyPair::generate().unwrap();
            let params = signer_params(entries, from, until);
            Issued { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
        }

        /// The same for a signer that may claim these attestations alone.
        pub(crate) fn issue_constrained(&self, entries: &[Entry], attestations: &[&str]) -> Issued {
            let key = KeyPair::generate().unwrap();
            let mut params = signer_params(entries, NOW - 1_000, NOW + 100_000);
            let oid = [1, 3, 6, 1, 5, 5, 7, 1, 27];
            let constraints = permitting("attest", attestations);
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, constraints));
            Issued { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
        }

        /// Of an intermediate authority, with that one's certificate behind it.
        pub(crate) fn issue_by_way(&self, entries: &[Entry]) -> Issued {
            let (between, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
            let params = authority_params("between");
            let above = params.signed_by(&between, &self.issuer).unwrap().pem();
            let own = signer_params(entries, NOW - 1_000, NOW + 100_000);
            let own = own.signed_by(&key, &Issuer::new(params, between)).unwrap().pem();
            Issued { pem: own + &above, key: key.serialize_pem() }
        }
    }

    fn authority_params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    fn signer_params(entries: &[Entry], from: i64, until: i64) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "SHAKEN 1234");
        params.not_before = OffsetDateTime::from_unix_timestamp(from).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(until).unwrap();
        if !entries.is_empty() {
            let oid = [1, 3, 6, 1, 5, 5, 7, 1, 26];
            params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, write(entries))];
        }
        params
    }

    #[test]
    fn each_authority_of_a_long_list_is_believed() {
        let authorities: Vec<Authority> = (0..12).map(|_| Authority::new()).collect();
        let list: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
        let trust = Authorities::read(list.as_bytes()).unwrap();
        let last = authorities[11].issue(&[Entry::Provider("1".into())]);
        assert!(Certificate::trusted(last.pem.as_bytes(), &trust, NOW).is_ok());
    }

    #[test]
    fn a_certificate_of_ours_says_its_names_and_until_when_it_is_good() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let names = ["sbc.example.org".to_owned(), "192.0.2.1".to_owned()];
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Somebody");
        let pem = params.self_signed(&key).unwrap().pem();
        let own = OwnCertificate::read(pem.as_bytes()).unwrap();
        assert_eq!(own.names, names);
        assert!(own.issuer.contains("CN=Somebody"), "{}", own.issuer);
        assert!(own.until.contains("Nov 14") && own.until.contains("2023"), "{}", own.until);
        assert_eq!(OwnCertificate::read(b"nothing"), Err(CertificateFault::Unreadable));
    }

    #[test]
    fn a_certificate_of_a_trusted_authority_speaks_for_its_list() {
        let authority = Authority::new();
        let issued = authority.issue(&[Entry::Range { start: "3225550000".into(), count: 100 }]);
        let certificate = Certificate::trusted(issued.pem.as_bytes(), &authority.trust(), NOW).unwrap();
        assert_eq!(certificate.key.len(), 65);
        assert_eq!((certificate.not_before, certificate.not_after), (NOW - 1_000, NOW + 100_000));
        assert!(certificate.covers("3225550001") && !certificate.covers("33140205050"));
        let silent = authority.issue(&[]);
        let silent = Certificate::trusted(silent.pem.as_bytes(), &authority.trust(), NOW).unwrap();
        assert!(!silent.covers("3225550001"), "without a list it speaks for nobody");
    }

    #[test]
    fn authorities_between_come_with_the_chain() {
        let authority = Authority::new();
        let issued = authority.issue_by_way(&[Entry::Provider("1234".into())]);
        assert!(Certificate::trusted(issued.pem.as_bytes(), &authority.trust(), NOW).is_ok());
        let end = "-----END CERTIFICATE-----\n";
        let alone = &issued.pem[..issued.pem.find(end).unwrap_or(issued.pem.len() - end.len()) + end.len()];
        let fault = Certificate::trusted(alone.as_bytes(), &authority.trust(), NOW);
        assert_eq!(fault, Err(CertificateFault::Untrusted));
    }

    #[test]
    fn what_can_not_be_used_says_why() {
        let (authority, other) = (Authority::new(), Authority::new());
        let entries = [Entry::Provider("1234".into())];
        let issued = authority.issue(&entries);
        let with =
            |pem: &str, trust: &Authorities, now| Certificate::trusted(pem.as_bytes(), trust, now).err();
        assert_eq!(with(&issued.pem, &other.trust(), NOW), Some(CertificateFault::Untrusted));
        assert_eq!(with(&issued.pem, &Authorities::default(), NOW), Some(CertificateFault::Untrusted));
        for now in [NOW - 2_000, NOW + 200_000] {
            assert_eq!(with(&issued.pem, &authority.trust(), now), Some(CertificateFault::Expired));
        }
        for garbage in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(
                with(garbage, &authority.trust(), NOW),
                Some(CertificateFault::Unreadable),
                "{garbage}"
            );
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let big = signer_params(&entries, NOW - 1, NOW + 1).signed_by(&key, &authority.issuer).unwrap();
        assert_eq!(with(&big.pem(), &authority.trust(), NOW), Some(CertificateFault::NotP256));
        assert!(Authorities::read(b"nothing").is_err());
    }
}
