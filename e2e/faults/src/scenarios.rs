//! The scenarios.

use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{kind::Kind, tools};

use super::{
    scenario::{
        Neighbour, Scenario, Step, holds, is_empty, is_gone, pipelines, rests, share_a_policy,
    },
    view::View,
};

const ROTATE: &str = "signing.odj.cloud/rotate";

const ALLOW: &str = "signing.odj.cloud/allow-unenforced-deletion";

/// The one in which a ring moves from one kind of policy to the other.
const MOVE: &str = "kind-moved";

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "create",
        spec: nothing,
        versions: 0,
        minted: 1,
        steps: |_| vec![Step::Create],
        neighbour: None,
        goal: |p| rests(p, 1, &[1]) && holds(p, "ci", 1),
    },
    Scenario {
        name: "annotation-rotation",
        spec: nothing,
        versions: 2,
        minted: 3,
        steps: |_| vec![Step::Patch(json!({"metadata": {"annotations": {ROTATE: "faulty"}}}))],
        neighbour: None,
        goal: |p| {
            rests(p, 3, &[3, 2]) && holds(p, "ci", 3) && p["ring"]["observedRotation"] == "faulty"
        },
    },
    Scenario {
        name: "scheduled-rotation",
        spec: |_| json!({"rotation": {"soak": "1s", "every": "2h"}}),
        versions: 1,
        minted: 2,
        steps: |_| vec![Step::Minutes(121)],
        neighbour: None,
        goal: |p| rests(p, 2, &[2, 1]) && holds(p, "ci", 2),
    },
    Scenario {
        name: "revoke-current",
        spec: nothing,
        versions: 2,
        minted: 3,
        steps: |_| vec![revoke(2)],
        neighbour: None,
        goal: |p| rests(p, 3, &[3]) && holds(p, "ci", 3),
    },
    Scenario {
        name: "revoke-old",
        spec: nothing,
        versions: 2,
        minted: 2,
        steps: |_| vec![revoke(1)],
        neighbour: None,
        goal: |p| rests(p, 2, &[2]) && holds(p, "ci", 2),
    },
    Scenario {
        name: "keep-versions-down",
        spec: |_| json!({"keepVersions": 3}),
        versions: 3,
        minted: 3,
        steps: |_| vec![Step::Patch(json!({"spec": {"keepVersions": 1}}))],
        neighbour: None,
        goal: |p| rests(p, 3, &[3]),
    },
    Scenario {
        name: "keep-versions-up",
        spec: |_| json!({"keepVersions": 1}),
        versions: 2,
        minted: 2,
        steps: |_| vec![Step::Patch(json!({"spec": {"keepVersions": 3}}))],
        neighbour: None,
        goal: |p| rests(p, 2, &[2, 1]),
    },
    Scenario {
        name: "pipeline-added",
        spec: nothing,
        versions: 1,
        minted: 1,
        steps: |view| {
            vec![Step::Patch(
                json!({"spec": {"pipelines": pipelines(view, &["ci", "ci2", "foreign"])}}),
            )]
        },
        neighbour: None,
        goal: |p| rests(p, 1, &[1]) && holds(p, "ci", 1) && holds(p, "ci2", 1),
    },
    Scenario {
        name: "pipeline-moved",
        spec: nothing,
        versions: 1,
        minted: 1,
        steps: |view| {
            vec![Step::Patch(json!({"spec": {"pipelines": pipelines(view, &["ci2", "foreign"])}}))]
        },
        neighbour: None,
        goal: |p| rests(p, 1, &[1]) && is_empty(p, "ci") && holds(p, "ci2", 1),
    },
    Scenario {
        name: "pipeline-removed",
        spec: nothing,
        versions: 1,
        minted: 1,
        steps: |view| {
            vec![Step::Patch(json!({"spec": {"pipelines": pipelines(view, &["foreign"])}}))]
        },
        neighbour: None,
        goal: |p| rests(p, 1, &[1]) && is_empty(p, "ci"),
    },
    Scenario {
        name: "exclusion-list",
        spec: nothing,
        versions: 1,
        minted: 1,
        steps: |view| {
            let images = json!([{"image": "quay.io/jetstack/*", "reason": "a test"}]);
            let list = json!({"spec": {"images": images}});
            vec![Step::Apply("ImageExclusionList", view.name().to_owned(), list)]
        },
        neighbour: None,
        goal: |p| {
            let skipped = &p["policies"]["enforce-0001"]["skipped"];
            rests(p, 1, &[1]) && *skipped == json!(["quay.io/jetstack/*"])
        },
    },
    Scenario {
        name: "policy-settings",
        spec: nothing,
        versions: 1,
        minted: 1,
        steps: |_| {
            let exclude = json!([{"image": "quay.io/jetstack/*", "reason": "a test"}]);
            vec![Step::Patch(json!({"spec": {"policy": {"action": "Audit", "exclude": exclude}}}))]
        },
        neighbour: None,
        goal: |p| {
            let policy = &p["policies"]["audit-0001"];
            rests(p, 1, &[1])
                && policy["action"] == "Audit"
                && policy["skipped"] == json!(["quay.io/jetstack/*"])
        },
    },
    Scenario {
        name: MOVE,
        spec: nothing,
        versions: 1,
        minted: 1,
        steps: |_| vec![Step::Patch(json!({"spec": {"policy": {"kind": other_kind().as_str()}}}))],
        neighbour: None,
        goal: |p| {
            rests(p, 1, &[1])
                && holds(p, "ci", 1)
                && p["policies"]["enforce-0001"]["kind"] == other_kind().as_str()
        },
    },
    Scenario {
        name: "ring-deleted",
        spec: nothing,
        versions: 1,
        minted: 1,
        steps: |_| {
            vec![
                Step::Delete,
                Step::Until("the deletion waits", |p| {
                    let ready = p["ring"]["conditions"]["Ready"].as_str();
                    ready == Some("False DeletionBlocked")
                }),
                Step::Leave,
            ]
        },
        neighbour: None,
        goal: is_gone,
    },
    Scenario {
        name: "import",
        spec: |view| {
            let source = json!({"namespace": view.namespace("ci2"), "name": "image-signing"});
            json!({"importFrom": {"secret": source}})
        },
        versions: 0,
        minted: 1,
        steps: |_| vec![Step::KeyPair("ci2"), Step::Create],
        neighbour: None,
        goal: |p| rests(p, 1, &[1]) && holds(p, "ci", 1),
    },
    Scenario {
        name: "neighbour-rotation",
        spec: nothing,
        versions: 1,
        minted: 2,
        steps: |_| vec![Step::Patch(json!({"metadata": {"annotations": {ROTATE: "faulty"}}}))],
        neighbour: Some(Neighbour::Stays),
        goal: |p| {
            let neighbour = &p["neighbour"];
            rests(p, 2, &[2, 1])
                && holds(p, "ci", 2)
                && rests(neighbour, 1, &[1])
                && holds(neighbour, "ci", 1)
                && share_a_policy(p)
        },
    },
    Scenario {
        name: "neighbour-removed",
        spec: nothing,
        versions: 1,
        minted: 1,
        steps: |_| {
            let allowed = json!({ALLOW: "true"});
            vec![
                Step::Until("the rings share a policy", share_a_policy),
                Step::PatchNeighbour(json!({"metadata": {"annotations": allowed}})),
                Step::DeleteNeighbour,
            ]
        },
        neighbour: Some(Neighbour::Leaves),
        goal: |p| rests(p, 1, &[1]) && holds(p, "ci", 1) && is_gone(&p["neighbour"]),
    },
];

fn nothing(_: &View) -> Value {
    json!({})
}

/// All that can be tried on the Kyverno of this run: on an older one there is one kind.
#[must_use]
pub fn usual() -> Vec<&'static Scenario> {
    let possible = |scenario: &&Scenario| scenario.name != MOVE || tools::older_kyverno().is_none();
    ALL.iter().filter(possible).collect()
}

/// The kind that a ring moves to.
fn other_kind() -> Kind {
    match Kind::under_test() {
        Kind::ClusterPolicy => Kind::ImageValidatingPolicy,
        Kind::ImageValidatingPolicy => Kind::ClusterPolicy,
    }
}

fn revoke(version: u32) -> Step {
    Step::Patch(json!({"spec": {"revoked": [{"version": version, "reason": "a test"}]}}))
}

/// The scenario of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
