//! docs/conditions.md explains every reason of a condition and of an event,
//! and none that does not exist; and the links of all pages lead somewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod links;

use std::collections::BTreeSet;

use signingkeyring_core::{
    condition::{Kind, Reason},
    event::Occurrence,
};

const PAGE: &str = include_str!("../../../../docs/conditions.md");

/// The heading of the events that no condition repeats.
const EVENTS: &str = "Events without a condition";

/// The words of the API that a page names: where a condition's are, the first
/// cells of its tables; where the events are, all of the text.
#[derive(Debug, Default)]
struct Named<'a> {
    kinds: BTreeSet<&'a str>,
    reasons: BTreeSet<&'a str>,
    events: BTreeSet<&'a str>,
}

fn named(page: &str) -> Named<'_> {
    let mut named = Named::default();
    let mut events = false;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            events = heading == EVENTS;
            if !events {
                named.kinds.extend(heading.split(", "));
            }
        } else if events {
            named.events.extend(quoted(line));
        } else if let Some(row) = line.strip_prefix('|') {
            named.reasons.extend(quoted(row.split('|').next().unwrap_or_default()));
        }
    }
    named
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What is wrong with a page.
fn differences(page: &str) -> Vec<String> {
    let named = named(page);
    let kinds = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let events = Occurrence::ALL.iter().map(|occurrence| occurrence.as_str()).collect();
    let mut wrong = Vec::new();
    for (what, real, there) in [
        ("condition", kinds, named.kinds),
        ("reason", reasons, named.reasons),
        ("event", events, named.events),
    ] {
        let real: BTreeSet<&str> = real;
        wrong.extend(real.difference(&there).map(|name| format!("{what} {name} is missing")));
        wrong.extend(there.difference(&real).map(|name| format!("{what} {name} does not exist")));
    }
    wrong
}

#[test]
fn the_page_explains_every_reason_and_nothing_else() {
    assert_eq!(differences(PAGE), Vec::<String>::new());
}

#[test]
fn a_name_that_is_missing_or_invented_is_found() {
    let cases = [
        ("| `PolicyRejected` |", "| PolicyRejected |", "reason PolicyRejected is missing"),
        ("| `PolicyRejected` |", "| `PolicyRefused` |", "reason PolicyRefused does not exist"),
        ("`RuleKept`", "it", "event RuleKept is missing"),
        ("`RuleKept`", "`RuleKept`, `RuleLost`", "event RuleLost does not exist"),
        ("## RevocationsApplied", "## Revocations", "condition RevocationsApplied is missing"),
        ("## RevocationsApplied", "## Revoked", "condition Revoked does not exist"),
    ];
    for (there, instead, expected) in cases {
        let page = PAGE.replace(there, instead);
        assert!(differences(&page).contains(&expected.to_owned()), "{expected}");
    }
}
