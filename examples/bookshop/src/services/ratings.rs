//! Stars for each reviewer. The one service that exits at once on SIGTERM: requests in flight are cut, as with many an
//! application that handles no signals.

use std::collections::BTreeMap;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::{AnsweredBy, Ratings};
use crate::lifecycle::{OnTerminate, phases};
use crate::server::{self, Answer, Ends, Service};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to serve HTTP on
    #[arg(long, default_value_t = 9080)]
    port: u16,
}

/// Serves until asked to terminate.
pub(crate) async fn run(arguments: Arguments) -> std::io::Result<()> {
    let listener = server::listen(arguments.port).await?;
    server::http(listener, Server, phases(OnTerminate::Exit)?).await;
    Ok(())
}

struct Server;

impl Service for Server {
    async fn answer(&self, request: Request<Incoming>, _: Ends) -> Answer {
        match server::item(&request, "/ratings/") {
            Err(refusal) => *refusal,
            Ok(id) => {
                let stars = BTreeMap::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 4)]);
                let ratings = Ratings {
                    id,
                    stars,
                    answered_by: AnsweredBy::this("ratings", "v1"),
                };
                server::json(StatusCode::OK, &ratings)
            }
        }
    }
}
