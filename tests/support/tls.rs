//! A certificate authority of the tests.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Issues certificates for names and addresses on loopback.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Authority(Arc::new(Inner { certificate, issuer: Issuer::new(params, key) }))
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.0.certificate
    }

    /// A certificate for `name`, localhost and the usual addresses of loopback.
    pub fn issue(&self, name: &str) -> Issued {
        let names = [name, "localhost", "127.0.0.1", "127.0.0.2", "::1"].map(str::to_owned).to_vec();
        self.issue_for(name, names)
    }

    /// A certificate for exactly these names.
    pub fn issue_for(&self, common_name: &str, names: Vec<String>) -> Issued {
        self.issue_with_uris(common_name, names, &[])
    }

    /// A certificate for these names and URIs.
    pub fn issue_with_uris(&self, common_name: &str, names: Vec<String>, uris: &[&str]) -> Issued {
        let mut params = CertificateParams::new(names).expect("valid names");
        params
            .subject_alt_names
            .extend(uris.iter().map(|uri| SanType::URI((*uri).to_owned().try_into().expect("ASCII"))));
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// The certificate of a provider that signs its calls (RFC 8226): it speaks for the provider with this code.
    pub fn issue_signer(&self, code: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("SHAKEN {code}"));
        params.use_authority_key_identifier_extension = true;
        let short = |tag: u8, content: &[u8]| {
            let mut der = vec![tag, u8::try_from(content.len()).expect("a short code")];
            der.extend_from_slice(content);
            der
        };
        let list = short(0x30, &short(0xa0, &short(0x16, code.as_bytes())));
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], list)];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// Writes its own certificate as `ca.pem` into `folder`.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let file = folder.join("ca.pem");
        std::fs::write(&file, self.certificate()).expect("an authority file");
        file
    }
}

impl Issued {
    /// Writes certificate and key into one file, as baresip wants them.
    pub fn write_together(&self, file: &Path) {
        std::fs::write(file, format!("{}{}", self.certificate, self.key)).expect("a certificate file");
    }
}
