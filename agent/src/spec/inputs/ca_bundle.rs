//! The certificates a mirror is trusted by.

use rustls_pki_types::pem::SectionKind;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    super::{codes, problem::Problem, quote},
    pem,
};

const WANTED: &str = "a CA certificate";

/// One or more certificates, at least one of them not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaBundle {
    pem: String,
    certificates: Vec<Certificate>,
}

/// What a person wants to know about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is, on one line.
    pub subject: String,
    /// From when on it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
}

impl CaBundle {
    /// Reads every certificate of a PEM file. Notices name those that have expired or are not valid yet.
    pub fn parse(bytes: &[u8], now_unix: i64) -> Result<(Self, Vec<Problem>), Problem> {
        let (text, blocks) = pem::blocks(bytes, WANTED)?;
        let certificates = blocks.into_iter().map(|(kind, der)| certificate(kind, &der)).collect::<Result<Vec<_>, _>>()?;
        let bundle = Self { pem: pem::with_line_end(text), certificates };
        bundle.refuse_expired(now_unix)?;
        let notices = bundle.certificates.iter().filter_map(|certificate| certificate.notice(now_unix)).collect();
        Ok((bundle, notices))
    }

    /// The PEM text as it came, with a line end at its end.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificates, in order.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    fn refuse_expired(&self, now_unix: i64) -> Result<(), Problem> {
        if self.certificates.iter().any(|certificate| certificate.not_after >= now_unix) {
            return Ok(());
        }
        let subjects = self.certificates.iter().map(|certificate| certificate.subject.as_str()).collect::<Vec<_>>().join("; ");
        let message = format!("no certificate here is valid any more: {}", quote::plain(&subjects));
        Err(Problem::new(codes::CA_EXPIRED, message, "get the CA's new certificate, or check the node's clock"))
    }
}

impl Certificate {
    fn notice(&self, now_unix: i64) -> Option<Problem> {
        let subject = &self.subject;
        if self.not_after < now_unix {
            return Some(Problem::new(
                codes::CERTIFICATE_EXPIRED,
                format!("the certificate {subject} has expired"),
                "take it out of the file",
            ));
        }
        let is_early = self.not_before > now_unix;
        is_early.then(|| {
            Problem::new(codes::CERTIFICATE_EARLY, format!("the certificate {subject} is not valid yet"), "check the node's clock")
        })
    }
}

fn certificate(kind: SectionKind, der: &[u8]) -> Result<Certificate, Problem> {
    if pem::is_private_key(kind) {
        let message = "this holds a private key, only certificates belong here";
        return Err(Problem::new(codes::PEM_KEY, message, "name the file that holds the CA's certificate, and keep the key away from it"));
    }
    if kind != SectionKind::Certificate {
        return Err(pem::other_kind(WANTED));
    }
    let damaged =
        || Problem::new(codes::CERTIFICATE_DAMAGED, "a block that says certificate holds none that can be read", "copy the file again");
    match X509Certificate::from_der(der) {
        Ok(([], found)) => Ok(Certificate {
            subject: quote::plain(&found.subject().to_string()),
            not_before: found.validity().not_before.timestamp(),
            not_after: found.validity().not_after.timestamp(),
        }),
        _ => Err(damaged()),
    }
}

/// Whether the DER of a block is a certificate.
pub(super) fn check_certificate(kind: SectionKind, der: &[u8]) -> Result<(), Problem> {
    certificate(kind, der).map(drop)
}
