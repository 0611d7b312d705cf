//! PEM in and out, with the limits that keep a hostile Secret from costing anything.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The most certificates that are read from one PEM text.
const MOST_CERTIFICATES: usize = 64;

/// The certificates of a PEM text, in order.
///
/// # Errors
/// A sentence when the text is no PEM, holds no certificate, or holds too many.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        found.push(certificate.map_err(|error| format!("no PEM certificate: {error}"))?);
        if found.len() > MOST_CERTIFICATES {
            return Err(format!("more than {MOST_CERTIFICATES} certificates"));
        }
    }
    if found.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(found)
}

/// The first private key of a PEM text.
///
/// # Errors
/// A sentence, never a part of the text, when there is none.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| "no PEM private key in it".to_owned())
}

/// Certificates as PEM text (RFC 7468).
#[must_use]
pub fn encode(certificates: &[CertificateDer<'_>]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = BASE64_STANDARD.encode(certificate);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}
