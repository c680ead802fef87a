//! From each kind of object to a workload.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{Pod, PodSpec},
};
use kube::{Resource, ResourceExt};
use signingkeyring_core::policy_ref::PolicyKind;

use super::Workload;
use crate::pods::images;

/// Reads workloads, with the images that this kind of policy verifies.
#[derive(Clone, Copy)]
pub struct Reader(pub PolicyKind);

impl Reader {
    /// Pods that run or wait: those of a controller go by its name.
    pub fn pods(self, pods: &[Pod]) -> Vec<Workload> {
        let is_over = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let of = |pod: &Pod| {
            let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
            let name = match owner {
                Some(owner) => format!("of {} {}", owner.kind, owner.name),
                None => pod.name_any(),
            };
            let kind = if owner.is_some() { "Pods" } else { "Pod" };
            let workload = self.workload(pod, kind, pod.spec.as_ref()?)?;
            Some(Workload { name, pods: 1, ..workload })
        };
        pods.iter().filter(|pod| !is_over(pod)).filter_map(of).collect()
    }

    /// A Deployment.
    pub fn deployment(self, object: &Deployment) -> Option<Workload> {
        let spec = object.spec.as_ref()?.template.spec.as_ref()?;
        self.workload(object, "Deployment", spec)
    }

    /// A ReplicaSet that somebody made, or one to which a Deployment may roll back.
    pub fn replica_set(self, object: &ReplicaSet) -> Option<Workload> {
        let spec = object.spec.as_ref()?;
        let kind = match (controller(object), spec.replicas.unwrap_or(1)) {
            (Some("Deployment"), 0) => "ReplicaSet (rollback)",
            // Its Deployment has the same template, or its pods are looked at.
            (Some("Deployment"), _) => return None,
            _ => "ReplicaSet",
        };
        self.workload(object, kind, spec.template.as_ref()?.spec.as_ref()?)
    }

    /// A StatefulSet.
    pub fn stateful_set(self, object: &StatefulSet) -> Option<Workload> {
        self.workload(object, "StatefulSet", object.spec.as_ref()?.template.spec.as_ref()?)
    }

    /// A DaemonSet.
    pub fn daemon_set(self, object: &DaemonSet) -> Option<Workload> {
        self.workload(object, "DaemonSet", object.spec.as_ref()?.template.spec.as_ref()?)
    }

    /// A revision to which a StatefulSet or a DaemonSet may roll back. What else keeps
    /// revisions has no template of pods there.
    pub fn revision(self, object: &ControllerRevision) -> Option<Workload> {
        let template = object.data.as_ref()?.0.pointer("/spec/template/spec")?;
        let spec: PodSpec = serde_json::from_value(template.clone()).ok()?;
        self.workload(object, "ControllerRevision", &spec)
    }

    /// A Job that is not over and that no CronJob made.
    pub fn job(self, object: &Job) -> Option<Workload> {
        let conditions = object.status.as_ref().and_then(|status| status.conditions.as_ref());
        let is_over = conditions.into_iter().flatten().any(|condition| {
            matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
        });
        if is_over || controller(object) == Some("CronJob") {
            return None;
        }
        self.workload(object, "Job", object.spec.as_ref()?.template.spec.as_ref()?)
    }

    /// A CronJob.
    pub fn cron_job(self, object: &CronJob) -> Option<Workload> {
        let job = object.spec.job_template.spec.as_ref()?;
        self.workload(object, "CronJob", job.template.spec.as_ref()?)
    }

    fn workload<K: Resource>(
        self,
        object: &K,
        kind: &'static str,
        spec: &PodSpec,
    ) -> Option<Workload> {
        Some(Workload {
            namespace: object.namespace()?,
            kind,
            name: object.name_any(),
            pods: 0,
            images: images(spec, self.0),
        })
    }
}

/// The kind of an object's controller.
fn controller(object: &impl ResourceExt) -> Option<&str> {
    let mut owners = object.owner_references().iter();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| &*owner.kind)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn template(image: &str) -> Value {
        json!({"spec": {"containers": [{"name": "a", "image": image}, {"name": "b", "image": image}]}})
    }

    const READER: Reader = Reader(PolicyKind::ClusterPolicy);

    fn owned(name: &str, owner: &str) -> Value {
        json!({"name": name, "namespace": "ns", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": "u", "controller": true},
        ]})
    }

    #[test]
    fn what_may_be_rolled_back_to_counts_and_what_is_in_use_counts_once() {
        let set = |replicas: i32| -> ReplicaSet {
            from_value(json!({
                "metadata": owned("app-1", "app"),
                "spec": {"replicas": replicas, "selector": {}, "template": template("old")},
            }))
            .unwrap()
        };
        assert_eq!(READER.replica_set(&set(1)), None);
        let old = READER.replica_set(&set(0)).unwrap();
        assert_eq!((old.kind, &*old.images), ("ReplicaSet (rollback)", &["old".to_owned()][..]));
        // One of another controller's says what nobody else does.
        let mut other = set(1);
        other.metadata.owner_references.as_mut().unwrap()[0].kind = "Rollout".to_owned();
        assert_eq!(READER.replica_set(&other).unwrap().kind, "ReplicaSet");
    }

    #[test]
    fn a_revision_is_read_by_what_is_in_it() {
        let of = |data: Value| -> ControllerRevision {
            let metadata = json!({"name": "db-1", "namespace": "ns"});
            from_value(json!({"metadata": metadata, "data": data, "revision": 1})).unwrap()
        };
        let read = READER.revision(&of(json!({"spec": {"template": template("old")}}))).unwrap();
        assert_eq!(read.images, ["old"]);
        assert_eq!(READER.revision(&of(json!({"spec": [1]}))), None);
        let odd = json!({"spec": {"template": {"spec": {"containers": 7}}}});
        assert_eq!(READER.revision(&of(odd)), None);
    }

    #[test]
    fn pods_of_one_controller_are_told_together_and_those_that_are_over_not_at_all() {
        let pod = |name: &str, owner: Option<&str>, phase: &str| -> Pod {
            let metadata = match owner {
                Some(owner) => owned(name, owner),
                None => json!({"name": name, "namespace": "ns"}),
            };
            from_value(json!({
                "metadata": metadata, "spec": template("x")["spec"], "status": {"phase": phase},
            }))
            .unwrap()
        };
        let all = [
            pod("a", Some("app"), "Running"),
            pod("b", Some("app"), "Pending"),
            pod("c", Some("app"), "Succeeded"),
            pod("d", None, "Running"),
        ];
        let names: Vec<String> = super::super::merged(READER.pods(&all))
            .iter()
            .map(|w| format!("{} {}", w.name, w.pods))
            .collect();
        assert_eq!(names, ["d 1", "of Deployment app 2"]);
    }

    #[test]
    fn a_job_that_is_over_does_not_start_again() {
        let of = |conditions: Value| -> Job {
            from_value(json!({
                "metadata": {"name": "j", "namespace": "ns"}, "spec": {"template": template("x")},
                "status": {"conditions": conditions},
            }))
            .unwrap()
        };
        assert!(READER.job(&of(json!([]))).is_some());
        let over = json!([{"type": "Complete", "status": "True"}]);
        assert_eq!(READER.job(&of(over)), None);
    }

    #[test]
    fn images_of_volumes_count_where_they_are_verified() {
        let pod: Pod = from_value(json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "spec": {
                "containers": [{"name": "a", "image": "x"}],
                "volumes": [{"name": "v", "image": {"reference": "data"}}, {"name": "w"}],
            },
        }))
        .unwrap();
        let of = |kind| Reader(kind).pods(std::slice::from_ref(&pod)).remove(0).images;
        assert_eq!(of(PolicyKind::ClusterPolicy), ["x"]);
        assert_eq!(of(PolicyKind::ImageValidatingPolicy), ["x", "data"]);
    }
}
