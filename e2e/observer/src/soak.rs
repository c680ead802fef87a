//! `no-gap` in time: a key goes to a pipeline only after Kyverno answered
//! with a policy state that holds it, for the whole soak.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{
    history::{Event, Kind},
    invariant::Invariant,
    marks::{Mark, Marks},
    parse,
};

/// The operator's time of a question and the one taken here differ a little.
const TOLERANCE: Duration = Duration::from_millis(100);

/// What the operators of a run heard (when they had asked) and did.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The gate answered with these marks.
    Answer(Marks),
    /// A key was sent to a pipeline.
    Publishing {
        /// The ring whose key it is.
        ring: String,
        /// As PEM.
        key: String,
    },
}

/// Checks that each key was acknowledged, for `soak`, before it was sent.
#[must_use]
pub fn check(
    history: &[Event],
    heard: &[(Instant, String, Heard)],
    ring: &str,
    soak: Duration,
) -> Vec<String> {
    let mut keys_of: BTreeMap<Mark, parse::Rule> = BTreeMap::new();
    for event in history.iter().filter(|event| event.id.kind == Kind::Policy) {
        let Some(policy) = &event.object else { continue };
        let marks = Marks::of_policy(policy).unwrap_or_default();
        if let (Some(mark), Some(rule)) = (marks.of(ring), parse::rule(policy, ring)) {
            keys_of.insert(mark.clone(), rule);
        }
    }
    let mut violations = Vec::new();
    for (at, who, what) in heard {
        let Heard::Publishing { ring: owner, key } = what else { continue };
        if owner != ring {
            continue;
        }
        let key = parse::trimmed(key);
        let acknowledged = heard.iter().filter_map(|(asked, _, what)| match what {
            Heard::Answer(marks) if asked <= at => {
                let rule = keys_of.get(marks.of(ring)?)?;
                rule.keys.contains(&key).then_some(*asked)
            }
            _ => None,
        });
        let acknowledged = acknowledged.min();
        match acknowledged {
            None => violations.push(format!(
                "{}: {who} published a key that Kyverno had not answered with",
                Invariant::NoGap
            )),
            Some(first) if *at + TOLERANCE < first + soak => violations.push(format!(
                "{}: {who} published a key {} ms after Kyverno first answered with it",
                Invariant::NoGap,
                (*at - first).as_millis()
            )),
            Some(_) => {}
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Id;

    fn history() -> Vec<Event> {
        let policy = json!({
            "metadata": {"annotations": {"signing.odj.cloud/rings": "x01=3.aa"}},
            "spec": {"rules": [{"name": "x01", "verifyImages": [{"attestors": [
                {"count": 1, "entries": [{"keys": {"publicKeys": "KEY\n"}}]},
            ]}]}]},
        });
        let id = Id { kind: Kind::Policy, namespace: String::new(), name: "p".into() };
        vec![Event { version: 1, at: Instant::now(), id, object: Some(policy) }]
    }

    fn publishing(ring: &str) -> Heard {
        Heard::Publishing { ring: ring.to_owned(), key: "KEY".to_owned() }
    }

    fn violations(answers: &[(u64, &str)], published_at: u64) -> usize {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut heard: Vec<_> = answers
            .iter()
            .map(|(ms, marks)| {
                (at(*ms), "A".to_owned(), Heard::Answer(Marks::parse(marks).unwrap()))
            })
            .collect();
        heard.push((at(published_at), "A".to_owned(), publishing("x01")));
        check(&history(), &heard, "x01", Duration::from_secs(1)).len()
    }

    #[test]
    fn a_key_waits_for_its_soak() {
        assert_eq!(violations(&[(0, "x01=3.aa"), (1000, "x01=3.aa")], 1010), 0);
        assert_eq!(violations(&[(0, "x01=3.aa")], 200), 1);
    }

    #[test]
    fn another_rings_key_is_another_matter() {
        let heard = [(Instant::now(), "A".to_owned(), publishing("x02"))];
        let soak = Duration::from_secs(1);
        assert_eq!(check(&history(), &heard, "x01", soak), [] as [&str; 0]);
        assert_eq!(check(&history(), &heard, "x02", soak).len(), 1);
    }

    #[test]
    fn a_key_waits_for_an_answer() {
        assert_eq!(violations(&[], 2000), 1);
        assert_eq!(violations(&[(0, "x01=2.bb")], 2000), 1);
        assert_eq!(violations(&[(2500, "x01=3.aa")], 2000), 1);
    }
}
