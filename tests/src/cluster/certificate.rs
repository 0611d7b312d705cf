//! A certificate as others read it: parsed from the Secret by x509-parser, of which the operator's issuing knows nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the tests look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The serial number, hexadecimal without leading zeros.
    pub serial: String,
    /// Every URI among the alternative names.
    pub uris: Vec<String>,
    /// How many alternative names there are.
    pub names: usize,
    /// Start of validity, seconds since the epoch.
    pub not_before: i64,
    /// End of validity, seconds since the epoch.
    pub not_after: i64,
    /// Whether it may sign others.
    pub authority: bool,
    /// Whether it is for clients and servers both.
    pub both_sides: bool,
}

impl Certificate {
    /// The first certificate of a Secret's `tls.crt`.
    ///
    /// # Errors
    /// What does not parse.
    pub fn of(secret: &Value) -> Result<Self, String> {
        let pem = field(secret, "tls.crt")?;
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(&block.contents).map_err(|error| error.to_string())?;
        let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = names
            .map(|extension| extension.value.general_names.clone())
            .unwrap_or_default();
        let uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        let usage = parsed.extended_key_usage().map_err(|error| error.to_string())?;
        let serial: String = parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            serial: serial.trim_start_matches('0').to_owned(),
            uris: uris.collect(),
            names: names.len(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            authority: parsed.is_ca(),
            both_sides: usage.is_some_and(|usage| usage.value.client_auth && usage.value.server_auth),
        })
    }
}

impl Certificate {
    /// How long ago it was issued: its not-before is two minutes earlier, for clocks that are behind, and has whole
    /// seconds, so that this is up to a second too long. The clocks of this machine and the cluster are taken to agree.
    #[must_use]
    pub fn age(&self) -> Duration {
        let issued = u64::try_from(self.not_before + 120).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::from_secs(issued))
    }
}

/// A field of a Secret, decoded.
///
/// # Errors
/// When it is not there or no text.
pub fn field(secret: &Value, name: &str) -> Result<String, String> {
    let encoded = secret["data"][name]
        .as_str()
        .ok_or_else(|| format!("no {name} in the Secret"))?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
