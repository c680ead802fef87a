//! What no tool writes into a registry.

use anyhow::{Context, Result, ensure};
use reqwest::{Client, header::CONTENT_TYPE};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The tests' registry, by its protocol.
pub struct Raw {
    client: Client,
    registry: String,
}

/// The repository and the digest of an image.
pub fn parts(image: &str) -> Result<(&str, &str)> {
    let (name, digest) = image.split_once('@').context("no digest")?;
    let (_, repository) = name.split_once('/').context("no repository")?;
    Ok((repository, digest))
}

/// The tag that belongs to a digest.
pub fn tag(digest: &str, end: &str) -> String {
    format!("{}{end}", digest.replace(':', "-"))
}

impl Raw {
    pub fn new(registry: &str) -> Result<Self> {
        // Another crate may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { client: Client::builder().build()?, registry: registry.to_owned() })
    }

    fn url(&self, repository: &str, path: &str) -> String {
        format!("http://{}/v2/{repository}/{path}", self.registry)
    }

    pub async fn blob(&self, repository: &str, content: &[u8]) -> Result<Value> {
        let digest = format!("sha256:{}", base16ct::lower::encode_string(&Sha256::digest(content)));
        let url = self.url(repository, &format!("blobs/uploads/?digest={digest}"));
        self.client.post(url).body(content.to_vec()).send().await?.error_for_status()?;
        Ok(json!({"size": content.len(), "digest": digest}))
    }

    pub async fn read(&self, repository: &str, name: &str) -> Result<Value> {
        let url = self.url(repository, &format!("manifests/{name}"));
        let answer = self.client.get(url).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    pub async fn write(&self, repository: &str, name: &str, manifest: &Value) -> Result<Value> {
        let media_type = manifest["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
        let content = manifest.to_string();
        let digest =
            format!("sha256:{}", base16ct::lower::encode_string(&Sha256::digest(&content)));
        let url = self.url(repository, &format!("manifests/{name}"));
        let put = self.client.put(url).header(CONTENT_TYPE, &media_type).body(content.clone());
        put.send().await?.error_for_status()?;
        Ok(json!({"mediaType": media_type, "size": content.len(), "digest": digest}))
    }

    pub async fn delete(&self, repository: &str, name: &str) -> Result<()> {
        let url = self.url(repository, &format!("manifests/{name}"));
        self.client.delete(&url).send().await?.error_for_status()?;
        ensure!(self.client.get(url).send().await?.status().as_u16() == 404, "{name} is there");
        Ok(())
    }

    /// Has something refer to an image, beside what does.
    pub async fn refer(&self, image: &str, media_type: &str, content: &[u8]) -> Result<()> {
        let (repository, digest) = parts(image)?;
        let mut config = self.blob(repository, b"{}").await?;
        config["mediaType"] = json!("application/vnd.oci.empty.v1+json");
        let mut layer = self.blob(repository, content).await?;
        layer["mediaType"] = json!(media_type);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": media_type,
            "config": config, "layers": [layer],
        });
        let written = self.write(repository, "referrer", &manifest).await?;
        let tag = tag(digest, "");
        let empty = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
        let mut index = self.read(repository, &tag).await.unwrap_or(empty);
        index["manifests"].as_array_mut().context("no list")?.push(written);
        self.write(repository, &tag, &index).await?;
        Ok(())
    }
}
