//! The certificate authority: private keys pass through here and nowhere else. [`files`] checks what a Secret holds,
//! [`authority`] holds it and signs, [`subject`] says what a certificate is for, [`verdict`] decides whether a certificate
//! may be issued or kept, [`change`] whether one authority may take another's place, [`store`] knows the two Secrets that
//! an authority may live in, and [`load`] follows them.

pub mod authority;
pub mod change;
pub mod error;
pub mod files;
pub mod load;
pub mod pem;
pub mod store;
pub mod subject;
pub mod verdict;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Leaf};
pub use error::CaError;
pub use subject::Subject;
