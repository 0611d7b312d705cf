//! How often and how long a request is tried: faults, timeouts, what is tried again and when. By draws that the caller makes.

use super::http::{Abort, AbortWith, Backoff, Fault, HttpRoute, Retries, RetryOn};
use ::http::HeaderMap;
use std::sync::LazyLock;
use std::time::Duration;

/// What came of one try.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// An answer.
    Answer {
        /// Its status.
        status: u16,
        /// Its headers.
        headers: &'a HeaderMap,
    },
    /// No connection came about.
    NoConnection,
    /// The server refused the stream unseen (HTTP/2's REFUSED_STREAM).
    Refused,
    /// The connection or stream ended without an answer.
    Reset {
        /// Whether any of the request had been sent by then.
        sent: bool,
    },
    /// `perTryTimeout` passed.
    TimedOut,
    /// A limit of the connection pool was reached.
    Overflow,
}

impl RetryOn {
    /// Whether a request is tried again after this.
    #[must_use]
    pub fn takes(&self, outcome: &Outcome<'_>) -> bool {
        // No answer counts as one of 503.
        let any = self.server_errors || self.gateway_errors || self.reset;
        match *outcome {
            Outcome::Overflow => false,
            Outcome::TimedOut => any,
            Outcome::NoConnection => any || self.connect_failure,
            Outcome::Refused => any || self.refused_stream,
            Outcome::Reset { sent } => any || (self.reset_before_request && !sent),
            Outcome::Answer { status, headers } => self.takes_answer(status, headers),
        }
    }

    fn takes_answer(&self, status: u16, headers: &HeaderMap) -> bool {
        if headers.contains_key("x-envoy-ratelimited") {
            return self.rate_limited;
        }
        (self.server_errors && (500..600).contains(&status))
            || (self.gateway_errors && (502..=504).contains(&status))
            || (self.conflict && status == 409)
            || self.statuses.contains(&status)
            || (!self.grpc.is_empty()
                && headers
                    .get("grpc-status")
                    .and_then(|value| value.to_str().ok()?.parse().ok())
                    .is_some_and(|status: u8| self.grpc.contains(&status)))
    }

    /// Whether any answer is tried again, so that it has to be looked at; of gRPC's statuses only those of a `call`.
    #[must_use]
    pub fn looks_at_answers(&self, call: bool) -> bool {
        self.server_errors
            || self.gateway_errors
            || self.conflict
            || self.rate_limited
            || !self.statuses.is_empty()
            || (call && !self.grpc.is_empty())
    }
}

static OF_THE_MESH: LazyLock<Retries> = LazyLock::new(|| Retries {
    attempts: 2,
    per_try_timeout: None,
    on: RetryOn {
        connect_failure: true,
        refused_stream: true,
        grpc: vec![14, 1],
        ..RetryOn::default()
    },
    remote_localities: false,
    avoid_previous: true,
    backoff: Backoff::DEFAULT,
});

impl Retries {
    /// What holds where a route says nothing: Istio's `connect-failure,refused-stream,unavailable,cancelled`, twice.
    #[must_use]
    pub fn of_the_mesh() -> &'static Self {
        &OF_THE_MESH
    }
}

impl Backoff {
    /// Envoy's.
    pub const DEFAULT: Self = Self {
        base: Duration::from_millis(25),
    };

    /// The wait before a retry, after `before` others, by a draw of any number.
    #[must_use]
    pub fn wait(self, before: u32, draw: u32) -> Duration {
        let most = self
            .base
            .saturating_mul(1 << before.min(4))
            .min(self.base.saturating_mul(10));
        most.mul_f64(f64::from(draw) / (f64::from(u32::MAX) + 1.0))
    }
}

impl Fault {
    /// How long a request is held, by a draw of any number.
    #[must_use]
    pub fn delayed(&self, draw: u32) -> Option<Duration> {
        let delay = self.delay.as_ref()?;
        delay.percent.takes(draw).then_some(delay.fixed)
    }

    /// What it is answered with instead of being sent, by another draw.
    #[must_use]
    pub fn aborted(&self, draw: u32) -> Option<AbortWith> {
        let Abort { with, percent } = self.abort.as_ref()?;
        percent.takes(draw).then_some(*with)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.delay.is_none() && self.abort.is_none()
    }
}

impl<D> HttpRoute<D> {
    /// How long a request may take from its end to the end of its response. A gRPC `call` says so itself, within what the
    /// route allows (`grpc-timeout`).
    #[must_use]
    pub fn timeout_of(&self, call: bool, headers: &HeaderMap) -> Option<Duration> {
        let most = self.timeout.filter(|timeout| !timeout.is_zero());
        let own = headers.get("grpc-timeout").filter(|_| call);
        match (own.and_then(|value| grpc_timeout(value.to_str().ok()?)), most) {
            (Some(own), Some(most)) => Some(own.min(most)),
            (own, most) => own.or(most),
        }
    }
}

/// gRPC's `TimeoutValue TimeoutUnit`: at most eight digits, and one of `HMSmun`. Zero is none, as for Envoy.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    Some(timeout).filter(|timeout| !timeout.is_zero())
}

/// The authority of a mirrored request: its own, with `-shadow` before the port.
#[must_use]
pub fn shadow(authority: &str) -> String {
    let colon = authority
        .rfind(':')
        .filter(|at| !authority.get(*at..).unwrap_or_default().contains(']'));
    match colon.and_then(|at| authority.split_at_checked(at)) {
        Some((host, port)) => format!("{host}-shadow{port}"),
        None => format!("{authority}-shadow"),
    }
}
