//! The answers for people: callers for which the same is true of a workload are told in one row.

use super::{Answer, Port};
use crate::output::{Cell, Table};

/// How many callers, and how many ports, a cell names.
const NAMED: usize = 3;

pub(super) fn table(answers: &[Answer]) -> Table {
    let mut rows: Vec<(&Answer, Vec<&str>)> = Vec::new();
    for answer in answers {
        // Answers come by destination, so that what is alike is near.
        let of_destination = rows
            .iter_mut()
            .rev()
            .take_while(|(held, _)| held.destination == answer.destination);
        match of_destination.into_iter().find(|(held, _)| is_alike(held, answer)) {
            Some((_, sources)) => sources.push(&answer.source.title),
            None => rows.push((answer, vec![&answer.source.title])),
        }
    }
    let mut table = Table::new(&["DESTINATION", "PORTS", "SOURCE", "DECISION", "REASON", "DECIDED BY"]);
    for (answer, sources) in rows {
        let decision = match answer.decision {
            "mTLS" => Cell::from("mTLS"),
            "refused" => Cell::alarm("refused"),
            other => Cell::warning(other),
        };
        let ports: Vec<String> = answer.ports.iter().map(port).collect();
        table.row([
            answer.destination.title.as_str().into(),
            some(&ports, "*").into(),
            some(&sources, "").into(),
            decision,
            answer.reason.as_str().into(),
            answer.decided_by.join(", ").into(),
        ]);
    }
    table
}

fn is_alike(a: &Answer, b: &Answer) -> bool {
    let told = |it: &Answer| (it.ports.clone(), it.decision, it.reason.clone(), it.decided_by.clone());
    told(a) == told(b)
}

/// `SERVICE:PORT`, or the port alone where no Service leads to it. A Service is in its workload's namespace.
fn port(port: &Port) -> String {
    match &port.service {
        Some(service) => {
            let name = service.rsplit_once('/').map_or(service.as_str(), |(_, name)| name);
            format!("{name}:{}", port.port)
        }
        None => port.port.to_string(),
    }
}

fn some(items: &[impl AsRef<str>], none: &str) -> String {
    let named: Vec<&str> = items.iter().take(NAMED).map(AsRef::as_ref).collect();
    match items.len() {
        0 => none.to_owned(),
        all if all > NAMED => format!("{} and {} more", named.join(", "), all - NAMED),
        _ => named.join(", "),
    }
}
