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

/// What the gate answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The marks of what Kyverno has loaded of a ClusterPolicy.
    Marks(Marks),
    /// The name of the question, which an ImageValidatingPolicy has for each state.
    Question(String),
}

/// What the operators of a run heard (when they had asked) and did.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The gate answered.
    Answer(Answer),
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
    let mut by_mark: BTreeMap<Mark, parse::Rule> = BTreeMap::new();
    let mut by_question: BTreeMap<String, parse::Rule> = BTreeMap::new();
    for event in history {
        let Some(policy) = &event.object else { continue };
        let Some(rule) = parse::rule(event.id.kind, policy, ring) else { continue };
        if event.id.kind == Kind::ImageValidatingPolicy {
            by_question.extend(parse::question(policy).map(|question| (question, rule)));
        } else {
            let marks = Marks::of_policy(policy).unwrap_or_default();
            by_mark.extend(marks.of(ring).map(|mark| (mark.clone(), rule)));
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
            Heard::Answer(answer) if asked <= at => {
                let rule = match answer {
                    Answer::Marks(marks) => by_mark.get(marks.of(ring)?)?,
                    Answer::Question(question) => by_question.get(question)?,
                };
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
    use super::*;
    use crate::{
        fixtures::{KINDS, policy},
        history::Id,
    };

    fn history(kind: Kind) -> Vec<Event> {
        let policy = policy(kind, "x01", &["KEY\n"], "x01=3.aa");
        let id = Id { kind, namespace: String::new(), name: "p".into() };
        vec![Event { version: 1, at: Instant::now(), id, object: Some(policy) }]
    }

    fn answer(kind: Kind, text: &str) -> Answer {
        match kind {
            Kind::ImageValidatingPolicy => Answer::Question(text.to_owned()),
            _ => Answer::Marks(Marks::parse(text).unwrap()),
        }
    }

    fn publishing(ring: &str) -> Heard {
        Heard::Publishing { ring: ring.to_owned(), key: "KEY".to_owned() }
    }

    fn violations(kind: Kind, answers: &[(u64, &str)], published_at: u64) -> usize {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut heard: Vec<_> = answers
            .iter()
            .map(|(ms, text)| (at(*ms), "A".to_owned(), Heard::Answer(answer(kind, text))))
            .collect();
        heard.push((at(published_at), "A".to_owned(), publishing("x01")));
        check(&history(kind), &heard, "x01", Duration::from_secs(1)).len()
    }

    #[test]
    fn a_key_waits_for_its_soak() {
        for kind in KINDS {
            assert_eq!(violations(kind, &[(0, "x01=3.aa"), (1000, "x01=3.aa")], 1010), 0);
            assert_eq!(violations(kind, &[(0, "x01=3.aa")], 200), 1);
        }
    }

    #[test]
    fn another_rings_key_is_another_matter() {
        let heard = [(Instant::now(), "A".to_owned(), publishing("x02"))];
        let soak = Duration::from_secs(1);
        for history in KINDS.map(history) {
            assert_eq!(check(&history, &heard, "x01", soak), [] as [&str; 0]);
            assert_eq!(check(&history, &heard, "x02", soak).len(), 1);
        }
    }

    #[test]
    fn a_key_waits_for_an_answer() {
        for kind in KINDS {
            assert_eq!(violations(kind, &[], 2000), 1);
            assert_eq!(violations(kind, &[(0, "x01=2.bb")], 2000), 1);
            assert_eq!(violations(kind, &[(2500, "x01=3.aa")], 2000), 1);
        }
    }
}
