//! How many copies are left, over raw TCP. The client asks `STOCK NUMBER`, the service answers `COPIES NUMBER COUNT`
//! or `ERROR REASON`, a line each, as often as the client likes on one connection. The client speaks first.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::lifecycle::{OnTerminate, Phase, phases};
use crate::server::{self, Stream};
use crate::{client, lines};

/// A line of the protocol may be this long, in bytes.
const LINE_LIMIT: u16 = 256;

/// A client may be silent this long.
const IDLE: Duration = Duration::from_secs(600);

/// A line must be taken by the client within this time.
const WRITE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to serve raw TCP on
    #[arg(long, default_value_t = 9070)]
    port: u16,
}

/// Serves until asked to terminate.
pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let listener = server::listen(arguments.port).await?;
    server::tcp(listener, Server, phases(OnTerminate::Drain)?).await;
    Ok(())
}

struct Server;

impl Stream for Server {
    async fn serve(&self, mut stream: TcpStream, mut phases: watch::Receiver<Phase>) -> io::Result<()> {
        let (read, mut write) = stream.split();
        let mut read = BufReader::new(read);
        loop {
            let line = tokio::select! {
                line = tokio::time::timeout(IDLE, lines::read(&mut read, LINE_LIMIT)) => line??,
                _ = phases.wait_for(|phase| *phase == Phase::Closing) => return Ok(()),
            };
            let Some(line) = line else { return Ok(()) };
            tokio::time::timeout(WRITE, write.write_all(answer(&line).as_bytes())).await??;
        }
    }
}

/// The answer to one line.
fn answer(line: &str) -> String {
    let asked = line.strip_prefix("STOCK ").map(str::parse::<u32>);
    match asked {
        // A made-up figure that stays the same for a book and differs between books.
        Some(Ok(book)) => format!("COPIES {book} {}\n", 3 + book % 11),
        Some(Err(_)) => "ERROR STOCK needs a whole number\n".to_owned(),
        None => "ERROR only STOCK NUMBER is understood\n".to_owned(),
    }
}

/// Asks the stock service at `host:port` for the copies of one book, on a connection of its own.
///
/// # Errors
/// When there is no connection, or what comes back is not an answer.
pub(super) async fn ask(dialer: &client::Dialer, place: &str, book: u32) -> Result<u32, client::CallError> {
    let broken = |reason: String| client::CallError::Stream(format!("stock at {place}: {reason}"));
    let (host, port) = place
        .rsplit_once(':')
        .ok_or_else(|| broken("not HOST:PORT".to_owned()))?;
    let port = port.parse().map_err(|_| broken("not HOST:PORT".to_owned()))?;
    let exchange = async {
        let mut stream = dialer.tcp(host, port).await?;
        let (read, mut write) = stream.split();
        let asked = write.write_all(format!("STOCK {book}\n").as_bytes()).await;
        asked.map_err(|error| broken(error.to_string()))?;
        let line = lines::read(&mut BufReader::new(read), LINE_LIMIT).await;
        let line = line.map_err(|error| broken(error.to_string()))?;
        copies(
            &line.ok_or_else(|| broken("closed without an answer".to_owned()))?,
            book,
        )
        .map_err(broken)
    };
    let limit = super::INNER_CALL;
    tokio::time::timeout(limit, exchange)
        .await
        .map_err(|_| broken(format!("no answer within {limit:?}")))?
}

/// Reads an answer to a question about `book`.
fn copies(line: &str, book: u32) -> Result<u32, String> {
    let count = line
        .strip_prefix(&format!("COPIES {book} "))
        .and_then(|count| count.parse().ok());
    count.ok_or_else(|| format!("answered {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_what_it_understands() {
        let rows = [
            ("STOCK 0", "COPIES 0 3\n"),
            ("STOCK 12", "COPIES 12 4\n"),
            ("STOCK", "ERROR only STOCK NUMBER is understood\n"),
            ("STOCK -1", "ERROR STOCK needs a whole number\n"),
            ("GET / HTTP/1.1", "ERROR only STOCK NUMBER is understood\n"),
            ("", "ERROR only STOCK NUMBER is understood\n"),
        ];
        for (line, expected) in rows {
            assert_eq!(answer(line), expected, "{line}");
        }
    }

    #[test]
    fn reads_the_answer_to_its_own_question_only() {
        assert_eq!(copies("COPIES 7 10", 7), Ok(10));
        for line in ["COPIES 8 10", "ERROR no", "COPIES 7 many", ""] {
            assert!(copies(line, 7).is_err(), "{line}");
        }
    }
}
