//! Destinations that the operator knows by name alone, or not even so: a ServiceEntry's endpoints under DNS names, hosts that
//! a request names, and what the application dialled. [`names`] finds addresses, [`concrete`] makes destinations of them.

mod concrete;
mod names;

pub use concrete::{Known, Towards, concrete, is_concrete};
pub use names::{Found, Names, Watched};
