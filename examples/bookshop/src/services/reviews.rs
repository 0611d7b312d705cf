//! What readers say about a book. v1 shows no stars and asks nobody; v2 and v3 ask ratings and show black and red
//! stars.

use hyper::body::Incoming;
use hyper::{Request, StatusCode, Uri};

use super::{AnsweredBy, INNER_CALL, Ratings, Review, Reviews};
use crate::client::{CallError, Dialer};
use crate::headers;
use crate::lifecycle::{OnTerminate, phases};
use crate::server::{self, Answer, Ends, Service};

/// Which of the three reviews services this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Version {
    V1,
    V2,
    V3,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }

    /// The colour of the stars; none means that ratings is not asked.
    fn colour(self) -> Option<&'static str> {
        match self {
            Self::V1 => None,
            Self::V2 => Some("black"),
            Self::V3 => Some("red"),
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to serve HTTP on
    #[arg(long, default_value_t = 9080)]
    port: u16,
    /// v1 shows no stars, v2 black ones, v3 red ones
    #[arg(long = "as", value_enum, default_value_t = Version::V1)]
    version: Version,
    /// Where the ratings service is
    #[arg(long, default_value = "http://ratings:9080")]
    ratings: Uri,
}

/// Serves until asked to terminate.
pub(crate) async fn run(arguments: Arguments) -> std::io::Result<()> {
    let listener = server::listen(arguments.port).await?;
    let server = Server {
        dialer: Dialer::new()?,
        version: arguments.version,
        ratings: arguments.ratings,
    };
    server::http(listener, server, phases(OnTerminate::Drain)?).await;
    Ok(())
}

struct Server {
    dialer: Dialer,
    version: Version,
    ratings: Uri,
}

impl Server {
    async fn ratings(&self, id: u32, headers: hyper::HeaderMap) -> Result<Ratings, CallError> {
        let base = self.ratings.to_string();
        let url = format!("{}/ratings/{id}", base.trim_end_matches('/'));
        let url = url.parse().map_err(|_| CallError::Url(self.ratings.clone()))?;
        let body = self.dialer.fetch(&url, headers, INNER_CALL).await?;
        serde_json::from_slice(&body).map_err(|error| CallError::Body(error.to_string()))
    }
}

impl Service for Server {
    async fn answer(&self, request: Request<Incoming>, _: Ends) -> Answer {
        let id = match server::item(&request, "/reviews/") {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        let ratings = match self.version.colour() {
            None => None,
            Some(_) => Some(self.ratings(id, headers::forwarded(request.headers())).await),
        };
        server::json(StatusCode::OK, &compose(id, self.version, ratings))
    }
}

/// Puts the readers' words and the ratings, if they were asked for, together.
fn compose(id: u32, version: Version, ratings: Option<Result<Ratings, CallError>>) -> Reviews {
    let (ratings, ratings_error) = match ratings {
        None => (None, None),
        Some(Ok(ratings)) => (Some(ratings), None),
        Some(Err(error)) => (None, Some(format!("ratings: {error}"))),
    };
    let review = |reviewer: &str, text: &str| Review {
        reviewer: reviewer.to_owned(),
        text: text.to_owned(),
        stars: ratings
            .as_ref()
            .and_then(|ratings| ratings.stars.get(reviewer))
            .map(|stars| (*stars).clamp(1, 5)),
    };
    Reviews {
        id,
        colour: version.colour().map(str::to_owned),
        reviews: vec![
            review(
                "Reviewer1",
                "Two pairs of twins, one town, and not a minute's rest. Read it in one sitting.",
            ),
            review(
                "Reviewer2",
                "Lighter than the others of its author, and none the worse for it.",
            ),
        ],
        ratings_by: ratings.as_ref().map(|ratings| ratings.answered_by.clone()),
        ratings_error,
        answered_by: AnsweredBy::this("reviews", version.name()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ratings() -> Ratings {
        let stars = BTreeMap::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 200)]);
        Ratings {
            id: 0,
            stars,
            answered_by: AnsweredBy::this("ratings", "v1"),
        }
    }

    #[test]
    fn stars_come_from_ratings_and_only_where_the_version_has_them() {
        let stars = |reviews: &Reviews| reviews.reviews.iter().map(|review| review.stars).collect::<Vec<_>>();

        let plain = compose(0, Version::V1, None);
        assert_eq!(
            (stars(&plain), plain.colour, plain.ratings_error),
            (vec![None, None], None, None)
        );

        let red = compose(0, Version::V3, Some(Ok(ratings())));
        assert_eq!(stars(&red), [Some(5), Some(5)], "more than five stars do not exist");
        assert_eq!(red.colour.as_deref(), Some("red"));

        let failed = compose(0, Version::V2, Some(Err(CallError::Status(StatusCode::FORBIDDEN))));
        assert_eq!(stars(&failed), [None, None]);
        assert_eq!(failed.ratings_error.as_deref(), Some("ratings: answered 403 Forbidden"));
    }
}
