//! What the pipeline Secrets hold.
//!
//! They are read by name, because a watch would need the right to list Secrets, and as
//! metadata as long as they are as this process has seen them last: only after somebody
//! else wrote one, its data are read once. A ring that rotates is looked at every second,
//! and what was seen a moment ago is good enough to wait by ([`Fresh`]).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use jiff::SignedDuration;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, ResourceExt};
use signingkeyring_core::{
    ledger::{Ledger, PipelineRef, Publications, Version},
    names,
    snapshot::{Layout, LedgerFound, PipelineFound, Ring},
};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    cache::Seen,
    context::Context,
    error::{brief, is_code},
    keys::{self, opening_cost},
    secrets::{Content, Wiped, entries},
};

mod metadata;

use metadata::annotation;
pub(crate) use metadata::{annotations, kept};

/// How long ago it may have been seen what pipeline Secrets hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// As long ago as there is nothing to do but to wait, or to write a Secret, which is done
    /// only in the state that was seen.
    ToWait,
    /// So short a time ago that whatever else is to be done is done upon it.
    ToAct,
}

/// So long what was seen counts as what is. It protects that no version becomes current while
/// a Secret holds an older one, which somebody may put there a moment later as well.
const FRESH: Duration = Duration::from_secs(2);

/// So long it does while there is nothing to do but to wait.
const WAITING: Duration = Duration::from_secs(30);

impl Fresh {
    /// The most time since.
    fn within(self, recheck: Duration) -> Duration {
        match self {
            Self::ToWait => WAITING.min(recheck / 2),
            Self::ToAct => fresh(recheck),
        }
    }
}

fn fresh(recheck: Duration) -> Duration {
    FRESH.min(recheck / 2)
}

/// What was seen of a ring's pipelines.
pub(super) struct SeenNow {
    pub(super) found: BTreeMap<PipelineRef, PipelineFound>,
    pub(super) metas: HashMap<PipelineRef, ObjectMeta>,
    pub(super) looked: Looked,
}

/// When it was looked at a ring's pipelines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    /// Whether that was a while ago, and other things may be so by now.
    pub(super) is_remembered: bool,
    /// The time, if it was in an earlier pass and is known.
    pub(super) at: Option<Instant>,
}

/// Looks at the pipelines of the spec and at those the ledger lists.
pub(super) async fn look(
    context: &Context,
    ring_name: &str,
    ring: &Ring,
    ledger: &LedgerFound,
    fresh: Fresh,
) -> SeenNow {
    let recheck = context.settings.recheck_interval;
    let rests = matches!(ledger, LedgerFound::Present(ledger) if ledger.pending().is_none());
    let at = Instant::now();
    let published = match ledger {
        LedgerFound::Present(ledger) => Some(&ledger.publications),
        _ => None,
    };
    let all: BTreeSet<&PipelineRef> =
        ring.pipelines.keys().chain(published.into_iter().flat_map(Publications::iter)).collect();
    let most = fresh.within(recheck);
    let is_first = fresh == Fresh::ToWait && is_first(ledger);
    let longest = if is_first { 2 * most } else { most };
    let known = context.cache.looks.get(ring_name, longest);
    let known = known.filter(|(seen, _)| all.iter().all(|pipeline| seen.contains_key(*pipeline)));
    // Whoever takes away what is in the way is not to wait for that.
    let known = known.filter(|(seen, age)| *age < most || seen.values().all(Option::is_none));
    let rested = || rested(context, ring_name, ledger, &all, most);
    let known = known.or_else(|| rests.then(rested).flatten());
    let age = known.as_ref().map(|(_, age)| *age);
    let is_fresh = age.is_some_and(|age| age < self::fresh(recheck));
    let known = known.map(|(seen, _)| seen).or_else(|| {
        let assumed = assumed(context, ring_name, ledger, &all);
        let assumed = assumed.filter(|_| fresh == Fresh::ToWait)?;
        context.cache.looks.assume(ring_name, assumed.clone());
        Some(assumed)
    });
    let seen = known.as_ref();
    let looks = all.into_iter().map(|pipeline| async move {
        let known = seen.and_then(|seen| seen.get(pipeline));
        let (found, meta) = look_at(context, ring_name, ledger, pipeline, known).await;
        (pipeline.clone(), found, meta)
    });
    let mut found = BTreeMap::new();
    let mut metas = HashMap::new();
    for (pipeline, what, meta) in join_all(looks).await {
        if let Some(meta) = meta {
            metas.insert(pipeline.clone(), meta);
        }
        found.insert(pipeline, what);
    }
    let looked = Looked {
        is_remembered: known.is_some() && !is_fresh,
        at: age.and_then(|age| at.checked_sub(age)),
    };
    // One that rests goes by what it saw on its way as long as that counts. What it sees then
    // is not kept, but that all was as it should be: a start has all of them looked at, and then
    // wakes each once more, when Kyverno has answered.
    if rests && known.is_none() {
        let is_as_written = |what: &PipelineFound| {
            matches!(what, PipelineFound::Ours { intact: true, leaving: false, .. })
        };
        match found.values().all(is_as_written) {
            true => context.cache.looks.put_as_written(ring_name, at),
            false => context.cache.looks.forget(ring_name),
        }
    } else if known.is_none() {
        let seen = |(pipeline, found): (&PipelineRef, &PipelineFound)| match found {
            PipelineFound::Absent => Some((pipeline.clone(), None)),
            // Whoever grants access is not to wait for that, and whether it is granted in a
            // namespace that comes nobody knows.
            PipelineFound::NoNamespace | PipelineFound::Forbidden | PipelineFound::Failed(_) => {
                None
            }
            _ => Some((pipeline.clone(), Some(metas.get(pipeline)?.clone()))),
        };
        match found.iter().map(seen).collect() {
            Some(seen) => context.cache.looks.put(ring_name, at, seen),
            None => context.cache.looks.forget(ring_name),
        }
    }
    SeenNow { found, metas, looked }
}

/// So long after a version was minted its pipelines are taken for what they were when they
/// were last seen. Who changed one meanwhile has the write of its key refused.
const ASSUMED: SignedDuration = SignedDuration::from_secs(60);

/// Whether a version waits of a ring that has given none to a pipeline yet: where there was no
/// Secret there is none for longer.
fn is_first(ledger: &LedgerFound) -> bool {
    matches!(ledger, LedgerFound::Present(ledger)
        if ledger.pending().is_some() && ledger.current().is_none() && ledger.publications.is_empty())
}

/// What the Secrets of a ring that has just begun to rotate were when they were last seen, if
/// all of them were just as the operator writes them.
fn assumed(
    context: &Context,
    ring: &str,
    ledger: &LedgerFound,
    pipelines: &BTreeSet<&PipelineRef>,
) -> Option<Seen> {
    let LedgerFound::Present(ledger) = ledger else { return None };
    let pending = ledger.pending().filter(|_| ledger.current().is_some())?;
    let age = context.clock.now().duration_since(pending.created_at);
    if age.abs() >= ASSUMED {
        return None;
    }
    as_written(context, ring, ledger, pipelines)
}

/// What the Secrets of a ring at rest were when they were last seen, and how long ago, if all
/// of them were just as the operator writes them.
fn rested(
    context: &Context,
    ring: &str,
    ledger: &LedgerFound,
    pipelines: &BTreeSet<&PipelineRef>,
    most: Duration,
) -> Option<(Seen, Duration)> {
    let LedgerFound::Present(ledger) = ledger else { return None };
    let age = context.cache.looks.as_written(ring, most)?;
    Some((as_written(context, ring, ledger, pipelines)?, age))
}

/// What Secrets are that are all as the operator writes them, for all that is known.
fn as_written(
    context: &Context,
    ring: &str,
    ledger: &Ledger,
    pipelines: &BTreeSet<&PipelineRef>,
) -> Option<Seen> {
    let as_written = |pipeline: &&PipelineRef| {
        let (resource_version, content) = context.cache.contents.intact(pipeline)?;
        let mut held = content.digests().filter_map(|digest| ledger.by_key_digest(&digest));
        let Version { number, fingerprint, .. } = held.next()?;
        let annotations = annotations(ring, *number, fingerprint, content.layout?);
        let resource_version = Some(resource_version);
        let meta = ObjectMeta {
            annotations: Some(annotations),
            resource_version,
            ..ObjectMeta::default()
        };
        Some(((*pipeline).clone(), Some(meta)))
    };
    pipelines.iter().map(as_written).collect()
}

async fn look_at(
    context: &Context,
    ring: &str,
    ledger: &LedgerFound,
    pipeline: &PipelineRef,
    known: Option<&Option<ObjectMeta>>,
) -> (PipelineFound, Option<ObjectMeta>) {
    if !context.cache.namespaces.exists(&pipeline.namespace) {
        context.cache.contents.forget(pipeline);
        return (PipelineFound::NoNamespace, None);
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &pipeline.namespace);
    let is_listed =
        matches!(ledger, LedgerFound::Present(ledger) if ledger.publications.contains(pipeline));
    let seen = match known {
        Some(known) => Ok(known.clone()),
        // After a start: what it holds would be read next, whatever its metadata say.
        None if is_listed && !context.cache.contents.knows(pipeline) => {
            match read(context, &api, pipeline).await {
                Ok((_, meta)) => Ok(Some(meta)),
                Err(error) if is_code(&error, 404) => Ok(None),
                Err(error) => Err(error),
            }
        }
        None => api.get_metadata_opt(&pipeline.name).await.map(|found| Some(found?.metadata)),
    };
    let result = match seen {
        Ok(None) => {
            context.cache.contents.forget(pipeline);
            return (PipelineFound::Absent, None);
        }
        Ok(Some(meta)) => found(context, ring, ledger, pipeline, kept(meta)).await,
        Err(error) => Err(error),
    };
    match result {
        Ok((found, meta)) => (found, Some(meta)),
        Err(error) if is_rights_problem(&error) => (PipelineFound::Forbidden, None),
        Err(error) => (PipelineFound::Failed(brief(&error)), None),
    }
}

/// Whether the operator lacks a right, as opposed to a quota or a policy that
/// refuses the object: those answer with 403 too.
#[must_use]
pub fn is_rights_problem(error: &kube::Error) -> bool {
    is_code(error, 403) && brief(error).contains(" cannot ")
}

async fn found(
    context: &Context,
    ring: &str,
    ledger: &LedgerFound,
    pipeline: &PipelineRef,
    meta: ObjectMeta,
) -> kube::Result<(PipelineFound, ObjectMeta)> {
    let LedgerFound::Present(ledger) = ledger else {
        let owner = annotation(&meta, names::ANNOTATION_RING);
        let found = if owner == Some(ring) {
            PipelineFound::OursUnknownKey { holds: None }
        } else {
            PipelineFound::Foreign { ring: owner.and_then(|o| o.parse().ok()), holds: None }
        };
        return Ok((found, meta));
    };
    let is_named = |meta: &ObjectMeta| annotation(meta, names::ANNOTATION_RING) == Some(ring);
    if !is_named(&meta) && !ledger.publications.contains(pipeline) {
        let ring = annotation(&meta, names::ANNOTATION_RING).and_then(|ring| ring.parse().ok());
        return Ok((PipelineFound::Foreign { ring, holds: None }, meta));
    }
    let (content, meta) = content(context, pipeline, meta).await?;
    let holds = held_version(context, ledger, pipeline, &content).await?;
    let get = |name| annotation(&meta, name);
    let found = if !is_named(&meta) {
        let ring = get(names::ANNOTATION_RING).and_then(|ring| ring.parse().ok());
        PipelineFound::Foreign { ring, holds: holds.map(|version| version.number) }
    } else {
        let named = get(names::ANNOTATION_FINGERPRINT).and_then(|text| text.parse().ok());
        let layout: Option<Layout> =
            get(names::ANNOTATION_LAYOUT).and_then(|name| name.parse().ok());
        let said = get(names::ANNOTATION_VERSION);
        match named.filter(|named| ledger.by_fingerprint(named).is_some()) {
            None => PipelineFound::OursUnknownKey { holds: holds.map(|version| version.number) },
            Some(named) => {
                // One that holds a version which is not accepted any more was
                // edited by nobody for that.
                let retired = || ledger.by_fingerprint(&named).filter(|v| !v.state().is_accepted());
                let intact = holds.or_else(retired).is_some_and(|version| {
                    version.fingerprint == named
                        && said == Some(version.number.to_string().as_str())
                        && layout.is_some_and(|layout| content.is_exactly(layout, version))
                });
                let leaving = meta.deletion_timestamp.is_some();
                let version = meta.resource_version.as_deref().unwrap_or_default();
                context.cache.contents.set_intact(pipeline, version, intact && !leaving);
                let holds = holds.map(|version| version.number);
                PipelineFound::Ours { intact, holds, layout, fixed: content.fixed, leaving }
            }
        }
    };
    Ok((found, meta))
}

/// What a Secret of this resourceVersion holds: as known, or read once.
async fn content(
    context: &Context,
    pipeline: &PipelineRef,
    meta: ObjectMeta,
) -> kube::Result<(Arc<Content>, ObjectMeta)> {
    let version = meta.resource_version.clone().unwrap_or_default();
    if let Some(content) = context.cache.contents.get(pipeline, &version) {
        return Ok((content, meta));
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &pipeline.namespace);
    read(context, &api, pipeline).await
}

/// Reads what a Secret holds.
async fn read(
    context: &Context,
    api: &Api<Secret>,
    pipeline: &PipelineRef,
) -> kube::Result<(Arc<Content>, ObjectMeta)> {
    let secret = Wiped(api.get(&pipeline.name).await?);
    debug!(%pipeline, "what this Secret holds is not known: its data were read");
    let content = Arc::new(Content::of(&secret));
    let meta = kept(secret.0.metadata.clone());
    let version = secret.0.resource_version().unwrap_or_default();
    context.cache.contents.put(pipeline, version, Arc::clone(&content));
    Ok((content, meta))
}

/// The version whose private key a Secret holds, of those that are accepted.
async fn held_version<'a>(
    context: &Context,
    ledger: &'a Ledger,
    pipeline: &PipelineRef,
    content: &Content,
) -> kube::Result<Option<&'a Version>> {
    let mut known = content.digests().filter_map(|digest| ledger.by_key_digest(&digest));
    if let Some(version) = known.next() {
        return Ok(Some(version));
    }
    // Of a version that an older operator has left no digest is known: the
    // boxes are opened, once for each state of the Secret.
    let mut unknown = ledger.accepted().filter(|version| version.key_digest().is_none());
    if content.digests().next().is_none() || unknown.next().is_none() {
        return Ok(None);
    }
    let public = match content.opened.get() {
        Some(public) => public,
        // Nobody else looks at a ring's pipelines meanwhile.
        None => {
            let opened = open(context, pipeline).await?;
            content.opened.get_or_init(|| opened.into())
        }
    };
    Ok(ledger.accepted().find(|version| public.iter().any(|key| version.public_key == **key)))
}

/// The public keys that belong to the private keys in a Secret, of those that
/// their passwords open.
async fn open(context: &Context, pipeline: &PipelineRef) -> kube::Result<Vec<String>> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &pipeline.namespace);
    let mut secret = Wiped(api.get(&pipeline.name).await?);
    let mut opened = Vec::new();
    for layout in Layout::ALL {
        let [private, password, _] = entries(*layout);
        let Some((sealed, password)) = secret.take(private).zip(secret.take(password)) else {
            continue;
        };
        let Ok(cost) = opening_cost(&sealed) else { continue };
        let work = move || keys::open(&sealed, &password).and_then(|key| key.public_pem());
        if let Ok(Ok(public)) = context.sealings.compute(cost, work).await {
            opened.push(public);
        }
    }
    Ok(opened)
}
