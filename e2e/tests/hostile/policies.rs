//! Policies that somebody else edits, with rules and marks that nobody writes.

use anyhow::{Context, Result, ensure};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::{Value, json};
use signingkeyring_e2e_observer::{
    history::Kind as Observed,
    marks::{ANNOTATION as MARKS, Marks},
    parse,
};
use signingkeyring_e2e_testbed::{kind::Kind, world::wait_until};

use crate::{batch::Batch, edits};

pub const VICTIM: &str = "victim";

pub const HIGH_WATER: &str = "signing.odj.cloud/high-water";

/// An edit of a policy, told to its victim's rule and its annotations.
struct Edit {
    class: &'static str,
    edit: fn(&mut Value, &mut Vec<Value>, usize),
}

/// Annotations, rules, and which of these is the victim's.
const EDITS: &[Edit] = &[
    Edit { class: "rule missing", edit: |_, rules, at| drop(rules.remove(at)) },
    Edit { class: "rule twice", edit: |_, rules, at| rules.push(rules[at].clone()) },
    Edit { class: "rule of another kind", edit: |_, rules, at| rules[at] = another(VICTIM) },
    Edit { class: "no rule of ours", edit: |_, rules, _| *rules = vec![another("none")] },
    Edit { class: "rule null", edit: |_, rules, at| rules[at] = Value::Null },
    Edit { class: "rule without a name", edit: |_, rules, at| rules[at]["name"] = json!("") },
    Edit { class: "rules a text", edit: |_, rules, _| *rules = vec![json!("x"), json!([7])] },
    Edit {
        class: "verifyImages empty",
        edit: |_, rules, at| rules[at]["verifyImages"] = json!([]),
    },
    Edit {
        class: "verifyImages null",
        edit: |_, rules, at| rules[at]["verifyImages"] = json!([null]),
    },
    Edit {
        class: "attestors empty",
        edit: |_, rules, at| rules[at]["verifyImages"][0]["attestors"] = json!([]),
    },
    Edit { class: "entries empty", edit: |_, rules, at| *entries(rules, at) = json!([]) },
    Edit {
        class: "an entry of another kind",
        edit: |_, rules, at| {
            *entries(rules, at) = json!([{"keyless": {"issuer": "x", "subject": "y"}}]);
        },
    },
    Edit {
        class: "a key that is none",
        edit: |_, rules, at| *entries(rules, at) = json!([{"keys": {"publicKeys": "{{x}}"}}]),
    },
    Edit {
        class: "a huge list of globs",
        edit: |_, rules, at| {
            let globs: Vec<String> = (0..5_000).map(|n| format!("quay.io/huge-{n}/*")).collect();
            rules[at]["verifyImages"][0]["skipImageReferences"] = json!(globs);
        },
    },
    Edit {
        class: "everything skipped",
        edit: |_, rules, at| {
            rules[at]["verifyImages"][0]["skipImageReferences"] = json!(["*"]);
        },
    },
    Edit { class: "marks gone", edit: |notes, _, _| drop(notes[MARKS].take()) },
    Edit { class: "marks empty", edit: |notes, _, _| notes[MARKS] = json!("") },
    Edit { class: "marks no marks", edit: |notes, _, _| notes[MARKS] = json!("a=b=c\u{0} =.=") },
    Edit { class: "marks huge", edit: |notes, _, _| notes[MARKS] = json!("x=1.y ".repeat(20_000)) },
    Edit {
        class: "marks of names that no ring has",
        edit: |notes, _, _| notes[MARKS] = json!("signing-gate=1.aa ../x=2.bb A=3.cc"),
    },
    Edit { class: "high-water gone", edit: |notes, _, _| drop(notes[HIGH_WATER].take()) },
    Edit {
        class: "high-water out of range",
        edit: |notes, _, _| notes[HIGH_WATER] = json!("victim=4294967295 victim=x"),
    },
    Edit {
        class: "annotations emptied, rules taken",
        edit: |notes, rules, _| {
            *notes = json!({});
            rules.truncate(1);
        },
    },
];

/// What somebody does to the victim's rule who raises its mark besides, so that
/// it looks newer than any ledger.
const RAISED: &[Edit] = &[
    Edit {
        class: "raised with a stranger's key",
        edit: |_, rules, at| {
            let entries = entries(rules, at).as_array_mut();
            let mut entry = entries.as_ref().map(|entries| entries[0].clone()).unwrap_or_default();
            entry["keys"]["publicKeys"] = json!(STRANGER);
            if let Some(entries) = entries {
                entries.push(entry);
            }
        },
    },
    Edit {
        class: "raised with everything skipped",
        edit: |_, rules, at| {
            rules[at]["verifyImages"][0]["skipImageReferences"] = json!(["*"]);
        },
    },
    Edit {
        class: "raised and audited",
        edit: |_, rules, at| {
            rules[at]["verifyImages"][0]["failureAction"] = json!("Audit");
            rules[at]["verifyImages"][0]["mutateDigest"] = json!(false);
        },
    },
];

/// A P-256 public key that is no ring's: the point of the SEC 2 generator.
pub const STRANGER: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
";

/// A rule that is none of the operator's.
fn another(name: &str) -> Value {
    json!({
        "name": name,
        "match": {"any": [{"resources": {"kinds": ["ConfigMap"]}}]},
        "validate": {"failureAction": "Audit", "message": "x", "deny": {}},
    })
}

fn entries(rules: &mut [Value], at: usize) -> &mut Value {
    &mut rules[at]["verifyImages"][0]["attestors"][0]["entries"]
}

/// What is done to a policy.
type Change = Box<dyn Fn(&mut DynamicObject) + Send + Sync>;

/// The edits of the kind under test, and those that raise the victim's mark besides.
fn changes() -> [Vec<(&'static str, Change)>; 2] {
    match Kind::under_test() {
        Kind::ClusterPolicy => [EDITS, RAISED].map(|edits| {
            let edits = edits.iter();
            edits
                .map(|edit| (edit.class, Box::new(|o: &mut _| edited(o, edit)) as Change))
                .collect()
        }),
        Kind::ImageValidatingPolicy => [edits::EDITS, edits::RAISED].map(|edits| {
            let edits = edits.iter();
            edits
                .map(|edit| (edit.class, Box::new(|o: &mut _| edits::edited(o, edit)) as Change))
                .collect()
        }),
    }
}

fn api(batch: &Batch) -> Api<DynamicObject> {
    let kind = Kind::under_test();
    let resource = GroupVersionKind::gvk(kind.group(), "v1", kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&resource, kind.plural());
    Api::all_with(batch.client.clone(), &resource)
}

/// The victim's rule and mark.
fn victims(policy: &DynamicObject) -> Option<(Value, u64)> {
    let policy = serde_json::to_value(policy).ok()?;
    let rule = match Kind::under_test() {
        Kind::ClusterPolicy => parse::part(Observed::ClusterPolicy, &policy, VICTIM)?,
        Kind::ImageValidatingPolicy => edits::rule(&policy["spec"], VICTIM)?,
    };
    let marks = Marks::of_policy(&policy).ok()?;
    Some((rule, marks.of(VICTIM)?.sequence))
}

/// How many passes have ended in a panic.
async fn panics(batch: &Batch) -> Result<u64> {
    let operator = batch.shared.operator.lock().await;
    let metrics = operator.as_ref().context("the operator runs")?.metrics().await?;
    let lines = metrics.lines().filter(|line| line.contains("outcome=\"panic\""));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// Edits a policy, unless the API server or Kyverno refuses that; returns whether
/// it was edited.
async fn put(
    batch: &mut Batch,
    class: &str,
    policy: &str,
    edit: impl Fn(&mut DynamicObject),
) -> Result<bool> {
    loop {
        let mut object = api(batch).get(policy).await?;
        edit(&mut object);
        match api(batch).replace(policy, &PostParams::default(), &object).await {
            Ok(_) => {
                batch.count(class, false);
                return Ok(true);
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                batch.count(class, true);
                return Ok(false);
            }
            Err(error) => return Err(error).with_context(|| format!("editing by {class}")),
        }
    }
}

fn is_victims(rule: &Value) -> bool {
    rule["name"].as_str().is_some_and(|name| name.split('.').next() == Some(VICTIM))
}

fn edited(object: &mut DynamicObject, edit: &Edit) {
    let mut notes = json!(object.metadata.annotations.clone().unwrap_or_default());
    let Some(rules) = object.data["spec"]["rules"].as_array_mut() else { return };
    let at = rules.iter().position(is_victims).unwrap_or(0);
    (edit.edit)(&mut notes, rules, at);
    let texts = notes.as_object().into_iter().flatten();
    let texts = texts.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())));
    object.metadata.annotations = Some(texts.collect());
}

/// Edits the victim's rule and raises its mark: the rule becomes again what the
/// ledger calls for, and the ring says what is to be done about the mark.
async fn raised(
    batch: &mut Batch,
    (class, change): &(&str, Change),
    policy: &str,
    rule: &Value,
) -> Result<()> {
    let edited = put(batch, class, policy, |object| {
        change(object);
        let annotations = object.metadata.annotations.get_or_insert_default();
        let marks = annotations.get(MARKS).and_then(|text| Marks::parse(text).ok());
        let mut marks = marks.unwrap_or_default();
        if let Some(mark) = marks.0.get_mut(VICTIM) {
            mark.sequence += 1000;
        }
        annotations.insert(MARKS.to_owned(), marks.to_string());
    })
    .await?;
    if !edited {
        return Ok(());
    }
    wait_until(&format!("the rule is right after: {class}"), async || {
        let found = api(batch).get_opt(policy).await?;
        Ok(found.as_ref().and_then(victims).is_some_and(|(found, _)| found == *rule))
    })
    .await?;
    let said = batch.shared.world.wait_for_condition(VICTIM, "Stalled", "True").await?;
    let annotate = format!("annotate {}", Kind::under_test().resource());
    ensure!(said.contains(&annotate), "{said}");
    Ok(())
}

/// The control ring rotates beside whatever is made of another's policy.
pub async fn edited_policies(batch: &mut Batch) -> Result<()> {
    let world = &batch.shared.world;
    world.ready_ring(VICTIM).await?;
    let policy = world.ring(VICTIM, "{.status.policy.name}").await?;
    let original = api(batch).get(&policy).await?;
    let whole = victims(&original).context("the victim's rule")?;
    let [changes, raising] = changes();
    for (index, (class, change)) in changes.iter().enumerate() {
        if index % 8 == 7 {
            // Edits without end are undone after growing pauses; a rotation of
            // another ring in the policy is news.
            batch.go_on().await?;
        }
        put(batch, class, &policy, change).await?;
        wait_until(&format!("the policy is restored after: {class}"), async || {
            let found = api(batch).get_opt(&policy).await?;
            Ok(found.as_ref().and_then(victims).is_some_and(|found| found == whole))
        })
        .await?;
    }
    for raise in &raising {
        raised(batch, raise, &policy, &whole.0).await?;
        // Putting the mark right is all that is left to do for a person.
        put(batch, "mark taken off", &policy, |object| {
            object.metadata.annotations.get_or_insert_default().remove(MARKS);
        })
        .await?;
        wait_until(&format!("the mark is right again after: {}", raise.0), async || {
            let found = api(batch).get_opt(&policy).await?;
            Ok(found.as_ref().and_then(victims).is_some_and(|found| found == whole))
        })
        .await?;
        world.wait_for_condition(VICTIM, "Ready", "True").await?;
    }
    batch.go_on().await?;

    ensure!(panics(batch).await? == 0, "a pass ended in a panic");
    Ok(())
}
