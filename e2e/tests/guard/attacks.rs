//! What attacks on the check meet, with the guard and without it. The README's
//! table says the same.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::json;
use signingkeyring_e2e_testbed::{
    cluster::Cluster,
    tools,
    world::{World, wait_until},
};

use crate::{
    prey::{NOTE, Outcome, Prey, RING},
    said::Said,
    turn::{self, in_turn},
    users::{LABELLER, PLATFORM, PODDER, ROTATOR, bind},
};

/// An attack, as the README names it, and what it comes to where the guard is away.
type Attack = (&'static str, Outcome);

const OWN_WEBHOOK: Attack =
    ("a tenant's `Policy` that swaps the image, by a webhook of its own", Outcome::Unsigned);
const SHARED_WEBHOOK: Attack =
    ("the same by Kyverno's webhook for `failurePolicy: Ignore`", Outcome::Unsigned);
const WAITING: Attack =
    ("the same `Policy`, made before the namespace is enrolled", Outcome::Unsigned);
const NEW_KIND: Attack = ("a tenant's `NamespacedMutatingPolicy`", Outcome::Fails);
const EXCEPTED: Attack = (
    "a tenant's `PolicyException`, where Kyverno heeds those of every namespace",
    Outcome::Unsigned,
);
const FORGED: Attack =
    ("a Pod with a forged note, behind a scheduling gate until it is enrolled", Outcome::Unsigned);
const BY_STATUS: Attack = ("the same note, written by `pods/status`", Outcome::Unsigned);
const UNLABELLED: Attack = ("the enrolment label is taken off", Outcome::Unsigned);
const EXCLUDED: Attack = ("who may rotate a ring has it exclude the image", Outcome::Unsigned);

const ATTACKS: [Attack; 9] = [
    OWN_WEBHOOK,
    SHARED_WEBHOOK,
    WAITING,
    NEW_KIND,
    EXCEPTED,
    FORGED,
    BY_STATUS,
    UNLABELLED,
    EXCLUDED,
];

/// As Kyverno's chart sets them with `features.policyExceptions`.
const HEED_EXCEPTIONS: [&str; 2] = ["--enablePolicyException=true", "--exceptionNamespace=*"];

impl Prey<'_> {
    /// Makes each attack. Where the guard is in place each is refused by it at
    /// the first step, and nothing else is tried.
    async fn all(&self, cluster: &Cluster, guarded: bool) -> Result<Vec<(Attack, Outcome)>> {
        let mut met = Vec::new();
        let policies = [
            (OWN_WEBHOOK, self.swap("prey-dev", true)),
            (SHARED_WEBHOOK, self.swap("prey-dev", false)),
            (NEW_KIND, self.swap_of_new_kind("prey-dev")),
        ];
        for (attack, policy) in policies {
            let said = self.make(&policy).await.context(attack.0)?;
            ensure!((said == Said::Guard) == guarded, "{}: {said:?}", attack.0);
            if !guarded {
                met.push((attack, self.run_swapped("prey-dev").await?));
                let kinds = "policies.kyverno.io,namespacedmutatingpolicies.policies.kyverno.io";
                self.world.kubectl(&["delete", kinds, "--all", "-n", "prey-dev"]).await?;
                self.world.wait_until_refused("prey-dev", &self.unsigned).await?;
            }
        }

        let said = self.make(&self.exception("prey-dev")).await.context(EXCEPTED.0)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", EXCEPTED.0);
        if !guarded {
            cluster.restart_with("kyverno", &HEED_EXCEPTIONS).await?;
            met.push((EXCEPTED, self.unsigned_in("prey-dev").await?));
            let delete = ["delete", "policyexceptions.kyverno.io", "helper", "-n", "prey-dev"];
            self.world.kubectl(&delete).await?;
            cluster.restart_with("kyverno", &[]).await?;
            self.world.wait_until_refused("prey-dev", &self.unsigned).await?;
        }

        let [early, waiting] = match guarded {
            true => ["early", "waiting"],
            false => ["early-unguarded", "waiting-unguarded"],
        };
        self.free(early).await?;
        self.free(waiting).await?;
        let said = self.make(&self.swap(early, true)).await?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", WAITING.0);
        let pods: Api<Pod> = Api::namespaced(self.tenant.clone(), waiting);
        let post = PostParams::default();
        let said =
            Said::of(pods.create(&post, &self.gated("forged", &self.whole_note().await?)?).await)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", FORGED.0);
        pods.create(&post, &self.gated("by-status", "{}")?).await?;
        let podder: Api<Pod> = Api::namespaced(PODDER.client(self.world).await?, waiting);
        let note = json!({"metadata": {"annotations": {NOTE: self.whole_note().await?}}});
        let patched =
            podder.patch_status("by-status", &PatchParams::default(), &Patch::Merge(note)).await;
        let said = Said::of(patched)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", BY_STATUS.0);
        self.enrol(early).await?;
        self.enrol(waiting).await?;
        if guarded {
            // What could be stocked is verified when it is to start.
            ensure!(self.release(waiting, "by-status").await? == Outcome::Fails);
        } else {
            met.push((WAITING, self.run_swapped(early).await?));
            met.push((FORGED, self.release(waiting, "forged").await?));
            met.push((BY_STATUS, self.release(waiting, "by-status").await?));
        }

        let rings: Api<DynamicObject> = Api::all_with(
            ROTATOR.client(self.world).await?,
            &ApiResource::from_gvk_with_plural(
                &GroupVersionKind::gvk("signing.odj.cloud", "v1alpha1", "SigningKeyRing"),
                "signingkeyrings",
            ),
        );
        let (repository, _) = self.unsigned.split_once('@').context("a digest")?;
        let exclude = json!({"spec": {"policy": {"exclude": [{"image": format!("{repository}:*"), "reason": "x"}]}}});
        let patched = rings.patch(RING, &PatchParams::default(), &Patch::Merge(&exclude)).await;
        ensure!((Said::of(patched)? == Said::Guard) == guarded, "{}", EXCLUDED.0);
        if !guarded {
            met.push((EXCLUDED, self.unsigned_in("prey-dev").await?));
            let patch = "--patch={\"spec\":{\"policy\":{\"exclude\":null}}}";
            self.world.kubectl(&["patch", "skr", RING, "--type=merge", patch]).await?;
            self.world.wait_until_refused("prey-dev", &self.unsigned).await?;
        }

        let label = ["label", "namespace", "prey-dev", "signing.odj.cloud/ring-"];
        let who = format!("--as={}", LABELLER.user);
        let answer = self.world.kubectl(&[&label[..], &[&who]].concat()).await;
        if guarded {
            let refused = answer.err().context("the label went")?;
            ensure!(Said::of_words(&format!("{refused:#}"))? == Said::Guard);
        } else {
            answer?;
            met.push((UNLABELLED, self.unsigned_in("prey-dev").await?));
            self.enrol("prey-dev").await?;
        }
        self.world.wait_until_refused("prey-dev", &self.unsigned).await?;
        Ok(met)
    }
}

/// Waits until the guard is in place, or is not any more.
async fn guarded(world: &World, wanted: bool) -> Result<()> {
    let kind = GroupVersionKind::gvk("kyverno.io", "v1", "ClusterPolicy");
    let kind = ApiResource::from_gvk_with_plural(&kind, "clusterpolicies");
    let policies: Api<DynamicObject> = Api::all_with(PLATFORM.client(world).await?, &kind);
    let policy = world.ring(RING, "{.status.policy.name}").await?;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"a": "b"}}}));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    wait_until(&format!("the guard is in place: {wanted}"), async || {
        let said = Said::of(policies.patch(&policy, &params, &patch).await)?;
        Ok((said == Said::Guard) == wanted)
    })
    .await
}

#[test]
fn each_attack_meets_what_the_readme_says() {
    in_turn(async |shared| {
        let world = &shared.world;
        let prey = Prey::new(world).await?;
        // The ring that rotator may rotate.
        let rotator = [
            "patch",
            "clusterrole",
            "rotates-shop",
            "--type=json",
            "--patch=[{\"op\":\"replace\",\"path\":\"/rules/0/resourceNames\",\"value\":[\"shop\",\"prey\"]}]",
        ];
        world.kubectl(&rotator).await?;
        prey.all(&shared.cluster, true).await.context("with the guard")?;

        world.kubectl(&["delete", "--kustomize=manifests/guard"]).await?;
        guarded(world, false).await?;
        let met = prey.all(&shared.cluster, false).await.context("without the guard");
        world.kubectl(&["apply", "--kustomize=manifests"]).await?;
        guarded(world, true).await?;
        let met = met?;

        let readme = fs::read_to_string(tools::root().join("README.md"))?;
        ensure!(met.len() == ATTACKS.len(), "not all were made: {met:?}");
        for (attack, outcome) in met {
            println!("| {} | refused by the guard | {} |", attack.0, outcome.as_str());
            ensure!(outcome == attack.1, "{}: {outcome:?}", attack.0);
            let row = format!("| {} | refused by the guard | {} |", attack.0, outcome.as_str());
            ensure!(readme.contains(&row), "the README has no row {row}");
        }
        Ok(())
    });
}

#[test]
fn the_guard_stands_while_kyverno_and_the_operator_are_down() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: guarded}}").await?;
        bind(world).await?;
        turn::kill(shared).await?;
        shared.cluster.stop("kyverno").await?;
        let ring = json!({"metadata": {"labels": {"signing.odj.cloud/ring": "any"}}}).to_string();
        let ledger = "--type=signing.odj.cloud/key-ring";
        for (user, words) in [
            (LABELLER, vec!["patch", "namespace", "guarded", "--patch", &ring]),
            (PLATFORM, vec!["create", "secret", "generic", "any", "-n=signing-system", ledger]),
        ] {
            let who = format!("--as={}", user.user);
            let answer = world.kubectl(&[&words[..], &[&who]].concat()).await;
            let refused = answer.err().with_context(|| format!("{} may", user.name))?;
            ensure!(Said::of_words(&format!("{refused:#}"))? == Said::Guard, "{refused:#}");
        }
        Ok(())
    });
}
