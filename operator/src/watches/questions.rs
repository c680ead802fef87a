//! Follows the CRD of the questions to Kyverno: whether the cluster serves them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use signingkeyring_core::names;
use tokio::{sync::Barrier, time::sleep};
use tracing::{info, warn};

use super::{InitialList, refusal, wake_all};
use crate::{
    context::Context,
    error::{brief, is_code},
};

/// How soon it is looked again whether a CRD that exists is served.
const AGAIN: Duration = Duration::from_secs(1);

/// How many times after each change of the CRD: the API server takes a moment to serve
/// it differently.
const LOOKS: u8 = 5;

/// The message for when it does not exist.
const ABSENT: &str = "the cluster does not serve it";

/// The message for when it exists.
const NOT_SERVED: &str = "its CRD exists and is not served";

pub(super) async fn watch_questions(context: &Context, listed: &Arc<Barrier>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(context.client.clone());
    let only = watcher::Config::default().fields(&format!("metadata.name={}", names::QUESTION_CRD));
    let mut stream = watcher(api, only).default_backoff().boxed();
    let mut initial_list = InitialList::new(listed);
    let mut found: Option<String> = None;
    let mut looks = 0_u8;
    loop {
        let unsettled = found.is_some() && (looks > 0 || context.cache.questions.uid() != found);
        let event = tokio::select! {
            event = stream.next() => event,
            () = sleep(AGAIN), if unsettled => {
                look(context, found.as_deref()).await;
                looks = looks.saturating_sub(1);
                continue;
            }
        };
        looks = LOOKS;
        match event {
            None => return,
            Some(Ok(Event::Init)) => found = None,
            Some(Ok(Event::InitApply(crd))) => found = live(&crd),
            Some(Ok(Event::Apply(crd))) => {
                found = live(&crd);
                look(context, found.as_deref()).await;
            }
            Some(Ok(Event::Delete(_))) => {
                found = None;
                look(context, None).await;
            }
            Some(Ok(Event::InitDone)) => {
                look(context, found.as_deref()).await;
                initial_list.complete();
            }
            Some(Err(error)) => {
                warn!(what = names::QUESTION_CRD, %error, "watch failed, trying again");
                if let Some(refused) = refusal(&error).filter(|error| is_code(error, 403)) {
                    // The rest of the operator goes on.
                    set(context, Err(brief(refused)));
                    initial_list.complete();
                }
            }
        }
    }
}

/// The CRD with its generation: whether a version is served is part of its `spec`, and
/// what Kyverno loaded while it was not can never be asked.
fn live(crd: &PartialObjectMeta<CustomResourceDefinition>) -> Option<String> {
    let uid = crd.uid().filter(|_| crd.metadata.deletion_timestamp.is_none())?;
    Some(format!("{uid}.{}", crd.metadata.generation.unwrap_or_default()))
}

/// Takes in a CRD. That it exists is not yet that its kind is served, and what
/// Kyverno loads before that can never be asked.
async fn look(context: &Context, uid: Option<&str>) {
    let Some(uid) = uid else { return set(context, Err(ABSENT.to_owned())) };
    let seen = match context.client.list_api_group_resources(names::API_VERSION).await {
        Ok(list) if list.resources.iter().any(|r| r.name == names::QUESTION_PLURAL) => {
            Ok(uid.to_owned())
        }
        Ok(_) => Err(NOT_SERVED.to_owned()),
        Err(error) if is_code(&error, 404) => Err(NOT_SERVED.to_owned()),
        // No word on one that is served.
        Err(_) if context.cache.questions.uid().as_deref() == Some(uid) => return,
        Err(error) => Err(format!("it could not be looked up: {}", brief(&error))),
    };
    set(context, seen);
}

fn set(context: &Context, seen: Result<String, String>) {
    let before = context.cache.questions.uid();
    if !context.cache.questions.set(seen.clone()) {
        return;
    }
    match seen {
        Ok(_) => info!("the cluster serves {}", names::QUESTION_CRD),
        Err(why) => warn!(
            why,
            "the cluster is not known to serve {}, so Kyverno cannot be asked and no policy is \
             written: install the operator's CRDs",
            names::QUESTION_CRD
        ),
    }
    if before.is_some() {
        // What was answered before was an answer to another kind.
        context.gate.forget_all();
    }
    context.gate.look_at(context.cache.ledgers.policies());
    wake_all(context);
}
