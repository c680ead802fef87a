//! What the demo and the tests do in a cluster: install, apply, wait.

use std::{fs, future::Future, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use kube::Client;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    time::{Instant, sleep},
};

use crate::{cluster::client, kind::Kind, supervisor::Info, tools};

/// How long anything may take before a test fails. Generous: the machine may
/// be busy, and nothing waits this long when all is well.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Somebody's own overlay of the manifests, up to the variables of the Deployment.
const OVERLAY: &str = "resources: [../../manifests]
transformers: [../../manifests/guard/settings]
patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: signingkeyring-operator, namespace: signing-system}
    spec:
      template:
        spec:
          containers:
          - name: operator
            env:
";

/// A cluster as its administrator uses it.
#[derive(Clone, Debug)]
pub struct World {
    /// The cluster.
    pub info: Info,
}

impl World {
    /// The administrator's client.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        client(&self.info.kubeconfig).await
    }

    /// Runs a program of the cluster as its administrator.
    ///
    /// # Errors
    /// If it fails; the text is what it printed.
    pub async fn run(
        &self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: &str,
    ) -> Result<String> {
        let mut child = Command::new(tools::program(program)?)
            .args(arguments)
            // What the caller's shell says of passwords and keys is not meant.
            .env_remove("COSIGN_PASSWORD")
            .env("KUBECONFIG", &self.info.kubeconfig)
            .envs(environment.iter().copied())
            .current_dir(tools::root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // A program that does not read its input may close it early.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {}: {text}{error}", arguments.join(" "));
        Ok(text)
    }

    /// Runs kubectl.
    ///
    /// # Errors
    /// If it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", arguments, &[], "").await
    }

    /// Runs the commands in a message, as who reads it would. Returns what they
    /// printed.
    ///
    /// # Errors
    /// If it names none, or one fails.
    pub async fn do_as_told(&self, message: &str) -> Result<String> {
        let commands: Vec<&str> = commands(message).collect();
        ensure!(!commands.is_empty(), "it names no command: {message}");
        let mut printed = String::new();
        for command in commands {
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            printed.push_str(&self.kubectl(&words).await?);
        }
        Ok(printed)
    }

    /// Applies YAML.
    ///
    /// # Errors
    /// If the API server refuses; the text is its.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        self.run("kubectl", &arguments, &[], yaml).await
    }

    /// Installs the operator's manifests, as a cluster's administrator does.
    ///
    /// # Errors
    /// If they are refused.
    pub async fn install(&self) -> Result<()> {
        self.kubectl(&["apply", "--kustomize=manifests"]).await?;
        self.kubectl(&["apply", "--kustomize=manifests/probe"]).await?;
        let crds = ["signingkeyrings", "imageexclusionlists"];
        let crds = crds.map(|plural| format!("crd/{plural}.signing.odj.cloud"));
        let wait = ["wait", "--for=condition=Established", &crds[0], &crds[1]];
        self.kubectl(&wait).await?;
        self.kubectl(&["apply", "--filename=manifests/exclusions.yaml"]).await?;
        Ok(())
    }

    /// Applies the manifests by an overlay in which the operator's Deployment has these
    /// variables, and the guard learns them.
    ///
    /// # Errors
    /// If they are refused.
    pub async fn install_with(&self, variables: &[(&str, &str)]) -> Result<()> {
        let variables: String = variables
            .iter()
            .map(|(name, value)| format!("            - {{name: {name}, value: {value}}}\n"))
            .collect();
        let folder = tools::root().join("target/overlay");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("kustomization.yaml"), format!("{OVERLAY}{variables}"))?;
        self.kubectl(&["apply", &format!("--kustomize={}", folder.display())]).await?;
        Ok(())
    }

    /// A field of an object, empty if it is not there.
    ///
    /// # Errors
    /// If the object cannot be read.
    pub async fn get(&self, object: &[&str], path: &str) -> Result<String> {
        let output = format!("--output=jsonpath={path}");
        let mut arguments = vec!["get"];
        arguments.extend(object);
        arguments.push(&output);
        self.kubectl(&arguments).await
    }

    /// One of the operator's policies, of the kind that its name tells.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn policy(&self, policy: &str) -> Result<Value> {
        let object = ["get", Kind::of(policy).resource(), policy, "--output=json"];
        Ok(serde_json::from_str(&self.kubectl(&object).await?)?)
    }

    /// The public keys that a policy accepts for a ring; nothing if it holds no rule
    /// of the ring's.
    ///
    /// # Errors
    /// If the policy cannot be read.
    pub async fn keys(&self, policy: &str, ring: &str) -> Result<Option<Vec<String>>> {
        Ok(Kind::of(policy).keys(&self.policy(policy).await?["spec"], ring))
    }

    /// The rules that a ClusterPolicy holds for a ring. Their names begin with its
    /// name.
    ///
    /// # Errors
    /// If the policy cannot be read.
    pub async fn rules(&self, policy: &str, ring: &str) -> Result<Vec<Value>> {
        let rules = self.policy(policy).await?["spec"]["rules"].take();
        let begins = format!("{ring}.");
        let is_of_ring = |rule: &Value| {
            let name = rule["name"].as_str().unwrap_or_default();
            name == ring || name.starts_with(&begins)
        };
        let rules = rules.as_array().cloned().unwrap_or_default();
        Ok(rules.into_iter().filter(is_of_ring).collect())
    }

    /// A field of a ring.
    ///
    /// # Errors
    /// If the ring cannot be read.
    pub async fn ring(&self, ring: &str, path: &str) -> Result<String> {
        self.get(&["skr", ring], path).await
    }

    /// A ring's condition as `Status Reason Message`.
    ///
    /// # Errors
    /// If the ring cannot be read.
    pub async fn condition(&self, ring: &str, kind: &str) -> Result<String> {
        let of = |field: &str| format!("{{.status.conditions[?(@.type==\"{kind}\")].{field}}}");
        self.ring(ring, &format!("{} {} {}", of("status"), of("reason"), of("message"))).await
    }

    /// Waits until a ring's field is `wanted`.
    ///
    /// # Errors
    /// If it does not become so in time; the text has the ring's status.
    pub async fn wait_for_field(&self, ring: &str, path: &str, wanted: &str) -> Result<()> {
        let what = format!("ring {ring}: {path} = {wanted}");
        let found = wait_until(&what, async || {
            let found = self.ring(ring, path).await?;
            Ok(found == wanted)
        });
        self.explain(ring, found.await).await
    }

    /// Waits until a ring's condition begins with `wanted`, such as
    /// `False GateOpen`.
    ///
    /// # Errors
    /// If it does not become so in time; the text has the ring's status.
    pub async fn wait_for_condition(&self, ring: &str, kind: &str, wanted: &str) -> Result<String> {
        let what = format!("ring {ring}: {kind} = {wanted}");
        let found =
            wait_until(&what, async || Ok(self.condition(ring, kind).await?.starts_with(wanted)));
        self.explain(ring, found.await).await?;
        self.condition(ring, kind).await
    }

    async fn explain(&self, ring: &str, result: Result<()>) -> Result<()> {
        if let Err(error) = result {
            let status = self.ring(ring, "{.status}").await.unwrap_or_default();
            bail!("{error:#}\nstatus: {status}");
        }
        Ok(())
    }

    /// Asks for a rotation and waits until its version signs.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn rotate(&self, ring: &str, token: &str) -> Result<()> {
        self.ask_for_rotation(ring, token).await?;
        self.wait_for_field(ring, "{.status.observedRotation}", token).await
    }

    /// Asks for a rotation.
    ///
    /// # Errors
    /// If the ring cannot be annotated.
    pub async fn ask_for_rotation(&self, ring: &str, token: &str) -> Result<()> {
        let annotation = format!("signing.odj.cloud/rotate={token}");
        self.kubectl(&["annotate", "--overwrite", "skr", ring, &annotation]).await?;
        Ok(())
    }

    /// Creates an enrolled namespace, a pipeline namespace that grants access,
    /// and a ring with a short soak. Returns once the ring is ready.
    ///
    /// # Errors
    /// If it does not become ready in time.
    pub async fn ready_ring(&self, ring: &str) -> Result<()> {
        self.apply(&namespaces(ring)).await?;
        self.apply(&manifest(ring, "")).await?;
        self.wait_for_condition(ring, "Ready", "True").await?;
        Ok(())
    }
}

/// The namespaces of a ring: `NAME-dev` enrolled, `NAME-ci` with consent.
#[must_use]
pub fn namespaces(ring: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {ring}-dev, labels: \
         {{signing.odj.cloud/ring: {ring}}}}}}}\n---\n\
         {{apiVersion: v1, kind: Namespace, metadata: {{name: {ring}-ci}}}}\n---\n{}",
        consent(&format!("{ring}-ci"))
    )
}

/// What a pipeline namespace's owner applies.
#[must_use]
pub fn consent(namespace: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
         metadata: {{name: signingkeyring-pipeline, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: signingkeyring-pipeline}}\n\
         subjects: [{{kind: ServiceAccount, name: signingkeyring-operator, namespace: signing-system}}]\n"
    )
}

/// A ring's manifest: pipeline `NAME-ci/image-signing`, a soak of one second,
/// and more lines of the spec.
#[must_use]
pub fn manifest(ring: &str, more: &str) -> String {
    format!(
        "apiVersion: signing.odj.cloud/v1alpha1\nkind: SigningKeyRing\nmetadata: {{name: {ring}}}\n\
         spec:\n  rotation: {{soak: 1s}}\n  pipelines: [{{namespace: {ring}-ci}}]\n{more}"
    )
}

/// The commands in a message: from each `kubectl` to the end of its sentence.
pub fn commands(message: &str) -> impl Iterator<Item = &str> {
    let starts = message.match_indices("kubectl ").map(|(start, _)| &message[start..]);
    starts.map(|from| {
        let ends = [";", ". ", " && ", ")", ", "].iter().filter_map(|end| from.find(end));
        from[..ends.min().unwrap_or(from.len())].trim_end()
    })
}

/// Waits until something holds.
///
/// # Errors
/// If it does not within [`DEADLINE`]; the text says what was waited for and
/// the last error.
pub async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let mut last = None;
    loop {
        match holds().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => last = Some(error),
        }
        if Instant::now() > deadline {
            let last = last.map(|error| format!(" (last error: {error:#})")).unwrap_or_default();
            bail!("waited {} s for: {what}{last}", DEADLINE.as_secs());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// How long something took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = work.await;
    (result, start.elapsed())
}
