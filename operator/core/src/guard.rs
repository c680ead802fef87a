//! The guard (`manifests/guard`) as it is installed, compared with the operator's
//! settings: it repeats them, and one that was told something else refuses too little,
//! or what Kyverno has verified.

use std::collections::{BTreeMap, BTreeSet};

/// The value of the label [`crate::names::LABEL_NAME`] by which its parts are found.
pub const NAME: &str = "signingkeyring-guard";

/// A part of the guard: one admission policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The policy's name.
    pub name: String,
    /// Which part it is, by its label.
    pub part: String,
    /// Its variables that are texts, without their quotes.
    pub texts: BTreeMap<String, String>,
    /// The namespaces that it names in what it matches, and its bindings in where they look.
    pub namespaces: BTreeSet<String>,
    /// Whether a binding has it deny.
    pub denies: bool,
    /// Whether it refuses what it cannot judge.
    pub fails_closed: bool,
}

/// The operator's settings that the guard repeats.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The key of the enrolment label.
    pub enrolment_label: &'a str,
    /// The operator's namespace.
    pub namespace: &'a str,
    /// Kyverno's.
    pub kyverno_namespace: &'a str,
}

/// What the guard is for this operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// There is none.
    Absent,
    /// It is whole, and was told the same as the operator.
    Fits,
    /// It was told otherwise than the operator, or a part of it is missing; one sentence each.
    Differs(Vec<String>),
}

impl Guard {
    /// The words of all states.
    pub const STATES: [&'static str; 4] = ["absent", "fits", "differs", Self::UNKNOWN];

    /// The word for one that cannot be looked at.
    pub const UNKNOWN: &'static str = "unknown";

    /// A word for metrics.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Fits => "fits",
            Self::Differs(_) => "differs",
        }
    }
}

/// A setting that a part repeats.
#[derive(Clone, Copy)]
enum Setting {
    EnrolmentLabel,
    Namespace,
    KyvernoNamespace,
}

use Setting::{EnrolmentLabel, KyvernoNamespace, Namespace};

/// The part that adds to another, so that it need not refuse what it cannot judge.
const ADDS: &str = "unknown";

/// The parts, and what each repeats.
const PARTS: [(&str, &[Setting]); 8] = [
    ("enrolment", &[EnrolmentLabel, KyvernoNamespace]),
    ("namespace", &[EnrolmentLabel, Namespace]),
    ("kyverno-policies", &[]),
    ("policies", &[]),
    ("ledgers", &[Namespace]),
    ("rings", &[]),
    ("marks", &[EnrolmentLabel]),
    ("unknown", &[EnrolmentLabel, Namespace]),
];

/// Compares what is installed with the operator's settings.
#[must_use]
pub fn compare(found: &[Found], expected: Expected<'_>) -> Guard {
    if found.is_empty() {
        return Guard::Absent;
    }
    let mut differences = Vec::new();
    for (part, settings) in PARTS {
        let mut of_part = found.iter().filter(|found| found.part == part).peekable();
        if of_part.peek().is_none() {
            differences.push(format!("its part {part} is missing"));
        }
        for found in of_part {
            if !found.denies {
                differences.push(format!("{} refuses nothing: no binding has it deny", found.name));
            }
            if !found.fails_closed && part != ADDS {
                differences.push(format!("{} lets pass what it cannot judge", found.name));
            }
            let wrong = settings.iter().filter_map(|setting| setting.difference(found, expected));
            differences.extend(wrong);
        }
    }
    if differences.is_empty() { Guard::Fits } else { Guard::Differs(differences) }
}

impl Setting {
    /// What a part says otherwise.
    fn difference(self, found: &Found, expected: Expected<'_>) -> Option<String> {
        let text = |name: &str| found.texts.get(name).cloned().unwrap_or_default();
        let (what, says, right) = match self {
            Self::EnrolmentLabel => {
                ("the enrolment label", text("enrolmentLabel"), expected.enrolment_label)
            }
            Self::KyvernoNamespace => {
                ("Kyverno's namespace", text("kyvernoNamespace"), expected.kyverno_namespace)
            }
            Self::Namespace => {
                let all: Vec<&str> = found.namespaces.iter().map(String::as_str).collect();
                ("the operator's namespace", all.join(", "), expected.namespace)
            }
        };
        let name = &found.name;
        (says != right).then(|| format!("{name} takes '{says}' for {what}, which is '{right}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        names::LEDGER_TYPE,
        policy::image_validating::pin,
        policy_ref::{Action, PolicyKind, PolicyRef},
    };

    const EXPECTED: Expected<'_> = Expected {
        enrolment_label: "signing.odj.cloud/ring",
        namespace: "signing-system",
        kyverno_namespace: "kyverno",
    };

    fn whole() -> Vec<Found> {
        let of = |(part, settings): (&str, &[Setting])| {
            let mut found = Found {
                name: format!("guard-{part}"),
                part: part.to_owned(),
                denies: true,
                fails_closed: true,
                ..Found::default()
            };
            for setting in settings {
                let (name, text) = match setting {
                    EnrolmentLabel => ("enrolmentLabel", EXPECTED.enrolment_label),
                    KyvernoNamespace => ("kyvernoNamespace", EXPECTED.kyverno_namespace),
                    Namespace => {
                        found.namespaces.insert(EXPECTED.namespace.to_owned());
                        continue;
                    }
                };
                found.texts.insert(name.to_owned(), text.to_owned());
            }
            found
        };
        PARTS.map(of).into()
    }

    fn differences(change: impl FnOnce(&mut Vec<Found>)) -> Vec<String> {
        let mut found = whole();
        change(&mut found);
        match compare(&found, EXPECTED) {
            Guard::Differs(differences) => differences,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_that_is_whole_and_told_the_same_fits() {
        assert_eq!(compare(&whole(), EXPECTED), Guard::Fits);
        assert_eq!(compare(&[], EXPECTED), Guard::Absent);
    }

    #[test]
    fn whatever_differs_is_said() {
        assert_eq!(differences(|all| drop(all.remove(5))), ["its part rings is missing"]);
        assert_eq!(
            differences(|all| all[2].denies = false),
            ["guard-kyverno-policies refuses nothing: no binding has it deny"]
        );
        assert_eq!(
            differences(|all| all[3].fails_closed = false),
            ["guard-policies lets pass what it cannot judge"]
        );
        assert_eq!(
            differences(|all| drop(all[6].texts.insert("enrolmentLabel".into(), "a/b".into()))),
            ["guard-marks takes 'a/b' for the enrolment label, which is 'signing.odj.cloud/ring'"]
        );
        assert_eq!(
            differences(|all| drop(all[0].texts.remove("kyvernoNamespace"))),
            ["guard-enrolment takes '' for Kyverno's namespace, which is 'kyverno'"]
        );
        assert_eq!(
            differences(|all| all[4].namespaces = ["acme".to_owned()].into()),
            ["guard-ledgers takes 'acme' for the operator's namespace, which is 'signing-system'"]
        );
        let mut adds = whole();
        adds[7].fails_closed = false;
        assert_eq!(compare(&adds, EXPECTED), Guard::Fits);
        assert_eq!(
            differences(|all| all[7].namespaces.clear()),
            ["guard-unknown takes '' for the operator's namespace, which is 'signing-system'"]
        );
    }

    /// A second one, for another installation, does not make up for it.
    #[test]
    fn each_of_several_counts() {
        let other = Found { name: "other".into(), denies: false, ..whole().remove(6) };
        let said = differences(|all| all.push(other));
        assert_eq!(said, ["other refuses nothing: no binding has it deny"]);
    }

    #[test]
    fn the_manifests_name_what_the_operator_writes() {
        let own = include_str!("../../../manifests/guard/operators-own.yaml");
        let policies = "^signing(-(enforce|audit)|[.](enforce|audit|pin))-[0-9]+$";
        assert!(own.contains(policies));
        let pin = PolicyRef::new(Action::Enforce, 1).of_kind(PolicyKind::ImageValidatingPolicy);
        let names = PolicyRef::UNKNOWN.map(|policy| policy.to_string()).into_iter();
        for name in names.chain(pin::name(pin)) {
            let (what, number) = name.rsplit_once('-').unwrap();
            let known = ["-enforce", "-audit", ".enforce", ".audit", ".pin"];
            assert!(known.contains(&&what["signing".len()..]), "{name}");
            assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
        }
        let (group, _) = LEDGER_TYPE.split_once('/').unwrap();
        assert!(own.contains(&format!("startsWith('{group}/')")));
    }
}
