//! One authority per lab. Its certificate is in the system trust of every node of the lab.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: String,
    /// The key, PEM (PKCS#8, P-256).
    pub key: String,
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The key, DER (PKCS#8).
    pub key_der: Vec<u8>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ca")
    }
}

impl Ca {
    /// A new authority; two of them trust nothing of each other.
    pub fn create() -> Self {
        let mut params = params(&[], "lab authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key();
        let certificate = params.self_signed(&key).unwrap_or_else(|error| panic!("no authority: {error}")).pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for names and addresses alike (the forms are told apart).
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(params(names, names.first().copied().unwrap_or("lab")))
    }

    /// A certificate that was good until 2001.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        let mut params = params(names, "expired");
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).unwrap_or_else(|error| panic!("no certificate: {error}"));
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            certificate_der: certificate.der().to_vec(),
            key_der: key.serialize_der(),
        }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"))
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap_or_else(|error| panic!("bad certificate name: {error}"));
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
