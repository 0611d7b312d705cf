//! Which of a destination's endpoints takes the next connection or request.

use super::secured::Secured;
use crate::http::pool::Pool;
use mesh_core::balance;
use mesh_core::destination::{Destination, Resolution};
use std::net::SocketAddr;

/// Chooses an endpoint; `tried` ones only where no other is left. `dialled` is the one to use where the client has chosen
/// itself (a headless Service, a pod).
#[must_use]
pub fn choose(
    destination: &Destination,
    secured: &Secured,
    dialled: SocketAddr,
    tried: &[usize],
    pool: &Pool,
) -> Option<usize> {
    match destination.resolution {
        Resolution::OriginalDestination => destination
            .endpoints
            .iter()
            .position(|endpoint| endpoint.address == dialled),
        Resolution::Balanced => {
            let load = |at: usize| {
                destination
                    .endpoints
                    .get(at)
                    .map_or(usize::MAX, |it| pool.under_way(&secured.key(destination, it)))
            };
            let draw = || rand::random::<u32>() as usize;
            balance::least_request(destination.endpoints.len(), [draw(), draw()], tried, load)
        }
    }
}
