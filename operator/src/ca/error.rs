//! Why a certificate authority cannot be used, or a certificate cannot be issued: which key of the Secret, which
//! certificate in it, and what is wrong. Nothing here ever holds a part of a key.

use super::verdict;

/// Why an authority or a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// A key of the Secret is missing or empty.
    #[error("{0} is missing or empty")]
    Missing(&'static str),
    /// A key of the Secret is no PEM of the right kind, or does not parse.
    #[error("{key} cannot be read: {reason}")]
    Unreadable {
        /// The Secret's key.
        key: &'static str,
        /// What is wrong with it; never any of its content.
        reason: String,
    },
    /// A certificate that may not sign others, or not at this place, or not now.
    #[error("{key}: the certificate \"{subject}\" {fault}")]
    Unfit {
        /// The Secret's key.
        key: &'static str,
        /// The certificate's subject.
        subject: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The key does not belong to the certificate.
    #[error("{key} is not the key of the first certificate of {certificate}, \"{subject}\"")]
    KeyMismatch {
        /// The Secret's key of the private key.
        key: &'static str,
        /// The Secret's key of the certificate.
        certificate: &'static str,
        /// The certificate's subject.
        subject: String,
    },
    /// The chain of issuers does not arrive at a root.
    #[error(
        "{key}: the certificate \"{subject}\" does not verify: its issuer, \"{issuer}\", did not sign it or is neither \
         in {intermediates} nor among the roots of {roots}"
    )]
    NoPath {
        /// The Secret's key of the certificate whose issuer is not there.
        key: &'static str,
        /// That certificate's subject.
        subject: String,
        /// Its issuer's name.
        issuer: String,
        /// Where intermediates are looked for.
        intermediates: &'static str,
        /// Where roots are looked for.
        roots: &'static str,
    },
    /// What it issues would be refused by every peer.
    #[error("a certificate issued from it would be refused: {0}")]
    Trial(String),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
    /// The finished certificate was judged unfit.
    #[error("refused to issue for {subject}: {reason}")]
    Refused {
        /// What the certificate was for.
        subject: String,
        /// The verdict.
        reason: verdict::Refusal,
    },
}

/// What makes a certificate unfit to stand above others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// RFC 5280, 4.2.1.9.
    #[error("is no certificate authority (basicConstraints CA:TRUE is needed)")]
    NotAuthority,
    /// RFC 5280, 4.2.1.3.
    #[error("may not sign certificates (keyUsage keyCertSign is needed)")]
    MayNotSign,
    /// RFC 5280, 4.2.1.9.
    #[error("allows {allowed} authorities below it (pathLenConstraint), and there are {found}")]
    PathTooLong {
        /// As many may be below it.
        allowed: u32,
        /// As many are.
        found: usize,
    },
    /// Its time has passed or has not come.
    #[error("is valid from {not_before} to {not_after}, which is not now")]
    OutOfDate {
        /// Start of validity.
        not_before: String,
        /// End of validity.
        not_after: String,
    },
}

/// [`CaError::Signing`] for any error.
pub(super) fn signing(error: impl std::fmt::Display) -> CaError {
    CaError::Signing(error.to_string())
}
