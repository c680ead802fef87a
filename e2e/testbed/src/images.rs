//! Images: pushed, signed, and asked for admission.

use std::fs;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::PostParams, core::Status};
use serde_json::{Value, json};

use crate::world::{World, wait_until};

/// What the API server said of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would run.
    Admitted,
    /// A webhook refused it, and this is what its owner reads.
    Refused(String),
    /// It would not run, because a webhook that has to be asked did not answer.
    Unanswered(String),
}

/// How cosign stores a signature beside its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// In an image tagged `sha256-….sig`, as cosign 2 does.
    Tag,
    /// In a bundle that refers to the image, as cosign 3 does.
    Bundle,
}

impl Verdict {
    /// The verdict in what the API server says instead of admitting a Pod; a
    /// refusal of another kind is none.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        match (status.code, status.reason.as_str()) {
            // The API server gives every refusal of its own a reason.
            (400, "") => Some(Self::Refused(status.message.clone())),
            // No other field says what was wrong inside.
            (500, "InternalError") if status.message.contains("failed calling webhook") => {
                Some(Self::Unanswered(status.message.clone()))
            }
            _ => None,
        }
    }
}

impl World {
    /// Pushes an image with content of its own; returns its reference by digest.
    ///
    /// # Errors
    /// If the registry refuses.
    pub async fn push(&self, repository: &str, tag: &str) -> Result<String> {
        let name = format!("{}/{repository}", self.info.registry);
        let layer =
            self.info.folder.join(format!("layer-{}-{tag}.tar", repository.replace('/', "-")));
        fs::write(&layer, tar(&format!("{repository}:{tag}")))?;
        let layer_name = layer.display().to_string();
        let target = format!("{name}:{tag}");
        let append =
            ["append", "--oci-empty-base", "--new_layer", &layer_name, "--new_tag", &target];
        let digest = self.run("crane", &append, &[], "").await?;
        fs::remove_file(&layer)?;
        let digest = digest.trim().rsplit_once('@').context("no digest")?.1.to_owned();
        Ok(format!("{name}@{digest}"))
    }

    /// Signs an image as a pipeline does, with the key in a Secret.
    ///
    /// # Errors
    /// If cosign does not.
    pub async fn sign(&self, image: &str, secret: &str) -> Result<()> {
        let key = format!("k8s://{secret}");
        self.sign_with(image, &key, &[]).await
    }

    /// Signs an image with a key as cosign names it.
    ///
    /// # Errors
    /// If cosign does not.
    pub async fn sign_with(
        &self,
        image: &str,
        key: &str,
        environment: &[(&str, &str)],
    ) -> Result<()> {
        self.attach("sign", Format::Tag, image, key, environment).await
    }

    /// Attaches a signature (`sign`) or an attestation (`attest`) in one of cosign's
    /// formats.
    ///
    /// # Errors
    /// If cosign does not.
    pub async fn attach(
        &self,
        what: &str,
        format: Format,
        image: &str,
        key: &str,
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let format = format!("--new-bundle-format={}", format == Format::Bundle);
        let predicate = self.info.folder.join("predicate.json");
        fs::write(&predicate, "{}")?;
        let predicate = format!("--predicate={}", predicate.display());
        let flags = ["--yes", "--use-signing-config=false", "--tlog-upload=false"];
        let mut arguments = vec![what, "--key", key, &format];
        arguments.extend(flags);
        if what == "attest" {
            arguments.extend([&predicate, "--type=custom"]);
        }
        arguments.push(image);
        self.run("cosign", &arguments, environment, "").await?;
        Ok(())
    }

    /// Asks whether a Pod of an image may run in a namespace. Nothing is created.
    ///
    /// # Errors
    /// If something other than a verdict came.
    pub async fn admit(&self, namespace: &str, image: &str) -> Result<Verdict> {
        self.admit_all(namespace, &[image]).await
    }

    /// The same of a Pod with a container of each image.
    ///
    /// # Errors
    /// If something other than a verdict came.
    pub async fn admit_all(&self, namespace: &str, images: &[&str]) -> Result<Verdict> {
        admit(&self.client().await?, namespace, images).await
    }

    /// Waits until an image is admitted.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn wait_until_admitted(&self, namespace: &str, image: &str) -> Result<()> {
        wait_until(&format!("{image} admitted in {namespace}"), async || {
            Ok(self.admit(namespace, image).await? == Verdict::Admitted)
        })
        .await
    }

    /// Waits until an image is refused.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn wait_until_refused(&self, namespace: &str, image: &str) -> Result<()> {
        wait_until(&format!("{image} refused in {namespace}"), async || {
            Ok(self.admit(namespace, image).await? != Verdict::Admitted)
        })
        .await
    }
}

/// Asks whether a Pod with a container of each image may run in a namespace.
/// Nothing is created.
///
/// # Errors
/// If something other than a verdict came.
pub async fn admit(client: &Client, namespace: &str, images: &[&str]) -> Result<Verdict> {
    let containers: Vec<Value> = (0..)
        .zip(images)
        .map(|(index, image)| json!({"name": format!("app-{index}"), "image": image}))
        .collect();
    let pod = json!({
        "metadata": {"generateName": "probe-"}, "spec": {"containers": containers},
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams { dry_run: true, field_manager: None };
    match pods.create(&dry_run, &serde_json::from_value(pod)?).await {
        Ok(_) => Ok(Verdict::Admitted),
        Err(kube::Error::Api(status)) => {
            Verdict::of(&status).with_context(|| format!("no verdict: {status}"))
        }
        Err(error) => Err(error.into()),
    }
}

/// A tar archive of one small file (POSIX ustar).
fn tar(content: &str) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "content");
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend(content.as_bytes());
    archive.resize(archive.len().div_ceil(512) * 512 + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> Status {
        Status::failure(message, reason).with_code(code)
    }

    #[test]
    fn a_webhook_that_refuses_and_one_that_does_not_answer() {
        let refused = "admission webhook \"mutate.kyverno.svc-fail\" denied the request: unsigned";
        let verdict = Verdict::of(&status(400, "", refused));
        assert_eq!(verdict, Some(Verdict::Refused(refused.to_owned())));
        let failed = "Internal error occurred: failed calling webhook \"x\": connection refused";
        let verdict = Verdict::of(&status(500, "InternalError", failed));
        assert_eq!(verdict, Some(Verdict::Unanswered(failed.to_owned())));
    }

    #[test]
    fn other_refusals_are_no_verdict() {
        for (code, reason) in
            [(400, "BadRequest"), (403, "Forbidden"), (422, "Invalid"), (500, "InternalError")]
        {
            assert_eq!(Verdict::of(&status(code, reason, "something else")), None, "{reason}");
        }
    }
}
