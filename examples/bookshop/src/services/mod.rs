//! The shop's services, a file each in the order in which a visitor's request reaches them, and what they tell each
//! other.

pub(crate) mod productpage;

pub(crate) mod details;
pub(crate) mod reviews;

pub(crate) mod ratings;
pub(crate) mod stock;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::server::host_name;

/// A service that others call waits this long for the ones it calls itself, and its callers wait longer: the one
/// nearest to a fault reports it.
const INNER_CALL: Duration = Duration::from_secs(3);

/// The product page waits this long for details and reviews.
const OUTER_CALL: Duration = Duration::from_secs(8);

/// Who gave an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnsweredBy {
    /// The service's name.
    pub(crate) service: String,
    /// Its version, for the page.
    pub(crate) version: String,
    /// The pod's name.
    pub(crate) pod: String,
}

impl AnsweredBy {
    fn this(service: &str, version: &str) -> Self {
        Self {
            service: service.to_owned(),
            version: version.to_owned(),
            pod: host_name(),
        }
    }
}

/// What details tells the product page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) id: u32,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) year: u16,
    pub(crate) pages: u16,
    pub(crate) publisher: String,
    /// How many copies stock has, when it answered.
    pub(crate) copies: Option<u32>,
    /// Why `copies` is not known.
    pub(crate) stock_error: Option<String>,
    pub(crate) answered_by: AnsweredBy,
}

/// What reviews tells the product page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reviews {
    pub(crate) id: u32,
    /// The colour of the stars; none in v1.
    pub(crate) colour: Option<String>,
    pub(crate) reviews: Vec<Review>,
    /// Who rated, unless nobody was asked or nobody answered.
    pub(crate) ratings_by: Option<AnsweredBy>,
    /// Why there are no stars although they were asked for.
    pub(crate) ratings_error: Option<String>,
    pub(crate) answered_by: AnsweredBy,
}

/// One reader's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Review {
    pub(crate) reviewer: String,
    pub(crate) text: String,
    /// One to five, when asked for and known.
    pub(crate) stars: Option<u8>,
}

/// What ratings tells reviews.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ratings {
    pub(crate) id: u32,
    /// Stars, one to five, by reviewer.
    pub(crate) stars: BTreeMap<String, u8>,
    pub(crate) answered_by: AnsweredBy,
}
