//! `bookshop tcp`: holds a raw TCP stream to a line echo, writes a numbered line at each interval and checks that it
//! comes back. A cut stream or a wrong line is reported, counted and followed by a new stream; the exit code is zero
//! only if there was none.

use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::client::Dialer;
use crate::lifecycle::termination;
use crate::lines;

/// A line may be this long, in bytes.
const LINE_LIMIT: u16 = 256;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the echo is, as HOST:PORT
    place: String,
    /// Milliseconds from one line to the next
    #[arg(long, default_value_t = 100)]
    interval: u64,
    /// How many lines; 0 goes on until SIGTERM or SIGINT
    #[arg(long, default_value_t = 0)]
    count: u64,
    /// Milliseconds within which a line must come back
    #[arg(long, default_value_t = 5000)]
    timeout: u64,
}

/// Runs the tool.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let parts = arguments
        .place
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts else {
        eprintln!("bookshop: {:?} is not HOST:PORT", arguments.place);
        return ExitCode::FAILURE;
    };
    let (dialer, mut stop) = match (Dialer::new(), termination()) {
        (Ok(dialer), Ok(stop)) => (dialer, stop),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("bookshop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(arguments.interval.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let limit = Duration::from_millis(arguments.timeout);
    let mut stream = None;
    let (mut lines, mut cuts, mut opened) = (0_u64, 0_u64, 0_u64);
    while arguments.count == 0 || lines < arguments.count {
        tokio::select! {
            _ = stop.recv() => break,
            _ = ticks.tick() => {}
        }
        lines += 1;
        let round = async {
            let mut open = match stream.take() {
                Some(open) => open,
                None => {
                    opened += 1;
                    BufReader::new(dialer.tcp(host, port).await.map_err(|error| error.to_string())?)
                }
            };
            exchange(&mut open, lines).await?;
            Ok(open)
        };
        let outcome = tokio::time::timeout(limit, round).await;
        match outcome.unwrap_or_else(|_| Err(format!("nothing within {limit:?}"))) {
            Ok(open) => stream = Some(open),
            Err(reason) => {
                cuts += 1;
                println!("cut at line {lines}: {reason}");
            }
        }
    }
    println!("lines {lines} cuts {cuts} streams {opened}");
    if cuts == 0 && lines > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Sends one line and waits for it to come back.
async fn exchange(stream: &mut BufReader<TcpStream>, number: u64) -> Result<(), String> {
    let sent = format!("line {number}");
    stream
        .write_all(format!("{sent}\n").as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    match lines::read(stream, LINE_LIMIT).await {
        Ok(Some(line)) if line == sent => Ok(()),
        Ok(Some(line)) => Err(format!("sent {sent:?}, got {line:?}")),
        Ok(None) => Err("closed by the other side".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
