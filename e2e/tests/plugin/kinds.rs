//! What the page does not show, for both kinds of policy: the other questions that can be
//! asked, what is refused, every format, and what each ends with.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    images::Format,
    kind::Kind,
    world::{World, manifest, namespaces},
};

use crate::{asked, expect, left_out, shell, watch};

/// A ring of a kind, and its images.
pub struct Scene<'a> {
    pub world: &'a World,
    pub kind: Kind,
    pub ring: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// What its images' names begin with.
    pub repository: String,
}

/// Asks about rings of both kinds.
pub async fn all(world: &World) -> Result<()> {
    for kind in Kind::ALL {
        let ring = match kind {
            Kind::ClusterPolicy => "till",
            Kind::ImageValidatingPolicy => "kiosk",
        };
        let scene = Scene {
            world,
            kind,
            ring,
            namespace: format!("{ring}-dev"),
            repository: format!("{}/{ring}", world.info.registry),
        };
        scene.set().await?;
        scene.asked().await.with_context(|| kind.to_string())?;
        scene.formats().await.with_context(|| kind.to_string())?;
        left_out::from_the_check(&scene).await.with_context(|| kind.to_string())?;
        // A terminal is the same for both.
        if kind == Kind::ClusterPolicy {
            asked::at_a_terminal(&scene).await?;
        }
        watch::a_rotation(&scene).await.with_context(|| kind.to_string())?;
        scene.sign_again().await.with_context(|| kind.to_string())?;
        if kind == Kind::ClusterPolicy {
            asked::a_rotation(&scene, 3).await?;
        }
    }
    Ok(())
}

impl Scene<'_> {
    /// An image of the ring's, by its tag.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}:v1", self.repository)
    }

    /// Two versions are accepted, and a pod runs by each; another one is excluded.
    async fn set(&self) -> Result<()> {
        let (world, ring, kind) = (self.world, self.ring, self.kind);
        world.apply(&namespaces(ring)).await?;
        let spec = format!("  keepVersions: 2\n  policy: {{kind: {kind}}}\n");
        world.apply(&manifest(ring, &spec)).await?;
        world.wait_for_condition(ring, "Ready", "True").await?;
        for name in ["first", "another"] {
            if name == "another" {
                world.rotate(ring, name).await?;
            }
            let image = world.push(&format!("{ring}/{name}"), "v1").await?;
            world.sign(&image, &format!("{ring}-ci/image-signing")).await?;
            self.run(name).await?;
        }
        let bundled = world.push(&format!("{ring}/bundled"), "v1").await?;
        let key = format!("k8s://{ring}-ci/image-signing");
        world.attach("sign", Format::Bundle, &bundled, &key, &[]).await?;
        for name in ["unsigned", "tool"] {
            world.push(&format!("{ring}/{name}"), "v1").await?;
        }
        world
            .apply(&self.list(&[&format!("{}/tool:*", self.repository), "localhost:9/down:*"]))
            .await?;
        self.run("tool").await?;
        world.wait_for_condition(ring, "Ready", "True").await?;
        Ok(())
    }

    async fn run(&self, name: &str) -> Result<()> {
        self.world.wait_until_admitted(&self.namespace, &self.image(name)).await?;
        let image = format!("--image={}", self.image(name));
        self.world.kubectl(&["run", name, &image, "--namespace", &self.namespace]).await?;
        Ok(())
    }

    fn list(&self, images: &[&str]) -> String {
        let images: Vec<Value> =
            images.iter().map(|image| json!({"image": image, "reason": "a test"})).collect();
        let name = format!("{}-tools", self.ring);
        json!({
            "apiVersion": "signing.odj.cloud/v1alpha1", "kind": "ImageExclusionList",
            "metadata": {"name": name}, "spec": {"images": images},
        })
        .to_string()
    }

    /// What is asked, with the code that it ends with and a part of what it says.
    async fn asked(&self) -> Result<()> {
        let (world, ring, namespace) = (self.world, self.ring, &self.namespace);
        let file = world.info.folder.join("list.yaml");
        std::fs::write(&file, self.list(&["quay.io/nothing/*"]))?;
        let ring_file = world.info.folder.join("no-list.yaml");
        std::fs::write(&ring_file, manifest(ring, ""))?;
        let both = world.info.folder.join("lists.yaml");
        let list = self.list(&["quay.io/nothing/*"]);
        std::fs::write(&both, format!("{list}\n---\n{list}\n"))?;
        let (ring_file, both) = (ring_file.display(), both.display());
        let impact = format!("kubectl signing impact {ring}");
        let rotate = format!("kubectl signing rotate {ring}");
        let (list, none) = (file.display(), format!("localhost:9/x@sha256:{}", "0".repeat(64)));
        let why = |image: &str| format!("kubectl signing why {image} -n {namespace}");
        let tool = format!("excluded by {}/tool:* of list {ring}-tools", self.repository);
        // What the kinds treat differently.
        let (bundled, down) = match self.kind {
            Kind::ClusterPolicy => (
                (3, "refused: it is signed in a bundle, which a ClusterPolicy does not read"),
                (
                    3,
                    "unknown: excluded by localhost:9/down:* of list till-tools, but a ClusterPolicy",
                ),
            ),
            Kind::ImageValidatingPolicy => (
                (0, "admitted: an accepted version signed it"),
                (0, "admitted: excluded by localhost:9/down:* of list kiosk-tools"),
            ),
        };
        for (line, (code, says)) in [
            (impact.clone(), (0, "3 would start")),
            (format!("{impact} --rotate"), (3, "1 would not start again, and would now")),
            (
                format!("{impact} --keep 1"),
                (3, "With 1 accepted versions (not accepted any more: 1)"),
            ),
            (format!("{impact} --keep 3"), (0, "3 would start")),
            (format!("{impact} --enforce"), (0, "If it were enforced: 3 workloads")),
            (
                format!("{impact} --revoke 1"),
                (3, "With version 1 revoked (not accepted any more: 1)"),
            ),
            (format!("{impact} --revoke 9"), (1, "has no version 9")),
            (format!("{impact} --list {list}"), (3, "1 would not start again, and would now")),
            (format!("{impact} --list /nowhere"), (1, "/nowhere cannot be used")),
            (format!("{impact} --list {ring_file}"), (1, "not an ImageExclusionList")),
            (format!("{impact} --list {both}"), (1, "with one ImageExclusionList")),
            (format!("{impact} -n nowhere"), (1, "there is no namespace nowhere")),
            (format!("{impact} --enforce -n nowhere"), (1, "there is no namespace nowhere")),
            (format!("{impact} -n {ring}-ci"), (1, "is not enrolled in ring")),
            (format!("{impact} --enforce -n {ring}-ci"), (0, "0 workloads")),
            (
                format!("{rotate} --dry-run"),
                (3, "The API server would take it. Nothing was changed."),
            ),
            (format!("{rotate} --dry-run --force"), (0, "Nothing was changed.")),
            (format!("{rotate} --yes"), (3, "or call it with --force.")),
            (format!("{rotate} --force"), (2, "There is no terminal to ask on: write --yes")),
            (why(&self.image("another")), (0, "admitted: an accepted version signed it")),
            (why(&self.image("unsigned")), (3, "refused: it has no signature")),
            (why(&self.image("bundled")), bundled),
            (why(&self.image("tool")), (0, &*tool)),
            (why(&none), (3, "unknown: registry localhost:9")),
            (why("localhost:9/down:v1"), down),
            (why("UPPER/case"), (3, "refused: it is no reference that everybody reads alike")),
            (why("pod/nothing"), (1, "there is no pod nothing in namespace")),
            (
                format!("kubectl signing why {} -n default", self.image("unsigned")),
                (0, "admitted: no ring verifies images here"),
            ),
            (
                format!(
                    "kubectl signing verify {ring} --times 2 --image {}",
                    self.image("unsigned")
                ),
                (0, "The gate is closed."),
            ),
            (format!("kubectl signing verify {ring} -n {ring}-ci"), (1, "is not enrolled in ring")),
            (format!("kubectl signing verify {ring} -n nowhere"), (1, "there is no namespace")),
            (format!("kubectl signing enroll {ring} {namespace}"), (0, "before")),
            (
                format!("kubectl signing enroll {ring} payments-ci --dry-run"),
                (0, "Nothing was changed"),
            ),
            (format!("kubectl signing unenroll {ring} {namespace}"), (2, "write --yes")),
            (format!("kubectl signing public-keys {ring} --version 9"), (1, "has no version 9")),
        ] {
            expect(world, &line, code, says).await?;
        }
        let asked =
            world.ring(ring, "{.metadata.annotations.signing\\.odj\\.cloud/rotate}").await?;
        ensure!(asked == "another", "a rotation was asked for: {asked:?}");
        Ok(())
    }

    /// What is refused soonest comes first, whatever it is called.
    async fn sign_again(&self) -> Result<()> {
        let line = format!("kubectl signing impact {} --resign-list", self.ring);
        let ran = shell(self.world, &line).await?;
        let repository = |line: &str| line.split_once("@sha256:").map(|(name, _)| name.to_owned());
        let listed: Vec<String> = ran.text.lines().filter_map(repository).collect();
        let expected = ["first", "another"].map(|name| format!("{}/{name}", self.repository));
        ensure!(listed == expected, "{}", ran.text);
        Ok(())
    }

    /// Every report in every format: JSON is JSON, YAML has the same fields, and wide shows
    /// no less.
    async fn formats(&self) -> Result<()> {
        let (ring, namespace) = (self.ring, &self.namespace);
        for command in [
            "status".to_owned(),
            format!("status {ring}"),
            format!("impact {ring}"),
            format!("why pod/first -n {namespace}"),
            format!("verify {ring} --times 1"),
            format!("history {ring}"),
            "exclusions".to_owned(),
            "coverage".to_owned(),
            "doctor".to_owned(),
            format!("public-keys {ring}"),
        ] {
            let shown = async |format: &str| {
                let line = format!("kubectl signing {command} -o {format} 2>/dev/null");
                shell(self.world, &line).await
            };
            let (table, json) = (shown("table").await?, shown("json").await?);
            let (yaml, wide) = (shown("yaml").await?, shown("wide").await?);
            for other in [&json, &yaml, &wide] {
                let text = &other.text;
                ensure!(
                    table.code == other.code,
                    "{command}: {:?}, not {:?}\n{text}",
                    table.code,
                    other.code
                );
            }
            let report: Value = serde_json::from_str(&json.text)
                .with_context(|| format!("{command}: {}", json.text))?;
            let fields = report.as_object().with_context(|| format!("{command}: {report}"))?;
            let (yaml, wide) = (yaml.text, wide.text);
            for field in fields.keys() {
                let begins = yaml.lines().any(|line| line.starts_with(&format!("{field}:")));
                ensure!(begins, "{command}: the YAML lacks {field}:\n{yaml}");
            }
            let is_less = wide.lines().count() < table.text.lines().count();
            ensure!(!is_less, "{command}: wide shows less:\n{wide}\n{}", table.text);
        }
        Ok(())
    }
}
