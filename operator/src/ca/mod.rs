//! The certificate authority: private keys pass through here and nowhere else. [`authority`] holds the root and signs,
//! [`subject`] says what a certificate is for, [`verdict`] decides whether a certificate may be issued or kept, and
//! [`store`] reads and makes the Secret that the root lives in.

pub mod authority;
pub mod pem;
pub mod store;
pub mod subject;
pub mod verdict;

pub use authority::{Authority, CaError, Leaf};
pub use subject::Subject;
