//! `fault`.

use mesh_core::routing::{Abort, AbortWith, Delay, Fault, Percent};

use super::Report;
use crate::duration;
use crate::virtual_service::resource;

/// gRPC's statuses, each at its number.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) fn parse(path: &str, fault: Option<&resource::Fault>, report: &mut Report) -> Fault {
    let Some(fault) = fault else {
        return Fault::default();
    };
    if fault.abort.is_none() && fault.delay.is_none() {
        report.refuse(path, "{}", "at least one of abort and delay");
    }
    let abort = fault.abort.as_ref();
    let delay = fault.delay.as_ref();
    Fault {
        delay: delay.and_then(|found| delayed(&format!("{path}.delay"), found, report)),
        abort: abort.and_then(|found| aborted(&format!("{path}.abort"), found, report)),
    }
}

fn delayed(path: &str, delay: &resource::Delay, report: &mut Report) -> Option<Delay> {
    if delay.exponential_delay.is_some() {
        report.refuse(format!("{path}.exponentialDelay"), "given", "fixedDelay in its place");
    }
    report.duration(format!("{path}.fixedDelay"), delay.fixed_delay.as_deref());
    #[allow(clippy::cast_precision_loss)] // At most 100 counts.
    let old = Percent::from_percent(delay.percent.unwrap_or(0) as f64);
    let percent = share(path, delay.percentage.as_ref(), report).unwrap_or(old);
    let fixed = delay.fixed_delay.as_deref().and_then(duration::parse)?;
    Some(Delay { fixed, percent })
}

fn aborted(path: &str, abort: &resource::Abort, report: &mut Report) -> Option<Abort> {
    // Where nothing is said, no request is aborted.
    let percent = share(path, abort.percentage.as_ref(), report).unwrap_or(Percent(0));
    let kinds = [
        ("httpStatus", abort.http_status.is_some()),
        ("grpcStatus", abort.grpc_status.is_some()),
        ("http2Error", abort.http2_error.is_some()),
    ];
    let given: Vec<&str> = kinds
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name)
        .collect();
    if given.len() > 1 {
        report.refuse(path, given.join(", "), "one of httpStatus and grpcStatus");
    }
    if abort.http2_error.is_some() {
        report.refuse(
            format!("{path}.http2Error"),
            "given",
            "httpStatus or grpcStatus in its place",
        );
        return None;
    }
    let with = if let Some(name) = &abort.grpc_status {
        let number = (0_u8..).zip(GRPC).find(|(_, known)| known == name);
        if number.is_none() {
            report.refuse(
                format!("{path}.grpcStatus"),
                name,
                format!("one of {}", GRPC.join(", ")),
            );
        }
        number.map(|(number, _)| AbortWith::Grpc(number))
    } else if let Some(status) = abort.http_status {
        status_code(&format!("{path}.httpStatus"), status, report).map(AbortWith::Status)
    } else {
        report.warn(format!(
            "{path} says no httpStatus and no grpcStatus, and aborts nothing"
        ));
        None
    };
    with.map(|with| Abort { with, percent })
}

/// A status that the mesh itself answers with.
pub(super) fn status_code(field: &str, status: i64, report: &mut Report) -> Option<u16> {
    let code = u16::try_from(status).ok().filter(|code| (200..=600).contains(code));
    if code.is_none() {
        report.refuse(field, status, "200 to 599");
    }
    code
}

fn share(path: &str, percentage: Option<&resource::Percent>, report: &mut Report) -> Option<Percent> {
    let value = percentage?.value.unwrap_or(0.0);
    if value != 0.0 && !(0.0001..=100.0).contains(&value) {
        report.refuse(format!("{path}.percentage.value"), value, "0, or 0.0001 to 100");
    }
    Some(Percent::from_percent(value))
}
