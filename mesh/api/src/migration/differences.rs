//! Fields of the mesh's own kinds that have an effect, and another one than under Istio.

use serde_json::Value;

use super::{Found, Level};

pub(super) fn look(kind: &str, object: &Value, found: &mut Found) {
    let spec = &object["spec"];
    match kind {
        "DestinationRule" => {
            let selected = spec["workloadSelector"].is_object();
            of_policy("spec.trafficPolicy", &spec["trafficPolicy"], selected, found);
            for (at, subset) in list(&spec["subsets"]) {
                let path = format!("spec.subsets[{at}].trafficPolicy");
                of_policy(&path, &subset["trafficPolicy"], selected, found);
            }
        }
        "VirtualService" => of_routes(spec, found),
        _ => {}
    }
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

fn of_policy(path: &str, policy: &Value, selected: bool, found: &mut Found) {
    of_tls(&format!("{path}.tls"), &policy["tls"], selected, found);
    for (at, port) in list(&policy["portLevelSettings"]) {
        of_tls(
            &format!("{path}.portLevelSettings[{at}].tls"),
            &port["tls"],
            selected,
            found,
        );
    }
}

fn of_tls(path: &str, tls: &Value, selected: bool, found: &mut Found) {
    let there = |name: &str| tls[name].as_str().is_some_and(|text| !text.is_empty());
    let originates = matches!(tls["mode"].as_str(), Some("SIMPLE" | "MUTUAL"));
    if originates && there("credentialName") && !selected {
        found.add(
            Level::Differs,
            &format!("{path}.credentialName"),
            "sidecars refuse connections under it; Istio's connect in the clear",
            "mount the certificates (sidecar.istio.io/userVolume) and name the files",
        );
    }
    let names = tls["subjectAltNames"].as_array().is_some_and(|names| !names.is_empty());
    if originates && there("sni") && !names && tls["insecureSkipVerify"] != Value::Bool(true) {
        found.add(
            Level::Differs,
            &format!("{path}.sni"),
            "the server's certificate must have that name; Istio verifies its chain alone",
            "write subjectAltNames if the certificate has another name",
        );
    }
}

fn of_routes(spec: &Value, found: &mut Found) {
    for (at, route) in list(&spec["http"]) {
        let code = route["redirect"]["redirectCode"].as_u64().unwrap_or(301);
        if !matches!(code, 0 | 301 | 302 | 303 | 307 | 308) {
            found.add(
                Level::Differs,
                &format!("spec.http[{at}].redirect.redirectCode"),
                format!("{code} is sent; Istio's proxies refuse the route"),
                "write 301, 302, 303, 307 or 308",
            );
        }
    }
    for (at, route) in list(&spec["tcp"]) {
        for (of, matched) in list(&route["match"]) {
            if matched["sourceSubnet"].as_str().is_some_and(|text| !text.is_empty()) {
                found.add(
                    Level::Differs,
                    &format!("spec.tcp[{at}].match[{of}].sourceSubnet"),
                    "it counts; Istio accepts it and never looks at it",
                    "take it out if connections of all clients are meant",
                );
            }
        }
    }
}
