//! `kubectl signing why`.

mod print;
mod view;

use std::collections::BTreeSet;

use clap::Args;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt};
use signingkeyring_core::policy_ref::PolicyKind;

use self::view::{Asked, View};
use crate::{
    clock,
    cluster::Cluster,
    dry_run,
    error::{Error, Outcome, is_code},
    flags::Report,
    judge::{Fate, Judge},
    output, pods,
    screen::Screen,
};

/// Show why an image or a pod's images would start in a namespace, or would not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl signing why registry.example/checkout/app:1.4 -n checkout-dev

  kubectl signing why pod/checkout-5d9c7b6f4-x2x8q -n checkout-dev

Beside what the image's signatures and the exclusions say stands what Kyverno says itself,
to a dry run with your rights; nothing is created. Ends with 3 if an image would not start,
or if the two differ.")]
pub struct Why {
    /// The image, or pod/NAME
    #[arg(value_name = "IMAGE|pod/NAME")]
    what: String,
    #[command(flatten)]
    report: Report,
}

/// Shows it.
///
/// # Errors
/// If the cluster cannot be read.
pub async fn run(command: &Why, cluster: &Cluster, screen: &Screen) -> Result<Outcome, Error> {
    let namespace = &cluster.namespace;
    let mut view = View::new(namespace, ring_of(cluster, namespace).await?);
    let judge = match &view.ring {
        None => None,
        Some(name) => match cluster.ring(name).await {
            Ok(ring) => {
                view.look_at(&ring);
                Some(Judge::of(cluster, &ring, clock::now()).await?)
            }
            // A label may name any.
            Err(error) => {
                view.no_such_ring = Some(error.to_string());
                None
            }
        },
    };
    let kind = judge.as_ref().map_or(PolicyKind::ImageValidatingPolicy, |judge| judge.kind);
    let images = match command.what.strip_prefix("pod/") {
        Some(name) => of_pod(cluster, namespace, name, kind).await?,
        None => vec![command.what.clone()],
    };
    let found = match &judge {
        Some(judge) => judge.find(&images.iter().cloned().collect::<BTreeSet<_>>()).await,
        None => Default::default(),
    };
    for image in images {
        let fate = judge.as_ref().map(|judge| judge.fate(found.get(&image), &judge.keys));
        let answer = dry_run::ask(cluster, namespace, &image).await?;
        let ring = judge.as_ref().map_or("", |judge| &judge.ring);
        let asked = match &view.no_such_ring {
            None => {
                let mut asked = Asked::of(&image, ring, fate.as_ref(), answer);
                asked.because += &fate.map(|fate| view.since(ring, &fate)).unwrap_or_default();
                asked
            }
            Some(why) => Asked::of(&image, ring, Some(&Fate::Unknown(why.clone(), vec![])), answer),
        };
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
                "there is no pod {name} in namespace {namespace}: name it with -n"
            ))
        } else {
            Error::api(format!("pod {name} of namespace {namespace}"), error)
        }
    })?;
    Ok(pod.spec.as_ref().map(|spec| pods::images(spec, kind)).unwrap_or_default())
}

/// The ring that a namespace's label names.
async fn ring_of(cluster: &Cluster, namespace: &str) -> Result<Option<String>, Error> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let found = api.get_metadata(namespace).await.map_err(|error| {
        if is_code(&error, 404) {
            Error::Failed(format!("there is no namespace {namespace}: name it with -n"))
        } else {
            Error::api(format!("namespace {namespace}"), error)
        }
    })?;
    Ok(found.labels().get(&cluster.enrolment_label).cloned())
}
