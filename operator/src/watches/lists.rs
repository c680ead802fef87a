//! Follows the exclusion lists, and tells one that somebody deleted from one that
//! is gone with its kind.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, CustomResourceExt, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, Event, watcher},
    },
};
use signingkeyring_core::policy::exclusions::remembered::Kind;
use signingkeyring_crds::ImageExclusionList;
use tokio::sync::Barrier;
use tracing::warn;

use super::{InitialList, is_missing, wake_all_policies};
use crate::{context::Context, error::is_code};

/// How long until the kind is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn watch_lists(
    context: &Context,
    mut writer: Writer<DeserializeGuard<ImageExclusionList>>,
    listed: &Arc<Barrier>,
) {
    let api: Api<DeserializeGuard<ImageExclusionList>> = Api::all(context.client.clone());
    let mut stream = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut initial_list = InitialList::new(listed);
    let mut names = BTreeSet::new();
    let lost = &context.cache.lost_lists;
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) if is_missing(&error) => {
                // Nothing of the store goes: its lists stay in force.
                if lost.kind_is_missing() {
                    warn!("the cluster does not serve ImageExclusionList: apply its CRD");
                    wake_all_policies(context);
                }
                initial_list.complete();
                continue;
            }
            Err(error) => {
                warn!(what = "exclusion lists", %error, "watch failed, trying again");
                continue;
            }
        };
        // What is lost is kept before the store lets go of it.
        match &event {
            Event::Init => names.clear(),
            Event::InitApply(list) => {
                names.insert(list.name_any());
            }
            Event::InitDone => {
                let mut vanished = context.cache.lists.state();
                vanished.retain(|list| !names.contains(&list.name_any()));
                lost.listed(&kind(context).await, vanished, !names.is_empty());
            }
            Event::Delete(list) => {
                if let Some(list) = context.cache.list(&list.name_any())
                    && lost.deleted(&kind(context).await, list)
                {
                    warn!("the exclusion lists are being deleted with their CRD");
                }
            }
            Event::Apply(_) => {}
        }
        writer.apply_watcher_event(&event);
        match &event {
            Event::Apply(list) => {
                lost.is_there(&list.name_any());
                wake_all_policies(context);
            }
            Event::Delete(_) => wake_all_policies(context),
            Event::InitDone => {
                names.iter().for_each(|name| lost.is_there(name));
                if !initial_list.complete() {
                    wake_all_policies(context);
                }
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// The kind as the API server has it now. Asked until there is an answer: while
/// there is none, nothing else is heard from there either.
async fn kind(context: &Context) -> Kind {
    let api: Api<CustomResourceDefinition> = Api::all(context.client.clone());
    let name = ImageExclusionList::crd_name();
    loop {
        match api.get_metadata_opt(name).await {
            Ok(Some(crd)) => {
                let leaving = crd.metadata.deletion_timestamp.is_some();
                return Kind::Served { uid: crd.uid().unwrap_or_default(), leaving };
            }
            Ok(None) => return Kind::Gone,
            Err(error) if is_code(&error, 403) => {
                if context.announced.first_time("the lists' CRD cannot be read") {
                    warn!(
                        crd = name,
                        "may not be read, so a list that goes with it counts as deleted: apply \
                         the operator's ClusterRole"
                    );
                }
                return Kind::Unknown;
            }
            Err(error) => {
                warn!(crd = name, %error, "cannot be read, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
