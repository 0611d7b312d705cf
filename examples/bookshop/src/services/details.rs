//! Facts about a book, and how many copies of it stock has, which it asks over raw TCP.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::{AnsweredBy, Details, stock};
use crate::client::Dialer;
use crate::lifecycle::{OnTerminate, phases};
use crate::server::{self, Answer, Ends, Service};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to serve HTTP on
    #[arg(long, default_value_t = 9080)]
    port: u16,
    /// Where the stock service is, as HOST:PORT
    #[arg(long, default_value = "stock:9070")]
    stock: String,
}

/// Serves until asked to terminate.
pub(crate) async fn run(arguments: Arguments) -> std::io::Result<()> {
    let listener = server::listen(arguments.port).await?;
    let server = Server {
        dialer: Dialer::new()?,
        stock: arguments.stock,
    };
    server::http(listener, server, phases(OnTerminate::Drain)?).await;
    Ok(())
}

struct Server {
    dialer: Dialer,
    stock: String,
}

impl Service for Server {
    async fn answer(&self, request: Request<Incoming>, _: Ends) -> Answer {
        let id = match server::item(&request, "/details/") {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        let copies = stock::ask(&self.dialer, &self.stock, id).await;
        let details = Details {
            id,
            title: "The Comedy of Errors".to_owned(),
            author: "William Shakespeare".to_owned(),
            year: 1594,
            pages: 128,
            publisher: "The First Folio Press".to_owned(),
            stock_error: copies.as_ref().err().map(ToString::to_string),
            copies: copies.ok(),
            answered_by: AnsweredBy::this("details", "v1"),
        };
        server::json(StatusCode::OK, &details)
    }
}
