//! The proxy's own small HTTP servers: readiness for the kubelet (15021), probes on behalf of the kubelet and the
//! application's hooks (15020), metrics (15090) and administration (127.0.0.1:15000).
//!
//! They run on the administration runtime, apart from the data path, and reach the rest of the proxy through
//! [`Handles`] only.

mod handles;
pub mod logging;

pub use handles::{Certificate, CertificateKind, Handles, Phase, Readiness, View};
pub use logging::LogControl;
