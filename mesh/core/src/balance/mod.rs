//! Choosing an endpoint: what a DestinationRule's `loadBalancer` and `outlierDetection` come to.
//!
//! Everything here is a function of numbers: draws, clocks and loads are passed in. A [`Layout`] is what one version of a
//! destination's endpoints comes to (their priorities, their shares, their tables of hashes); a [`Plan`] is made from it
//! for the endpoints that are healthy, and chooses.

mod hash;
mod layout;
mod least_request;
mod locality;
mod maglev;
mod outliers;
mod plan;
mod priorities;
mod ring;
mod rota;
mod warm_up;
mod weights;

pub use hash::{hash, rehash};
pub use layout::{Layout, Member};
pub use least_request::least_request;
pub use locality::{Client, Level, Placed, Share, spread};
pub use maglev::Maglev;
pub use outliers::{Cause, Ejection, Failures, Outcome, may_eject};
pub use plan::{Draws, Plan};
pub use priorities::{Load, Standing, loads};
pub use ring::Ring;
pub use rota::Rota;
pub use warm_up::factor;
pub use weights::Weights;
