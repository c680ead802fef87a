//! What the manifest gives to the operator is what the settings' defaults take.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use clap::Parser;
use serde_json::Value;
use signingkeyring_operator::settings::Settings;

/// What the operator takes but for sealing keys, in MiB. With 100 rings a debug
/// build had a peak of 94 MiB (`e2e/tests/memory.rs`) while two keys were sealed
/// at once, so 30 MiB; the rest is for more rings.
const BASE_MIB: u32 = 128;

#[test]
fn the_memory_limit_has_room_for_the_keys_that_are_sealed_at_once() {
    let deployment: Value =
        serde_saphyr::from_str(include_str!("../../manifests/deployment.yaml")).unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert!(
        container["env"].as_array().unwrap().iter().all(|v| v["name"] != "SIGNING_SEALINGS"),
        "the manifest keeps the default"
    );
    let settings = Settings::parse_from(["signingkeyring-operator"]);
    let limit = format!("{}Mi", BASE_MIB + settings.sealing_memory_mib());
    assert_eq!(container["resources"]["limits"]["memory"], limit);
}

/// On a node of any size, since the manifest knows of none.
#[test]
fn what_sealing_takes_by_default_does_not_depend_on_the_cores() {
    let settings = Settings::parse_from(["signingkeyring-operator"]);
    assert!((1..=4).contains(&settings.sealings));
    assert_eq!(settings.sealing_memory_mib(), 128);
}

/// Its messages print that name, whatever kustomize has made of it.
#[test]
fn the_operator_is_told_how_the_role_is_called_that_owners_bind() {
    let deployment: Value =
        serde_saphyr::from_str(include_str!("../../manifests/deployment.yaml")).unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let environment = container["env"].as_array().unwrap();
    let told = environment.iter().find(|v| v["name"] == "SIGNING_PIPELINE_ROLE").unwrap();
    let settings = Settings::parse_from(["signingkeyring-operator"]);
    assert_eq!(told["value"], settings.pipeline_role);
    let rights = include_str!("../../manifests/rbac.yaml");
    let named = format!("kind: ClusterRole\nmetadata:\n  name: {}\n", settings.pipeline_role);
    assert!(rights.contains(&named), "{named}");
}
