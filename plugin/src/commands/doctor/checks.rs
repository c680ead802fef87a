//! What is made of what was seen.

use jiff::Timestamp;
use serde::Serialize;
use signingkeyring_core::guard::Guard;

use crate::age;

/// One check.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub health: Health,
    pub found: String,
    /// It one by one, for who wants all there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What to do, if something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Health {
    /// It is as it should be.
    Fine,
    /// It cannot be seen.
    Unknown,
    /// It is not.
    Wrong,
}

impl Check {
    /// All is well.
    pub fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Health::Fine, found.into(), None)
    }

    /// Something is wrong, and this helps.
    pub fn wrong(name: &'static str, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(name, Health::Wrong, found.into(), Some(help.into()))
    }

    /// Nobody can tell, and this helps.
    pub fn unknown(name: &'static str, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(name, Health::Unknown, found.into(), Some(help.into()))
    }

    const fn new(name: &'static str, health: Health, found: String, help: Option<String>) -> Self {
        Self { name, health, found, details: Vec::new(), help }
    }
}

/// The oldest Kubernetes with the API that the guard is.
const OLDEST_KUBERNETES: (u32, u32) = (1, 30);

/// How far apart two clocks may be.
const SKEW: i64 = 5;

/// How old the renewal of a Lease may be that is renewed every two seconds.
const RENEWED: i64 = 30;

/// The API server's version.
pub fn kubernetes(major: &str, minor: &str) -> Check {
    let name = "Kubernetes";
    let digits = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let (oldest_major, oldest_minor) = OLDEST_KUBERNETES;
    match (digits(major), digits(minor)) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_KUBERNETES => {
            Check::fine(name, format!("{major}.{minor}"))
        }
        (Some(major), Some(minor)) => Check::wrong(
            name,
            format!("{major}.{minor}"),
            format!("the guard needs {oldest_major}.{oldest_minor}: upgrade the cluster"),
        ),
        _ => Check::unknown(name, format!("{major}.{minor}"), "its version is no number"),
    }
}

/// This machine's clock beside the API server's.
pub fn clock(here: Timestamp, there: Option<Timestamp>) -> Check {
    let name = "Clock";
    let Some(there) = there else {
        return Check::unknown(
            name,
            "the API server does not tell its time",
            "compare them by hand",
        );
    };
    let ahead = here.duration_since(there).as_secs();
    match ahead.abs() {
        0..=SKEW => Check::fine(name, "as the API server's"),
        _ => Check::wrong(
            name,
            format!(
                "this machine is {} {} the API server",
                age::brief(jiff::SignedDuration::from_secs(ahead.abs())),
                if ahead > 0 { "ahead of" } else { "behind" }
            ),
            "set one of the clocks: schedules, expiries and the ages shown here go by them",
        ),
    }
}

/// The CRDs that are missing.
pub fn crds(missing: &[&str]) -> Check {
    let name = "CRDs";
    match missing {
        [] => Check::fine(name, "all are served"),
        missing => Check::wrong(
            name,
            format!("not served: {}", missing.join(", ")),
            "install them: kubectl apply -k manifests",
        ),
    }
}

/// Who works, by the operator's Lease.
#[derive(Debug)]
pub enum Leader {
    /// There is no Lease.
    None,
    /// One may not look.
    Unseen(String),
    /// Somebody holds it.
    Held { by: Option<String>, renewed: Option<Timestamp> },
}

/// Whether the operator works.
pub fn operator(leader: &Leader, namespace: &str, now: Timestamp) -> Check {
    let name = "Operator";
    let logs =
        || format!("look at its logs: kubectl logs -n {namespace} deploy/signingkeyring-operator");
    match leader {
        Leader::Unseen(why) => Check::unknown(
            name,
            format!("its Lease cannot be read: {why}"),
            "ask who may; a ring whose status is old tells the same",
        ),
        Leader::None => Check::unknown(
            name,
            format!("there is no Lease in namespace {namespace}"),
            "name its namespace with --operator-namespace; without --leader-elect it has none",
        ),
        Leader::Held { by: None, .. } => {
            Check::wrong(name, "nobody holds its Lease, so nobody works", logs())
        }
        Leader::Held { by: Some(by), renewed } => {
            let age = renewed.map(|renewed| now.duration_since(renewed).as_secs());
            match age {
                Some(..=RENEWED) => Check::fine(name, format!("{by} works")),
                _ => Check::wrong(
                    name,
                    match renewed {
                        Some(then) => {
                            format!("{by} renewed its Lease {} ago", age::since(*then, now))
                        }
                        None => format!("{by} has never renewed its Lease"),
                    },
                    logs(),
                ),
            }
        }
    }
}

/// The guard.
pub fn guard(guard: &Result<Guard, String>) -> Check {
    let name = "Guard";
    match guard {
        Ok(Guard::Fits) => Check::fine(name, "whole, and told the same names"),
        Ok(Guard::Absent) => Check::wrong(
            name,
            "not installed: whoever may write Kyverno policies in a namespace, label namespaces \
             or patch rings may undo the check",
            "kubectl apply -k manifests/guard",
        ),
        Ok(Guard::Differs(differences)) => Check::wrong(
            name,
            differences.join("; "),
            "apply manifests/guard with the names of your installation (README.md, Install and \
             uninstall)",
        ),
        Err(why) => Check::unknown(
            name,
            format!("it cannot be read: {why}"),
            "ask who may; the metric signingkeyring_guard_state says what the operator sees",
        ),
    }
}

/// The rings: how many, and the names of those that are not ready.
pub fn rings(all: usize, not_ready: &[String]) -> Check {
    let name = "Rings";
    match not_ready {
        [] => Check::fine(name, format!("{all}, all of them ready")),
        names => {
            let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
            let more = match names.len().saturating_sub(shown.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Check::wrong(
                name,
                format!("{} of {all} not ready: {}{more}", names.len(), shown.join(", ")),
                "kubectl signing status RING says why and what to do",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(kubernetes("1", "36").health, Health::Fine);
        assert_eq!(kubernetes("1", "30+").health, Health::Fine);
        assert_eq!(kubernetes("1", "9").health, Health::Wrong);
        assert_eq!(kubernetes("", "x").health, Health::Unknown);
    }

    #[test]
    fn a_clock_that_is_wrong_says_how() {
        assert_eq!(clock(at(5), Some(at(0))).health, Health::Fine);
        assert_eq!(clock(at(300), Some(at(0))).found, "this machine is 5m ahead of the API server");
        assert_eq!(clock(at(-90), Some(at(0))).found, "this machine is 90s behind the API server");
        assert_eq!(clock(at(0), None).health, Health::Unknown);
    }

    #[test]
    fn an_operator_works_that_renews_its_lease() {
        let held = |by: Option<&str>, renewed: Option<i64>| {
            let leader = Leader::Held { by: by.map(str::to_owned), renewed: renewed.map(at) };
            operator(&leader, "signing-system", at(0)).health
        };
        assert_eq!(held(Some("a"), Some(-10)), Health::Fine);
        assert_eq!(held(Some("a"), Some(-31)), Health::Wrong);
        assert_eq!(held(Some("a"), None), Health::Wrong);
        assert_eq!(held(None, Some(-1)), Health::Wrong);
        assert_eq!(operator(&Leader::None, "x", at(0)).health, Health::Unknown);
    }

    #[test]
    fn whatever_is_not_fine_says_what_to_do() {
        let held = |by: Option<&str>| Leader::Held { by: by.map(str::to_owned), renewed: None };
        let differs = Guard::Differs(vec!["signing-guard-pods is not bound".to_owned()]);
        for (check, health, says) in [
            (kubernetes("1", "29"), Health::Wrong, "upgrade the cluster"),
            (kubernetes("1", "x"), Health::Unknown, "no number"),
            (clock(at(300), Some(at(0))), Health::Wrong, "set one of the clocks"),
            (clock(at(0), None), Health::Unknown, "by hand"),
            (crds(&["unknownrings"]), Health::Wrong, "kubectl apply -k manifests"),
            (operator(&held(None), "x", at(0)), Health::Wrong, "kubectl logs -n x"),
            (operator(&held(Some("a")), "x", at(0)), Health::Wrong, "kubectl logs -n x"),
            (operator(&Leader::None, "x", at(0)), Health::Unknown, "--operator-namespace"),
            (operator(&Leader::Unseen("no".into()), "x", at(0)), Health::Unknown, "ask who may"),
            (guard(&Ok(Guard::Absent)), Health::Wrong, "kubectl apply -k manifests/guard"),
            (guard(&Ok(differs)), Health::Wrong, "apply manifests/guard with the names"),
            (guard(&Err("no".into())), Health::Unknown, "ask who may"),
            (rings(1, &["a".into()]), Health::Wrong, "kubectl signing status RING"),
        ] {
            assert_eq!(check.health, health, "{check:?}");
            assert!(check.help.as_ref().is_some_and(|help| help.contains(says)), "{check:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(crds(&["a", "b"]).found, "not served: a, b");
        assert_eq!(guard(&Ok(Guard::Absent)).health, Health::Wrong);
        assert_eq!(guard(&Err("forbidden".into())).health, Health::Unknown);
        let names: Vec<String> = (0..7).map(|number| format!("r{number}")).collect();
        assert_eq!(rings(9, &names).found, "7 of 9 not ready: r0, r1, r2, r3, r4 and 2 more");
    }
}
