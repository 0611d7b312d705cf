//! WorkloadEntry of `networking.istio.io`, v1, v1beta1 and v1alpha3: the resource as users write it ([`resource`]), its
//! parsing into the domain's workload with Istio's validation, and the status that says who selects it.

pub(crate) mod parse;
pub mod resource;
mod status;

pub use parse::{parse, read, warnings};
pub use resource::{WorkloadEntry, WorkloadEntrySpec};
pub use status::{later, status};
