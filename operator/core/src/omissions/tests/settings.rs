//! What a ConfigMap leaves out, and which ConfigMap is believed.

use super::{super::settings::parse_kind, *};

#[test]
fn filters() {
    for (filter, namespaces) in [
        ("[Pod,shop-dev,*]", &["shop-dev"][..]),
        ("[Pod,shop-*,debug-?]", &["shop-dev", "shop-prod"]),
        ("[*/*,shop-dev,*]", &["shop-dev"]),
        ("[*,*,*]", &["shop-dev", "shop-prod"]),
        ("[v1/Pod,shop-dev,*]", &["shop-dev"]),
        ("[Pod/ephemeralcontainers,shop-dev,*]", &["shop-dev"]),
        ("[Pod/*,shop-???,*]", &["shop-dev"]),
        ("[[Pod,shop-dev,*]]", &["shop-dev"]),
        // None of these fits.
        ("[Pod/binding,*,*]", &[]),
        ("[Pod/status,*,*]", &[]),
        ("[Deployment,*,*]", &[]),
        ("[apps/v1/Pod,*,*]", &[]),
        ("[Pod, shop-dev,*]", &[]),
        ("[Pod]", &[]),
        ("[Pod,*,*,*]", &[]),
        ("Pod,*,*", &[]),
        ("[Pod,*,*", &[]),
    ] {
        let found = with_settings(&[("resourceFilters", filter)]);
        let named: Vec<String> = found
            .into_iter()
            .flat_map(|omission| match omission {
                Omission::Filtered { namespaces, .. } => namespaces,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(named, texts(namespaces), "{filter}");
    }
    assert_eq!(parse_kind("a/b/c/d/e"), None);
    assert_eq!(parse_kind("Pod.status"), Some(["*", "*", "Pod", "status"]));
    assert_eq!(parse_kind("v1beta1/Pod"), Some(["*", "v1beta1", "Pod", ""]));
}

#[test]
fn excluded_users() {
    for (data, who) in [
        (&[("excludeUsernames", "jane, *:deployer")][..], &["user:jane", "user:*:deployer"][..]),
        (&[("excludeGroups", "system:nodes,admins")], &["group:admins"]),
        (&[("excludeRoles", "ns:editor")], &["role:ns:editor"]),
        (&[("excludeClusterRoles", "cluster-admin")], &["clusterrole:cluster-admin"]),
        // Those with a mark are looked at in any case.
        (&[("excludeUsernames", "jane,!jane")], &[]),
        (&[("excludeUsernames", "jane,!j*")], &[]),
        (&[("excludeUsernames", "j*,!jane")], &["user:j*"]),
        // Of patterns it is not known which has more.
        (&[("excludeUsernames", "*,!?")], &["user:*"]),
        (&[("excludeUsernames", "j*,!j*")], &[]),
        (&[("excludeGroups", "admins,dev*,!*")], &[]),
        (&[("excludeGroups", "admins,!system:authenticated")], &[]),
        (&[("excludeGroups", "admins"), ("excludeUsernames", "!*")], &[]),
        (&[("excludeUsernames", " , !,")], &[]),
    ] {
        let found = with_settings(data);
        let who = (!who.is_empty()).then(|| Omission::Excluded { who: texts(who) });
        assert_eq!(found, Vec::from_iter(who), "{data:?}");
    }
    let settings = Ok(Some(settings(&[("excludeUsernames", "jane,joe")])));
    let accepted = ["user:jane"].iter().map(|text| text.parse::<Exclusion>().unwrap()).collect();
    let found = of_ring(&Seen { settings, ..seen() }, &accepted, &ring(Action::Enforce));
    assert_eq!(found, [Omission::Excluded { who: texts(&["user:joe"]) }]);
}

#[test]
fn a_config_map_of_another_namespace_says_nothing() {
    let found = said(&Seen { namespace: "other".to_owned(), ..seen() });
    let [Omission::Unseen { what: Subject::Settings, why }] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(why.why.contains("--kyverno-namespace=kyverno"), "{why:?}");
    // One that is called by a URL does not say where it runs.
    let mut seen = Seen { namespace: "other".to_owned(), ..seen() };
    for hook in [&mut seen.mutating, &mut seen.validating].into_iter().flatten().flatten() {
        hook.service_namespace = None;
    }
    assert_eq!(said(&seen), []);
}

#[test]
fn a_config_map_of_another_name_says_nothing() {
    let found = said(&Seen { settings: Ok(None), ..seen() });
    let [Omission::Unseen { what: Subject::Settings, why }] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(why.why.contains("--kyverno-config-map"), "{why:?}");
}
