//! Follows the cluster: keeps the cache and wakes whoever a change concerns.

use std::{collections::BTreeSet, sync::Arc};

use futures::{Stream, StreamExt, future::join_all, stream::BoxStream};
use kube::{
    Api, Resource, ResourceExt,
    core::{ApiResource, DeserializeGuard, DynamicObject, ObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;
use signingkeyring_core::{
    policy::image_validating::pin,
    policy_ref::{PolicyKind, PolicyRef},
};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};
use tokio::sync::Barrier;
use tracing::{info, warn};

use crate::{
    cache::{ObjectsWriter, Outline, PoliciesWriter, RingsWriter},
    context::Context,
    error::is_code,
    kyverno::{self as policies, Object, is_marked, is_ours},
};

mod anew;
mod changes;
mod kyverno;
mod ledgers;
mod lists;
mod namespaces;
mod outdated;
mod questions;

pub use anew::begin_anew;
use changes::Change;
pub use ledgers::refresh;

/// The writing ends of the cache's stores.
pub struct Writers {
    /// Of the rings.
    pub rings: RingsWriter,
    /// Of the exclusion lists.
    pub lists: Writer<DeserializeGuard<ImageExclusionList>>,
    /// Of the policies.
    pub policies: PoliciesWriter,
}

/// So many rings, and ledgers, are listed at once: what a page holds is in memory several
/// times while it is read, and the connection keeps a buffer of that size.
const RINGS_PAGE: u32 = 20;

/// So many namespaces, of which little but the name is read.
const NAMESPACES_PAGE: u32 = 100;

/// So many policies, each of which may have a megabyte.
const POLICIES_PAGE: u32 = 1;

/// How a watch lists: in pages of so many.
fn config(page: u32) -> watcher::Config {
    watcher::Config::default().page_size(page)
}

/// How many watches have to list once before anything is decided.
pub const WATCHES: usize = 10;

/// Follows the cluster for ever. `listed` is passed when all have listed once.
pub async fn run(context: &Context, writers: Writers, listed: Arc<Barrier>) {
    let of_kinds = writers.policies.kinds.into_iter();
    let of_kinds = of_kinds.map(|(kind, writer)| watch_policies(context, kind, writer, &listed));
    let schemas = PolicyKind::ALL.into_iter();
    let schemas = schemas.map(|kind| outdated::watch_schema(context, kind, &listed));
    futures::join!(
        join_all(of_kinds),
        join_all(schemas),
        watch_rings(context, writers.rings, &listed),
        lists::watch_lists(context, writers.lists, &listed),
        watch_companions(context, writers.policies.companions, &listed),
        ledgers::watch_ledgers(context, &listed),
        namespaces::watch_namespaces(context, &listed),
        questions::watch_questions(context, &listed),
        kyverno::watch_kyverno(context),
    );
}

/// Wakes everything: what decides of all of them has changed. The rings of a policy come
/// one after the other: what their passes change of it is gathered.
pub fn wake_all(context: &Context) {
    for policy in context.cache.ledgers.policies() {
        for (ring, _) in context.cache.ledgers.placed_in(policy) {
            context.rings.wake(ring.as_str());
        }
    }
    for ring in context.cache.ring_names() {
        context.rings.wake(&ring);
    }
    wake_all_policies(context);
}

fn wake_all_policies(context: &Context) {
    context.wake_unknown();
    for policy in context.cache.ledgers.policies() {
        context.policies.wake(&policy);
    }
    for (policy, _) in context.cache.our_policies() {
        context.policies.wake(&policy);
    }
    // One may have outlived its policy, by a crash between the two.
    for object in context.cache.policies.companions().state() {
        if is_marked(&object)
            && let Some(policy) = pin::policy_of(&object.name_any())
        {
            context.policies.wake(&policy);
        }
    }
}

/// Reports the first complete list of a watch to the barrier.
struct InitialList(Option<Arc<Barrier>>);

impl InitialList {
    fn new(listed: &Arc<Barrier>) -> Self {
        Self(Some(Arc::clone(listed)))
    }

    /// Whether a list was complete: from then on what changes wakes whom it concerns.
    fn is_complete(&self) -> bool {
        self.0.is_none()
    }

    /// Reports a complete list, without waiting for the other watches. Returns
    /// whether this was the first.
    fn complete(&mut self) -> bool {
        let Some(barrier) = self.0.take() else { return false };
        tokio::spawn(async move { barrier.wait().await });
        true
    }
}

async fn watch_rings(context: &Context, mut writer: RingsWriter, listed: &Arc<Barrier>) {
    let api: Api<DeserializeGuard<SigningKeyRing>> = Api::all(context.client.clone());
    let mut stream = events("rings", watcher(api, config(RINGS_PAGE)));
    let mut initial_list = InitialList::new(listed);
    while let Some(event) = stream.next().await {
        let seen = match &event {
            Event::Apply(ring) => Some(ring),
            Event::InitApply(ring) if initial_list.is_complete() => Some(ring),
            _ => None,
        };
        // A list brings what is known, mostly, and what is kept is to be unpacked.
        let seen = seen.filter(|ring| !is_known(context, ring));
        let before = seen.and_then(|ring| context.cache.ring(&ring.name_any()));
        let gone = writer.apply(&event, &context.cache.ledgers);
        if let Some(ring) = seen {
            ring_seen(context, before.as_deref(), ring);
        }
        gone.iter().for_each(|name| ring_gone(context, name));
        if matches!(event, Event::InitDone) {
            initial_list.complete();
        }
    }
}

fn is_known(context: &Context, ring: &DeserializeGuard<SigningKeyRing>) -> bool {
    let version = ring.resource_version();
    version.is_some() && context.cache.rings.version(&ring.name_any()) == version
}

/// Wakes whom it concerns what a ring is by now.
fn ring_seen(
    context: &Context,
    before: Option<&DeserializeGuard<SigningKeyRing>>,
    ring: &DeserializeGuard<SigningKeyRing>,
) {
    let name = ring.name_any();
    match ring.resource_version() {
        Some(version) => context.cache.statuses.seen(&name, &version),
        None => context.cache.statuses.forget(&name),
    }
    let of = |ring: &DeserializeGuard<SigningKeyRing>| relevant_metadata(ring.meta());
    if before.is_some_and(|before| of(before) == of(ring)) {
        return;
    }
    if before.is_some_and(|before| revokes(before, ring)) {
        context.rings.wake_urgently(&name);
    }
    if ring.meta().deletion_timestamp.is_some() {
        context.rings.wake_soon(&name);
    }
    if before.is_none() {
        context.wake_unknown_of(&name);
    }
    // It may say that a key is revoked.
    context.rings.wake_with_news(&name);
}

/// The same of a ring that is gone.
fn ring_gone(context: &Context, name: &str) {
    context.cache.statuses.forget(name);
    context.wake_unknown_of(name);
    context.rings.wake_with_news(name);
    // If it vanished without teardown, its policies' passes say so.
    wake_policies_of(context, context.cache.ledgers.outline(name).as_deref());
}

/// Whether a ring revokes something else than it did.
fn revokes(
    before: &DeserializeGuard<SigningKeyRing>,
    ring: &DeserializeGuard<SigningKeyRing>,
) -> bool {
    let revoked = |ring: &DeserializeGuard<SigningKeyRing>| {
        ring.0.as_ref().map(|ring| ring.spec.revoked.clone()).unwrap_or_default()
    };
    revoked(before) != revoked(ring)
}

/// What of a ring's metadata a pass depends on. Its status, which this
/// operator writes, is no reason to look again.
fn relevant_metadata(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        uid: meta.uid.clone(),
        generation: meta.generation,
        annotations: meta.annotations.clone(),
        finalizers: meta.finalizers.clone(),
        deletion_timestamp: meta.deletion_timestamp.clone(),
        ..ObjectMeta::default()
    }
}

async fn watch_policies(
    context: &Context,
    kind: PolicyKind,
    mut writer: ObjectsWriter,
    listed: &Arc<Barrier>,
) {
    let mut initial_list = InitialList::new(listed);
    let mut stream = objects(context, &policies::resource(kind));
    while let Some(event) = stream.next().await {
        let Some(event) = taken_in(event, kind.as_str(), &mut initial_list) else {
            set_served(context, kind, &mut writer, false);
            continue;
        };
        let Some(event) = event else { continue };
        let changes = Change::by(&event, context.cache.policies.of(kind), &mut writer);
        for Change { name, before, after } in changes {
            if let (true, Ok(policy)) = (initial_list.is_complete(), name.parse()) {
                policy_changed(context, policy, before.as_deref(), after.as_deref());
                // What it was in between, nobody knows.
                if matches!(event, Event::InitDone) {
                    context.policies.wake(&policy);
                }
            }
        }
        if matches!(event, Event::InitDone) {
            set_served(context, kind, &mut writer, true);
            initial_list.complete();
        }
    }
}

/// Wakes whom the change of a policy concerns.
fn policy_changed(
    context: &Context,
    name: PolicyRef,
    before: Option<&Object>,
    after: Option<&Object>,
) {
    if after.is_some_and(|after| !is_changed(before, after)) {
        return;
    }
    let placed = context.cache.ledgers.placed_in(name);
    if after.or(before).is_some_and(is_ours) || !placed.is_empty() || !name.holds_rings() {
        context.policies.wake(&name);
    }
    match after {
        // It may have held the last that was left of a ring.
        None => context.wake_unknown(),
        // Kyverno may have answered for it before it was seen here that the ring has a rule.
        Some(after) if names_more(before, after) => context.wake_covers(),
        Some(_) => {}
    }
    // Of a ring whose ledger is lost only the marks tell that it is here.
    let named = before.into_iter().chain(after).flat_map(|policy| policy.marks().0.keys());
    let placed = placed.into_iter().map(|(ring, _)| ring.to_string());
    let rings: BTreeSet<String> = placed.chain(named.cloned()).collect();
    let same = SameRules::of(name.kind(), before, after);
    for ring in rings {
        if !same.says_the_same(&ring) || context.policies.is_held_back(&name) {
            context.rings.wake(&ring);
        }
    }
}

/// Follows the objects that go with policies.
async fn watch_companions(context: &Context, mut writer: ObjectsWriter, listed: &Arc<Barrier>) {
    let mut initial_list = InitialList::new(listed);
    let kind = policies::companions();
    let mut stream = objects(context, &kind);
    while let Some(event) = stream.next().await {
        let Some(event) = taken_in(event, &kind.kind, &mut initial_list) else {
            writer.set_served(false);
            continue;
        };
        let Some(event) = event else { continue };
        for Change { name, before, after } in
            Change::by(&event, context.cache.policies.companions(), &mut writer)
        {
            let is_news = matches!(event, Event::InitDone)
                || after.is_none_or(|after| is_changed(before.as_deref(), &after));
            if initial_list.is_complete()
                && is_news
                && let Some(policy) = pin::policy_of(&name)
            {
                context.policies.wake(&policy);
            }
        }
        if matches!(event, Event::InitDone) {
            writer.set_served(true);
            initial_list.complete();
        }
    }
}

type Objects = BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>>;

fn objects(context: &Context, kind: &ApiResource) -> Objects {
    let api = policies::api(context.client.clone(), kind);
    watcher(api, config(POLICIES_PAGE)).default_backoff().boxed()
}

/// What a watch of Kyverno's kinds has brought: nothing at all if the kind is not
/// served, and no event if it failed otherwise.
fn taken_in(
    event: Result<Event<DynamicObject>, watcher::Error>,
    what: &str,
    initial_list: &mut InitialList,
) -> Option<Option<Event<DynamicObject>>> {
    match event {
        Ok(event) => Some(Some(event.modify(|object| object.metadata.managed_fields = None))),
        Err(error) if is_missing(&error) => {
            // Not a fault of ours: there is no Kyverno.
            initial_list.complete();
            None
        }
        Err(error) => {
            warn!(what, %error, "watch failed, trying again");
            Some(None)
        }
    }
}

/// Whether a policy names a ring that it did not name.
fn names_more(before: Option<&Object>, after: &Object) -> bool {
    let named_before =
        |ring: &String| before.is_some_and(|before| before.marks().0.contains_key(ring));
    after.marks().0.keys().any(|ring| !named_before(ring))
}

/// Whether an object says something else than it did.
fn is_changed(before: Option<&Object>, after: &Object) -> bool {
    before.is_none_or(|before| {
        before.digest() != after.digest()
            || before.annotations() != after.annotations()
            || before.labels() != after.labels()
    })
}

/// Two states of a policy, to see for which rings they are the same: its rule, and what
/// the policy says of it. What else differs is the policy's to look at.
struct SameRules<'a> {
    kind: PolicyKind,
    both: Option<(&'a Object, &'a Object)>,
    /// Unless they are the same.
    specs: Option<[Option<Arc<Value>>; 2]>,
}

impl<'a> SameRules<'a> {
    fn of(kind: PolicyKind, before: Option<&'a Object>, after: Option<&'a Object>) -> Self {
        let both = before.zip(after);
        let others = both.filter(|(before, after)| before.digest() != after.digest());
        let specs = others.map(|(before, after)| [before.spec(), after.spec()]);
        Self { kind, both, specs }
    }

    fn says_the_same(&self, ring: &str) -> bool {
        let same_rule = match &self.specs {
            None => true,
            Some([Some(before), Some(after)]) => self.kind.same_rule(before, after, ring),
            Some([before, after]) => before.is_none() && after.is_none(),
        };
        let mark = |policy: &'a Object| policy.marks().0.get(ring);
        same_rule && self.both.is_some_and(|(before, after)| mark(before) == mark(after))
    }
}

fn set_served(context: &Context, kind: PolicyKind, writer: &mut ObjectsWriter, served: bool) {
    if writer.set_served(served) {
        let kind = kind.as_str();
        if served {
            info!(kind, "the cluster serves it");
        } else {
            warn!(kind, "the cluster does not serve it: install Kyverno");
        }
        // It is another one that answers.
        context.gate.forget_all();
        wake_all(context);
    }
}

/// Whether a watch fails because the kind is not served.
fn is_missing(error: &watcher::Error) -> bool {
    refusal(error).is_some_and(|error| is_code(error, 404))
}

/// Whether it fails for want of a right.
fn is_forbidden(error: &watcher::Error) -> bool {
    refusal(error).is_some_and(|error| is_code(error, 403))
}

/// What the API server said of a watch that did not begin.
const fn refusal(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            Some(error)
        }
        _ => None,
    }
}

/// Wakes the policies in which a ledger places its ring.
fn wake_policies_of(context: &Context, ledger: Option<&Outline>) {
    for policy in ledger.into_iter().flat_map(|ledger| ledger.settings.policies()) {
        context.policies.wake(&policy);
    }
}

/// A watch's events; failures are logged and tried again.
fn events<K: Send + 'static>(
    what: &'static str,
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
) -> BoxStream<'static, Event<K>> {
    stream
        .default_backoff()
        .filter_map(move |event| async move {
            event.inspect_err(|error| warn!(what, %error, "watch failed, trying again")).ok()
        })
        .boxed()
}
