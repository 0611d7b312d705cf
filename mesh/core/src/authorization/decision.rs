//! What is decided, and how it is told.

use std::fmt;

/// A rule of a policy, as decisions name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleRef {
    /// The policy's namespace.
    pub namespace: String,
    /// The policy's name.
    pub name: String,
    /// The rule's place in `spec.rules`, from 0.
    pub rule: usize,
}

impl RuleRef {
    /// The policy's `namespace/name`.
    #[must_use]
    pub fn policy(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// As Istio names the rule to Envoy.
impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ns[{}]-policy[{}]-rule[{}]", self.namespace, self.name, self.rule)
    }
}

/// Whether something may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It may.
    Allowed {
        /// The ALLOW rule that lets it; none where there is no ALLOW policy.
        by: Option<&'a RuleRef>,
    },
    /// It may not.
    Denied {
        /// The DENY rule that refuses it; none where there are ALLOW policies, and none of their rules matches.
        by: Option<&'a RuleRef>,
    },
}

impl Outcome<'_> {
    /// Whether it may pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// Envoy's response code detail of a denial.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Allowed { .. } => None,
            Self::Denied { by: Some(rule) } => Some(format!("rbac_access_denied_matched_policy[{rule}]")),
            Self::Denied { by: None } => Some("rbac_access_denied_matched_policy[none]".to_owned()),
        }
    }
}

/// What the DENY, ALLOW and AUDIT policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it may pass.
    pub outcome: Outcome<'a>,
    /// The AUDIT rules that match.
    pub audits: Vec<&'a RuleRef>,
    /// What the outcome would be if the dry-run policies were in force beside the others. `None`: there are none.
    pub shadow: Option<Outcome<'a>>,
}

/// A CUSTOM rule that matches: its provider is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Custom<'a> {
    /// The name of the extension provider.
    pub provider: &'a str,
    /// The rule.
    pub rule: &'a RuleRef,
}

/// The ALLOW rule that came nearest to matching, and what kept it from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest<'a> {
    /// The rule.
    pub rule: &'a RuleRef,
    /// Its first field that does not match, as in `from[0].source.principals` or `when[source.ip].notValues`.
    pub field: String,
    /// The field's values; the first few, and then how many more there are.
    pub expected: Vec<String>,
    /// What was there instead. `None`: nothing was, as without an identity, a token, or HTTP. What may hold a secret is
    /// hidden.
    pub seen: Option<String>,
}

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?} ", self.rule, self.field, self.expected)?;
        match &self.seen {
            Some(seen) => write!(f, "does not match {seen:?}"),
            None => write!(f, "finds nothing to match"),
        }
    }
}
