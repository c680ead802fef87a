//! A state for every reason that a condition may give.

use signingkeyring_core::{
    omissions::{Cause, Omission, Subject, TenantKind, Unseen},
    policy_ref::{Action as RuleAction, PolicyKind},
    snapshot::{Difference, ImportFound, Layout, Revoked},
};

use crate::{
    cases::{rotate, settled},
    world::{ENFORCE, Obstacle, World, pipeline},
};

/// A ring that has rotated once, and what befalls it.
fn after(befalls: impl FnOnce(&mut World)) -> World {
    let mut world = settled();
    rotate(&mut world, "b");
    world.backup = world.ledger.clone();
    befalls(&mut world);
    world
}

fn meeting(obstacle: Obstacle) -> World {
    after(|world| world.meets(obstacle))
}

fn importing(found: ImportFound) -> World {
    let mut world = World::new();
    world.import = Some(found);
    world.settle();
    world
}

fn revoke(world: &mut World, versions: &[u32]) {
    world.ring_mut().revoked = versions.iter().copied().map(Revoked::Version).collect();
}

fn leaving_out(omission: Omission) -> World {
    meeting(Obstacle::LeavesOut(omission))
}

/// A ring before which Kyverno leaves something out in each way.
fn with_omissions() -> Vec<(&'static str, World)> {
    let text = || "x".to_owned();
    let texts = || vec![text(), "y".to_owned()];
    let unseen = |cause| Unseen { why: text(), cause };
    let settings = |why| Omission::Unseen { what: Subject::Settings, why };
    let webhooks = || texts();
    let missing =
        |verifies| Omission::Missing { verifies, webhook: "validate.kyverno.svc-fail".into() };
    vec![
        ("no webhook", leaving_out(missing(false))),
        ("no webhook yet", {
            let mut world = World::new();
            world.settle();
            world.restart();
            world.meets(Obstacle::LeavesOut(missing(true)));
            world
        }),
        ("failures ignored", leaving_out(Omission::Ignored { webhooks: webhooks() })),
        (
            "an objectSelector",
            leaving_out(Omission::Objects { webhooks: webhooks(), selector: text() }),
        ),
        (
            "a namespaceSelector",
            leaving_out(Omission::Namespaces {
                webhooks: webhooks(),
                selector: text(),
                namespaces: texts(),
            }),
        ),
        ("a filter", leaving_out(Omission::Filtered { filter: text(), namespaces: texts() })),
        ("excluded users", leaving_out(Omission::Excluded { who: texts() })),
        ("an exception", leaving_out(Omission::Excepted { exception: text(), policy: ENFORCE })),
        ("a tenant's Policy", leaving_out(Omission::Changed { policy: text() })),
        (
            "a tenant's generating policy",
            leaving_out(Omission::MayCreate { kind: TenantKind::Policy, policy: text() }),
        ),
        (
            "conditions",
            leaving_out(Omission::Conditions { webhooks: webhooks(), conditions: texts() }),
        ),
        ("no right in Kyverno's namespace", leaving_out(settings(unseen(Cause::Forbidden)))),
        ("another namespace", leaving_out(settings(unseen(Cause::Failed)))),
    ]
}

/// A state for every reason, under the ones that are not obvious a name.
pub fn states() -> Vec<(&'static str, World)> {
    let asks = |world: &mut World| world.ring_mut().token = Some("c".into());
    let loses = |world: &mut World| world.ledger = None;
    let mut states = with_omissions();
    states.extend(vec![
        ("new", World::new()),
        ("at rest", after(|_| {})),
        ("audited", {
            let mut world = World::new();
            world.ring_mut().action = RuleAction::Audit;
            world.settle();
            world
        }),
        (
            "without pipelines",
            after(|world| {
                world.ring_mut().pipelines.clear();
                world.settle();
            }),
        ),
        ("frozen", meeting(Obstacle::Frozen(PolicyKind::ClusterPolicy))),
        ("not loaded", meeting(Obstacle::NotLoaded(PolicyKind::ClusterPolicy))),
        (
            "frozen, and the other kind is not served",
            after(|world| {
                world.meets(Obstacle::Frozen(PolicyKind::ClusterPolicy));
                world.meets(Obstacle::NotServed(PolicyKind::ImageValidatingPolicy));
            }),
        ),
        (
            "frozen, and the other kind cannot be asked",
            after(|world| {
                world.meets(Obstacle::Frozen(PolicyKind::ClusterPolicy));
                world.meets(Obstacle::NoProbe);
            }),
        ),
        (
            "in the newer kind, which cannot be asked any more",
            after(|world| {
                world.ring_mut().kind = PolicyKind::ImageValidatingPolicy;
                world.settle();
                world.meets(Obstacle::NoProbe);
            }),
        ),
        (
            "in the newer kind, for which Kyverno is too old by now",
            after(|world| {
                world.ring_mut().kind = PolicyKind::ImageValidatingPolicy;
                world.settle();
                world.meets(Obstacle::OlderKyverno(PolicyKind::ImageValidatingPolicy));
            }),
        ),
        (
            "on its way to the newer kind, for which Kyverno is too old by now",
            after(|world| {
                world.ring_mut().kind = PolicyKind::ImageValidatingPolicy;
                world.pass(1);
                world.meets(Obstacle::OlderKyverno(PolicyKind::ImageValidatingPolicy));
            }),
        ),
        (
            "frozen, and so is the other kind",
            after(|world| {
                PolicyKind::ALL.into_iter().for_each(|kind| world.meets(Obstacle::Frozen(kind)));
            }),
        ),
        ("not enrolled", after(|world| world.enrolled.clear())),
        (
            "moving",
            after(|world| {
                world.ring_mut().action = RuleAction::Audit;
                world.pass(9);
            }),
        ),
        (
            "rotating",
            after(|world| {
                world.ring_mut().token = Some("c".into());
                world.pass(1);
            }),
        ),
        (
            "waiting for other rings",
            after(|world| {
                asks(world);
                world.meets(Obstacle::OthersRotate);
            }),
        ),
        (
            "waiting for other rings with a standby on its way",
            after(|world| {
                world.ring_mut().standby = true;
                world.pass(1);
                asks(world);
                world.meets(Obstacle::OthersRotate);
            }),
        ),
        (
            "standby on its way",
            after(|world| {
                world.ring_mut().standby = true;
                world.pass(1);
            }),
        ),
        (
            "suspended while it rotates",
            after(|world| {
                world.ring_mut().token = Some("c".into());
                world.pass(1);
                world.ring_mut().suspend = true;
                world.settle();
            }),
        ),
        ("suspended before it was born", {
            let mut world = World::new();
            world.ring_mut().suspend = true;
            world.settle();
            world
        }),
        ("just started", after(World::restart)),
        (
            "Kyverno down",
            after(|world| {
                world.kyverno_up = false;
                world.ask();
            }),
        ),
        (
            "Kyverno down during a rotation",
            after(|world| {
                asks(world);
                world.kyverno_up = false;
                world.settle();
            }),
        ),
        (
            "webhooks gone",
            after(|world| {
                world.loaded.clear();
                world.ask();
            }),
        ),
        ("no Kyverno", meeting(Obstacle::NoKyverno)),
        ("a policy of somebody's", meeting(Obstacle::ForeignPolicy)),
        ("a refused rule", meeting(Obstacle::Rejected)),
        ("a policy that cannot be written", meeting(Obstacle::Unwritable(Difference::Other))),
        ("a pin that cannot be written", meeting(Obstacle::Unwritable(Difference::Unpinned))),
        ("a policy that cannot be created", meeting(Obstacle::Uncreatable)),
        ("something answers for the gate", meeting(Obstacle::Unreadable)),
        ("an outdated rule", meeting(Obstacle::Outdated)),
        ("Kyverno is silent", meeting(Obstacle::Silent)),
        ("Kyverno is slow", meeting(Obstacle::Slow)),
        ("Kyverno cannot be asked", meeting(Obstacle::NoQuestions)),
        (
            "a stuck policy during a rotation",
            after(|world| {
                world.stuck = Some(ENFORCE);
                asks(world);
                world.settle();
            }),
        ),
        (
            "access withdrawn",
            after(|world| {
                world.forbidden.insert(pipeline(1));
            }),
        ),
        (
            "access withdrawn during a rotation",
            after(|world| {
                world.forbidden.insert(pipeline(1));
                asks(world);
                world.settle();
            }),
        ),
        (
            "two without access",
            after(|world| {
                world.ring_mut().pipelines.insert(pipeline(2), Layout::Cosign);
                world.forbidden.extend([pipeline(1), pipeline(2)]);
                asks(world);
                world.settle();
            }),
        ),
        (
            "taken out without access",
            after(|world| {
                world.forbidden.insert(pipeline(1));
                world.ring_mut().pipelines.clear();
                world.settle();
            }),
        ),
        ("no namespace", meeting(Obstacle::NoNamespace(pipeline(1)))),
        (
            "a namespace that ends",
            after(|world| {
                world.end_namespace(&pipeline(1));
                asks(world);
                world.settle();
            }),
        ),
        (
            "taken out of a namespace that ends",
            after(|world| {
                world.end_namespace(&pipeline(1));
                world.ring_mut().pipelines.clear();
                world.settle();
            }),
        ),
        ("a Secret of somebody's", meeting(Obstacle::Foreign(pipeline(1), None))),
        ("a Secret of another ring", meeting(Obstacle::Foreign(pipeline(1), Some("pay")))),
        (
            "a Secret with an unknown key",
            after(|world| {
                world.secrets.remove(&pipeline(1));
                world.settle();
                world.meets(Obstacle::UnknownKey(pipeline(1)));
            }),
        ),
        ("a Secret that cannot be looked at", meeting(Obstacle::Failed(pipeline(1)))),
        (
            "an immutable Secret",
            after(|world| {
                world.fixed.insert(pipeline(1));
                asks(world);
                world.settle();
            }),
        ),
        (
            "a Secret that finalizers hold",
            after(|world| {
                world.ring_mut().pipelines.clear();
                world.pass(9);
                world.meets(Obstacle::Leaving(pipeline(1)));
            }),
        ),
        ("a problem", meeting(Obstacle::Problem)),
        ("a write that fails", meeting(Obstacle::Trouble)),
        ("a lost ledger", after(loses)),
        (
            "a lost ledger, suspended",
            after(|world| {
                loses(world);
                world.ring_mut().suspend = true;
            }),
        ),
        (
            "a lost ledger of which a Secret alone remembers",
            after(|world| {
                loses(world);
                world.policies.clear();
                world.restart();
                (world.recorded, world.status) = (None, Vec::new());
                world.forgotten = true;
            }),
        ),
        ("a damaged ledger", meeting(Obstacle::Damaged)),
        ("an unreadable ledger", meeting(Obstacle::DamagedAsAWhole)),
        ("a foreign ledger", meeting(Obstacle::ForeignLedger)),
        ("an older ledger", {
            let mut world = settled();
            let old = world.ledger.clone();
            rotate(&mut world, "b");
            world.backup = world.ledger.clone();
            world.ledger = old;
            world
        }),
        ("a raised mark", meeting(Obstacle::RaisedMark)),
        (
            "a lost ledger, deleted",
            after(|world| {
                loses(world);
                world.ring_mut().deleting = true;
            }),
        ),
        (
            "a damaged ledger, deleted",
            after(|world| {
                world.meets(Obstacle::Damaged);
                world.ring_mut().deleting = true;
            }),
        ),
        ("an older ledger, deleted", {
            let mut world = settled();
            let old = world.ledger.clone();
            rotate(&mut world, "b");
            world.backup = world.ledger.clone();
            world.ledger = old;
            world.ring_mut().deleting = true;
            world
        }),
        (
            "the signer revoked",
            after(|world| {
                revoke(world, &[2]);
                world.pass(1);
            }),
        ),
        (
            "the signer revoked, suspended",
            after(|world| {
                world.ring_mut().suspend = true;
                revoke(world, &[2]);
                world.settle();
            }),
        ),
        (
            "all revoked, suspended",
            after(|world| {
                world.ring_mut().suspend = true;
                revoke(world, &[1, 2]);
                world.settle();
            }),
        ),
        (
            "the signer revoked while a deletion waits",
            after(|world| {
                world.ring_mut().deleting = true;
                revoke(world, &[2]);
                world.settle();
            }),
        ),
        (
            "the signer revoked while Kyverno is down",
            after(|world| {
                world.kyverno_up = false;
                revoke(world, &[2]);
                world.settle();
            }),
        ),
        ("a revocation of nothing", after(|world| revoke(world, &[7]))),
        (
            "a revocation after a loss",
            after(|world| {
                loses(world);
                revoke(world, &[2]);
            }),
        ),
        (
            "a deletion that waits",
            after(|world| {
                world.ring_mut().deleting = true;
                asks(world);
            }),
        ),
        (
            "a deletion under way",
            after(|world| {
                world.enrolled.clear();
                world.ring_mut().deleting = true;
                world.pass(1);
            }),
        ),
        (
            "a deletion that access holds up",
            after(|world| {
                world.forbidden.insert(pipeline(1));
                world.enrolled.clear();
                world.ring_mut().deleting = true;
                world.settle();
            }),
        ),
        (
            "a deletion while Kyverno cannot be asked",
            after(|world| {
                world.enrolled.clear();
                world.ring_mut().deleting = true;
                world.meets(Obstacle::NoQuestions);
                world.pass(1);
            }),
        ),
        (
            "a deletion while Kyverno is silent",
            after(|world| {
                world.enrolled.clear();
                world.ring_mut().deleting = true;
                world.meets(Obstacle::Silent);
                world.pass(1);
            }),
        ),
        (
            "a deletion while Kyverno is down",
            after(|world| {
                world.kyverno_up = false;
                world.enrolled.clear();
                world.ring_mut().deleting = true;
                world.settle();
            }),
        ),
        ("an import that is not there", importing(ImportFound::Absent)),
        ("an import that may not be read", importing(ImportFound::Forbidden)),
        ("an import that cannot be used", importing(ImportFound::Failed("no key".into()))),
        ("an import of another ring's", {
            let mut world = World::new();
            world.import = Some(ImportFound::Present);
            world.pass(1);
            world.pass(1);
            world.pass(1);
            world.shares_key_with = Some("pay".parse().unwrap());
            world
        }),
    ]);
    states
}
