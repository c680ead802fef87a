//! `kubectl signing why`.

mod causes;
mod print;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use signingkeyring_core::policy_ref::PolicyKind;

use self::view::{Asked, View};
use crate::{
    clock,
    cluster::Cluster,
    dry_run,
    error::{Error, Outcome, is_code},
    flags::{self, Report},
    judge::{Fate, Judge},
    left_out::{self, LeftOut},
    output, pods,
    screen::Screen,
};

/// Show why images or a pod's images would start in a namespace, or would not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl signing why registry.example/checkout/app:1.4 -n checkout-dev

  kubectl signing why pod/checkout-5d9c7b6f4-x2x8q -n checkout-dev

Beside what the image's signatures, the exclusions, Kyverno's webhooks and others' policies
say stands what Kyverno says itself, to a dry run with your rights; nothing is created. Ends
with 3 if an image would not start, or if the two differ, with what may be behind that.")]
pub struct Why {
    /// Images, or pod/NAME
    #[arg(value_name = "IMAGE|pod/NAME", required = true)]
    what: Vec<String>,
    #[command(flatten)]
    report: Report,
}

/// The dry runs at once.
const AT_ONCE: usize = 4;

/// Shows it.
///
/// # Errors
/// If the cluster cannot be read.
pub async fn run(command: &Why, cluster: &Cluster, screen: &mut Screen) -> Result<Outcome, Error> {
    let no_name =
        |what: &&String| what.strip_prefix("pod/").is_some_and(|name| flags::name(name).is_err());
    if let Some(what) = command.what.iter().find(no_name) {
        return Err(Error::Usage(format!("{what} names no pod: write pod/NAME")));
    }
    let namespace = &cluster.namespace;
    let labels = cluster.labels_of(namespace).await?;
    let mut view = View::new(namespace, labels.get(&cluster.enrolment_label).cloned());
    let mut left_out = LeftOut::default();
    let judge = match &view.ring {
        None => None,
        Some(name) => match cluster.ring(name).await {
            Ok(ring) => {
                let seen = left_out::look_for(cluster, namespace).await;
                let rules = left_out::rules(cluster, &ring, &seen).await;
                let namespaces = BTreeMap::from([(namespace.clone(), Arc::new(labels))]);
                left_out = left_out::of(&seen, &ring, &cluster.enrolment_label, namespaces, rules);
                view.look_at(&ring, &left_out);
                let judge = Judge::of(cluster, &ring, clock::now()).await?;
                judge.complain(screen);
                Some(judge)
            }
            // A label may name any.
            Err(error) => {
                view.no_such_ring = Some(error.to_string());
                None
            }
        },
    };
    let kind = judge.as_ref().map_or(PolicyKind::ImageValidatingPolicy, |judge| judge.kind);
    let mut images: Vec<String> = Vec::new();
    for what in &command.what {
        let named = match what.strip_prefix("pod/") {
            Some(name) => of_pod(cluster, namespace, name, kind).await?,
            None => vec![what.clone()],
        };
        let new: Vec<String> = named.into_iter().filter(|image| !images.contains(image)).collect();
        images.extend(new);
    }
    let found = match &judge {
        Some(judge) => judge.find(&images.iter().cloned().collect::<BTreeSet<_>>()).await,
        None => BTreeMap::default(),
    };
    let ask = |image: String| async move {
        let answer = dry_run::ask(cluster, namespace, &image).await?;
        Ok::<_, Error>((image, answer))
    };
    let answers: Vec<_> = stream::iter(images).map(ask).buffered(AT_ONCE).try_collect().await?;
    for (image, answer) in answers {
        let fate = match (&judge, &view.no_such_ring) {
            (_, Some(why)) => Some(Fate::Unknown(why.clone(), Vec::new())),
            (None, None) => None,
            (Some(judge), None) => Some(judge.fate(found.get(&image), &judge.keys)),
        };
        let ring = judge.as_ref().map_or("", |judge| &judge.ring);
        let void = judge.as_ref().and_then(|judge| judge.void(&image));
        let more = fate.as_ref().map(|fate| view.more(ring, fate, void)).unwrap_or_default();
        let mut asked = Asked::of(&image, ring, fate.as_ref(), answer);
        asked.because += &more;
        asked.leave_out(&left_out);
        if view.differs(&asked) {
            asked.perhaps_because = causes::of(&asked, fate.as_ref(), &left_out, namespace);
        }
        view.images.push(asked);
    }
    output::show(screen, command.report.output, &view, |_| print::lines(&view))?;
    Ok(Outcome::open_if(view.is_open()))
}

async fn of_pod(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    kind: PolicyKind,
) -> Result<Vec<String>, Error> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let pod = api.get(name).await.map_err(|error| {
        if is_code(&error, 404) {
            Error::Failed(format!(
                "there is no pod {name} in namespace {namespace}; -n names another one"
            ))
        } else {
            Error::api(format!("pod {name} of namespace {namespace}"), error)
        }
    })?;
    Ok(pod.spec.as_ref().map(|spec| pods::images(spec, kind)).unwrap_or_default())
}
