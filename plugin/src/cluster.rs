//! The cluster, as the user of a kubeconfig sees it.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::DeserializeGuard,
};
use serde::de::DeserializeOwned;
use signingkeyring_core::omissions::Labels;
use signingkeyring_crds::SigningKeyRing;

use crate::{
    error::{Error, chain, is_code},
    flags::Connection,
};

/// The manager of the fields that the plugin writes.
pub const MANAGER: &str = "kubectl-signing";

/// How many objects the API server is asked for at once.
const PAGE: u32 = 500;

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// A ring that was read, or why it cannot be.
pub type FoundRing = DeserializeGuard<SigningKeyRing>;

/// A cluster, by the rights of whoever calls.
#[derive(Clone)]
pub struct Cluster {
    /// What asks it.
    pub client: Client,
    /// The namespace that is meant where none is named.
    pub namespace: String,
    /// The key of the label that enrols namespaces.
    pub enrolment_label: String,
    /// The operator's namespace.
    pub operator_namespace: String,
    /// Kyverno's.
    pub kyverno_namespace: String,
}

impl Cluster {
    /// Connects as kubectl would: by the flags, by `KUBECONFIG`, by the one in the home
    /// directory, or in a pod by its ServiceAccount.
    ///
    /// # Errors
    /// If there is no way to.
    pub async fn connect(flags: &Connection) -> Result<Self, Error> {
        let options = KubeConfigOptions { context: flags.context.clone(), ..Default::default() };
        let unusable = |why: String| Error::Failed(format!("the kubeconfig cannot be used: {why}"));
        let config = match &flags.kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).map_err(|error| unusable(chain(&error)))?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None if flags.context.is_some() => Config::from_kubeconfig(&options).await,
            None => match Config::from_kubeconfig(&options).await {
                Err(error) => Config::incluster().map_err(|_| error),
                found => found,
            },
        };
        let mut config = config.map_err(|error| unusable(chain(&error)))?;
        config.connect_timeout = Some(CONNECT);
        let namespace = flags.namespace.clone().unwrap_or(config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| unusable(chain(&error)))?;
        Ok(Self {
            client,
            namespace,
            enrolment_label: flags.enrolment_label.clone(),
            operator_namespace: flags.operator_namespace.clone(),
            kyverno_namespace: flags.kyverno_namespace.clone(),
        })
    }

    /// A ring.
    ///
    /// # Errors
    /// If there is none of this name, or it cannot be read.
    pub async fn ring(&self, name: &str) -> Result<SigningKeyRing, Error> {
        let rings: Api<FoundRing> = Api::all(self.client.clone());
        let found = rings.get(name).await.map_err(|error| {
            if is_code(&error, 404) { no_ring(name, &error) } else { Error::api(of(name), error) }
        })?;
        found.0.map_err(|invalid| unreadable(name, &invalid.error))
    }

    /// All rings.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn rings(&self) -> Result<Vec<FoundRing>, Error> {
        list(&Api::all(self.client.clone()), ListParams::default(), "rings").await.map_err(|error| {
            if error.is_code(404) {
                let text = "this cluster does not serve signingkeyrings.signing.odj.cloud: install \
                            the operator's manifests (kubectl apply -k manifests)";
                Error::Failed(text.to_owned())
            } else {
                error
            }
        })
    }

    /// The namespaces that are enrolled in a ring, by name.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn enrolled(&self, ring: &str) -> Result<Vec<String>, Error> {
        let selector = format!("{}={ring}", self.enrolment_label);
        let params = ListParams::default().labels(&selector);
        let found: Vec<Namespace> =
            list(&Api::all(self.client.clone()), params, "namespaces").await?;
        Ok(found.iter().map(ResourceExt::name_any).collect())
    }

    /// All namespaces, with the ring that each one's label names.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn namespaces(&self) -> Result<Vec<(String, Option<String>)>, Error> {
        let ring = |labels: Labels| labels.get(&self.enrolment_label).cloned();
        Ok(self.labels().await?.into_iter().map(|(name, labels)| (name, ring(labels))).collect())
    }

    /// A namespace's labels, of which one names its ring.
    ///
    /// # Errors
    /// If there is none of this name, or it cannot be read.
    pub async fn labels_of(&self, namespace: &str) -> Result<Labels, Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = api.get_metadata(namespace).await.map_err(|error| {
            if is_code(&error, 404) {
                Error::Failed(format!(
                    "there is no namespace {namespace}: kubectl get namespaces shows them"
                ))
            } else {
                Error::api(format!("namespace {namespace}"), error)
            }
        })?;
        Ok(found.metadata.labels.unwrap_or_default())
    }

    /// All namespaces with their labels.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn labels(&self) -> Result<BTreeMap<String, Labels>, Error> {
        let params = ListParams::default();
        let found: Vec<Namespace> =
            list(&Api::all(self.client.clone()), params, "namespaces").await?;
        let labels = |found: Namespace| found.metadata.labels.unwrap_or_default();
        Ok(found.into_iter().map(|found| (found.name_any(), labels(found))).collect())
    }
}

/// Lists page by page.
///
/// # Errors
/// If the API server refuses one.
pub async fn list<K>(api: &Api<K>, params: ListParams, what: &str) -> Result<Vec<K>, Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    list_page_by_page(api, params).await.map_err(|error| Error::api(what, error))
}

/// The same with the API server's own answer.
///
/// # Errors
/// If it refuses one.
pub async fn list_page_by_page<K>(api: &Api<K>, params: ListParams) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut params = params.limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// What is said of a ring that this plugin cannot read.
pub fn unreadable(name: &str, why: &str) -> Error {
    Error::Failed(format!(
        "ring {name} cannot be read ({why}), perhaps because a newer operator's API has more \
         fields: install the plugin of the operator's version"
    ))
}

fn no_ring(name: &str, error: &kube::Error) -> Error {
    // The API server says the same of a kind that it does not serve, in other words.
    if crate::error::brief(error).contains("could not find the requested resource") {
        return Error::Failed(
            "this cluster does not serve signingkeyrings.signing.odj.cloud: install the \
             operator's manifests (kubectl apply -k manifests)"
                .to_owned(),
        );
    }
    Error::Failed(format!(
        "there is no ring {name}: kubectl signing status lists those that there are"
    ))
}

fn of(ring: &str) -> String {
    format!("ring {ring}")
}
