//! PEM text to its blocks, stricter than most readers: a block that is there and cannot be read is an error, not skipped.

use rustls_pki_types::pem::{PemObject, SectionKind};

use super::{
    super::{codes, problem::Problem},
    refuse_large,
};

/// What every block begins with.
const BEGIN: &str = "-----BEGIN ";
/// What every block ends with.
const END: &str = "-----END ";
/// What `openssl ecparam -genkey` writes in front of a key; every TLS library skips it.
const EC_PARAMETERS: &str = "-----BEGIN EC PARAMETERS-----";
/// How DER begins that holds a certificate or a key: a SEQUENCE of some length.
const DER_SEQUENCE: u8 = 0x30;

/// A block and its DER.
pub(super) type Block = (SectionKind, Vec<u8>);

/// All blocks of a file; at least one. `wanted` says what should be in it.
pub(super) fn blocks<'a>(bytes: &'a [u8], wanted: &str) -> Result<(&'a str, Vec<Block>), Problem> {
    refuse_large(bytes)?;
    if bytes.first() == Some(&DER_SEQUENCE) {
        let remedy = "convert it: openssl x509 -inform der -in FILE -out FILE.pem (for a key: openssl pkey -inform der)";
        return Err(Problem::new(codes::PEM_DER, format!("this is DER, {wanted} in PEM form is needed"), remedy));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| none(wanted))?;
    let begun = text.lines().filter(|line| line.starts_with(BEGIN) && !line.starts_with(EC_PARAMETERS)).count();
    if begun == 0 {
        return Err(none(wanted));
    }
    if marks(text, BEGIN) != marks(text, END) {
        return Err(damaged());
    }
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Problem::new(
            codes::KEY_ENCRYPTED,
            "this holds a private key with a passphrase",
            "take the passphrase off: openssl pkey -in FILE -out FILE.pem",
        ));
    }
    let blocks = Block::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().map_err(|_| damaged())?;
    if blocks.len() == begun { Ok((text, blocks)) } else { Err(other_kind(wanted)) }
}

fn marks(text: &str, mark: &str) -> usize {
    text.lines().filter(|line| line.starts_with(mark)).count()
}

fn none(wanted: &str) -> Problem {
    Problem::new(codes::PEM_NONE, format!("there is no PEM block here, {wanted} is needed"), "check that it is the right file")
}

fn damaged() -> Problem {
    Problem::new(codes::PEM_DAMAGED, "a PEM block is cut short or damaged", "copy the file again, from -----BEGIN to -----END")
}

pub(super) fn other_kind(wanted: &str) -> Problem {
    Problem::new(codes::PEM_KIND, format!("a PEM block of another kind is here, {wanted} is needed"), "leave other blocks out")
}

/// Whether the block holds a private key.
pub(super) fn is_private_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

/// The text with a line end at its end, so that it can be joined to another.
pub(super) fn with_line_end(text: &str) -> String {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}")
}
