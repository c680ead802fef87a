//! From a ring's object to what it asks for, defaults and problems included.

use std::{collections::BTreeSet, time::Duration};

use jiff::civil::Weekday;
use kube::ResourceExt;
use signingkeyring_convert::exclusion;
use signingkeyring_core::{
    duration,
    ledger::PipelineRef,
    names,
    policy_ref::{Action, PolicyKind},
    schedule::{Window, Windows},
    snapshot::{Layout, Revoked, Ring},
    token::{MAX_TOKEN, is_token},
    usable::Because,
};
use signingkeyring_crds as api;

use crate::settings::Settings;

/// Reads a ring. What the API server should have refused and did not (an
/// older CRD, validation switched off) becomes a problem, never a panic.
pub(super) fn read(
    object: &api::SigningKeyRing,
    settings: &Settings,
    (kind, kind_because): (PolicyKind, Because),
) -> Ring {
    let spec = &object.spec;
    let mut problems = Vec::new();
    let soak = duration::parse(&spec.rotation.soak).unwrap_or_else(|error| {
        problems.push(format!("spec.rotation.soak: {error}"));
        Duration::from_secs(10)
    });
    let every = spec.rotation.every.as_deref().and_then(|text| match duration::parse(text) {
        Ok(every) if every >= Duration::from_secs(3600) => Some(every),
        Ok(_) => {
            problems.push("spec.rotation.every: write at least 1h".to_owned());
            None
        }
        Err(error) => {
            problems.push(format!("spec.rotation.every: {error}"));
            None
        }
    });
    let windows = windows(&spec.rotation.windows, &mut problems);
    let token = object.annotations().get(names::ANNOTATION_ROTATE).cloned();
    if token.as_deref().is_some_and(|token| !is_token(token)) {
        problems.push(format!(
            "the annotation {} asks for nothing because it is longer than {MAX_TOKEN} characters \
             or has control characters; write a plain value, such as a date",
            names::ANNOTATION_ROTATE
        ));
    }
    let mut exclude = Vec::new();
    for entry in &spec.policy.exclude {
        match exclusion(entry) {
            Ok(exclusion) => exclude.push(exclusion),
            Err(problem) => problems.push(format!("spec.policy.exclude: {problem}")),
        }
    }
    exclude.sort();
    exclude.dedup();
    let mut credentials = BTreeSet::new();
    for entry in &spec.policy.registry_credentials {
        let name = &entry.secret_name;
        if names::is_secret_name(name) {
            credentials.insert(name.clone());
        } else {
            problems.push(format!(
                "spec.policy.registryCredentials: {name:?} is no name of a Secret; write one \
                 without a namespace"
            ));
        }
    }
    let operator_namespace = &settings.namespace;
    let mut pipelines = std::collections::BTreeMap::new();
    for pipeline in &spec.pipelines {
        if pipeline.namespace == *operator_namespace {
            problems.push(format!(
                "spec.pipelines: {operator_namespace} is the operator's own namespace and holds \
                 every private key; name the pipeline's namespace"
            ));
            continue;
        }
        let reference = PipelineRef {
            namespace: pipeline.namespace.clone(),
            name: pipeline.secret_name.clone(),
        };
        pipelines.insert(reference, layout(pipeline.layout));
    }
    Ring {
        keep: spec.keep_versions.clamp(1, 10),
        every,
        windows,
        soak,
        pipelines,
        action: match spec.policy.action {
            api::PolicyAction::Enforce => Action::Enforce,
            api::PolicyAction::Audit => Action::Audit,
        },
        kind,
        kind_because,
        exclude,
        credentials,
        token,
        deleting: object.metadata.deletion_timestamp.is_some(),
        allow_unenforced: object
            .annotations()
            .get(names::ANNOTATION_ALLOW_UNENFORCED)
            .is_some_and(|value| value == "true"),
        standby: spec.rotation.standby,
        suspend: spec.suspend,
        revoked: revoked(spec),
        recover_after: object
            .annotations()
            .get(names::ANNOTATION_RECOVER)
            .and_then(|value| value.parse().ok()),
        finalizer: object.finalizers().iter().any(|f| f == names::FINALIZER),
        problems,
    }
}

/// The windows in which the schedule may rotate. One that cannot be read never opens.
fn windows(windows: &[api::RotationWindow], problems: &mut Vec<String>) -> Windows {
    if windows.is_empty() {
        return Windows::default();
    }
    let read = |window: &api::RotationWindow| {
        let days = window.days.iter().copied().map(weekday).collect();
        Window::parse(days, &window.start, &window.end, &window.time_zone)
    };
    let read = windows.iter().map(read).filter_map(|window| {
        let problem = |error| {
            problems.push(format!(
                "spec.rotation.windows: {error}. Until then the schedule does not rotate in this \
                 window"
            ));
        };
        window.map_err(problem).ok()
    });
    Windows::only(read.collect())
}

const fn weekday(day: api::Day) -> Weekday {
    match day {
        api::Day::Monday => Weekday::Monday,
        api::Day::Tuesday => Weekday::Tuesday,
        api::Day::Wednesday => Weekday::Wednesday,
        api::Day::Thursday => Weekday::Thursday,
        api::Day::Friday => Weekday::Friday,
        api::Day::Saturday => Weekday::Saturday,
        api::Day::Sunday => Weekday::Sunday,
    }
}

/// The kind of policy that a ring asks for.
pub(super) fn kind_asked(spec: &api::SigningKeyRingSpec) -> Option<PolicyKind> {
    spec.policy.kind.map(|kind| match kind {
        api::PolicyKind::ClusterPolicy => PolicyKind::ClusterPolicy,
        api::PolicyKind::ImageValidatingPolicy => PolicyKind::ImageValidatingPolicy,
    })
}

/// What a ring revokes, by number or fingerprint; the API server has seen to it
/// that each entry has one.
#[must_use]
pub fn revoked(spec: &api::SigningKeyRingSpec) -> Vec<Revoked> {
    let read = |entry: &api::Revocation| {
        let fingerprint = |text: &String| match text.parse() {
            Ok(fingerprint) => Revoked::Fingerprint(fingerprint),
            Err(_) => Revoked::Unreadable(text.clone()),
        };
        let number = entry.version.map(Revoked::Version);
        number.or_else(|| entry.fingerprint.as_ref().map(fingerprint))
    };
    spec.revoked.iter().filter_map(read).collect()
}

fn layout(layout: api::Layout) -> Layout {
    match layout {
        api::Layout::Cosign => Layout::Cosign,
        api::Layout::Environment => Layout::Environment,
    }
}
