//! The SIP domains a certificate speaks for (RFC 5922 §7.1), compared whole (§7.2).

use rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

/// True if the certificate names `name`. A wildcard names nobody but itself.
pub(super) fn names(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return false };
    match name {
        ServerName::DnsName(wanted) => domains(&certificate)
            .iter()
            .any(|domain| domain.trim_end_matches('.').eq_ignore_ascii_case(wanted.as_ref())),
        // SIP domains are names. An address is what an operator without one configures; it has no wildcards.
        ServerName::IpAddress(_) => certificate.verify_is_valid_for_subject_name(name).is_ok(),
        // There is no other kind yet.
        _ => false,
    }
}

/// Names of the DNS count only where no SIP URI says who it is.
fn domains<'a>(certificate: &EndEntityCert<'a>) -> Vec<&'a str> {
    let uris: Vec<_> = certificate.valid_uri_names().filter_map(domain_of).collect();
    if uris.is_empty() { certificate.valid_dns_names().collect() } else { uris }
}

/// The host of a SIP URI that names a domain: one with a user part names a person.
fn domain_of(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") || rest.contains('@') {
        return None;
    }
    rest.split([':', ';', '?']).next().filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(uris: &[&str], names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .subject_alt_names
            .extend(uris.iter().map(|uri| SanType::URI((*uri).to_owned().try_into().unwrap())));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn is(certificate: &CertificateDer<'_>, name: &str) -> bool {
        names(certificate, &ServerName::try_from(name).unwrap())
    }

    #[test]
    fn names_are_compared_whole_and_in_any_case() {
        let two = certificate(&[], &["sbc.example.com", "other.example", "192.0.2.7"]);
        for name in ["sbc.example.com", "SBC.Example.COM", "other.example", "192.0.2.7"] {
            assert!(is(&two, name), "{name}");
        }
        for name in ["example.com", "a.sbc.example.com", "sbc.example", "192.0.2.8"] {
            assert!(!is(&two, name), "{name}");
        }
    }

    #[test]
    fn a_wildcard_names_nobody() {
        let any = certificate(&[], &["*.example.com"]);
        for name in ["sbc.example.com", "example.com", "a.sbc.example.com"] {
            assert!(!is(&any, name), "{name}");
        }
    }

    #[test]
    fn sip_uris_name_domains_and_silence_the_dns() {
        let uri = certificate(&["sip:example.com", "SIP:voice.example:5061;transport=tls"], &["dns.example"]);
        for name in ["example.com", "voice.example"] {
            assert!(is(&uri, name), "{name}");
        }
        assert!(!is(&uri, "dns.example"));
    }

    #[test]
    fn people_and_other_schemes_are_no_domains() {
        let none = certificate(
            &["sip:alice@example.com", "https://web.example", "sips:secure.example"],
            &["d.example"],
        );
        for name in ["example.com", "web.example", "secure.example"] {
            assert!(!is(&none, name), "{name}");
        }
        assert!(is(&none, "d.example"), "no URI here names a domain, so the DNS does");
    }
}
