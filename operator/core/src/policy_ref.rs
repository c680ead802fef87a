//! Which policy object: its kind, and from its name the action of the rings in
//! it and its number.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

mod kind;

pub use kind::PolicyKind;

/// What happens to a pod with an image that no accepted key signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Refused.
    Enforce,
    /// Reported.
    Audit,
}

impl Action {
    /// The name that the APIs of this operator and of Kyverno use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "Enforce",
            Self::Audit => "Audit",
        }
    }

    /// Both, as lists of policies go through them.
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Audit];
}

/// One of the operator's policy objects. Its name is read once, where it comes
/// in, and written as it was read: there is one name for a policy, and one
/// policy for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyRef {
    kind: PolicyKind,
    action: Action,
    number: u32,
}

/// A name that is not one of the operator's policies'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a policy's name is not one of the operator's")]
pub struct PolicyRefError;

impl PolicyRef {
    /// The `number`th ClusterPolicy of rings of this action. Numbers begin with 1:
    /// what is called 0 holds no ring, so 0 is taken for 1.
    #[must_use]
    pub const fn new(action: Action, number: u32) -> Self {
        let number = if number == 0 { 1 } else { number };
        Self { kind: PolicyKind::ClusterPolicy, action, number }
    }

    /// The ClusterPolicy for namespaces whose label names no ring: one of the
    /// operator's own that holds the rule of none.
    #[must_use]
    pub const fn unknown(action: Action) -> Self {
        Self { kind: PolicyKind::ClusterPolicy, action, number: 0 }
    }

    /// The policies for such namespaces, of every kind.
    pub const UNKNOWN: [Self; 4] = [
        Self::unknown(Action::Enforce),
        Self::unknown(Action::Audit),
        Self::unknown(Action::Enforce).of_kind(PolicyKind::ImageValidatingPolicy),
        Self::unknown(Action::Audit).of_kind(PolicyKind::ImageValidatingPolicy),
    ];

    /// The policy of this kind that is otherwise the same.
    #[must_use]
    pub const fn of_kind(self, kind: PolicyKind) -> Self {
        Self { kind, ..self }
    }

    /// Its number: 0 of one that holds no rings.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Whether it holds rings.
    #[must_use]
    pub const fn holds_rings(self) -> bool {
        self.number > 0
    }

    /// Which kind of object it is.
    #[must_use]
    pub const fn kind(self) -> PolicyKind {
        self.kind
    }

    /// The action of what is in it.
    #[must_use]
    pub const fn action(self) -> Action {
        self.action
    }
}

impl PolicyRef {
    /// The name that Kyverno 1.19 gives the webhook by which it is called for this policy
    /// alone, if it has one: a policy of the newer kinds that says how long it may take.
    /// Whether failures are ignored is the policy's to say, unless Kyverno is told to
    /// ignore all.
    #[must_use]
    pub fn own_webhook(self, is_ignored: bool) -> Option<String> {
        let failing = if is_ignored { "ignore" } else { "fail" };
        let own = || format!("ivpol.validate.kyverno.svc-{failing}-finegrained-{self}");
        self.kind.has_own_webhook().then(own)
    }
}

/// What the names of policies of this kind, of such rings, begin with.
///
/// Kyverno names the webhook of a namespaced policy `NAMESPACE-NAME`, and two
/// of one name freeze its webhook configuration. No namespace has a dot, so
/// nobody's policy collides with one that has a dot before its first dash.
const fn prefix(kind: PolicyKind, action: Action) -> &'static str {
    match (kind, action) {
        (PolicyKind::ClusterPolicy, Action::Enforce) => "signing-enforce-",
        (PolicyKind::ClusterPolicy, Action::Audit) => "signing-audit-",
        (PolicyKind::ImageValidatingPolicy, Action::Enforce) => "signing.enforce-",
        (PolicyKind::ImageValidatingPolicy, Action::Audit) => "signing.audit-",
    }
}

/// The object's name.
impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:04}", prefix(self.kind, self.action), self.number)
    }
}

impl FromStr for PolicyRef {
    type Err = PolicyRefError;

    fn from_str(name: &str) -> Result<Self, PolicyRefError> {
        let of = |kind: PolicyKind| {
            Action::ALL.into_iter().find_map(|action| {
                let number = name.strip_prefix(prefix(kind, action))?.parse().ok()?;
                Some(Self { kind, action, number })
            })
        };
        PolicyKind::ALL
            .into_iter()
            .find_map(of)
            // `+1`, `1` and `00001` are numbers too.
            .filter(|policy| policy.to_string() == name)
            .ok_or(PolicyRefError)
    }
}

/// What is stored (in a ledger) is where a ring is placed, and none is placed
/// in a policy that holds no rings.
impl TryFrom<String> for PolicyRef {
    type Error = PolicyRefError;

    fn try_from(name: String) -> Result<Self, PolicyRefError> {
        name.parse().ok().filter(|policy: &Self| policy.holds_rings()).ok_or(PolicyRefError)
    }
}

impl From<PolicyRef> for String {
    fn from(policy: PolicyRef) -> Self {
        policy.to_string()
    }
}

/// By name, so that lists read as `kubectl get` shows them.
impl Ord for PolicyRef {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |policy: &Self| (policy.kind, policy.action.as_str(), policy.number);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for PolicyRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_and_written_alike() {
        for (name, action) in [
            ("signing-enforce-0001", Action::Enforce),
            ("signing-audit-0007", Action::Audit),
            ("signing-audit-10000", Action::Audit),
            ("signing.enforce-0001", Action::Enforce),
            ("signing.audit-0002", Action::Audit),
        ] {
            let policy: PolicyRef = name.parse().unwrap();
            assert_eq!(policy.action(), action);
            assert_eq!(policy.kind() == PolicyKind::ImageValidatingPolicy, name.contains('.'));
            assert_eq!(policy.to_string(), name);
        }
    }

    #[test]
    fn other_names_are_somebody_elses() {
        for name in [
            "disallow-latest",
            "signing-enforce-0001-copy",
            "signing-enforce-",
            "signing-enforce-1",
            "signing-enforce-00001",
            "signing-enforce-+001",
            "signing-audit-99999999999",
            "signing-gate",
            "signing.pin-0001",
            "signing_enforce-0001",
            "",
        ] {
            assert_eq!(name.parse::<PolicyRef>(), Err(PolicyRefError), "{name}");
        }
    }

    #[test]
    fn number_0_holds_no_ring() {
        let policy: PolicyRef = "signing-enforce-0000".parse().unwrap();
        assert_eq!(policy, PolicyRef::unknown(Action::Enforce));
        assert!(!policy.holds_rings());
        assert_eq!(PolicyRef::try_from(policy.to_string()), Err(PolicyRefError));
        let first: PolicyRef = "signing-enforce-0001".parse().unwrap();
        assert_eq!(PolicyRef::new(Action::Enforce, 0), first);
        assert_eq!(PolicyRef::try_from(first.to_string()), Ok(first));
    }

    #[test]
    fn they_are_sorted_by_name() {
        let mut policies = ["signing-enforce-0001", "signing-audit-0002", "signing-audit-0001"]
            .map(|name| name.parse::<PolicyRef>().unwrap());
        policies.sort();
        let names = policies.map(|policy| policy.to_string());
        assert_eq!(names, ["signing-audit-0001", "signing-audit-0002", "signing-enforce-0001"]);
    }
}
