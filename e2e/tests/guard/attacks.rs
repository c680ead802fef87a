//! What attacks on the check meet, with the guard and without it. The README's
//! table says the same.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Pod};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::json;
use signingkeyring_e2e_testbed::{
    cluster::Cluster,
    images::Verdict,
    kind::Kind,
    tools,
    world::{World, wait_until},
};

use crate::{
    prey::{NOTE, OUTCOMES, Outcome, Prey, ring_of},
    race::SlowRegistry,
    said::Said,
    turn::{self, in_turn},
    users::{LABELLER, PLATFORM, PODDER, ROTATOR, bind},
};

/// An attack, as the README names it, whether the guard refuses it, and what it comes
/// to where the guard is away, by each kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attack {
    pub what: &'static str,
    pub is_refused: bool,
    pub without: [Outcome; 2],
}

/// One that the guard refuses.
pub const fn refused(what: &'static str, without: [Outcome; 2]) -> Attack {
    Attack { what, is_refused: true, without }
}

/// What comes after the verification of ClusterPolicies, and before the other's.
const AFTER: [Outcome; 2] = [Outcome::Unsigned, Outcome::Fails];
const NEITHER: [Outcome; 2] = [Outcome::Fails; 2];
const BOTH: [Outcome; 2] = [Outcome::Unsigned; 2];

const OWN_WEBHOOK: Attack =
    refused("a tenant's `Policy` that swaps the image, by a webhook of its own", AFTER);
const SHARED_WEBHOOK: Attack =
    refused("the same by Kyverno's webhook for `failurePolicy: Ignore`", AFTER);
const RACED: Attack = refused(
    "the same, and the `Policy` is deleted while its own slow registry holds the Pod up",
    AFTER,
);
const WAITING: Attack = refused("the same `Policy`, made before the namespace is enrolled", AFTER);
const NEW_KIND: Attack = refused("a tenant's `NamespacedMutatingPolicy`", NEITHER);
const EXCEPTED: Attack =
    refused("a tenant's `PolicyException`, where Kyverno heeds those of every namespace", BOTH);
const UNWRITABLE: Attack = refused(
    "a tenant's `NamespacedValidatingPolicy` that no webhook can be written for, and Kyverno's \
     configuration is lost",
    [Outcome::Fails, Outcome::Unsigned],
);
const FORGED: Attack =
    refused("a Pod with a forged note, behind a scheduling gate until it is enrolled", AFTER);
const BY_STATUS: Attack = refused("the same note, written by `pods/status`", AFTER);
const FORGED_OUTCOMES: Attack = Attack {
    what: "a Pod with forged `kyverno.io/image-verification-outcomes`, behind such a gate",
    is_refused: false,
    without: NEITHER,
};
const UNLABELLED: Attack = refused("the enrolment label is taken off", BOTH);
const EXCLUDED: Attack = refused("who may rotate a ring has it exclude the image", BOTH);

const ATTACKS: [Attack; 12] = [
    OWN_WEBHOOK,
    SHARED_WEBHOOK,
    RACED,
    WAITING,
    NEW_KIND,
    EXCEPTED,
    UNWRITABLE,
    FORGED,
    BY_STATUS,
    FORGED_OUTCOMES,
    UNLABELLED,
    EXCLUDED,
];

/// What attacks came to.
type Met = Vec<(Attack, Outcome)>;

/// As Kyverno's chart sets them with `features.policyExceptions`.
const HEED_EXCEPTIONS: [&str; 2] = ["--enablePolicyException=true", "--exceptionNamespace=*"];

const VALIDATING: &str = "kyverno-resource-validating-webhook-cfg";

impl Prey<'_> {
    /// Makes each attack on this ring alone. Where the guard is in place each is refused
    /// by it at the first step, and nothing else is tried.
    async fn all(&self, guarded: bool) -> Result<Met> {
        let mut met = Vec::new();
        let here = self.namespace.as_str();
        let policies = [
            (OWN_WEBHOOK, self.swap(here, true)),
            (SHARED_WEBHOOK, self.swap(here, false)),
            (NEW_KIND, self.swap_of_new_kind(here)),
        ];
        for (attack, policy) in policies {
            let said = self.make(&policy).await.context(attack.what)?;
            ensure!((said == Said::Guard) == guarded, "{}: {said:?}", attack.what);
            if !guarded {
                met.push((attack, self.run_swapped(here).await?));
                let kinds = "policies.kyverno.io,namespacedmutatingpolicies.policies.kyverno.io";
                self.world.kubectl(&["delete", kinds, "--all", "-n", here]).await?;
                self.enforces().await?;
            }
        }

        let registry = SlowRegistry::before(&self.world.info.registry).await?;
        let said = self.make(&self.swap_behind(here, &registry)?).await.context(RACED.what)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", RACED.what);
        if !guarded {
            met.push((RACED, self.run_raced(here, &registry).await.context(RACED.what)?));
            self.enforces().await?;
        }

        met.extend(self.stocked(guarded).await?);

        let rings: Api<DynamicObject> = Api::all_with(
            ROTATOR.client(self.world).await?,
            &ApiResource::from_gvk_with_plural(
                &GroupVersionKind::gvk("signing.odj.cloud", "v1alpha1", "SigningKeyRing"),
                "signingkeyrings",
            ),
        );
        let (repository, _) = self.unsigned.split_once('@').context("a digest")?;
        let exclude = json!([{"image": format!("{repository}:*"), "reason": "x"}]);
        let exclude = Patch::Merge(json!({"spec": {"policy": {"exclude": exclude}}}));
        let patched = rings.patch(self.ring, &PatchParams::default(), &exclude).await;
        ensure!((Said::of(patched)? == Said::Guard) == guarded, "{}", EXCLUDED.what);
        if !guarded {
            met.push((EXCLUDED, self.tried().await?));
            let patch = "--patch={\"spec\":{\"policy\":{\"exclude\":null}}}";
            self.world.kubectl(&["patch", "skr", self.ring, "--type=merge", patch]).await?;
            self.enforces().await?;
        }

        let label = ["label", "namespace", here, "signing.odj.cloud/ring-"];
        let who = format!("--as={}", LABELLER.user);
        let answer = self.world.kubectl(&[&label[..], &[&who]].concat()).await;
        if guarded {
            let refused = answer.err().context("the label went")?;
            ensure!(Said::of_words(&format!("{refused:#}"))? == Said::Guard);
        } else {
            answer?;
            met.push((UNLABELLED, self.tried().await?));
            self.enrol(here).await?;
        }
        self.enforces().await?;
        Ok(met)
    }

    /// What waits in a namespace until it is enrolled.
    async fn stocked(&self, guarded: bool) -> Result<Met> {
        let end = if guarded { "" } else { "-unguarded" };
        let [early, waiting] = ["early", "waiting"].map(|it| format!("{}-{it}{end}", self.ring));
        let [early, waiting] = [early.as_str(), waiting.as_str()];
        self.free(early).await?;
        self.free(waiting).await?;
        let said = self.make(&self.swap(early, true)).await?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", WAITING.what);
        let pods: Api<Pod> = Api::namespaced(self.tenant.clone(), waiting);
        let post = PostParams::default();
        let note = self.whole_note().await?;
        let said = Said::of(pods.create(&post, &self.gated("forged", (NOTE, &note))?).await)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", FORGED.what);
        let outcomes = self.outcomes();
        pods.create(&post, &self.gated("outcomes", (OUTCOMES, &outcomes))?).await?;
        pods.create(&post, &self.gated("by-status", (NOTE, "{}"))?).await?;
        let podder: Api<Pod> = Api::namespaced(PODDER.client(self.world).await?, waiting);
        let written = Patch::Merge(json!({"metadata": {"annotations": {NOTE: note}}}));
        let patched = podder.patch_status("by-status", &PatchParams::default(), &written).await;
        let said = Said::of(patched)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", BY_STATUS.what);
        self.enrol(early).await?;
        self.enrol(waiting).await?;
        let mut met = vec![(FORGED_OUTCOMES, self.release(waiting, "outcomes").await?)];
        if guarded {
            // What could be stocked is verified when it is to start.
            ensure!(self.release(waiting, "by-status").await? == Outcome::Fails);
        } else {
            met.push((WAITING, self.run_swapped(early).await?));
            met.push((FORGED, self.release(waiting, "forged").await?));
            met.push((BY_STATUS, self.release(waiting, "by-status").await?));
        }
        Ok(met)
    }
}

/// Makes each attack on each ring: first what is of the whole cluster, which bears on
/// all.
async fn all(cluster: &Cluster, preys: &[Prey<'_>], guarded: bool) -> Result<Vec<Met>> {
    for prey in preys {
        let said = prey.make(&prey.exception()).await.context(EXCEPTED.what)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", EXCEPTED.what);
        let said = prey.make(&prey.unwritable()).await.context(UNWRITABLE.what)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", UNWRITABLE.what);
    }
    let mut met = vec![Met::new(); preys.len()];
    if !guarded {
        without_webhooks(preys, &mut met).await.context(UNWRITABLE.what)?;
        cluster.restart_with("kyverno", &HEED_EXCEPTIONS).await?;
        for (prey, met) in preys.iter().zip(&mut met) {
            met.push((EXCEPTED, prey.tried().await?));
            let kinds = "policyexceptions.kyverno.io,policyexceptions.policies.kyverno.io";
            prey.world.kubectl(&["delete", kinds, "--all", "-n", &prey.namespace]).await?;
        }
        cluster.restart_with("kyverno", &[]).await?;
        for prey in preys {
            prey.enforces().await?;
        }
    }
    for (prey, met) in preys.iter().zip(&mut met) {
        met.extend(prey.all(guarded).await.context(prey.kind.as_str())?);
    }
    Ok(met)
}

/// Kyverno's validating configuration is lost, as when Kyverno was scaled to nothing
/// for a while: what it cannot write it cannot write again.
async fn without_webhooks(preys: &[Prey<'_>], met: &mut [Met]) -> Result<()> {
    let [first, ..] = preys else { return Ok(()) };
    let world = first.world;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(world.client().await?);
    api.delete(VALIDATING, &DeleteParams::default()).await?;
    for prey in preys.iter().filter(|prey| prey.kind == Kind::ImageValidatingPolicy) {
        world.wait_until_admitted(&prey.namespace, &prey.unsigned).await?;
        world.wait_for_condition(prey.ring, "EnforcementComplete", "False WebhookMissing").await?;
    }
    for (prey, met) in preys.iter().zip(met) {
        let verdict = world.admit(&prey.namespace, &prey.unsigned).await?;
        met.push((
            UNWRITABLE,
            match verdict {
                Verdict::Admitted => Outcome::Unsigned,
                Verdict::Refused(_) | Verdict::Unanswered(_) => Outcome::Fails,
            },
        ));
    }
    for prey in preys {
        let kind = "namespacedvalidatingpolicies.policies.kyverno.io";
        world.kubectl(&["delete", kind, "--all", "-n", &prey.namespace]).await?;
        prey.enforces().await?;
    }
    Ok(())
}

/// Waits until the guard is in place, or is not any more.
async fn guarded(world: &World, wanted: bool) -> Result<()> {
    let kind = GroupVersionKind::gvk("kyverno.io", "v1", "ClusterPolicy");
    let kind = ApiResource::from_gvk_with_plural(&kind, "clusterpolicies");
    let policies: Api<DynamicObject> = Api::all_with(PLATFORM.client(world).await?, &kind);
    let policy = world.ring(ring_of(Kind::ClusterPolicy), "{.status.policy.name}").await?;
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
        let [cluster_policy, image_validating] = Kind::ALL;
        let preys =
            [Prey::new(world, cluster_policy).await?, Prey::new(world, image_validating).await?];
        // The rings that rotator may rotate.
        let rings = json!([{"op": "replace", "path": "/rules/0/resourceNames",
            "value": ["shop", preys[0].ring, preys[1].ring]}]);
        let patch = format!("--patch={rings}");
        world.kubectl(&["patch", "clusterrole", "rotates-shop", "--type=json", &patch]).await?;
        let guarded_met = all(&shared.cluster, &preys, true).await.context("with the guard")?;
        for (attack, outcome) in guarded_met.into_iter().flatten() {
            ensure!(!attack.is_refused && outcome == Outcome::Fails, "{}", attack.what);
        }

        world.kubectl(&["delete", "--kustomize=manifests/guard"]).await?;
        guarded(world, false).await?;
        let met = all(&shared.cluster, &preys, false).await.context("without the guard");
        world.kubectl(&["apply", "--kustomize=manifests"]).await?;
        guarded(world, true).await?;
        let met = met?;

        let come_to = |attack: &Attack, met: &Met| {
            let mut all = met.iter().filter(|(made, _)| made == attack).map(|(_, to)| *to);
            all.next().filter(|_| all.next().is_none()).context(attack.what)
        };
        let mut wrong = Vec::new();
        for attack in ATTACKS {
            let without = [come_to(&attack, &met[0])?, come_to(&attack, &met[1])?];
            if without != attack.without {
                wrong.push(format!("{}: {without:?}", attack.what));
            }
            wrong.extend(says_readme(&attack).err().map(|error| format!("{error:#}")));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
}

/// Ensures that the README says what an attack comes to.
pub fn says_readme(attack: &Attack) -> Result<()> {
    let with = if attack.is_refused { "refused by the guard" } else { Outcome::Fails.as_str() };
    let [cluster_policy, image_validating] = attack.without.map(Outcome::as_str);
    let row = format!("| {} | {with} | {cluster_policy} | {image_validating} |", attack.what);
    println!("{row}");
    let readme = fs::read_to_string(tools::root().join("README.md"))?;
    ensure!(readme.contains(&row), "the README has no row {row}");
    Ok(())
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
