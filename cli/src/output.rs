//! How answers are printed: tables as istioctl prints them, JSON and YAML for programs.

mod table;

use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;
use serde::Serialize;

pub(crate) use table::{Cell, Table};

use crate::failure::Failure;

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[value(alias = "short")]
    Table,
    /// For programs.
    Json,
    /// For programs, and for people who prefer it.
    Yaml,
}

/// Prints `value`, or the table that is made of it.
pub(crate) fn print<T: Serialize + ?Sized>(
    format: Format,
    value: &T,
    table: impl FnOnce() -> Table,
) -> Result<(), Failure> {
    let text = match format {
        Format::Table => table().text(colored()),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(value).map_err(unprintable)?),
        Format::Yaml => serde_yaml::to_string(value).map_err(unprintable)?,
    };
    say(&text)
}

/// Prints text. A reader that is gone, such as `head`, has had enough.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says something beside the answer.
pub(crate) fn warn(text: &str) {
    // Nobody is left to tell where standard error is closed.
    let _ = writeln!(io::stderr(), "warning: {text}");
}

/// Colours are for a terminal, and not for one whose user asks for none (<https://no-color.org>).
fn colored() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn unprintable(error: impl std::error::Error) -> Failure {
    Failure::other(format!("the answer cannot be printed: {error}"))
}

/// `2026-08-01T12:00:00Z`.
pub(crate) fn rfc3339(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

/// A span of time as kubectl shows ages: `45s`, `12m`, `3h5m`, `2d4h`.
pub(crate) fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_times() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3 * 3600 + 300, "3h5m"),
            (2 * 86_400 + 4 * 3600, "2d4h"),
        ] {
            assert_eq!(age(seconds), shown);
        }
        assert_eq!(rfc3339(1_709_164_800), "2024-02-29T00:00:00Z");
    }
}
