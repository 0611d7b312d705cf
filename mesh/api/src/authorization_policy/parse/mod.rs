//! From the resource to the domain's policy, with Istio's validation (istio/istio pkg/config/validation,
//! `ValidateAuthorizationPolicy`).

mod condition;
mod rule;
mod values;

pub(super) use values::wildcard_inside;

use kube::ResourceExt;
use mesh_core::authorization::policy::{Action, Policy, Rule, Target};

use super::AuthorizationPolicy;
use super::resource::MOST_RULES;
use crate::{Invalid, target};

/// The annotation that makes a policy tell what it would do, and do nothing.
pub const DRY_RUN: &str = "istio.io/dry-run";
const ACTIONS: &str = "one of ALLOW, DENY, AUDIT, CUSTOM";

/// Reads a resource from an API object of either version. Unknown fields and an absent `spec` are fine, as for the API
/// server.
///
/// # Errors
/// One that names the object when it is not of the resource's shape at all.
pub fn read(object: serde_json::Value) -> Result<AuthorizationPolicy, Invalid> {
    crate::object::read(object, "an object of security.istio.io/v1")
}

/// Parses a resource into which workloads it is for and the policy that decides.
///
/// # Errors
/// Every field that is not accepted, with its path, its value and what is.
pub fn parse(resource: &AuthorizationPolicy) -> Result<(Target, Policy), Vec<Invalid>> {
    let mut errors = Vec::new();
    let parsed = strictest_of(resource, &mut errors);
    if errors.is_empty() { Ok(parsed) } else { Err(errors) }
}

/// What holds of a resource whether it parses or not, so that a mistake never opens what it should close: of one that does
/// not, an ALLOW policy keeps the rules that parse and allows nothing by the others; a rule of a DENY or CUSTOM policy that
/// does not parse matches everything; an action that is none refuses everything.
#[must_use]
pub fn strictest(resource: &AuthorizationPolicy) -> (Target, Policy) {
    strictest_of(resource, &mut Vec::new())
}

fn strictest_of(resource: &AuthorizationPolicy, errors: &mut Vec<Invalid>) -> (Target, Policy) {
    let spec = &resource.spec;
    let target = target::parse(
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        spec.target_refs.as_deref(),
        errors,
    );
    let namespace = resource.namespace().unwrap_or_default();
    let known = action(resource, errors);
    let rules = match &known {
        Some(action) => rules(resource, action, &namespace, errors),
        None => vec![Rule::default()],
    };
    let action = known.unwrap_or(Action::Deny);
    let dry_run = dry_run(resource, &action, errors);
    let policy = Policy {
        namespace,
        name: resource.name_any(),
        action,
        rules,
        dry_run,
    };
    (target, policy)
}

fn action(resource: &AuthorizationPolicy, errors: &mut Vec<Invalid>) -> Option<Action> {
    let spec = &resource.spec;
    let provider = spec
        .provider
        .as_ref()
        .map(|provider| provider.name.clone().unwrap_or_default());
    let name = spec.action.as_deref().unwrap_or("ALLOW");
    let action = match name {
        "ALLOW" => Action::Allow,
        "DENY" => Action::Deny,
        "AUDIT" => Action::Audit,
        "CUSTOM" => {
            let provider = provider.unwrap_or_default();
            if provider.is_empty() {
                errors.push(Invalid::new(
                    "spec.provider.name",
                    "",
                    "the name of one of meshConfig.extensionProviders, which action CUSTOM needs",
                ));
            }
            return Some(Action::Custom(provider));
        }
        other => {
            errors.push(Invalid::new("spec.action", other, ACTIONS));
            return None;
        }
    };
    if let Some(provider) = provider {
        let accepted = format!("no provider beside action {name}: it goes with CUSTOM alone");
        errors.push(Invalid::new("spec.provider.name", provider, accepted));
    }
    Some(action)
}

fn rules(resource: &AuthorizationPolicy, action: &Action, namespace: &str, errors: &mut Vec<Invalid>) -> Vec<Rule> {
    let given = resource.spec.rules.as_deref().unwrap_or_default();
    if given.is_empty() && matches!(action, Action::Deny | Action::Custom(_)) {
        errors.push(Invalid::new(
            "spec.rules",
            "[]",
            "at least one rule beside action DENY or CUSTOM, which would match nothing; the empty rule {} matches everything",
        ));
    }
    if given.len() > MOST_RULES {
        let number = format!("{} rules", given.len());
        errors.push(Invalid::new("spec.rules", number, format!("at most {MOST_RULES}")));
    }
    let mut rules = Vec::with_capacity(given.len());
    for (at, rule) in given.iter().enumerate() {
        let path = format!("spec.rules[{at}]");
        let before = errors.len();
        let parsed = rule::parse(&path, rule, namespace, matches!(action, Action::Custom(_)), errors);
        if errors.len() == before {
            rules.push(parsed);
        } else if matches!(action, Action::Deny | Action::Custom(_)) {
            rules.push(Rule::default());
        }
    }
    rules
}

/// Reads the annotation as Go reads a boolean; Istio knows it with ALLOW and DENY alone.
fn dry_run(resource: &AuthorizationPolicy, action: &Action, errors: &mut Vec<Invalid>) -> bool {
    let Some(text) = resource.annotations().get(DRY_RUN) else {
        return false;
    };
    let field = format!("metadata.annotations[{DRY_RUN}]");
    if !matches!(action, Action::Allow | Action::Deny) {
        errors.push(Invalid::new(
            field,
            text,
            "no such annotation unless the action is ALLOW or DENY",
        ));
        return false;
    }
    match text.as_str() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
        "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
        _ => {
            errors.push(Invalid::new(field, text, "true or false"));
            false
        }
    }
}

#[cfg(test)]
mod tests;
