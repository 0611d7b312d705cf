//! The page that a person looks at. It asks details and reviews at the same time; what is missing is said on the page,
//! and the status is 502 then, so that a test need not read the page.

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{AnsweredBy, Details, OUTER_CALL, Reviews};
use crate::client::{CallError, Dialer};
use crate::headers::{self, END_USER};
use crate::lifecycle::{OnTerminate, phases};
use crate::server::{self, Answer, Ends, Service};

mod page;

/// The one book in the shop.
const BOOK: u32 = 0;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to serve HTTP on
    #[arg(long, default_value_t = 9080)]
    port: u16,
    /// Where the details service is
    #[arg(long, default_value = "http://details:9080")]
    details: Uri,
    /// Where the reviews service is
    #[arg(long, default_value = "http://reviews:9080")]
    reviews: Uri,
}

/// Serves until asked to terminate.
pub(crate) async fn run(arguments: Arguments) -> std::io::Result<()> {
    let listener = server::listen(arguments.port).await?;
    let server = Server {
        dialer: Dialer::new()?,
        details: arguments.details,
        reviews: arguments.reviews,
    };
    server::http(listener, server, phases(OnTerminate::Drain)?).await;
    Ok(())
}

struct Server {
    dialer: Dialer,
    details: Uri,
    reviews: Uri,
}

/// Everything that is known about the book, and what is not and why.
#[derive(Debug, Serialize)]
struct Product {
    user: Option<String>,
    details: Option<Details>,
    reviews: Option<Reviews>,
    /// What could not be had, a sentence each.
    errors: Vec<String>,
    answered_by: AnsweredBy,
}

impl Product {
    fn assemble(
        user: Option<String>,
        details: Result<Details, CallError>,
        reviews: Result<Reviews, CallError>,
    ) -> Self {
        let mut errors = Vec::new();
        let details = details
            .inspect_err(|error| errors.push(format!("details: {error}")))
            .ok();
        let reviews = reviews
            .inspect_err(|error| errors.push(format!("reviews: {error}")))
            .ok();
        errors.extend(details.iter().filter_map(|details| details.stock_error.clone()));
        errors.extend(reviews.iter().filter_map(|reviews| reviews.ratings_error.clone()));
        Self {
            user,
            details,
            reviews,
            errors,
            answered_by: AnsweredBy::this("productpage", "v1"),
        }
    }

    fn status(&self) -> StatusCode {
        if self.errors.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::BAD_GATEWAY
        }
    }
}

impl Server {
    async fn product(&self, request: &Request<Incoming>) -> Product {
        let mut onward = headers::forwarded(request.headers());
        let user = user(request);
        if let Some(user) = user.as_deref().and_then(|user| HeaderValue::from_str(user).ok()) {
            onward.insert(END_USER, user);
        }
        let (details, reviews) = tokio::join!(
            self.fetch(&self.details, "details", onward.clone()),
            self.fetch(&self.reviews, "reviews", onward.clone()),
        );
        Product::assemble(user, details, reviews)
    }

    async fn fetch<T: DeserializeOwned>(&self, base: &Uri, kind: &str, onward: HeaderMap) -> Result<T, CallError> {
        let url = format!("{}/{kind}/{BOOK}", base.to_string().trim_end_matches('/'));
        let url = url.parse().map_err(|_| CallError::Url(base.clone()))?;
        let body = self.dialer.fetch(&url, onward, OUTER_CALL).await?;
        serde_json::from_slice(&body).map_err(|error| CallError::Body(error.to_string()))
    }
}

impl Service for Server {
    async fn answer(&self, request: Request<Incoming>, _: Ends) -> Answer {
        match request.uri().path() {
            "/" | "/productpage" => {
                let product = self.product(&request).await;
                server::html(product.status(), page::render(&product))
            }
            "/api/v1/products/0" => {
                let product = self.product(&request).await;
                server::json(product.status(), &product)
            }
            _ => server::text(
                StatusCode::NOT_FOUND,
                "try /productpage, /api/v1/products/0 or /health\n",
            ),
        }
    }
}

/// The visitor's name: of the query `user=`, else of the header. A name is short and plain, or it is none.
fn user(request: &Request<Incoming>) -> Option<String> {
    let header = request.headers().get(END_USER).and_then(|value| value.to_str().ok());
    user_of(request.uri().query(), header)
}

fn user_of(query: Option<&str>, header: Option<&str>) -> Option<String> {
    let asked = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| pair.strip_prefix("user="));
    let plain = |name: &&str| {
        (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    asked.filter(plain).or(header.filter(plain)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_plain_short_name() {
        let long = "x".repeat(65);
        let rows = [
            (Some("user=ada"), None, Some("ada")),
            (Some("a=b&user=ada.l"), Some("bob"), Some("ada.l")),
            (None, Some("bob"), Some("bob")),
            (Some("user="), Some("bob"), Some("bob")),
            (Some("user=<b>"), None, None),
            (None, Some(long.as_str()), None),
            (None, None, None),
        ];
        for (query, header, expected) in rows {
            assert_eq!(user_of(query, header).as_deref(), expected, "{query:?} {header:?}");
        }
    }

    #[test]
    fn whatever_is_missing_is_an_error_and_a_502() {
        let refused = || CallError::Status(StatusCode::SERVICE_UNAVAILABLE);
        let product = Product::assemble(None, Err(refused()), Err(refused()));
        assert_eq!(product.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(
            product.errors,
            [
                "details: answered 503 Service Unavailable",
                "reviews: answered 503 Service Unavailable"
            ]
        );
    }
}
