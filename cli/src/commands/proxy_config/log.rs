//! `proxy-config log`: the log level of live sidecars, shown and changed.

use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::failure::{DONE, Failure, IN_PART};
use crate::output::{self, Table, warn};
use crate::pages::Peer;

/// For the help.
pub(crate) const EXAMPLES: &str = "Examples:
  pinnace proxy-config log web-6f7d.shop
  pinnace proxy-config log deployment/web -n shop --level debug
  pinnace proxy-config log web-6f7d.shop --level proxy::inbound:trace,h2:warn
  pinnace proxy-config log web-6f7d.shop --reset

With a Deployment, the change reaches all of its pods. It lasts until the sidecar ends.";

/// The level that --reset sets.
const RESET: &str = "info";

/// What to change.
#[derive(Debug, Default, Args)]
pub(crate) struct Change {
    /// LEVEL for all, or MODULE:LEVEL, several separated by commas; off, error, warn, info, debug or trace.
    #[arg(long, value_name = "[MODULE:]LEVEL[,...]")]
    level: Option<String>,
    /// Back to info for all.
    #[arg(short, long, conflicts_with = "level")]
    reset: bool,
}

/// One sidecar's level.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    level: String,
}

pub(crate) async fn run(global: &Global, peers: Vec<Peer>, change: &Change) -> Result<u8, Failure> {
    let changes = match (&change.level, change.reset) {
        (Some(level), _) => changes(level)?,
        (None, true) => vec![format!("level={RESET}")],
        (None, false) => Vec::new(),
    };
    let mut rows = Vec::new();
    let mut failed = None;
    for peer in peers {
        match changed(&peer, &changes).await {
            Ok(level) => rows.push(Row {
                name: peer.name(),
                level,
            }),
            // A level that one sidecar does not understand none does.
            Err(failure) if failure.status() == 2 => return Err(failure),
            Err(failure) => {
                if let Some(before) = failed.replace(failure) {
                    warn(&before.to_string());
                }
            }
        }
    }
    match failed {
        Some(failure) if rows.is_empty() => return Err(failure),
        Some(failure) => {
            warn(&failure.to_string());
            output::print(global.output, &rows, || table(&rows))?;
            return Ok(IN_PART);
        }
        None => {}
    }
    output::print(global.output, &rows, || table(&rows))?;
    Ok(DONE)
}

async fn changed(peer: &Peer, changes: &[String]) -> Result<String, Failure> {
    for change in changes {
        peer.set_level(change).await?;
    }
    Ok(peer.server_info().await?.log_level)
}

/// The queries of `/logging` that make a level as it was written.
fn changes(text: &str) -> Result<Vec<String>, Failure> {
    let plain = |word: &str| {
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':');
        !word.is_empty() && word.bytes().all(of_name)
    };
    text.split(',')
        .map(|part| {
            let (module, level) = part.rsplit_once(':').unwrap_or(("level", part));
            if plain(module) && plain(level) {
                Ok(format!("{module}={level}"))
            } else {
                Err(Failure::usage(format!(
                    "--level {text:?}: {part:?} is not understood; accepted are LEVEL and MODULE:LEVEL, such as debug or proxy::inbound:debug"
                )))
            }
        })
        .collect()
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["NAME", "ACTIVE LOG LEVEL"]);
    for row in rows {
        table.row([row.name.as_str().into(), row.level.as_str().into()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_as_in_istioctl() {
        for (text, expected) in [
            ("debug", Some(vec!["level=debug"])),
            ("proxy::inbound:debug", Some(vec!["proxy::inbound=debug"])),
            ("warn,h2:off", Some(vec!["level=warn", "h2=off"])),
            ("", None),
            ("h2:", None),
            ("a b", None),
            ("a&b:debug", None),
        ] {
            match (changes(text), expected) {
                (Ok(changes), Some(expected)) => assert_eq!(changes, expected, "{text}"),
                (Err(failure), None) => assert_eq!(failure.status(), 2, "{text}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn each_sidecar_has_a_row() {
        let row = |name: &str, level: &str| Row {
            name: name.into(),
            level: level.into(),
        };
        assert_eq!(
            table(&[row("web-1.shop", "info"), row("web-2.shop", "info,h2=off")]).text(false),
            "NAME           ACTIVE LOG LEVEL\nweb-1.shop     info\nweb-2.shop     info,h2=off\n"
        );
    }
}
