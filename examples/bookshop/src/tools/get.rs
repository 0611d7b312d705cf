//! `bookshop get`: fetches a URL once or again and again, a line for each answer, a summary at the end. The exit code
//! is zero only if every answer had an expected status.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode, Uri};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Answer, CallError, Connection, Dialer};
use crate::lifecycle::termination;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to fetch: http://HOST[:PORT]/PATH
    url: Uri,
    /// How often; 0 goes on until SIGTERM or SIGINT
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Milliseconds from the start of one request to the start of the next
    #[arg(long, default_value_t = 1000)]
    interval: u64,
    /// One connection for all requests, opened again only when it was closed
    #[arg(long)]
    keepalive: bool,
    /// HTTP/2 in the clear, without asking first
    #[arg(long)]
    http2: bool,
    /// So many at the same time, each with its own connection, count and interval
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    parallel: u64,
    /// Milliseconds that one request may take as a whole
    #[arg(long, default_value_t = 10_000)]
    timeout: u64,
    /// A header to send, NAME:VALUE; Host replaces the URL's
    #[arg(long = "header", short = 'H', value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The one status that counts as success, instead of all from 200 to 399
    #[arg(long)]
    expect: Option<u16>,
    /// Print each answer's body
    #[arg(long)]
    body: bool,
    /// Print failures and the summary alone
    #[arg(long)]
    quiet: bool,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header has the form NAME:VALUE")?;
    let name = name
        .trim()
        .parse()
        .map_err(|_| format!("{name:?} is not a header's name"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| format!("{value:?} is not a header's value"))?;
    Ok((name, value))
}

/// What all of them counted.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    failed: AtomicU64,
    opened: AtomicU64,
}

/// Runs the tool.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let (dialer, mut stop) = match (Dialer::new(), termination()) {
        (Ok(dialer), Ok(stop)) => (dialer, stop),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("bookshop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (arguments, tally) = (Arc::new(arguments), Arc::new(Tally::default()));
    let (ending, ended) = watch::channel(false);
    let mut callers = JoinSet::new();
    for _ in 0..arguments.parallel {
        let session = Session {
            dialer: dialer.clone(),
            connection: None,
            tally: tally.clone(),
        };
        callers.spawn(call(session, arguments.clone(), ended.clone()));
    }
    tokio::select! {
        _ = stop.recv() => {}
        () = async { while callers.join_next().await.is_some() {} } => {}
    }
    // What is under way is still waited for, so that it counts as what it becomes.
    ending.send_replace(true);
    while callers.join_next().await.is_some() {}
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (sent, failed) = (number(&tally.sent), number(&tally.failed));
    if arguments.count != 1 || arguments.parallel != 1 {
        println!("requests {sent} failed {failed} connections {}", number(&tally.opened));
    }
    if failed == 0 && sent > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One caller.
async fn call(mut session: Session, arguments: Arc<Arguments>, mut ended: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(arguments.interval.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut done = 0_u64;
    while arguments.count == 0 || done < arguments.count {
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => break,
            _ = ticks.tick() => {}
        }
        done += 1;
        let number = session.tally.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let started = Instant::now();
        let limit = Duration::from_millis(arguments.timeout);
        let outcome = tokio::time::timeout(limit, session.get(&arguments)).await;
        let outcome = outcome.unwrap_or_else(|_| {
            session.connection = None;
            Err(CallError::TimedOut(limit))
        });
        let took = started.elapsed().as_secs_f64() * 1000.0;
        let good = outcome
            .as_ref()
            .is_ok_and(|answer| expected(answer.status, arguments.expect));
        session.tally.failed.fetch_add(u64::from(!good), Ordering::Relaxed);
        if !good || !arguments.quiet {
            match &outcome {
                Ok(answer) => println!("{number} {} {took:.1}ms", answer.status.as_u16()),
                Err(error) => println!("{number} error {took:.1}ms {error}"),
            }
        }
        if let (true, Ok(answer)) = (arguments.body, &outcome) {
            println!("{}", String::from_utf8_lossy(&answer.body));
        }
    }
}

fn expected(status: StatusCode, only: Option<u16>) -> bool {
    match only {
        Some(only) => status.as_u16() == only,
        None => status.is_success() || status.is_redirection(),
    }
}

struct Session {
    dialer: Dialer,
    connection: Option<Connection>,
    tally: Arc<Tally>,
}

impl Session {
    async fn get(&mut self, arguments: &Arguments) -> Result<Answer, CallError> {
        let usable = self
            .connection
            .take()
            .filter(|connection| arguments.keepalive && !connection.is_closed());
        let mut connection = match usable {
            Some(connection) => connection,
            None => {
                self.tally.opened.fetch_add(1, Ordering::Relaxed);
                if arguments.http2 {
                    self.dialer.http2(&arguments.url).await?
                } else {
                    self.dialer.http(&arguments.url).await?
                }
            }
        };
        let headers: HeaderMap = arguments.headers.iter().cloned().collect();
        let answer = connection.get(&arguments.url, headers).await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_any_2xx_or_3xx_unless_one_is_named() {
        let rows = [
            (200, None, true),
            (302, None, true),
            (403, None, false),
            (403, Some(403), true),
            (200, Some(403), false),
        ];
        for (status, only, good) in rows {
            assert_eq!(
                expected(StatusCode::from_u16(status).unwrap(), only),
                good,
                "{status} {only:?}"
            );
        }
    }

    #[test]
    fn headers_are_parsed_or_refused() {
        assert_eq!(
            header("Host: reviews").unwrap(),
            ("host".parse().unwrap(), "reviews".parse().unwrap())
        );
        assert_eq!(header("x-url: http://a").unwrap().1, "http://a");
        assert!(header("no colon").is_err());
        assert!(header("bad name: x").is_err());
    }
}
