//! Settings of the operator: flags, each also an environment variable.

use std::{net::SocketAddr, path::PathBuf, thread::available_parallelism, time::Duration};

use clap::{Parser, ValueEnum};
use signingkeyring_core::{
    duration, names,
    omissions::{Accepted, Exclusion, NoExclusion},
    policy::packing::{BYTES_PER_POLICY, MOST_BYTES_PER_POLICY, MOST_RINGS_PER_POLICY, Occupancy},
    policy_ref::{Action, PolicyKind},
    usable::Preference,
};

use crate::keys::{DEAREST_OPENING, SEALING_MIB};

/// With more cores no more keys are sealed at once, unless it is asked for: the
/// memory that a cluster gives to the operator cannot depend on its nodes.
const MOST_SEALINGS_BY_DEFAULT: u16 = 4;

/// Image-signing key rings, enforced by Kyverno.
///
/// Watches SigningKeyRings: mints a P-256 key pair per version, hands the
/// newest one to the application's pipelines as a Secret that cosign reads,
/// and keeps a rule per ring in Kyverno policies that hold the accepted public
/// keys. Runs in a cluster, or outside of one with a kubeconfig.
///
/// Ends with 0 after SIGTERM or SIGINT, with 1 if it cannot start, with 2 if
/// it is called wrongly.
#[derive(Clone, Debug, Parser)]
#[command(name = "signingkeyring-operator", version, max_term_width = 100)]
pub struct Settings {
    /// The kubeconfig to use; without it the Pod's ServiceAccount.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The operator's own namespace: it keeps the ledgers (Secrets with the
    /// private keys), and the dry runs by which Kyverno is asked take place there.
    #[arg(long, env = "SIGNING_NAMESPACE", default_value = "signing-system")]
    pub namespace: String,

    /// The ClusterRole that the owner of a pipeline's namespace binds there to let
    /// the operator publish: messages print the command that does.
    #[arg(
        long,
        env = "SIGNING_PIPELINE_ROLE",
        default_value = names::PIPELINE_ROLE,
        value_name = "NAME"
    )]
    pub pipeline_role: String,

    /// The key of the namespace label whose value names the namespace's ring.
    #[arg(
        long,
        env = "SIGNING_ENROLMENT_LABEL",
        default_value = names::LABEL_RING,
        value_parser = label_key
    )]
    pub enrolment_label: String,

    /// What becomes of pods in namespaces whose enrolment label names no ring,
    /// by a typo or because the ring is not there yet. Where the label is one
    /// that namespaces carry for other reasons, too, that is all of them.
    #[arg(
        long,
        env = "SIGNING_UNKNOWN_RINGS",
        value_enum,
        ignore_case = true,
        default_value_t = UnknownRings::Audit
    )]
    pub unknown_rings: UnknownRings,

    /// The kind of Kyverno policy that holds the rules of rings whose
    /// spec.policy.kind names none (docs/policy-kinds.md). Rings move one by one.
    #[arg(
        long,
        env = "SIGNING_POLICY_KIND",
        value_enum,
        ignore_case = true,
        default_value_t = PolicyKinds::ClusterPolicy
    )]
    pub policy_kind: PolicyKinds,

    /// The namespace in which ImageValidatingPolicies are asked, by dry runs. It
    /// has the enrolment label with the value signing-gate, and nothing runs there.
    #[arg(
        long,
        env = "SIGNING_PROBE_NAMESPACE",
        default_value = names::PROBE_NAMESPACE,
        value_name = "NAME"
    )]
    pub probe_namespace: String,

    /// The namespace in which Kyverno runs and has its ConfigMap. The guard
    /// (manifests/guard) has to be told the same.
    #[arg(
        long,
        env = "SIGNING_KYVERNO_NAMESPACE",
        default_value = names::KYVERNO_NAMESPACE,
        value_name = "NAME"
    )]
    pub kyverno_namespace: String,

    /// The name of Kyverno's ConfigMap. Where the operator may read it (see
    /// manifests/kyverno-access), rings say what it has Kyverno leave out.
    #[arg(
        long,
        env = "SIGNING_KYVERNO_CONFIG_MAP",
        default_value = "kyverno",
        value_name = "NAME"
    )]
    pub kyverno_config_map: String,

    /// What Kyverno may leave out without rings saying so, separated by commas:
    /// whom its ConfigMap excludes, as written there (user:NAME, group:NAME,
    /// role:NAMESPACE:NAME, clusterrole:NAME), policies of enrolled namespaces
    /// that change pods (policy:NAMESPACE/NAME) and PolicyExceptions
    /// (exception:NAMESPACE/NAME). The default of Kyverno's chart,
    /// group:system:nodes, is always accepted.
    #[arg(
        long,
        env = "SIGNING_ACCEPT_EXCLUSIONS",
        value_delimiter = ',',
        value_parser = exclusion,
        value_name = "EXCLUSION"
    )]
    pub accept_exclusions: Vec<Option<Exclusion>>,

    /// How many rings share one policy, whatever its kind. Policies that hold
    /// more keep them. More rings in a policy leave less room for exclusions,
    /// and cost the pods of its rings more; fewer make more policies. Default:
    /// 12 in a ClusterPolicy, 32 in an ImageValidatingPolicy.
    #[arg(
        long,
        env = "SIGNING_RINGS_PER_POLICY",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_RINGS_PER_POLICY))
    )]
    pub rings_per_policy: Option<u16>,

    /// How many bytes a policy may have before its rings move apart.
    /// Each rule repeats the exclusions, and etcd takes 1.5 MiB at most.
    #[arg(
        long,
        env = "SIGNING_BYTES_PER_POLICY",
        default_value_t = BYTES_PER_POLICY,
        value_parser = clap::value_parser!(u32).range(4096..=i64::from(MOST_BYTES_PER_POLICY))
    )]
    pub bytes_per_policy: u32,

    /// At rest, one policy is asked this often whether Kyverno enforces it, in
    /// turn; where there are more than 40 (at this default), so often that all are
    /// asked within two minutes, up to five a second:
    /// signingkeyring_gate_policy_bound_seconds says how soon it shows that one does
    /// not answer. During a rotation its policy is asked every second, and never more
    /// than twenty a second are, or than a slow Kyverno has time for.
    #[arg(long, env = "SIGNING_GATE_INTERVAL", default_value = "3s", value_parser = interval)]
    pub gate_interval: Duration,

    /// How often every ring is looked at although nothing changed, as long as
    /// --recheck-rate is enough for that. Pipeline Secrets are not watched, so this
    /// bounds how long an edit of one stays: signingkeyring_recheck_bound_seconds.
    #[arg(long, env = "SIGNING_RECHECK_INTERVAL", default_value = "2m", value_parser = interval)]
    pub recheck_interval: Duration,

    /// How many requests a second may be made to look at rings although nothing
    /// changed: one for each pipeline. With 10,000 rings of two pipelines each, 10
    /// requests a second come to each ring every 33 minutes.
    #[arg(
        long,
        env = "SIGNING_RECHECK_RATE",
        default_value_t = 10,
        value_name = "REQUESTS",
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub recheck_rate: u16,

    /// How many rings are worked on at once.
    #[arg(
        long,
        env = "SIGNING_CONCURRENCY",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub concurrency: u16,

    /// How many rings may rotate at once; one more waits for its turn and says so. First
    /// versions, and those that replace a revoked one, wait for nobody, and a rotation
    /// that has not come through after 15 minutes and its soak does not count any more.
    /// Default: as many as want to.
    #[arg(
        long,
        env = "SIGNING_MAX_ROTATIONS",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub max_rotations: Option<u16>,

    /// How many keys are sealed or opened at once. Sealing one takes 32 MiB of
    /// memory and a core for a moment, opening a foreign one (spec.importFrom)
    /// up to 128 MiB; all together take no more than 32 MiB times this number,
    /// or 128 MiB if that is more. Default: the number of cores, at most 4.
    #[arg(
        long,
        env = "SIGNING_SEALINGS",
        default_value_t = default_sealings(),
        hide_default_value = true,
        value_parser = clap::value_parser!(u16).range(1..=16)
    )]
    pub sealings: u16,

    /// Whether there are other replicas: the one that holds the Lease
    /// signingkeyring-operator works, and the others follow the cluster to take over
    /// from it, within 15 seconds if it dies. /readyz and signingkeyring_leader tell
    /// them apart.
    #[arg(long, env = "SIGNING_LEADER_ELECT")]
    pub leader_elect: bool,

    /// What this replica is called in the Lease, with a random number behind it.
    #[arg(
        long,
        env = "SIGNING_REPLICA",
        default_value = names::MANAGER,
        value_name = "NAME"
    )]
    pub replica: String,

    /// Where /healthz and /readyz are served, and /metrics unless --metrics-secure is set.
    #[arg(long, env = "SIGNING_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Whether /metrics is served by HTTPS, at an address of its own, and to those alone
    /// whose bearer token's owner may get that path: the API server is asked
    /// (TokenReview, SubjectAccessReview), whose answer counts for a minute at most. The
    /// operator needs the rights of manifests/secure-metrics for that.
    #[arg(long, env = "SIGNING_METRICS_SECURE")]
    pub metrics_secure: bool,

    /// Where /metrics is served with --metrics-secure.
    #[arg(
        long,
        env = "SIGNING_METRICS_BIND_ADDRESS",
        default_value = "0.0.0.0:8443",
        requires = "metrics_secure",
        value_name = "ADDRESS"
    )]
    pub metrics_bind_address: SocketAddr,

    /// The folder with the certificate for it, in the files tls.crt and tls.key as PEM,
    /// which are read again when they change. Without one a certificate is made at the
    /// start, which nobody can verify.
    #[arg(
        long,
        env = "SIGNING_METRICS_CERT_PATH",
        requires = "metrics_secure",
        value_name = "FOLDER"
    )]
    pub metrics_cert_path: Option<PathBuf>,

    /// How log lines look.
    #[arg(long, env = "SIGNING_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a filter such as
    /// `info,signingkeyring_operator::probe=debug`.
    #[arg(long, env = "SIGNING_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,
}

impl Settings {
    /// What one policy of a kind may hold.
    #[must_use]
    pub fn policy_limit(&self, kind: PolicyKind) -> Occupancy {
        let bytes = usize::try_from(self.bytes_per_policy).unwrap_or(usize::MAX);
        let rings = self.rings_per_policy.unwrap_or(kind.rings_per_policy());
        Occupancy { rings: usize::from(rings), bytes }
    }

    /// What one policy of those kinds may hold in which each ring repeats what the
    /// exclusion lists exclude: there the least of them finds room.
    #[must_use]
    pub fn limit_for_lists(&self) -> Occupancy {
        let repeating = PolicyKind::ALL.into_iter().filter(|kind| kind.repeats_lists());
        let limits = repeating.map(|kind| self.policy_limit(kind));
        limits.max_by_key(|limit| limit.rings).unwrap_or_default()
    }

    /// What Kyverno may leave out.
    #[must_use]
    pub fn accepted(&self) -> Accepted {
        self.accept_exclusions.iter().flatten().cloned().collect()
    }

    /// The memory in which keys are sealed and opened, in units of what sealing
    /// one takes. It has room for the dearest foreign key, whatever is set.
    #[must_use]
    pub fn sealing_units(&self) -> u32 {
        u32::from(self.sealings).max(DEAREST_OPENING)
    }

    /// The same in MiB.
    #[must_use]
    pub fn sealing_memory_mib(&self) -> u32 {
        self.sealing_units() * SEALING_MIB
    }
}

/// What becomes of pods in namespaces whose label names no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum UnknownRings {
    /// Kyverno reports them.
    Audit,
    /// Kyverno refuses them, but for images that the exclusion lists name.
    Enforce,
    /// They are left alone; that there are such namespaces is said all the same.
    Ignore,
}

impl UnknownRings {
    /// The action of the policy that covers such namespaces.
    #[must_use]
    pub const fn action(self) -> Option<Action> {
        match self {
            Self::Audit => Some(Action::Audit),
            Self::Enforce => Some(Action::Enforce),
            Self::Ignore => None,
        }
    }
}

/// Which kind of policy holds the rules of rings that name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PolicyKinds {
    /// Kyverno's older kind.
    ClusterPolicy,
    /// Its successor.
    ImageValidatingPolicy,
    /// The older one while Kyverno serves and executes it and takes changes of it, the
    /// newer one from then on: each ring moves there by itself, and back only where Kyverno
    /// does not serve or execute that one any more.
    Auto,
}

impl PolicyKinds {
    /// Which kind that is.
    #[must_use]
    pub const fn preference(self) -> Preference {
        match self {
            Self::ClusterPolicy => Preference::Kind(PolicyKind::ClusterPolicy),
            Self::ImageValidatingPolicy => Preference::Kind(PolicyKind::ImageValidatingPolicy),
            Self::Auto => Preference::Auto,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn default_sealings() -> u16 {
    let cores = available_parallelism().map_or(1, usize::from);
    u16::try_from(cores).unwrap_or(u16::MAX).min(MOST_SEALINGS_BY_DEFAULT)
}

fn interval(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be at least 1s".to_owned()) } else { Ok(duration) }
}

/// An empty text, such as a variable that a template left empty, names none.
fn exclusion(text: &str) -> Result<Option<Exclusion>, NoExclusion> {
    let text = text.trim();
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// A label's key.
fn label_key(text: &str) -> Result<String, String> {
    match names::is_label_key(text) {
        true => Ok(text.to_owned()),
        false => Err(names::NO_LABEL_KEY.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Settings::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        for argument in Settings::command().get_arguments() {
            if !["help", "version"].contains(&argument.get_id().as_str()) {
                assert!(argument.get_env().is_some(), "{}", argument.get_id());
            }
        }
    }

    #[test]
    fn each_kind_has_a_number_of_rings_of_its_own_unless_one_is_set() {
        let rings = |flags: &[&str]| {
            let flags = ["operator"].iter().chain(flags);
            let settings = Settings::try_parse_from(flags).unwrap();
            let lists = settings.limit_for_lists().rings;
            (PolicyKind::ALL.map(|kind| settings.policy_limit(kind).rings), lists)
        };
        assert_eq!(rings(&[]), ([12, 32], 12));
        assert_eq!(rings(&["--rings-per-policy=7"]), ([7, 7], 7));
        // The help says the same.
        let help = Settings::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for kind in PolicyKind::ALL {
            let article = if kind == PolicyKind::ClusterPolicy { "a" } else { "an" };
            let words = format!("{} in {article} {}", kind.rings_per_policy(), kind.as_str());
            assert!(help.contains(&words), "{words:?} is not in:\n{help}");
        }
    }

    #[test]
    fn exclusions_that_are_accepted() {
        let accepted = |text: &str| {
            Settings::try_parse_from(["operator", &format!("--accept-exclusions={text}")])
                .map(|settings| settings.accept_exclusions.into_iter().flatten().count())
        };
        assert_eq!(accepted("").unwrap(), 0);
        assert_eq!(accepted("user:jane, group:admins,").unwrap(), 2);
        assert!(accepted("jane").is_err());
    }
}
