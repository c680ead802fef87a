//! Images in a registry that asks for a password: what Kyverno looks them up with.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    private::PrivateRegistry,
    world::{World, manifest, namespaces, wait_until},
};

use crate::in_turn;

/// What becomes of a Pod: the image that it would have, or why it is refused.
type Answer = std::result::Result<String, String>;

/// A ring, and images in a registry of its own.
struct Ring<'a> {
    world: &'a World,
    kind: Kind,
    name: String,
    /// An image that the ring signed, where nobody asks for a password.
    public: String,
    /// The same where somebody does: by digest, and by tag.
    private: [String; 2],
    /// One that nobody signed.
    unsigned: String,
    /// One that is excluded by its tag, pinned.
    excluded: String,
    registry: &'a PrivateRegistry,
}

impl<'a> Ring<'a> {
    async fn new(world: &'a World, registry: &'a PrivateRegistry, kind: Kind) -> Result<Self> {
        let name = format!("{}-private", kind.resource());
        // The second has no credentials, and shares a policy with the first meanwhile, if
        // there is room for both.
        for ring in [name.clone(), format!("{name}-other")] {
            world.apply(&namespaces(&ring)).await?;
            world.apply(&manifest(&ring, &spec(kind, registry, &[]))).await?;
            world.wait_for_condition(&ring, "Ready", "True").await?;
        }
        let public = world.push(&format!("{name}/app"), "v1").await?;
        world.sign(&public, &format!("{name}-ci/image-signing")).await?;
        world.wait_until_admitted(&format!("{name}-dev"), &public).await?;
        let unsigned = world.push(&format!("{name}/unsigned"), "v1").await?;
        let there = |image: &str| image.replace(&world.info.registry, &registry.name);
        let tag = format!("{}/{name}/app:v1", registry.name);
        let private = [there(&public), tag];
        let unsigned = there(&unsigned);
        let excluded = there(&world.push("excluded", "v1").await?).replace('@', ":v1@");
        Ok(Self { world, kind, name, public, private, unsigned, excluded, registry })
    }

    /// Gives the ring registry credentials, and waits until its policy has them.
    async fn with(&self, secrets: &[&str]) -> Result<()> {
        let (world, name) = (self.world, &self.name);
        world.apply(&manifest(name, &spec(self.kind, self.registry, secrets))).await?;
        wait_until(&format!("{name} has the credentials {secrets:?}"), async || {
            Ok(credentials(&self.policy(name).await?, name) == secrets)
        })
        .await
    }

    /// The policy that a ring is in.
    async fn policy(&self, ring: &str) -> Result<Value> {
        let policy = self.world.ring(ring, "{.status.policy.name}").await?;
        ensure!(Kind::of(&policy) == self.kind, "{policy}");
        self.world.policy(&policy).await
    }

    /// The ring that never has credentials.
    fn other(&self) -> String {
        format!("{}-other", self.name)
    }

    /// Waits until an image is admitted, or is not.
    async fn wait(&self, what: &str, image: &str, admitted: bool) -> Result<()> {
        let mut answer = Err(String::new());
        wait_until(&format!("{}: {image} is admitted: {admitted}", self.name), async || {
            answer = self.ask(image, None).await?;
            Ok(answer.is_ok() == admitted)
        })
        .await?;
        println!("{}: {what}: {answer:?}", self.kind);
        Ok(())
    }

    /// Asks for a Pod of an image, with a pull secret of its own.
    async fn ask(&self, image: &str, pull_secret: Option<&str>) -> Result<Answer> {
        let secrets: Vec<Value> = pull_secret.iter().map(|name| json!({"name": name})).collect();
        let pod = json!({
            "metadata": {"name": "asked"},
            "spec": {
                "containers": [{"name": "app", "image": image}],
                "imagePullSecrets": secrets,
            },
        });
        let client = self.world.client().await?;
        let pods: Api<Pod> = Api::namespaced(client, &format!("{}-dev", self.name));
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        match pods.create(&dry_run, &serde_json::from_value(pod)?).await {
            Ok(pod) => {
                let spec = pod.spec.context("no spec")?;
                Ok(Ok(spec.containers.into_iter().find_map(|c| c.image).context("no image")?))
            }
            Err(kube::Error::Api(status)) => match Verdict::of(&status) {
                Some(Verdict::Refused(text)) => Ok(Err(text)),
                _ => anyhow::bail!("no verdict: {status}"),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Asks, and prints what came.
    async fn seen(&self, what: &str, image: &str) -> Result<Answer> {
        let answer = self.ask(image, None).await?;
        println!("{}: {what}: {answer:?}", self.kind);
        Ok(answer)
    }

    /// With credentials of the ring's own, and none of Kyverno's.
    async fn by_its_own(&self) -> Result<()> {
        let [digest, tag] = &self.private;
        let namespace = format!("{}-dev", self.name);
        self.world.apply(&self.registry.pull_secret(&namespace, "own").to_string()).await?;
        for image in [digest, &self.excluded] {
            ensure!(self.seen("without credentials", image).await?.is_err());
        }
        let answer = self.ask(digest, Some("own")).await?;
        println!("{}: with the Pod's own pull secret: {answer:?}", self.kind);
        ensure!(answer.is_err(), "a Pod's own pull secrets are used: {answer:?}");

        self.with(&["missing", SECRET]).await?;
        self.wait("with credentials", digest, true).await?;
        ensure!(self.seen("with credentials, public", &self.public).await?.is_ok());
        ensure!(self.seen("with credentials, unsigned", &self.unsigned).await?.is_err());
        let by_tag = self.seen("with credentials, by tag", tag).await?;
        match self.kind {
            Kind::ClusterPolicy => {
                ensure!(by_tag.is_ok_and(|image| image.contains('@')), "it is pinned");
                let excluded = self.seen("with credentials, excluded", &self.excluded).await?;
                ensure!(excluded.is_ok(), "{excluded:?}");
                let text = self.world.condition(&self.name, "PolicyEnforced").await?;
                ensure!(!text.contains("imagePullSecrets"), "{text}");
            }
            Kind::ImageValidatingPolicy => {
                ensure!(by_tag.is_err(), "{by_tag:?}");
                self.says(&["missing", SECRET]).await?;
            }
        }
        let (here, there) = (self.policy(&self.name).await?, self.policy(&self.other()).await?);
        let (name, other) = (&here["metadata"]["name"], &there["metadata"]["name"]);
        ensure!(credentials(&there, &self.other()).is_empty(), "{there}");
        ensure!(self.kind == Kind::ClusterPolicy || name != other, "both are in {name}");
        ensure!(self.world.condition(&self.other(), "PolicyEnforced").await?.starts_with("True"));

        // A Secret that is missing is no obstacle to images that need none.
        self.with(&["missing"]).await?;
        self.wait("a Secret is missing", digest, false).await?;
        ensure!(self.seen("a Secret is missing, public", &self.public).await?.is_ok());
        Ok(())
    }

    /// What a ring of this kind says of tags in private registries.
    async fn says(&self, secrets: &[&str]) -> Result<()> {
        let text = format!("the Secrets {} of Kyverno's namespace", secrets.join(", "));
        wait_until(&format!("{} says {text}", self.name), async || {
            let said = self.world.condition(&self.name, "PolicyEnforced").await?;
            Ok(said.contains(&text) && said.contains("--imagePullSecrets"))
        })
        .await
    }

    /// With those that Kyverno itself has by its flag. The ring's own are missing.
    async fn by_kyvernos(&self) -> Result<()> {
        let [digest, tag] = &self.private;
        // What a ring names takes the place of what Kyverno has.
        ensure!(
            self.seen("by Kyverno's flag, and a Secret that is missing", digest).await?.is_err()
        );
        self.with(&[]).await?;
        for image in [digest, tag] {
            self.wait("by Kyverno's flag", image, true).await?;
        }
        ensure!(self.seen("by Kyverno's flag, unsigned", &self.unsigned).await?.is_err());
        self.with(&[SECRET]).await?;
        if self.kind == Kind::ImageValidatingPolicy {
            self.says(&[SECRET]).await?;
        }
        for image in [digest, tag] {
            let answer = self.seen("by Kyverno's flag, and with credentials", image).await?;
            ensure!(answer.is_ok_and(|image| image.contains('@')), "it is pinned");
        }
        ensure!(self.seen("by both, unsigned", &self.unsigned).await?.is_err());
        Ok(())
    }
}

/// The credentials that a policy has for a ring.
fn credentials(policy: &Value, ring: &str) -> Vec<String> {
    let spec = &policy["spec"];
    let rules = spec["rules"].as_array().into_iter().flatten();
    let mut of_ring = rules.filter(|rule| rule["name"] == ring);
    let credentials = match of_ring.next() {
        Some(rule) => &rule["verifyImages"][0]["imageRegistryCredentials"],
        None => &spec["credentials"],
    };
    let secrets = credentials["secrets"].as_array().into_iter().flatten();
    secrets.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What a ring asks for; images of this name are excluded by their tag.
fn spec(kind: Kind, registry: &PrivateRegistry, secrets: &[&str]) -> String {
    let secrets: Vec<String> =
        secrets.iter().map(|name| format!("{{secretName: {name}}}")).collect();
    let exclude = format!("{{image: '{}/excluded:v1', reason: test}}", registry.name);
    let secrets = secrets.join(", ");
    format!("  policy: {{kind: {kind}, exclude: [{exclude}], registryCredentials: [{secrets}]}}\n")
}

/// The Secret in Kyverno's namespace, as rings and Kyverno's flag name it.
const SECRET: &str = "registry-pull";

#[test]
fn images_in_private_registries_are_looked_up_with_the_rings_credentials() {
    in_turn(async |shared| {
        let registry = PrivateRegistry::start(&shared.world.info.registry).await?;
        let secret = registry.pull_secret("kyverno", SECRET);
        shared.world.apply(&secret.to_string()).await?;
        let rings = Kind::ALL.map(|kind| Ring::new(&shared.world, &registry, kind));
        let rings = try_join_all(rings).await?;
        try_join_all(rings.iter().map(Ring::by_its_own)).await?;

        let flag = format!("--imagePullSecrets={SECRET}");
        shared.cluster.restart_with("kyverno", &[&flag]).await?;
        let seen = try_join_all(rings.iter().map(Ring::by_kyvernos)).await;
        shared.cluster.stop("kyverno").await?;
        shared.cluster.start_again("kyverno").await?;
        seen.map(|_| ())
    });
}
