//! `kubectl signing impact`.

pub mod assess;
mod print;

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use kube::Resource;
use serde_json::Value;
use signingkeyring_crds::{ImageExclusionList, PolicyAction, SigningKeyRing};

use self::assess::{Assessment, Then};
use crate::{
    clock,
    cluster::Cluster,
    error::{Error, Outcome},
    flags::{self, Report},
    judge::Judge,
    output,
    ring::{Change, ended, next_version, versions},
    screen::Screen,
    workloads,
};

/// Show what of a ring's workloads would not start again, now or after a change
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # what runs now that would not be admitted now
  kubectl signing impact checkout

  # what the next rotation ends, and the digests to sign again first
  kubectl signing impact checkout --rotate
  kubectl signing impact checkout --rotate --resign-list

  # a namespace that is to be enrolled
  kubectl signing impact checkout --enforce -n checkout-prod

  # a list of exclusions before it is applied
  kubectl signing impact checkout --list exclusions.yaml

Looks at pods, Deployments, StatefulSets, DaemonSets, Jobs, CronJobs, and what one may roll
back to; each image is looked up once, with your own registry credentials. Ends with 3 if
something would not start, or cannot be judged.")]
pub struct Impact {
    /// The ring
    #[arg(value_parser = flags::name)]
    ring: String,
    /// After the next rotation
    #[arg(long, group = "change")]
    rotate: bool,
    /// After a version is revoked
    #[arg(long, group = "change", value_name = "NUMBER")]
    revoke: Option<u32>,
    /// With so many versions accepted (spec.keepVersions)
    #[arg(
        long,
        group = "change",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=10)
    )]
    keep: Option<u32>,
    /// If the ring enforced (spec.policy.action), or the namespace of -n were enrolled
    #[arg(long, group = "change")]
    enforce: bool,
    /// With an ImageExclusionList from a file, in the place of the one of its name
    #[arg(long, group = "change", value_name = "FILE")]
    list: Option<PathBuf>,
    /// Print nothing but the digests to sign again, those that are refused soonest first
    #[arg(long, conflicts_with = "output")]
    resign_list: bool,
    #[command(flatten)]
    report: Report,
}

/// Shows it.
///
/// # Errors
/// If the cluster cannot be read.
pub async fn run(
    command: &Impact,
    only: Option<&str>,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    let ring = cluster.ring(&command.ring).await?;
    let (change, title) = change(command, &ring);
    if let Some(Change::Revoke(number)) = change
        && !versions(&ring).iter().any(|version| version.version == number)
    {
        return Err(Error::Failed(format!(
            "ring {} has no version {number}: kubectl signing history {}",
            command.ring, command.ring
        )));
    }
    let mut judge = Judge::of(cluster, &ring, clock::now()).await?;
    judge.complain(screen);
    let list = command.list.as_deref().map(read_list).transpose()?;
    let (namespaces, enrolled) = namespaces(cluster, &command.ring, only).await?;
    if let Some(only) = only.filter(|_| !enrolled) {
        // In one that does not exist nothing breaks, whatever is asked.
        cluster.labels_of(only).await?;
    }
    if !enrolled && !command.enforce {
        return Err(Error::Failed(format!(
            "namespace {} is not enrolled in ring {}: to see what would become of it there, add \
             --enforce",
            only.unwrap_or_default(),
            command.ring
        )));
    }
    let found = workloads::of_namespaces(cluster, &namespaces, judge.kind).await?;
    let images: BTreeSet<String> = found.iter().flat_map(|w| w.images.clone()).collect();
    let before = judge.find(&images).await;
    let after = match list {
        Some(list) => {
            judge.exclusions = judge.exclusions.with(&list);
            judge.exclusions.doubt().iter().for_each(|doubt| screen.complain(doubt));
            Some(judge.find(&images).await)
        }
        None => None,
    };
    let ended = change.map(|change| ended(&ring, change)).unwrap_or_default();
    let assessment = Assessment::of(
        &judge,
        Then {
            title: if enforces(&ring) || command.enforce { title } else { title + AUDITS },
            ended,
            revoked: command.revoke,
            is_change: command.rotate
                || command.revoke.is_some()
                || command.keep.is_some()
                || command.enforce
                || command.list.is_some(),
            enforced: (enforces(&ring) && enrolled, enforces(&ring) || command.enforce),
        },
        namespaces.into_iter().collect(),
        found,
        &before,
        after.as_ref().unwrap_or(&before),
    );
    if command.resign_list {
        screen.lines(&print::resign_list(&assessment))?;
    } else {
        output::show(screen, command.report.output, &assessment, |wide| {
            print::lines(&assessment, wide)
        })?;
    }
    Ok(Outcome::open_if(assessment.is_open()))
}

/// What the next rotation of a ring would break.
///
/// # Errors
/// If the cluster cannot be read.
pub async fn of_rotation(
    cluster: &Cluster,
    ring: &SigningKeyRing,
    screen: &mut Screen,
) -> Result<Assessment, Error> {
    let name = kube::ResourceExt::name_any(ring);
    let judge = Judge::of(cluster, ring, clock::now()).await?;
    judge.complain(screen);
    let (namespaces, _) = namespaces(cluster, &name, None).await?;
    let found = workloads::of_namespaces(cluster, &namespaces, judge.kind).await?;
    let images: BTreeSet<String> = found.iter().flat_map(|w| w.images.clone()).collect();
    let seen = judge.find(&images).await;
    let ended = ended(ring, Change::Rotate);
    let title = format!("After the rotation to version {}", next_version(ring));
    let namespaces = namespaces.into_iter().collect();
    let then = Then {
        title: if enforces(ring) { title } else { title + AUDITS },
        ended,
        revoked: None,
        is_change: true,
        enforced: (enforces(ring), enforces(ring)),
    };
    Ok(Assessment::of(&judge, then, namespaces, found, &seen, &seen))
}

/// The same for people, as far as it breaks something.
pub fn lines(assessment: &Assessment) -> Vec<crate::text::Line> {
    print::lines(assessment, false)
}

/// What is asked about, and how it is called.
fn change(command: &Impact, ring: &SigningKeyRing) -> (Option<Change>, String) {
    if command.rotate {
        let title = format!("After the rotation to version {}", next_version(ring));
        return (Some(Change::Rotate), title);
    }
    if let Some(number) = command.revoke {
        return (Some(Change::Revoke(number)), format!("With version {number} revoked"));
    }
    if let Some(keep) = command.keep {
        return (Some(Change::Keep(keep)), format!("With {keep} accepted versions"));
    }
    let title = match (&command.list, command.enforce) {
        (Some(file), _) => format!("With the exclusions of {}", file.display()),
        (None, true) => "If it were enforced".to_owned(),
        (None, false) => "Now".to_owned(),
    };
    (None, title)
}

/// What is said of a ring that refuses nothing.
const AUDITS: &str = ", of a ring that only reports (--enforce shows what it would refuse)";

fn enforces(ring: &SigningKeyRing) -> bool {
    ring.spec.policy.action == PolicyAction::Enforce
}

/// The namespaces to look at, and whether they are enrolled.
async fn namespaces(
    cluster: &Cluster,
    ring: &str,
    only: Option<&str>,
) -> Result<(BTreeSet<String>, bool), Error> {
    let enrolled: BTreeSet<String> = cluster.enrolled(ring).await?.into_iter().collect();
    Ok(match only {
        Some(namespace) => ([namespace.to_owned()].into(), enrolled.contains(namespace)),
        None => (enrolled, true),
    })
}

fn read_list(path: &std::path::Path) -> Result<ImageExclusionList, Error> {
    let unusable = |why: String| Error::Failed(format!("{} cannot be used: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let mut found: Vec<Value> =
        serde_saphyr::from_multiple(&text).map_err(|error| unusable(error.to_string()))?;
    let (Some(found), true) = (found.pop(), found.is_empty()) else {
        return Err(unusable("name a file with one ImageExclusionList and nothing else".into()));
    };
    let kind = found.get("kind").and_then(Value::as_str).unwrap_or("nothing that says its kind");
    if kind != ImageExclusionList::kind(&()) {
        return Err(unusable(format!("it holds {kind}, not an ImageExclusionList")));
    }
    let list: ImageExclusionList =
        serde_json::from_value(found).map_err(|error| unusable(error.to_string()))?;
    for entry in &list.spec.images {
        signingkeyring_convert::exclusion(entry).map_err(unusable)?;
    }
    Ok(list)
}
