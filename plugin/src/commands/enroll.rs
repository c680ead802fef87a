//! `kubectl signing enroll` and `unenroll`.

mod plan;

use std::collections::BTreeSet;

use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use self::plan::{Labelled, Step};
use crate::{
    cluster::{Cluster, MANAGER},
    error::{Error, Outcome, is_code},
    flags::{self, Consent},
    screen::Screen,
};

/// Enrol namespaces in a ring: their new pods are verified by its keys
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # what would not start there any more
  kubectl signing impact checkout --enforce -n checkout-dev

  kubectl signing enroll checkout checkout-dev checkout-prod

It sets the enrolment label. Ends with 3 if a namespace is another ring's.")]
pub struct Enroll {
    /// The ring
    #[arg(value_parser = flags::name)]
    ring: String,
    /// The namespaces
    #[arg(required = true, value_parser = flags::name)]
    namespaces: Vec<String>,
    /// Take them from another ring, too
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Take namespaces out of a ring: nothing is verified there any more
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl signing unenroll checkout checkout-dev

It takes the enrolment label off. Ends with 3 if a namespace is another ring's.")]
pub struct Unenroll {
    /// The ring
    #[arg(value_parser = flags::name)]
    ring: String,
    /// The namespaces
    #[arg(required = true, value_parser = flags::name)]
    namespaces: Vec<String>,
    #[command(flatten)]
    consent: Consent,
}

/// Enrols.
///
/// # Errors
/// If it is refused.
pub async fn run(
    command: &Enroll,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    // A label that names no ring enrols in none.
    cluster.ring(&command.ring).await?;
    let found = find(cluster, &command.namespaces).await?;
    let steps = plan::enroll(&command.ring, &found, command.overwrite);
    let consent = command.consent;
    let changed: BTreeSet<&str> = steps.iter().filter_map(Step::changed).collect();
    let taken: Vec<String> = found
        .iter()
        .filter(|namespace| changed.contains(&*namespace.name))
        .filter_map(|namespace| {
            Some(format!("{} from {}", namespace.name, namespace.ring.as_ref()?))
        })
        .collect();
    if !taken.is_empty() && !consent.yes && !consent.dry_run {
        let question = format!(
            "Take {}? What is signed for that ring alone will not start there any more.",
            taken.join(", ")
        );
        if !screen.ask(&question).await? {
            screen.lines(&["Nothing was changed.".into()])?;
            return Ok(Outcome::Open);
        }
    }
    apply(cluster, screen, &steps, Some(&command.ring), consent.dry_run).await
}

/// Takes out.
///
/// # Errors
/// If it is refused.
pub async fn run_unenroll(
    command: &Unenroll,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    let found = find(cluster, &command.namespaces).await?;
    let steps = plan::unenroll(&command.ring, &found);
    let changed: Vec<&str> = steps.iter().filter_map(Step::changed).collect();
    let consent = command.consent;
    if !changed.is_empty() && !consent.yes && !consent.dry_run {
        let question = format!(
            "Take {} out of ring {}? Unsigned images will start there.",
            changed.join(", "),
            command.ring
        );
        if !screen.ask(&question).await? {
            screen.lines(&["Nothing was changed.".into()])?;
            return Ok(Outcome::Open);
        }
    }
    apply(cluster, screen, &steps, None, consent.dry_run).await
}

/// The namespaces, with what the label of each says.
async fn find(cluster: &Cluster, names: &[String]) -> Result<Vec<Labelled>, Error> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let mut found = Vec::new();
    for name in names {
        let namespace = namespaces.get_metadata(name).await.map_err(|error| {
            if is_code(&error, 404) {
                return Error::Failed(format!("there is no namespace {name}; nothing was changed"));
            }
            Error::api(format!("namespace {name}"), error)
        })?;
        found.push(Labelled {
            name: name.clone(),
            ring: namespace.labels().get(&cluster.enrolment_label).cloned(),
            version: namespace.resource_version(),
        });
    }
    Ok(found)
}

async fn apply(
    cluster: &Cluster,
    screen: &Screen,
    steps: &[Step],
    value: Option<&str>,
    dry_run: bool,
) -> Result<Outcome, Error> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let params =
        PatchParams { dry_run, field_manager: Some(MANAGER.to_owned()), ..Default::default() };
    for step in steps {
        if let Step::Change { namespace, .. } = step {
            // Only as it was seen: the label may be another ring's by now.
            let patch = json!({"metadata": {
                "resourceVersion": namespace.version,
                "labels": {(&cluster.enrolment_label): value},
            }});
            let patched =
                namespaces.patch_metadata(&namespace.name, &params, &Patch::Merge(&patch)).await;
            patched.map_err(|error| {
                let what = format!("the label of namespace {}", namespace.name);
                if is_code(&error, 409) {
                    Error::Failed(format!("{what} changed meanwhile; call it again"))
                } else {
                    Error::api(what, error)
                }
            })?;
        }
        screen.lines(&[step.line(value)])?;
    }
    if dry_run {
        screen.lines(&["The API server would take it. Nothing was changed.".into()])?;
    }
    Ok(Outcome::open_if(steps.iter().any(Step::is_open)))
}
