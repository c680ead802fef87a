//! What the manifest gives to the operator is what the settings' defaults take.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod chart;
mod ci;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use clap::Parser;
use serde_json::{Value, json};
use signingkeyring_core::names;
use signingkeyring_operator::settings::Settings;

/// What the operator takes but for sealing keys, in MiB. With 100 rings a debug
/// build had a peak of 94 MiB (`e2e/tests/memory.rs`) while two keys were sealed
/// at once, so 30 MiB; the rest is for more rings.
const BASE_MIB: u32 = 128;

#[test]
fn the_memory_limit_has_room_for_the_keys_that_are_sealed_at_once() {
    let deployment: Value =
        serde_saphyr::from_str(include_str!("../../../manifests/deployment.yaml")).unwrap();
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
        serde_saphyr::from_str(include_str!("../../../manifests/deployment.yaml")).unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let environment = container["env"].as_array().unwrap();
    let told = environment.iter().find(|v| v["name"] == "SIGNING_PIPELINE_ROLE").unwrap();
    let settings = Settings::parse_from(["signingkeyring-operator"]);
    assert_eq!(told["value"], settings.pipeline_role);
    let rights = include_str!("../../../manifests/rbac.yaml");
    let named = format!("kind: ClusterRole\nmetadata:\n  name: {}\n", settings.pipeline_role);
    assert!(rights.contains(&named), "{named}");
}

/// A program that `make cluster-tools` builds.
fn program(name: &str) -> Command {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cluster/bin").join(name);
    assert!(
        program.is_file(),
        "the real {name} is not there ({}): run `make cluster-tools` first",
        program.display()
    );
    let mut command = Command::new(program);
    command.env_clear();
    command
}

/// The objects that a program prints.
fn objects(command: &mut Command) -> Vec<Value> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let objects = text.split("\n---\n").map(|object| serde_saphyr::from_str(object).unwrap());
    objects.filter(|object: &Value| !object.is_null()).collect()
}

/// What an administrator's `kubectl apply -k` sends.
fn rendered(folder: &Path) -> Vec<Value> {
    objects(program("kubectl").arg("kustomize").arg(folder))
}

/// What somebody's own overlay of the manifests sends.
fn overlaid(name: &str, overlay: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("overlay-{name}-{}/somewhere/else", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    // kustomize takes no absolute path to a folder.
    let up = "../".repeat(folder.components().count() - 1);
    let manifests = manifests().canonicalize().unwrap();
    let manifests = format!("{up}{}", manifests.strip_prefix("/").unwrap().display());
    let overlay = overlay.replace("MANIFESTS", &manifests);
    fs::write(folder.join("kustomization.yaml"), overlay).unwrap();
    let objects = rendered(&folder);
    fs::remove_dir_all(folder.parent().unwrap().parent().unwrap()).unwrap();
    objects
}

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// What is installed, what its names begin with, and in which namespace it is.
type Installation = (Vec<Value>, &'static str, &'static str);

/// The manifests, and an overlay of somebody's own with other names.
static INSTALLATIONS: LazyLock<[Installation; 2]> = LazyLock::new(|| {
    let overlay = "namespace: acme-signing\nnamePrefix: acme-\nresources: [MANIFESTS]\n";
    let overlaid = overlaid("names", overlay);
    [(rendered(&manifests()), "", "signing-system"), (overlaid, "acme-", "acme-signing")]
});

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |o: &&Value| o["kind"] == kind && o["metadata"]["name"] == *name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// One of the two runs whatever is replaced or drained: none ends before another is ready.
#[test]
fn two_replicas_run_and_one_of_them_at_least_always_does() {
    for (objects, prefix, namespace) in &*INSTALLATIONS {
        let name = format!("{prefix}signingkeyring-operator");
        let deployment = find(objects, "Deployment", &name);
        let spec = &deployment["spec"];
        assert_eq!(spec["replicas"], 2);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})
        );
        let template = &spec["template"];
        let labels = &template["metadata"]["labels"];
        assert_eq!(spec["selector"]["matchLabels"], *labels);

        let budget = find(objects, "PodDisruptionBudget", &name);
        assert_eq!(budget["metadata"]["namespace"], *namespace);
        assert_eq!(budget["spec"]["selector"]["matchLabels"], *labels);
        assert_eq!(budget["spec"]["maxUnavailable"], 1, "of two, so a node can be drained");

        let spread = &template["spec"]["topologySpreadConstraints"];
        assert_eq!(spread.as_array().unwrap().len(), 1);
        assert_eq!(spread[0]["topologyKey"], "kubernetes.io/hostname");
        assert_eq!(spread[0]["maxSkew"], 1);
        assert_eq!(spread[0]["whenUnsatisfiable"], "ScheduleAnyway", "one node is enough");
        assert_eq!(spread[0]["labelSelector"]["matchLabels"], *labels);
    }
}

#[test]
fn replicas_agree_who_works_and_have_time_to_let_go() {
    let (objects, ..) = &INSTALLATIONS[0];
    let deployment = find(objects, "Deployment", "signingkeyring-operator");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let environment = container["env"].as_array().unwrap();
    let told = |name: &str| environment.iter().find(|v| v["name"] == name).unwrap();
    // Not among the arguments: an overlay that has others takes their place.
    assert_eq!(told("SIGNING_LEADER_ELECT")["value"], "true");
    assert!(!Settings::parse_from(["signingkeyring-operator"]).leader_elect);
    let told = told("SIGNING_REPLICA");
    assert_eq!(told["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");

    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!((1..=2).contains(&before), "a look at the Lease, and the next leader waits for it");
    // Letting go is given two seconds.
    assert!(grace >= before + 2 * 2, "{grace} s");
}

/// Of Leases it may use the one by which it is elected, in its own namespace alone.
#[test]
fn the_right_to_leases_is_the_least() {
    for (objects, prefix, namespace) in &*INSTALLATIONS {
        let rules = |role: &Value| role["rules"].as_array().cloned().unwrap_or_default();
        let of_leases = |rule: &Value| rule["apiGroups"] == json!(["coordination.k8s.io"]);
        let roles = objects.iter().filter(|o| o["kind"] == "Role" || o["kind"] == "ClusterRole");
        for role in roles {
            let found: Vec<Value> = rules(role).into_iter().filter(of_leases).collect();
            let name = role["metadata"]["name"].as_str().unwrap();
            if role["kind"] == "Role" && name == format!("{prefix}signingkeyring-operator") {
                assert_eq!(role["metadata"]["namespace"], *namespace);
                let groups = json!(["coordination.k8s.io"]);
                assert_eq!(
                    found,
                    [
                        json!({"apiGroups": groups, "resources": ["leases"], "verbs": ["create"]}),
                        json!({
                            "apiGroups": groups, "resources": ["leases"],
                            "resourceNames": [names::LEASE], "verbs": ["get", "update"],
                        }),
                    ]
                );
            } else {
                assert!(found.is_empty(), "{name}");
            }
        }
    }
}
