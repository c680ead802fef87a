//! Which rings policies name, and what is kept of an object.

use serde_json::json;
use signingkeyring_core::names;

use super::*;
use crate::kyverno;

fn policy(name: &str, marks: &str) -> DynamicObject {
    let mut object = DynamicObject::new(name, &kyverno::resource(PolicyKind::ClusterPolicy));
    let annotations = [(names::ANNOTATION_MARKS.to_owned(), marks.to_owned())];
    object.metadata.annotations = Some(annotations.into());
    object.data = json!({"spec": {}});
    object
}

#[test]
fn a_ring_is_found_in_the_policies_that_name_it_now() {
    let (policies, mut writer) = Policies::new();
    let writer = &mut writer.kinds[0].1;
    let naming = |ring| -> Vec<String> {
        let found = policies.of(PolicyKind::ClusterPolicy).naming(ring).into_iter();
        found.map(|policy| policy.to_string()).collect()
    };
    let [first, second] = ["signing-enforce-0001", "signing-enforce-0002"];
    writer.apply(&Event::Init);
    writer.apply(&Event::InitApply(policy(first, "shop=1.aa.bb pay=2.cc.dd")));
    assert!(naming("shop").is_empty(), "the list is not complete");
    writer.apply(&Event::InitDone);
    assert_eq!(naming("shop"), [first]);
    writer.apply(&Event::Apply(policy(second, "shop=1.aa.bb")));
    assert_eq!(naming("shop"), [first, second]);
    writer.apply(&Event::Apply(policy(first, "pay=2.cc.dd")));
    assert_eq!((naming("shop"), naming("pay")), (vec![second.into()], vec![first.into()]));
    writer.apply(&Event::Apply(policy("somebody-elses", "shop=1.aa.bb")));
    assert_eq!(naming("shop"), [second]);
    writer.apply(&Event::Delete(policy(second, "")));
    assert!(naming("shop").is_empty());
    // What a new list does not have is gone.
    writer.apply(&Event::Init);
    writer.apply(&Event::InitDone);
    assert!(naming("pay").is_empty());
    writer.apply(&Event::Apply(policy(first, "shop=1.aa.bb")));
    writer.set_served(false);
    assert!(naming("shop").is_empty());
}

#[test]
fn what_is_newer_than_all_that_the_watch_has_brought_is_yet_to_come() {
    let (policies, mut writer) = Policies::new();
    let writer = &mut writer.kinds[0].1;
    let of = |version: &str| {
        let mut policy = policy("signing-enforce-0001", "");
        policy.metadata.resource_version = Some(version.to_owned());
        policy
    };
    let is_behind = |version| policies.of(PolicyKind::ClusterPolicy).is_behind(version);
    writer.apply(&Event::Init);
    writer.apply(&Event::InitApply(of("7")));
    writer.apply(&Event::InitDone);
    assert!(!is_behind("12"), "how new a list is nobody says");
    writer.apply(&Event::Apply(of("9")));
    assert_eq!((is_behind("9"), is_behind("12")), (false, true));
    // Somebody has deleted it again.
    writer.apply(&Event::Delete(of("13")));
    assert!(!is_behind("12"));
    writer.apply(&Event::Init);
    assert!(is_behind("14"));
    writer.apply(&Event::InitDone);
    assert!(!is_behind("14"));
}
