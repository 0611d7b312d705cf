//! One entry of `http`.

use mesh_core::routing::{HttpRoute, HttpRule, Mirror, Percent, Reference};

use super::{Report, Whole, action, cors, destination, fault, headers, matches, retries};
use crate::duration;
use crate::virtual_service::resource;

pub(super) fn parse(path: &str, route: &resource::HttpRoute, whole: &Whole<'_>, report: &mut Report) -> HttpRule {
    action::check_conflicts(path, route, whole.is_delegate(), report);
    let matches = route
        .matches
        .iter()
        .flatten()
        .enumerate()
        .map(|(at, found)| matches::parse(&format!("{path}.match[{at}]"), found, whole, report))
        .collect();
    let mut edits = headers::parse(&format!("{path}.headers"), route.headers.as_ref(), report);
    let action = action::parse(path, route, &mut edits, report);
    report.duration(format!("{path}.timeout"), route.timeout.as_deref());
    let delegate = route.delegate.as_ref().map(|delegate| {
        let namespace = delegate.namespace.as_deref().filter(|name| !name.is_empty());
        (
            namespace.unwrap_or(whole.namespace).into(),
            delegate.name.as_deref().unwrap_or_default().into(),
        )
    });
    HttpRule {
        matches,
        delegate,
        route: HttpRoute {
            name: route.name.as_deref().unwrap_or_default().into(),
            matches: Vec::new(),
            action,
            headers: edits,
            fault: fault::parse(&format!("{path}.fault"), route.fault.as_ref(), report),
            timeout: route.timeout.as_deref().and_then(duration::parse),
            retries: route
                .retries
                .as_ref()
                .map(|found| retries::parse(&format!("{path}.retries"), found, report)),
            mirrors: mirrors(path, route, report),
            cors: route
                .cors_policy
                .as_ref()
                .map(|found| cors::parse(&format!("{path}.corsPolicy"), found, report)),
        },
    }
}

fn mirrors(path: &str, route: &resource::HttpRoute, report: &mut Report) -> Vec<Mirror<Reference>> {
    let mut parsed = Vec::new();
    let deprecated = route.mirror_percent.or(route.mirror_percent_snake);
    if let Some(percent) = deprecated {
        report.range(format!("{path}.mirrorPercent"), Some(percent), 0, 100);
        report.warn(format!("{path}.mirrorPercent is deprecated: use mirrorPercentage"));
    }
    let percentage = share(
        &format!("{path}.mirrorPercentage"),
        route.mirror_percentage.as_ref(),
        report,
    );
    if let Some(mirror) = &route.mirror {
        let target = destination::parse(&format!("{path}.mirror"), mirror, report);
        #[allow(clippy::cast_precision_loss)] // At most 100.
        let old = deprecated.map(|percent| Percent::from_percent(percent as f64));
        parsed.push((target, percentage.or(old)));
    }
    for (at, mirror) in route.mirrors.iter().flatten().enumerate() {
        let path = format!("{path}.mirrors[{at}]");
        let target = destination::needed(&format!("{path}.destination"), mirror.destination.as_ref(), report);
        let percent = share(&format!("{path}.percentage"), mirror.percentage.as_ref(), report);
        parsed.push((target, percent));
    }
    let all = parsed.into_iter().map(|(target, percent)| Mirror {
        target,
        cluster: "".into(),
        percent: percent.unwrap_or(Percent::ALL),
    });
    all.filter(|mirror| mirror.percent > Percent(0)).collect()
}

/// A share that is there; one without a value is zero, as protobuf has it.
fn share(path: &str, percent: Option<&resource::Percent>, report: &mut Report) -> Option<Percent> {
    let value = percent?.value.unwrap_or(0.0);
    if !(0.0..=100.0).contains(&value) {
        report.refuse(format!("{path}.value"), value, "0 to 100");
    }
    Some(Percent::from_percent(value))
}
