//! What the operator knows of the cluster: pods, Services, their endpoints and the policies. Objects come in as the API
//! server's events, are cut down to what the mesh needs ([`records`]), are kept with the maps that find them
//! ([`world`]), and go out as discovery resources ([`resolve`], [`compile`], [`routes`], `names`) or as lists of what changed
//! ([`changes`]).
//!
//! Nothing here talks to the API server, so everything is tested by feeding objects.

pub mod candidates;
pub mod changes;
pub mod compile;
mod encoded;
pub mod enforced;
pub mod entries;
mod hosted;
mod names;
pub mod places;
pub mod providers;
pub mod records;
pub mod resolve;
pub mod routes;
pub mod scopes;
mod shared;
pub mod targeted;
pub mod world;

pub use changes::{Changed, Key};
pub use encoded::Found;
pub use shared::{Index, MeshFacts};
pub use world::World;

#[cfg(test)]
mod tests;
