//! Requests about Pods, asked without storing anything.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{EvictParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::images::Verdict;

use Request::{Create, Delete, Evict, Subresource, Update};

/// What Kyverno writes on a Pod of what it has verified.
pub const NOTE: &str = "kyverno.io/verify-images-scoped";

/// A request about a Pod.
pub enum Request {
    Create(Value),
    /// A merge patch of a Pod that is there.
    Update(&'static str, Value),
    /// The same of one of its subresources.
    Subresource(&'static str, &'static str, Value),
    Evict(&'static str),
    Delete(&'static str),
}

pub fn pod(name: &str, images: &[&str]) -> Value {
    let resources = json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "2m"}});
    let containers = (0..).zip(images).map(
        |(n, image)| json!({"name": format!("app-{n}"), "image": image, "resources": resources}),
    );
    json!({
        "metadata": {"name": name},
        "spec": {"containers": containers.collect::<Vec<_>>(), "schedulingGates": [{"name": "test/held"}]},
    })
}

pub fn container(name: &str, image: &str) -> Value {
    json!({"name": name, "image": image})
}

/// A Pod whose init container has the image.
pub fn init(image: &str, other: &str) -> Value {
    let mut pod = pod("init", &[other]);
    pod["spec"]["initContainers"] = json!([container("init", image)]);
    pod
}

/// What `kubectl debug --image` asks for.
pub fn debug(pod: &'static str, image: &str) -> Request {
    let added = json!({"spec": {"ephemeralContainers": [container("debugger", image)]}});
    Subresource(pod, "ephemeralcontainers", added)
}

pub fn set_image(pod: &'static str, image: &str) -> Request {
    Update(pod, json!({"spec": {"containers": [container("app-0", image)]}}))
}

pub fn ungate(pod: &'static str) -> Request {
    Update(pod, json!({"spec": {"schedulingGates": null}}))
}

pub fn annotate(pod: &'static str, note: &str) -> Request {
    Update(pod, json!({"metadata": {"annotations": {NOTE: note}}}))
}

/// Requests that change neither what runs nor when.
pub fn harmless(pod: &'static str) -> Vec<Request> {
    let limits = json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "3m"}});
    let resized = json!({"spec": {"containers": [{"name": "app-0", "resources": limits}]}});
    vec![
        Update(pod, json!({"metadata": {"labels": {"a": "b"}}})),
        Update(pod, json!({"metadata": {"annotations": {"a": "b"}}})),
        Update(pod, json!({"metadata": {"finalizers": null}})),
        Subresource(pod, "status", json!({"status": {"phase": "Running"}})),
        Subresource(pod, "resize", resized),
        Evict(pod),
        Delete(pod),
    ]
}

/// Asks without storing anything; the Pod as it would be stored.
pub async fn ask(pods: &Api<Pod>, request: &Request) -> Result<(Verdict, Option<Pod>)> {
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let create = PostParams { dry_run: true, ..PostParams::default() };
    let answer = match request {
        Create(pod) => pods.create(&create, &serde_json::from_value(pod.clone())?).await.map(Some),
        Update(name, patch) => pods.patch(name, &dry_run, &Patch::Strategic(patch)).await.map(Some),
        Subresource(name, which, patch) => {
            pods.patch_subresource(which, name, &dry_run, &Patch::Strategic(patch)).await.map(Some)
        }
        Evict(name) => {
            let params = EvictParams { post_options: create, ..EvictParams::default() };
            pods.evict(name, &params).await.map(|_| None)
        }
        Delete(name) => {
            pods.delete(name, &kube::api::DeleteParams::default().dry_run()).await.map(|_| None)
        }
    };
    match answer {
        Ok(pod) => Ok((Verdict::Admitted, pod)),
        // The guard comes before Kyverno's half that admits.
        Err(kube::Error::Api(status))
            if status.message.contains("'signingkeyring-guard-marks'") =>
        {
            Ok((Verdict::Refused(status.message), None))
        }
        Err(kube::Error::Api(status)) => {
            let verdict = Verdict::of(&status).with_context(|| format!("no verdict: {status}"));
            Ok((verdict?, None))
        }
        Err(error) => Err(error.into()),
    }
}

pub fn told(request: &Request) -> String {
    match request {
        Create(pod) => format!("create {}", pod["spec"]),
        Update(name, patch) => format!("update {name} by {patch}"),
        Subresource(name, which, patch) => format!("update {name}/{which} by {patch}"),
        Evict(name) => format!("evict {name}"),
        Delete(name) => format!("delete {name}"),
    }
}

/// Every request has this verdict.
pub async fn all(pods: &Api<Pod>, verdict: bool, requests: Vec<Request>) -> Result<()> {
    for request in requests {
        let (found, _) = ask(pods, &request).await.with_context(|| told(&request))?;
        ensure!((found == Verdict::Admitted) == verdict, "{}: {found:?}", told(&request));
    }
    Ok(())
}

/// Every image of a Pod that was admitted is pinned, but for those that are left as
/// they are.
pub async fn pinned(pods: &Api<Pod>, left: &[&String], requests: Vec<Request>) -> Result<()> {
    for request in requests {
        let (found, pod) = ask(pods, &request).await.with_context(|| told(&request))?;
        ensure!(found == Verdict::Admitted, "{}: {found:?}", told(&request));
        let spec = pod.and_then(|pod| pod.spec).context("no Pod came back")?;
        let images = spec.containers.iter().filter_map(|c| c.image.as_ref());
        let init = spec.init_containers.iter().flatten().filter_map(|c| c.image.as_ref());
        let debug = spec.ephemeral_containers.iter().flatten().filter_map(|c| c.image.as_ref());
        let images: Vec<&String> = images.chain(init).chain(debug).collect();
        ensure!(
            images.iter().all(|image| image.contains("@sha256:") != left.contains(image)),
            "{}: {images:?}",
            told(&request)
        );
    }
    Ok(())
}

pub async fn store(pods: &Api<Pod>, name: &str, images: &[&str]) -> Result<Pod> {
    let mut pod = pod(name, images);
    pod["metadata"]["finalizers"] = json!(["test/kept"]);
    Ok(pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?)
}
