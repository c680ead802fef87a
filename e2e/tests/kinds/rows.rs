//! What one kind of policy does: each row is asked once, of a ring of its own.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    images::{Format, Verdict},
    injector::SIDECAR,
    kind::Kind,
    private::PrivateRegistry,
    world::{World, manifest, namespaces},
};

/// What was asked, and what became of it.
pub type Row = (String, String);

/// Who signs.
#[derive(Clone, Copy)]
enum By {
    /// The ring, with its newest key.
    Ring,
    /// Somebody with a key of their own.
    Foreign,
}

/// A ring in a policy of one kind, and what was asked of it so far.
struct Asked<'a> {
    world: &'a World,
    ring: String,
    pods: Api<Pod>,
    foreign: String,
    /// A registry that asks for a password.
    private: &'a PrivateRegistry,
    rows: Vec<Row>,
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn dry_patch() -> PatchParams {
    PatchParams { dry_run: true, ..PatchParams::default() }
}

fn pod(name: &str, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": image}], "schedulingGates": [{"name": "test/held"}, {"name": "test/other"}]},
    })
}

/// What became of a request. Where an image was asked for by its tag, also what it
/// became.
fn word(answer: kube::Result<Pod>, image: &str) -> Result<&'static str> {
    let stored = match answer {
        Ok(pod) => pod.spec.context("no spec")?,
        Err(kube::Error::Api(status)) => match Verdict::of(&status) {
            Some(Verdict::Refused(_)) => return Ok("refused"),
            Some(Verdict::Unanswered(_)) => return Ok("refused: nobody answers"),
            _ => anyhow::bail!("no verdict: {status}"),
        },
        Err(error) => return Err(error.into()),
    };
    let images: Vec<_> = stored.containers.iter().filter_map(|c| c.image.as_deref()).collect();
    Ok(match image.contains('@') {
        true => "admitted",
        false if images.contains(&image) => "admitted as it is",
        false => "admitted, pinned to its digest",
    })
}

impl Asked<'_> {
    fn add(&mut self, what: &str, seen: &str) {
        self.rows.push((what.to_owned(), seen.to_owned()));
    }

    async fn push(&self, name: &str) -> Result<String> {
        self.world.push(&format!("{}/{name}", self.ring), "v1").await
    }

    async fn attach(&self, what: &str, format: Format, image: &str, by: By) -> Result<()> {
        let of_ring = format!("k8s://{}-ci/image-signing", self.ring);
        let (key, environment): (&str, &[_]) = match by {
            By::Ring => (&of_ring, &[]),
            By::Foreign => (&self.foreign, &[("COSIGN_PASSWORD", "x")]),
        };
        self.world.attach(what, format, image, key, environment).await
    }

    /// A new Pod of an image.
    async fn created(&self, image: &str) -> Result<&'static str> {
        let pod = serde_json::from_value(pod("new", image))?;
        word(self.pods.create(&dry_run(), &pod).await, image)
    }

    /// Which signatures count.
    async fn formats(&mut self) -> Result<()> {
        let (sig, bundle) = (("sign", Format::Tag), ("sign", Format::Bundle));
        let attestation = ("attest", Format::Bundle);
        let rows: [(&str, &str, &[_]); 11] = [
            ("no signature", "none", &[]),
            (
                "a `.sig` signature (cosign 2; `--new-bundle-format=false`)",
                "sig",
                &[(sig, By::Ring)],
            ),
            ("a bundle (cosign 3's default)", "bundle", &[(bundle, By::Ring)]),
            ("a `.sig` signature of somebody else's key", "foreign", &[(sig, By::Foreign)]),
            ("a bundle of somebody else's key", "foreign-bundle", &[(bundle, By::Foreign)]),
            (
                "an attestation by the ring's key and no signature",
                "attested",
                &[(attestation, By::Ring)],
            ),
            (
                "a `.sig` signature and one of somebody else's",
                "two-sigs",
                &[(sig, By::Ring), (sig, By::Foreign)],
            ),
            (
                "a bundle and one of somebody else's",
                "two-bundles",
                &[(bundle, By::Ring), (bundle, By::Foreign)],
            ),
            (
                "a `.sig` signature and somebody else's bundle",
                "sig-beside",
                &[(sig, By::Ring), (bundle, By::Foreign)],
            ),
            (
                "a `.sig` signature and an attestation of the ring's in a bundle",
                "sig-attested",
                &[(sig, By::Ring), (attestation, By::Ring)],
            ),
            (
                "a bundle and an attestation of the ring's in a bundle",
                "bundle-attested",
                &[(bundle, By::Ring), (attestation, By::Ring)],
            ),
        ];
        for (what, name, attached) in rows {
            let image = self.push(name).await?;
            for ((verb, format), by) in attached {
                self.attach(verb, *format, &image, *by).await.with_context(|| what.to_owned())?;
            }
            let seen = self.created(&image).await.with_context(|| what.to_owned())?;
            self.add(what, seen);
        }
        Ok(())
    }

    /// What a tag is, and what is excluded.
    async fn tags(&mut self) -> Result<()> {
        let registry = &self.world.info.registry;
        let tag = |name: &str| format!("{registry}/{}/{name}:v1", self.ring);
        let (tagged, excluded) = (tag("tagged"), tag("excluded"));
        let image = self.push("tagged").await?;
        self.attach("sign", Format::Tag, &image, By::Ring).await?;
        let seen = self.created(&tagged).await?;
        self.add("a tag of a signed image", seen);
        let unsigned = self.push("none").await?;
        self.world.run("crane", &["copy", &unsigned, &tagged], &[], "").await?;
        let seen = self.created(&tagged).await?;
        self.add("the same tag, moved to an unsigned image", seen);

        let image = self.push("excluded").await?;
        let (_, digest) = image.split_once('@').context("no digest")?;
        let seen = self.created(&excluded).await?;
        self.add("a tag that is excluded (`redis:7.2`)", seen);
        let seen = self.created(&format!("{excluded}@{digest}")).await?;
        self.add("the same with its digest (`redis:7.2@sha256:…`)", seen);
        for (what, suffix) in [("tag", ":v1".to_owned()), ("digest", format!("@{digest}"))] {
            let image = format!("{DOWN}/app{suffix}");
            let seen = self.created(&image).await?;
            self.add(&format!("an excluded image by {what} whose registry is down"), seen);
        }
        Ok(())
    }

    /// Where an image may stand in a Pod.
    async fn places(&mut self) -> Result<()> {
        let signed = self.push("sig").await?;
        let unsigned = self.push("none").await?;
        let mut init = pod("init", &signed);
        init["spec"]["initContainers"] = json!([{"name": "init", "image": unsigned}]);
        let mut volume = pod("volume", &signed);
        volume["spec"]["volumes"] = json!([{"name": "data", "image": {"reference": unsigned}}]);
        for (what, pod) in [
            ("an unsigned image in an init container", init),
            ("an unsigned image as a volume", volume),
        ] {
            let answer = self.pods.create(&dry_run(), &serde_json::from_value(pod)?).await;
            let seen = word(answer, &signed)?;
            self.add(what, seen);
        }

        let stored = serde_json::from_value(pod("stored", &signed))?;
        self.pods.create(&PostParams::default(), &stored).await?;
        let debug =
            json!({"spec": {"ephemeralContainers": [{"name": "debugger", "image": unsigned}]}});
        let patch = Patch::Strategic(&debug);
        let (which, dry) = ("ephemeralcontainers", dry_patch());
        let answer = self.pods.patch_subresource(which, "stored", &dry, &patch).await;
        let seen = word(answer, &signed)?;
        self.add("an unsigned image in an ephemeral container (`kubectl debug`)", seen);
        Ok(())
    }

    /// What a later webhook puts into a Pod.
    async fn sidecars(&mut self) -> Result<()> {
        let signed = self.push("sig").await?;
        let (unsigned, tag) = (self.push("none").await?, signed_tag(&signed)?);
        for (what, sidecar) in [
            ("a signed sidecar that a later webhook puts in, by its tag", &tag),
            ("the same by its digest", &signed),
            ("an unsigned one by its digest", &unsigned),
        ] {
            let mut pod = pod("sidecar", &signed);
            pod["metadata"]["annotations"] = json!({SIDECAR: sidecar});
            let answer = self.pods.create(&dry_run(), &serde_json::from_value(pod)?).await;
            if let Ok(pod) = &answer {
                let containers = &pod.spec.as_ref().context("no spec")?.containers;
                ensure!(containers.len() == 2, "no sidecar came: {containers:?}");
            }
            let seen = word(answer, sidecar)?;
            self.add(what, seen);
        }
        Ok(())
    }

    /// What is in a registry that asks for a password.
    async fn private(&mut self) -> Result<()> {
        let (world, namespace) = (self.world, format!("{}-dev", self.ring));
        let there = |image: &str| image.replace(&world.info.registry, &self.private.name);
        let signed = self.push("sig").await?;
        let (digest, tag) = (there(&signed), there(&signed_tag(&signed)?));
        let seen = self.created(&digest).await?;
        let mut rows = vec![("a signed image in a registry that asks for a password", seen)];

        world.apply(&self.private.pull_secret(&namespace, "own").to_string()).await?;
        let mut pod = pod("own", &digest);
        pod["spec"]["imagePullSecrets"] = json!([{"name": "own"}]);
        let answer = self.pods.create(&dry_run(), &serde_json::from_value(pod)?).await;
        rows.push(("the same with a pull secret of the Pod's own", word(answer, &digest)?));

        let secret = format!("{}-pull", self.ring);
        world.apply(&self.private.pull_secret("kyverno", &secret).to_string()).await?;
        let credentials = json!({"registryCredentials": [{"secretName": secret}]});
        let patch = json!({"spec": {"policy": credentials}}).to_string();
        let patched = ["patch", "skr", &self.ring, "--type=merge", "--patch", &patch];
        world.kubectl(&patched).await?;
        world.wait_until_admitted(&namespace, &digest).await?;
        let seen = self.created(&digest).await?;
        rows.push(("the same with the ring's `registryCredentials`, by its digest", seen));
        let seen = self.created(&tag).await?;
        rows.push(("the same with them, by its tag", seen));
        rows.iter().for_each(|(what, seen)| self.add(what, seen));
        Ok(())
    }

    /// What becomes of a Pod whose key is not accepted any more.
    async fn retired(&mut self) -> Result<()> {
        let signed = self.push("sig").await?;
        self.world.rotate(&self.ring, "next").await?;
        self.world.wait_for_field(&self.ring, "{.status.acceptedVersions}", "[2]").await?;
        let namespace = format!("{}-dev", self.ring);
        self.world.wait_until_refused(&namespace, &signed).await?;
        for (what, change) in [
            (
                "a label of a Pod whose key is retired changes",
                json!({"metadata": {"labels": {"a": "b"}}}),
            ),
            (
                "one of two scheduling gates is taken off such a Pod",
                json!({"spec": {"schedulingGates": [{"$patch": "delete", "name": "test/other"}]}}),
            ),
            (
                "a Pod behind a scheduling gate whose key was retired meanwhile is let go",
                json!({"spec": {"schedulingGates": null}}),
            ),
        ] {
            let answer = self.pods.patch("stored", &dry_patch(), &Patch::Strategic(&change)).await;
            let seen = word(answer, &signed)?;
            self.add(what, seen);
        }
        Ok(())
    }
}

/// A registry at whose port nobody listens.
const DOWN: &str = "localhost:9/down";

/// The tag of an image that was pushed.
fn signed_tag(image: &str) -> Result<String> {
    let (name, _) = image.split_once('@').context("no digest")?;
    Ok(format!("{name}:v1"))
}

/// The ring of a kind.
pub fn ring(kind: Kind) -> String {
    format!("{}-asked", kind.resource())
}

/// What becomes of Pods while Kyverno is down, beside rings of one kind alone.
pub async fn down(world: &World, kind: Kind) -> Result<Vec<Row>> {
    let pods = async |namespace: &str| {
        let pods: Api<Pod> = Api::namespaced(world.client().await?, namespace);
        let image = world.push("down", "v1").await?;
        let pod = serde_json::from_value(pod("down", &image))?;
        word(pods.create(&dry_run(), &pod).await, &image)
    };
    let rows = [
        ("a Pod in an enrolled namespace while Kyverno is down", format!("{}-dev", ring(kind))),
        ("a Pod in a namespace that is not enrolled meanwhile", "default".to_owned()),
    ];
    let mut seen = Vec::new();
    for (what, namespace) in rows {
        seen.push((what.to_owned(), pods(&namespace).await?.to_owned()));
    }
    Ok(seen)
}

/// Asks everything of one kind.
pub async fn seen(world: &World, private: &PrivateRegistry, kind: Kind) -> Result<Vec<Row>> {
    let ring = ring(kind);
    world.apply(&namespaces(&ring)).await?;
    let exclude = format!(
        "  keepVersions: 1\n  policy: {{kind: {kind}, exclude: [{{image: '{}/{ring}/excluded:v1', reason: test}}, {{image: '{DOWN}/*', reason: test}}]}}\n",
        world.info.registry
    );
    world.apply(&manifest(&ring, &exclude)).await?;
    world.wait_for_condition(&ring, "PolicyEnforced", "True Enforced").await?;
    world.wait_for_field(&ring, "{.status.currentVersion}", "1").await?;
    let policy = world.ring(&ring, "{.status.policy.name}").await?;
    ensure!(Kind::of(&policy) == kind, "{ring} is in {policy}");
    let prefix = world.info.folder.join(format!("foreign-{ring}")).display().to_string();
    let pair = ["generate-key-pair", "--output-key-prefix", &prefix];
    world.run("cosign", &pair, &[("COSIGN_PASSWORD", "x")], "").await?;
    let pods = Api::namespaced(world.client().await?, &format!("{ring}-dev"));
    let foreign = format!("{prefix}.key");
    let mut asked = Asked { world, ring, pods, foreign, private, rows: Vec::new() };
    asked.formats().await?;
    asked.tags().await?;
    asked.places().await?;
    asked.sidecars().await?;
    asked.private().await?;
    asked.retired().await?;
    Ok(asked.rows)
}
