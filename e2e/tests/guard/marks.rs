//! Notes of Kyverno's that are stocked where no ring enforces yet: what becomes of
//! them when one does; and what honest copies with old notes meet.

mod unwatched;

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};

use unwatched::{refuses_where_kyverno_does_not_look, refuses_where_nobody_looks};

use crate::{
    attacks::{Attack, refused, says_readme},
    common::Shared,
    prey::{NOTE, Outcome},
    said::Said,
    turn::{self, in_turn},
};

const FORETOLD: Attack = refused(
    "the same note, in the namespace of a ring that is yet to come and whose keys are known",
    [Outcome::Unsigned, Outcome::Fails],
);

async fn pods(world: &World, namespace: &str) -> Result<Api<Pod>> {
    wait_until("its account is there", async || {
        Ok(world.get(&["serviceaccount", "default", "-n", namespace], "{.kind}").await.is_ok())
    })
    .await?;
    Ok(Api::namespaced(world.client().await?, namespace))
}

/// A note that these rules of the first policy that enforces passed an image.
fn note(rules: &[&str], image: &str) -> String {
    let rules: Map<String, Value> =
        rules.iter().map(|rule| ((*rule).to_owned(), json!({image: "pass"}))).collect();
    json!({"version": 1, "policies": {"/signing-enforce-0001": rules}}).to_string()
}

/// A Pod behind a scheduling gate.
fn gated(name: &str, note: &str, images: &[&str]) -> Result<Pod> {
    let containers: Vec<Value> = (0..)
        .zip(images)
        .map(|(index, image)| json!({"name": format!("c{index}"), "image": image}))
        .collect();
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {NOTE: note}},
        "spec": {"schedulingGates": [{"name": "x.example/wait"}], "containers": containers},
    }))?)
}

/// Ensures that Kyverno refuses to let a Pod start.
async fn stays(pods: &Api<Pod>, name: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"schedulingGates": []}}));
    let released = pods.patch(name, &PatchParams::default(), &patch).await;
    let Err(kube::Error::Api(status)) = released else {
        anyhow::bail!("{name} starts: {released:?}");
    };
    ensure!(status.message.contains("failed to verify image"), "{}", status.message);
    Ok(())
}

/// Waits until the half of Kyverno that writes notes looks at a ring's Pods: its webhook
/// configuration is another one than that of the half which the operator asks.
async fn writes_notes(pods: &Api<Pod>, image: &str) -> Result<()> {
    let dry = PostParams { dry_run: true, field_manager: None };
    let asked = gated("asked", "{}", &[image])?;
    wait_until("Kyverno writes notes of the ring that audits", async || {
        let annotations = pods.create(&dry, &asked).await?.metadata.annotations;
        let note = annotations.as_ref().and_then(|found| found.get(NOTE));
        Ok(note.is_some_and(|note| note.contains("signing-audit")))
    })
    .await
}

/// The part of the guard that goes by what the operator says of labels that name no ring.
const TELLS_UNKNOWN: &str = "signingkeyring-guard-unknown";

/// Has these parts of the guard refuse nothing until it is installed again.
async fn unbind(world: &World, parts: &[&str]) -> Result<()> {
    let delete = ["delete", "validatingadmissionpolicybindings"];
    world.kubectl(&[&delete[..], parts].concat()).await.map(drop)
}

async fn enforce(world: &World, ring: &str, action: &str) -> Result<()> {
    let patch = format!("--patch={{\"spec\":{{\"policy\":{{\"action\":\"{action}\"}}}}}}");
    world.kubectl(&["patch", "skr", ring, "--type=merge", &patch]).await?;
    let policy = format!("signing-{}-0001", action.to_lowercase());
    world.wait_for_field(ring, "{.status.policy.name}", &policy).await?;
    world.wait_for_condition(ring, "PolicyEnforced", "True").await?;
    Ok(())
}

#[test]
fn what_is_stocked_while_a_ring_audits_is_verified_when_it_enforces() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("audited").await?;
        let unsigned = world.push("audited/unsigned", "v1").await?;
        // The attacker knows what the rules will be called: the ring has enforced before.
        let rules = world.rules("signing-enforce-0001", "audited").await?;
        let names: Vec<&str> = rules.iter().filter_map(|rule| rule["name"].as_str()).collect();
        ensure!(names.iter().any(|name| name.contains(".gates-")), "{names:?}");
        let forged = note(&names, &unsigned);
        enforce(world, "audited", "Audit").await?;
        world.wait_until_admitted("audited-dev", &unsigned).await?;

        let pods = pods(world, "audited-dev").await?;
        let post = PostParams::default();
        writes_notes(&pods, &unsigned).await?;
        pods.create(&post, &gated("created", &forged, &[&unsigned])?).await?;
        pods.create(&post, &gated("written", "{}", &[&unsigned])?).await?;
        let written = Patch::Merge(json!({"metadata": {"annotations": {NOTE: forged}}}));
        pods.patch("written", &PatchParams::default(), &written).await?;
        for name in ["created", "written"] {
            let found = pods.get(name).await?.metadata.annotations.context("no note")?;
            ensure!(!found[NOTE].contains("signing-enforce"), "Kyverno leaves it: {found:?}");
        }
        // Past Kyverno, and where it looks at no image.
        let said = Said::of(pods.patch_status("written", &PatchParams::default(), &written).await)?;
        ensure!(said == Said::Guard, "{said:?}");
        let unread = gated("unread", &forged, &[&unsigned, "quay.io./X"])?;
        let said = Said::of(pods.create(&post, &unread).await)?;
        ensure!(said == Said::Guard, "{said:?}");

        enforce(world, "audited", "Enforce").await?;
        world.wait_until_refused("audited-dev", &unsigned).await?;
        for name in ["created", "written"] {
            stays(&pods, name).await?;
        }
        Ok(())
    });
}

/// A key pair of cosign's in a Secret, which the operator may read.
async fn key_pair(world: &World, namespace: &str) -> Result<()> {
    let folder = world.info.folder.join(namespace);
    fs::create_dir_all(&folder)?;
    let prefix = folder.join("own").display().to_string();
    let make = ["generate-key-pair", "--output-key-prefix", &prefix];
    world.run("cosign", &make, &[("COSIGN_PASSWORD", "")], "").await?;
    let read = |end: &str| fs::read_to_string(format!("{prefix}.{end}"));
    let data =
        json!({"cosign.key": read("key")?, "cosign.pub": read("pub")?, "cosign.password": ""});
    let metadata = json!({"name": "cosign", "namespace": namespace});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
    world.apply(&secret.to_string()).await?;
    let namespace = format!("--namespace={namespace}");
    let of = ["--verb=get", "--resource=secrets", "--resource-name=cosign", &namespace];
    world.kubectl(&[&["create", "role", "import"], &of[..]].concat()).await?;
    let operator = "--serviceaccount=signing-system:signingkeyring-operator";
    let to = ["create", "rolebinding", "import", "--role=import", operator, &namespace];
    world.kubectl(&to).await?;
    Ok(())
}

/// Creates Pods with a note, for either kind of policy, where neither the guard nor a
/// rule looks at them.
async fn stock_unguarded(
    shared: &Shared,
    pods: &Api<Pod>,
    note: &str,
    unsigned: &str,
) -> Result<()> {
    let world = &shared.world;
    turn::kill(shared).await?;
    turn::start(shared, &["--unknown-rings=Ignore"]).await?;
    let label = ["label", "namespace", "foretold-dev", "signing.odj.cloud/ring=foretold"];
    world.kubectl(&label).await?;
    world.wait_until_admitted("foretold-dev", unsigned).await?;
    let stocked = gated("unguarded", note, &[unsigned])?;
    let later = gated("unguarded-later", note, &[unsigned])?;
    let guarded = async |wanted: bool| {
        let dry = PostParams { dry_run: true, field_manager: None };
        let said = async || Said::of(pods.create(&dry, &stocked).await);
        wait_until("the guard is told", async || Ok((said().await? == Said::Guard) == wanted)).await
    };
    unbind(world, &["signingkeyring-guard-marks", TELLS_UNKNOWN]).await?;
    let made = match guarded(false).await {
        Ok(()) => {
            let post = PostParams::default();
            let made = [pods.create(&post, &stocked).await, pods.create(&post, &later).await];
            made.into_iter().map(Said::of).collect::<Result<Vec<Said>>>()
        }
        Err(error) => Err(error),
    };
    world.kubectl(&["apply", "--kustomize=manifests"]).await?;
    guarded(true).await?;
    ensure!(made? == [Said::Yes; 2]);
    let label = ["label", "namespace", "foretold-dev", "signing.odj.cloud/ring-"];
    world.kubectl(&label).await?;
    Ok(())
}

/// Has a ring stand in an ImageValidatingPolicy alone.
async fn move_to_the_other_kind(world: &World, ring: &str) -> Result<()> {
    let kind = Kind::ImageValidatingPolicy.as_str();
    let patch = format!("--patch={{\"spec\":{{\"policy\":{{\"kind\":\"{kind}\"}}}}}}");
    world.kubectl(&["patch", "skr", ring, "--type=merge", &patch]).await?;
    world.wait_for_field(ring, "{.status.policy.kind}", kind).await?;
    wait_until("it has left the other", async || {
        let names = world.get(&["clusterpolicies"], "{.items[*].spec.rules[*].name}").await?;
        Ok(!names.contains(ring))
    })
    .await
}

/// A ring that imports its key, so that anybody who knows that may foretell what its
/// rules will be called; one that comes back with its ledger is no other.
#[test]
fn what_is_foretold_of_a_ring_cannot_be_stocked_before_it_comes() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.apply(&namespaces("foretold")).await?;
        key_pair(world, "foretold-ci").await?;
        let import = "  importFrom: {secret: {namespace: foretold-ci, name: cosign}}\n";
        let ring = manifest("foretold", import);
        let come = async || {
            world.apply(&ring).await?;
            world.wait_for_condition("foretold", "Ready", "True").await?;
            let rules = world.rules("signing-enforce-0001", "foretold").await?;
            let names = rules.iter().filter_map(|rule| Some(rule["name"].as_str()?.to_owned()));
            Ok::<_, anyhow::Error>(names.collect::<Vec<String>>())
        };
        let foretold = come().await?;
        let names: Vec<&str> = foretold.iter().map(String::as_str).collect();
        let (gates, others): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains(".gates-"));
        ensure!(gates.len() == 1 && !others.is_empty(), "{names:?}");
        let unsigned = world.push("foretold/unsigned", "v1").await?;
        world.wait_until_refused("foretold-dev", &unsigned).await?;
        let label = ["label", "namespace", "foretold-dev"];
        world.kubectl(&[&label[..], &["signing.odj.cloud/ring-"]].concat()).await?;
        world.kubectl(&["delete", "skr", "foretold"]).await?;

        let pods = pods(world, "foretold-dev").await?;
        let post = PostParams::default();
        let whole = note(&names, &unsigned);
        let spaced = whole.replace("\":{", "\" :\n{");
        let escaped = whole.replace(".gates-", "\\u002egates-");
        stock_unguarded(shared, &pods, &whole, &unsigned).await?;
        for setting in ["Enforce", "Audit", "Ignore"] {
            turn::kill(shared).await?;
            turn::start(shared, &[&format!("--unknown-rings={setting}")]).await?;
            world.kubectl(&[&label[..], &["signing.odj.cloud/ring=foretold"]].concat()).await?;
            match setting {
                "Enforce" => world.wait_until_refused("foretold-dev", &unsigned).await?,
                _ => world.wait_until_admitted("foretold-dev", &unsigned).await?,
            }
            // Until Kyverno has loaded what covers the namespace, the guard alone refuses.
            let overwrites = async || {
                let dry = PostParams { dry_run: true, field_manager: None };
                let made = pods.create(&dry, &gated("asks", &whole, &[&unsigned])?).await;
                Ok(made.is_ok_and(|pod| !pod.annotations()[NOTE].contains("signing-enforce")))
            };
            if setting == "Audit" {
                wait_until("Kyverno writes its own note", overwrites).await?;
            }
            for (form, note) in [("whole", &whole), ("spaced", &spaced), ("escaped", &escaped)] {
                let name = format!("{form}-{}", setting.to_lowercase());
                let made = pods.create(&post, &gated(&name, note, &[&unsigned])?).await;
                match (setting, made) {
                    ("Enforce", Err(kube::Error::Api(status))) => {
                        ensure!(status.message.contains("failed to verify"), "{}", status.message);
                    }
                    ("Audit", Ok(pod)) => {
                        let stored = &pod.annotations()[NOTE];
                        ensure!(!stored.contains("gates-"), "Kyverno leaves it: {stored}");
                    }
                    ("Ignore", made) => {
                        ensure!(Said::of(made)? == Said::Guard, "{form} is stocked");
                    }
                    (_, made) => anyhow::bail!("{setting}: {form} is {made:?}"),
                }
            }
            if setting == "Audit" {
                let plain = note(&others, &unsigned);
                refuses_where_kyverno_does_not_look(world, &pods, &plain, &unsigned).await?;
            }
            if setting != "Ignore" {
                world.kubectl(&[&label[..], &["signing.odj.cloud/ring-"]].concat()).await?;
            }
        }

        refuses_where_nobody_looks(&pods, &note(&others, &unsigned), &unsigned).await?;

        // Before the operator has told the guard of the label, what comes to nothing may be
        // stocked, as it is and by an update.
        unbind(world, &[TELLS_UNKNOWN]).await?;
        let dry = PostParams { dry_run: true, field_manager: None };
        let stocked = gated("stocked", &note(&others, &unsigned), &[&unsigned])?;
        wait_until("the guard is told", async || {
            Ok(Said::of(pods.create(&dry, &stocked).await)? == Said::Yes)
        })
        .await?;
        pods.create(&post, &stocked).await?;
        let foreign = note(&names, &unsigned).replace("/signing-", "/others-");
        pods.create(&post, &gated("foreign", &foreign, &[&unsigned])?).await?;
        let written = Patch::Merge(json!({"metadata": {"annotations": {NOTE: whole}}}));
        let said = Said::of(pods.patch("stocked", &PatchParams::default(), &written).await)?;
        ensure!(said == Said::Guard, "{said:?}");
        world.kubectl(&["apply", "--kustomize=manifests"]).await?;
        ensure!(come().await? == foretold, "it was not foretold");
        world.wait_until_refused("foretold-dev", &unsigned).await?;
        for name in ["stocked", "foreign", "whole-audit"] {
            stays(&pods, name).await?;
        }
        let starts = Patch::Merge(json!({"spec": {"schedulingGates": []}}));
        pods.patch("unguarded", &PatchParams::default(), &starts).await?;
        move_to_the_other_kind(world, "foretold").await?;
        let later = pods.patch("unguarded-later", &PatchParams::default(), &starts).await;
        let Err(kube::Error::Api(status)) = later else { anyhow::bail!("it starts: {later:?}") };
        ensure!(status.message.contains(Kind::ImageValidatingPolicy.unsigned()), "{status}");
        says_readme(&FORETOLD)?;
        turn::kill(shared).await?;
        turn::start(shared, &[]).await
    });
}

#[test]
fn a_copy_with_an_old_note_is_refused_where_nothing_verifies_it() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("copied").await?;
        let image = world.push("copied/app", "v1").await?;
        world.sign(&image, "copied-ci/image-signing").await?;
        world.wait_until_admitted("copied-dev", &image).await?;
        let here = pods(world, "copied-dev").await?;
        let post = PostParams::default();
        here.create(&post, &gated("app", "{}", &[&image])?).await?;
        let noted = here.get("app").await?.metadata.annotations.context("no note")?[NOTE].clone();
        ensure!(noted.contains("\"/signing-enforce-"), "{noted}");

        world.kubectl(&["create", "namespace", "copied-elsewhere"]).await?;
        let there = pods(world, "copied-elsewhere").await?;
        let copy = gated("copy", &noted, &[&image])?;
        let Err(kube::Error::Api(status)) = there.create(&post, &copy).await else {
            anyhow::bail!("the copy is taken");
        };
        ensure!(status.message.contains("take the annotation off"), "{}", status.message);
        there.create(&post, &gated("copy", "{}", &[&image])?).await?;
        // Where the namespace is enrolled Kyverno verifies anew.
        here.create(&post, &copy).await?;

        // A controller hears the same.
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "copied", "namespace": "copied-elsewhere"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}, "annotations": {NOTE: noted}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            }},
        });
        world.apply(&deployment.to_string()).await?;
        wait_until("an event has the guard's words", async || {
            let notes =
                world.get(&["events.events.k8s.io", "-n", "copied-elsewhere"], "{.items[*].note}");
            Ok(notes.await?.contains("signingkeyring-guard-marks"))
        })
        .await
    });
}
