//! A client certificate and its key.

use rustls_pki_types::pem::SectionKind;
use secrecy::{ExposeSecret, SecretString};

use super::{
    super::{codes, problem::Problem},
    ca_bundle::check_certificate,
    pem,
};

/// What a mirror that asks for a client certificate is shown.
#[derive(Debug, Clone)]
pub struct ClientPair {
    /// The certificate, and those that lead from it to the mirror's CA.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: SecretString,
}

impl ClientPair {
    /// Reads both files. Whether they belong together is not checked here; containerd's TLS does.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, Problem> {
        let (cert_text, blocks) = pem::blocks(certificate, "a client certificate")?;
        blocks.iter().try_for_each(|(kind, der)| check_certificate(*kind, der))?;
        let wanted = "a private key";
        let (key_text, blocks) = pem::blocks(key, wanted)?;
        refuse_other_than_key(&blocks, wanted)?;
        Ok(Self { cert_pem: pem::with_line_end(cert_text), key_pem: pem::with_line_end(key_text).into() })
    }

    /// Both in one text, certificate first: the form in which containerd takes them from one file.
    #[must_use]
    pub fn pem(&self) -> Vec<u8> {
        [self.cert_pem.as_bytes(), self.key_pem.expose_secret().as_bytes()].concat()
    }
}

/// Exactly one key. Certificates beside it, or EC parameters, are what a TLS library would stumble over.
fn refuse_other_than_key(blocks: &[(SectionKind, Vec<u8>)], wanted: &str) -> Result<(), Problem> {
    match blocks {
        [(kind, _)] if pem::is_private_key(*kind) => Ok(()),
        blocks if blocks.iter().all(|(kind, _)| pem::is_private_key(*kind)) => {
            Err(Problem::new(codes::KEY_SEVERAL, "there is more than one private key here", "keep the one that belongs to the certificate"))
        }
        _ => Err(pem::other_kind(wanted)),
    }
}
