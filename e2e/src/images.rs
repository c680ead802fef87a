//! Images: pushed, signed, and asked for admission.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::world::{World, wait_until};

/// What the API server said of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would run.
    Admitted,
    /// It would not, and this is what its owner reads.
    Refused(String),
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
        let arguments = [
            "sign",
            "--yes",
            "--key",
            key,
            "--new-bundle-format=false",
            "--use-signing-config=false",
            "--tlog-upload=false",
            image,
        ];
        self.run("cosign", &arguments, environment, "").await?;
        Ok(())
    }

    /// Asks whether a Pod of an image may run in a namespace. Nothing is created.
    ///
    /// # Errors
    /// If something other than a verdict came.
    pub async fn admit(&self, namespace: &str, image: &str) -> Result<Verdict> {
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{generateName: probe-, namespace: {namespace}}}, \
             spec: {{containers: [{{name: app, image: '{image}'}}]}}}}"
        );
        let create = ["create", "--dry-run=server", "--filename=-"];
        match self.run("kubectl", &create, &[], &pod).await {
            Ok(_) => Ok(Verdict::Admitted),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(
                    text.contains("denied the request") || text.contains("failed calling webhook"),
                    "no verdict: {text}"
                );
                Ok(Verdict::Refused(text))
            }
        }
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
            Ok(matches!(self.admit(namespace, image).await?, Verdict::Refused(_)))
        })
        .await
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
