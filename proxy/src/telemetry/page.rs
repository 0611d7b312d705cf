//! The metrics as Prometheus' text format (version 0.0.4) writes them.

use super::access_log::Counts;
use super::histogram::{Counted, LE};
use super::series::{Base, Key, Labels, Totals};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write;
use std::sync::Arc;

/// Histograms of requests, in the order of their totals.
const HISTOGRAMS: [(&str, &str); 3] = [
    (
        "istio_request_duration_milliseconds",
        "How long requests took, from their head to the last byte of their response.",
    ),
    ("istio_request_bytes", "Sizes of request bodies."),
    ("istio_response_bytes", "Sizes of response bodies."),
];

/// Counters of connections, in the order of their totals.
const CONNECTIONS: [(&str, &str); 4] = [
    ("istio_tcp_connections_opened_total", "Opaque connections opened."),
    ("istio_tcp_connections_closed_total", "Opaque connections closed."),
    (
        "istio_tcp_received_bytes_total",
        "Bytes from the initiators of opaque connections.",
    ),
    (
        "istio_tcp_sent_bytes_total",
        "Bytes to the initiators of opaque connections.",
    ),
];

/// Counters of gRPC messages.
const MESSAGES: [(&str, &str); 2] = [
    ("istio_request_messages_total", "gRPC messages in requests."),
    ("istio_response_messages_total", "gRPC messages in responses."),
];

/// Writes all series of all workers.
pub(super) fn write(page: &mut String, bases: &[Arc<Base>], carried: Vec<(Labels, Key, Totals)>) {
    let mut series: BTreeMap<(Labels, Key), Totals> = BTreeMap::new();
    let own = bases.iter().flat_map(|base| {
        base.all()
            .map(|(key, series)| (base.labels.clone(), key, series.read()))
    });
    for (labels, key, totals) in own.chain(carried) {
        match series.entry((labels, key)) {
            Entry::Occupied(mut held) => held.get_mut().merge(&totals),
            Entry::Vacant(free) => drop(free.insert(totals)),
        }
    }
    let requests: Vec<(String, &[Counted; 3])> = series
        .iter()
        .filter_map(|((labels, key), totals)| match totals {
            Totals::Requests(totals) => Some((request_labels(labels, *key), &**totals)),
            Totals::Connections(_) => None,
        })
        .collect();
    if !requests.is_empty() {
        head(page, "istio_requests_total", "counter", "Requests.");
        for (labels, [durations, ..]) in &requests {
            let _ = writeln!(page, "istio_requests_total{{{labels}}} {}", durations.count());
        }
        for (at, (name, help)) in HISTOGRAMS.into_iter().enumerate() {
            head(page, name, "histogram", help);
            for (labels, totals) in &requests {
                if let Some(counted) = totals.get(at) {
                    histogram(page, name, labels, counted);
                }
            }
        }
    }
    let mut messages: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for base in bases {
        let counted = [base.messages.request.get(), base.messages.response.get()];
        if counted != [0, 0] {
            let sum = messages.entry(&base.labels.common).or_default();
            for (to, from) in sum.iter_mut().zip(counted) {
                *to += from;
            }
        }
    }
    if !messages.is_empty() {
        for (at, (name, help)) in MESSAGES.into_iter().enumerate() {
            head(page, name, "counter", help);
            for (labels, counted) in &messages {
                let _ = writeln!(
                    page,
                    "{name}{{{labels}}} {}",
                    counted.get(at).copied().unwrap_or_default()
                );
            }
        }
    }
    let connections: Vec<(String, [u64; 4])> = series
        .iter()
        .filter_map(|((labels, key), totals)| match totals {
            Totals::Connections(totals) => Some((connection_labels(labels, *key), *totals)),
            Totals::Requests(_) => None,
        })
        .collect();
    if !connections.is_empty() {
        for (at, (name, help)) in CONNECTIONS.into_iter().enumerate() {
            head(page, name, "counter", help);
            for (labels, totals) in &connections {
                let _ = writeln!(
                    page,
                    "{name}{{{labels}}} {}",
                    totals.get(at).copied().unwrap_or_default()
                );
            }
        }
    }
}

/// Writes what the telemetry says of itself.
pub(super) fn write_own(page: &mut String, overflowed: u64, log: Counts) {
    head(page, "istio_build", "gauge", "What runs here.");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(page, "istio_build{{component=\"proxy\",tag=\"{version}\"}} 1");
    for (name, help, value) in [
        (
            "pinnace_proxy_telemetry_overflow_total",
            "Requests and connections counted under the labels other, for want of room.",
            overflowed,
        ),
        (
            "pinnace_proxy_access_log_lines_total",
            "Lines of the access log handed to its writer.",
            log.written,
        ),
        (
            "pinnace_proxy_access_log_lost_total",
            "Lines of the access log that were lost because the writer had no room or could not write.",
            log.lost,
        ),
    ] {
        head(page, name, "counter", help);
        let _ = writeln!(page, "{name} {value}");
    }
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn request_labels(labels: &Labels, key: Key) -> String {
    let status = key.status().map(|status| status.to_string()).unwrap_or_default();
    format!(
        "{},request_protocol=\"{}\",response_code=\"{}\",grpc_response_status=\"{status}\",response_flags=\"{}\",connection_security_policy=\"{}\"",
        labels.common,
        if key.is_grpc() { "grpc" } else { "http" },
        key.code(),
        key.flags(),
        labels.security,
    )
}

fn connection_labels(labels: &Labels, key: Key) -> String {
    format!(
        "{},request_protocol=\"tcp\",response_flags=\"{}\",connection_security_policy=\"{}\"",
        labels.common,
        key.flags(),
        labels.security,
    )
}

fn histogram(page: &mut String, name: &str, labels: &str, counted: &Counted) {
    let mut sum = 0;
    for (le, count) in LE.into_iter().zip(counted.buckets) {
        sum += count;
        let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{le}\"}} {sum}");
    }
    let (whole, thousandths) = (counted.sum / 1000, counted.sum % 1000);
    let _ = if thousandths == 0 {
        writeln!(page, "{name}_sum{{{labels}}} {whole}")
    } else {
        writeln!(page, "{name}_sum{{{labels}}} {whole}.{thousandths:03}")
    };
    let _ = writeln!(page, "{name}_count{{{labels}}} {sum}");
}

#[cfg(test)]
mod tests {
    use super::super::flags::Flags;
    use super::super::series::Series;
    use super::*;

    fn base(security: &'static str) -> Base {
        Base::new(Labels {
            common: "reporter=\"source\"".into(),
            security,
        })
    }

    #[test]
    fn workers_are_added_up_and_families_stand_together() {
        let bases = [base("unknown"), base("unknown")];
        for base in &bases {
            let Series::Requests(requests) = base.find_or_add(Key::http(200, Flags::NONE, Some(Some(0)))) else {
                panic!("requests")
            };
            requests.duration.observe(1_500);
            requests.sent.observe(10_000);
            base.messages.response.add(3);
            let Series::Connections(connections) = base.find_or_add(Key::tcp(Flags::UF)) else {
                panic!("connections")
            };
            connections.opened.add(1);
        }
        let labels = Labels {
            common: "reporter=\"source\"".into(),
            security: "unknown",
        };
        let carried = vec![(labels, Key::tcp(Flags::UF), Totals::Connections([5, 6, 7, 8]))];
        let mut page = String::new();
        write(&mut page, &bases.map(Arc::new), carried);
        write_own(&mut page, 1, Counts { written: 2, lost: 3 });
        let request = "reporter=\"source\",request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"0\",\
                       response_flags=\"-\",connection_security_policy=\"unknown\"";
        let tcp =
            "reporter=\"source\",request_protocol=\"tcp\",response_flags=\"UF\",connection_security_policy=\"unknown\"";
        for line in [
            format!("istio_requests_total{{{request}}} 2"),
            format!("istio_request_duration_milliseconds_bucket{{{request},le=\"1\"}} 0"),
            format!("istio_request_duration_milliseconds_bucket{{{request},le=\"5\"}} 2"),
            format!("istio_request_duration_milliseconds_sum{{{request}}} 3"),
            format!("istio_response_bytes_bucket{{{request},le=\"+Inf\"}} 2"),
            format!("istio_response_bytes_sum{{{request}}} 20"),
            "istio_response_messages_total{reporter=\"source\"} 6".to_owned(),
            format!("istio_tcp_connections_opened_total{{{tcp}}} 7"),
            format!("istio_tcp_sent_bytes_total{{{tcp}}} 8"),
            "pinnace_proxy_access_log_lost_total 3".to_owned(),
        ] {
            assert!(page.lines().any(|it| it == line), "{line} in\n{page}");
        }
        let families: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut once = families.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(families.len(), once.len(), "each family is declared once");
    }
}
