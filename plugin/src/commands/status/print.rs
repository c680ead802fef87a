//! How that is shown.

use std::collections::BTreeMap;

use jiff::Timestamp;
use signingkeyring_crds::VersionState;

use super::{
    notes::{Note, Weight},
    view::{RingView, Rings, VersionView},
};
use crate::{
    age,
    text::{Line, Span, Style, Table, shortened},
};

/// All rings.
pub fn rings(rings: &Rings, now: Timestamp, wide: bool) -> Vec<Line> {
    if rings.rings.is_empty() {
        return vec!["There is no ring. README.md shows one: kubectl explain skr.spec".into()];
    }
    let mut headings =
        vec!["RING", "CURRENT", "ACCEPTED", "NAMESPACES", "READY", "REASON", "NEXT ROTATION"];
    if wide {
        headings.extend(["AGE", "POLICY", "FINGERPRINT"]);
    }
    let mut table = Table::new(&headings);
    for ring in &rings.rings {
        let numbers: Vec<String> = ring.accepted_versions.iter().map(u32::to_string).collect();
        let mut cells = vec![
            Span::from(&ring.name),
            Span::from(number(ring.current_version)),
            Span::from(or_dash(numbers.join(","))),
            Span::from(ring.enrolled_namespaces.to_string()),
            yes(ring.is_ready),
            Span::from(&ring.reason),
            Span::from(ring.next_rotation.map_or_else(dash, |next| until(next, now))),
        ];
        if wide {
            cells.push(ring.created.map_or_else(dash, |then| age::since(then, now)).into());
            cells.push(ring.policy.clone().unwrap_or_else(dash).into());
            cells.push(ring.fingerprint.clone().unwrap_or_else(dash).into());
        }
        table.row(cells);
    }
    let mut lines = table.lines();
    for ring in rings.rings.iter().filter(|ring| !ring.is_ready) {
        lines.push(Line::empty());
        lines.push(Line::new(Style::Bad, &ring.name).and(format!(": {}", ring.message)));
    }
    lines
}

/// One ring.
pub fn ring(view: &RingView, now: Timestamp, wide: bool) -> Vec<Line> {
    let state = match view.is_ready {
        true => Span::new(Style::Good, "ready"),
        false => Span::new(Style::Bad, format!("not ready ({})", view.reason)),
    };
    let mut lines = vec![
        Line::new(Style::Bold, &view.name)
            .and(" is ")
            .and(state)
            .and(format!(": {}", view.message)),
        Line::empty(),
    ];
    lines.extend(versions(&view.versions, now, wide));
    lines.push(Line::empty());
    let mut facts = Table::new(&[]);
    facts.row([Span::new(Style::Bold, "Kyverno"), kyverno(view).into()]);
    facts.row([Span::new(Style::Bold, "Namespaces"), namespaces(view).into()]);
    facts.row([Span::new(Style::Bold, "Pipelines"), pipelines(view).into()]);
    facts.row([Span::new(Style::Bold, "Next rotation"), rotation(view, now).into()]);
    lines.extend(facts.lines().into_iter().skip(1));
    for note in &view.notes {
        lines.push(Line::empty());
        lines.push(noted(note));
        lines.push(format!("  {}", note.message).into());
    }
    lines
}

fn versions(versions: &[VersionView], now: Timestamp, wide: bool) -> Vec<Line> {
    if versions.is_empty() {
        return vec!["It has no version yet.".into()];
    }
    let mut table =
        Table::new(&["VERSION", "STATE", "AGE", "SIGNED FROM", "FINGERPRINT", "HELD BY"]);
    for version in versions {
        let fingerprint = match wide {
            true => version.fingerprint.clone(),
            false => shortened(&version.fingerprint),
        };
        let signs = version.activated.map_or_else(dash, |then| age::since(then, now));
        table.row([
            version.version.to_string().into(),
            Span::new(style(version.state), format!("{:?}", version.state)),
            age::since(version.minted, now).into(),
            signs.into(),
            fingerprint.into(),
            or_dash(version.held_by.join(", ")).into(),
        ]);
    }
    table.lines()
}

fn kyverno(view: &RingView) -> String {
    let Some(policy) = &view.policy else { return "has no rule of this ring".to_owned() };
    let rule = format!("{} {}, rule {}", policy.kind, policy.name, policy.rule);
    match &policy.enforced {
        // What is wrong with it is said below.
        Some(said) if said.status == "True" => format!("{rule}: {}", said.message),
        Some(said) => format!("{rule}: {}", said.reason),
        None => format!("{rule}: not asked yet"),
    }
}

fn namespaces(view: &RingView) -> String {
    match &view.namespaces {
        Some(names) if !names.is_empty() => format!("{}: {}", names.len(), names.join(", ")),
        Some(_) => format!("none: kubectl signing enroll {} NAMESPACE", view.name),
        None => format!("{} (you may not list them)", view.enrolled_namespaces),
    }
}

fn pipelines(view: &RingView) -> String {
    let one = |pipeline: &super::view::PipelineView| match pipeline.version {
        Some(version) => format!("{} (version {version}, {})", pipeline.secret, pipeline.state),
        None => format!("{} ({})", pipeline.secret, pipeline.state),
    };
    let all: Vec<String> = view.pipelines.iter().map(one).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn rotation(view: &RingView, now: Timestamp) -> String {
    let next = match (&view.rotates_every, view.next_rotation) {
        (_, Some(next)) => format!("{next} ({})", until(next, now)),
        (Some(every), None) => format!("every {every}"),
        (None, None) => {
            format!("when it is asked for: kubectl signing rotate {}", view.name)
        }
    };
    let suspended = if view.suspended { "suspended; otherwise " } else { "" };
    match &view.rotation_under_way {
        Some(asked) => format!("asked for ({asked}) and not done; {suspended}{next}"),
        None => format!("{suspended}{next}"),
    }
}

fn noted(note: &Note) -> Line {
    let (style, word) = match note.weight {
        Weight::Wrong => (Style::Bad, "Wrong"),
        Weight::UnderWay => (Style::Warn, "Under way"),
        Weight::NotSeen => (Style::Warn, "Not known"),
    };
    Line::new(style, word).and(format!(": {} ({})", note.condition, note.reason))
}

/// What went wrong while watching.
pub fn trouble(text: &str) -> Line {
    Line::new(Style::Bad, "watching: ").and(format!("{text}; it is tried again"))
}

/// A line for each sentence that was not said of its ring before.
pub fn changes(
    said: &mut BTreeMap<String, Vec<String>>,
    sentences: &BTreeMap<String, Vec<String>>,
    now: Timestamp,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for (ring, new) in sentences {
        let old = said.get(ring).map_or(&[][..], Vec::as_slice);
        let fresh = new.iter().filter(|sentence| !old.contains(sentence));
        lines.extend(fresh.map(|sentence| Line::from(format!("{now} {ring}: {sentence}"))));
    }
    let gone = said.keys().filter(|ring| !sentences.contains_key(*ring));
    lines.extend(gone.map(|ring| Line::from(format!("{now} {ring}: it is gone"))));
    said.clone_from(sentences);
    lines
}

fn style(state: VersionState) -> Style {
    match state {
        VersionState::Current => Style::Good,
        VersionState::Pending | VersionState::Standby => Style::Warn,
        VersionState::Accepted => Style::Plain,
        VersionState::Retired => Style::Dim,
        VersionState::Revoked => Style::Bad,
    }
}

fn until(next: Timestamp, now: Timestamp) -> String {
    if next > now {
        format!("in {}", age::brief(next.duration_since(now)))
    } else {
        "due".to_owned()
    }
}

fn yes(is_ready: bool) -> Span {
    if is_ready { Span::new(Style::Good, "yes") } else { Span::new(Style::Bad, "no") }
}

fn number(number: Option<u32>) -> String {
    number.map_or_else(dash, |number| number.to_string())
}

fn or_dash(text: String) -> String {
    if text.is_empty() { dash() } else { text }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use serde_json::json;

    use super::{super::view, *};
    use crate::{ring::tests::ring, text::plain};

    use VersionState::{Accepted, Current, Pending, Retired};

    fn now() -> Timestamp {
        "2026-11-16T10:00:00Z".parse().unwrap()
    }

    fn in_trouble() -> signingkeyring_crds::SigningKeyRing {
        let mut ring = ring(&[Retired, Accepted, Current, Pending]);
        let mut status = json!(ring.status);
        let time = "2026-11-14T10:00:00Z";
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                   "lastTransitionTime": time})
        };
        status["currentVersion"] = json!(3);
        status["acceptedVersions"] = json!([4, 3, 2]);
        status["enrolledNamespaces"] = json!(1);
        status["policy"] =
            json!({"kind": "ClusterPolicy", "name": "signing-enforce-0001", "rule": "checkout"});
        status["pipelines"] = json!([{"namespace": "ci", "secretName": "image-signing",
                                      "version": 3, "state": "Published"}]);
        status["conditions"] = json!([
            condition("Ready", "False", "GateMute", "CLOSED: Kyverno is down\u{1b}[2J"),
            condition("PolicyEnforced", "False", "GateMute", "CLOSED: Kyverno is down\u{1b}[2J"),
            condition("Reconciling", "True", "Rotating", "version 4 is pending: Kyverno is down"),
        ]);
        ring.status = serde_json::from_value(status).unwrap();
        ring
    }

    #[test]
    fn what_is_wrong_stands_below_what_there_is() {
        let view = view::of_ring(&in_trouble(), Some(vec!["checkout-dev".into()]));
        insta::assert_snapshot!(plain(&super::ring(&view, now(), false)));
        let unborn = view::of_ring(&unborn(), None);
        insta::assert_snapshot!(plain(&super::ring(&unborn, now(), false)));
    }

    fn unborn() -> signingkeyring_crds::SigningKeyRing {
        let mut ring = ring(&[]);
        ring.status = None;
        ring
    }

    #[test]
    fn all_rings_are_a_table_and_those_in_trouble_say_why() {
        let found = [DeserializeGuard(Ok(in_trouble()))];
        let view = view::of_rings(found.iter());
        insta::assert_snapshot!(plain(&rings(&view, now(), false)));
    }

    #[test]
    fn a_log_is_told_what_is_new() {
        let mut said = BTreeMap::new();
        let of = |sentences: &[&str]| {
            let sentences = sentences.iter().map(|text| (*text).to_owned()).collect();
            BTreeMap::from([("checkout".to_owned(), sentences)])
        };
        let told = |said: &mut BTreeMap<_, _>, sentences: &BTreeMap<String, Vec<String>>| {
            plain(&changes(said, sentences, now()))
        };
        let first = told(&mut said, &of(&["ready", "version 1 is Current"]));
        assert_eq!(first.lines().count(), 2);
        let second = told(&mut said, &of(&["ready", "version 2 is Current"]));
        assert_eq!(second, "2026-11-16T10:00:00Z checkout: version 2 is Current\n");
        let third = told(&mut said, &BTreeMap::new());
        assert_eq!(third, "2026-11-16T10:00:00Z checkout: it is gone\n");
    }
}
